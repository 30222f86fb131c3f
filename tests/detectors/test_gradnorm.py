"""GradNorm: the closed form against the gradient itself."""

from __future__ import annotations

import pytest
import torch

from oodbench.detectors.gradnorm import GradNorm
from oodbench.example import make_example
from oodbench.outputs import Outputs


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_is_the_norm_of_the_gradient_by_the_last_weight(temperature: float) -> None:
    example = make_example(precision=torch.float64)
    images = example.all_images
    found = example.scores(GradNorm(temperature=temperature), images)
    module = example.classifier.module.eval()
    for image, score in zip(images, found, strict=True):
        logits = example.classifier(image[None].double() / 255)
        log_p = (logits / temperature).log_softmax(dim=1)
        uniform = torch.full_like(log_p, 1 / log_p.shape[1])
        divergence = (uniform * (uniform.log() - log_p)).sum()
        (gradient,) = torch.autograd.grad(divergence, module.head.weight)
        assert float(score) == pytest.approx(float(gradient.abs().sum()), rel=1e-9)


def test_equal_logits_score_nothing_and_sure_ones_twice_the_features() -> None:
    features = torch.tensor([[1.0, -2.0], [3.0, 1.0]])
    logits = torch.tensor([[5.0, 5.0, 5.0, 5.0], [1e4, 0.0, 0.0, 0.0]])
    found = GradNorm().score(Outputs({"features": features, "logits": logits}))
    assert found.tolist() == pytest.approx([0.0, 2 * (1 - 1 / 4) * 4], abs=1e-12)
