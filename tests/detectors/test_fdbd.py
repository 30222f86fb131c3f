"""fDBD: distances to the boundaries, by projection and by hand, and rows that are the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from oodbench.detectors.fdbd import DecisionBoundary
from oodbench.outputs import FitData, Head, Outputs

HEAD = Head(torch.randn(4, 6, generator=torch.Generator().manual_seed(7)).double(), torch.randn(4).double())


def of(features: torch.Tensor, head: Head = HEAD) -> Outputs:
    return Outputs({"features": features, "logits": head(features)}, head)


FIT, TEST = (of(torch.randn(40, 6, generator=torch.Generator().manual_seed(seed)).double()) for seed in (0, 1))


@pytest.mark.parametrize("over", ["deviation", "norm"])
def test_is_the_mean_distance_to_where_two_logits_are_equal(over: str) -> None:
    weight, bias, mean = HEAD.weight.numpy(), HEAD.bias.numpy(), FIT.features.numpy().mean(axis=0)
    expected = []
    for h, z in zip(TEST.features.numpy(), TEST.logits.numpy(), strict=True):
        top, distances = int(z.argmax()), []
        for c in set(range(4)) - {top}:
            normal = weight[top] - weight[c]
            # The foot of the perpendicular: there both classes have the same logit.
            foot = h - (normal @ h + bias[top] - bias[c]) / (normal @ normal) * normal
            assert weight[top] @ foot + bias[top] == pytest.approx(weight[c] @ foot + bias[c])
            distances.append(np.linalg.norm(h - foot))
        expected.append(np.mean(distances) / np.linalg.norm(h - mean if over == "deviation" else h))
    found = DecisionBoundary(over=over).fit(FitData(FIT)).score(TEST)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)


def test_classes_that_never_meet_and_images_at_the_mean_have_finite_scores() -> None:
    head = Head(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]).double(), torch.tensor([0.0, -1.0, 0.0]).double())
    fitted = DecisionBoundary().fit(FitData(of(torch.tensor([[1.0, 1.0], [3.0, 1.0]]).double(), head)))
    # At (4, 0) the third class is 4/√2 away and the second never comes near; the mean is (2, 1), √5 away.
    found = fitted.score(of(torch.tensor([[4.0, 0.0], [2.0, 1.0]]).double(), head))
    assert found[0].item() == pytest.approx(4 / 2**0.5 / 2 / 5**0.5) and found[1].isfinite()
