"""ReAct: the clipped network by hand, under bases that learn and bases that ask for gradients."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oodbench.capture import PassCount
from oodbench.detectors.knn import NearestNeighbours
from oodbench.detectors.odin import Odin
from oodbench.detectors.react import Clip, React
from oodbench.detectors.spec import build, label
from oodbench.errors import OodbenchError
from oodbench.example import make_example
from oodbench.live import passes
from oodbench.outputs import FitData, Head, Needs, Outputs


def drawn(count: int, seed: int) -> Outputs:
    generator = torch.Generator().manual_seed(seed)
    head = Head(torch.randn(3, 6, generator=torch.Generator().manual_seed(9)).double(), torch.arange(3.0).double())
    features = torch.randn(count, 6, generator=generator).square()
    return Outputs({"features": features, "logits": head(features).float()}, head)


@pytest.mark.parametrize("percentile", [50.0, 90.0])
def test_is_the_energy_of_the_clipped_features(percentile: float) -> None:
    fit, test = drawn(100, 0), drawn(20, 1)
    limit = np.percentile(fit.features.numpy().astype(np.float64), percentile)
    clipped = np.minimum(test.features.numpy(), np.float32(limit))
    logits = clipped.astype(np.float64) @ test.head.weight.numpy().T + test.head.bias.numpy()
    found = React(percentile=percentile).fit(FitData(fit)).score(test)
    np.testing.assert_allclose(found.numpy(), np.log(np.exp(logits).sum(axis=1)), rtol=1e-12)


def test_without_a_clip_it_is_its_base() -> None:
    fit = drawn(100, 0)
    found = React(percentile=100.0).fit(FitData(fit)).score(fit)
    torch.testing.assert_close(found, fit.head(fit.features).logsumexp(dim=1), rtol=1e-12, atol=0)


def test_a_base_that_learns_does_so_on_clipped_features() -> None:
    fit, test = drawn(100, 0), drawn(20, 1)
    limit = float(np.percentile(fit.features.numpy().astype(np.float64), 80))
    bank, query = (one.replaced(features=one.features.clamp(max=limit)) for one in (fit, test))
    expected = NearestNeighbours(k=3).fit(FitData(bank)).score(query)
    react = React(base=NearestNeighbours(k=3), percentile=80.0)
    assert torch.equal(react.fit(FitData(fit)).score(test), expected)
    assert not torch.equal(NearestNeighbours(k=3).fit(FitData(fit)).score(test), expected)


class Clipped(nn.Module):
    def __init__(self, head: nn.Module, limit: float) -> None:
        super().__init__()
        self.head, self.limit = head, limit

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.head(features.clamp(max=self.limit))
        return logits


def test_over_odin_gradient_and_perturbed_pass_go_through_the_clipped_network() -> None:
    example = make_example(precision=torch.float64)
    react = example.fitted(React(base=Odin(temperature=10.0, epsilon=0.01), percentile=60.0))
    module = copy.deepcopy(example.classifier.module).eval()
    module.head = Clipped(module.head, react.state["limit"])
    mean, std = (
        torch.tensor(one, dtype=torch.float64).view(1, 3, 1, 1)
        for one in (example.classifier.mean, example.classifier.std)
    )
    pixels = (example.id_images.double() / 255).requires_grad_()
    logits = module((pixels - mean) / std)
    F.cross_entropy(logits / 10, logits.argmax(dim=1), reduction="sum").backward()
    assert pixels.grad is not None
    with torch.no_grad():
        moved = module((pixels - 0.01 * pixels.grad.sign() - mean) / std) / 10
    p = moved.softmax(dim=1).amax(dim=1)
    found = example.scores(react, example.id_images)
    torch.testing.assert_close(found, (p / (1 - p)).log(), rtol=1e-8, atol=1e-10)


def test_what_it_costs() -> None:
    example, count, n = make_example(), PassCount(), 40
    plain, over_odin = (example.fitted(React(base=base)) for base in ("energy", "odin"))
    for live in passes(example.classifier, [example.id_images], plain.needs, count):
        plain(live)
    assert count == PassCount(forward=n), "the logits follow from the features"
    count = PassCount()
    for live in passes(example.classifier, [example.id_images], over_odin.needs, count):
        over_odin(live)
        example.fitted(React(base=Odin(norm="l2")))(live)
    assert count == PassCount(forward=n, edited=n, gradient=n, perturbed=2 * n), "two share the clipped network's graph"


def test_equal_clips_are_one_key() -> None:
    assert Clip(0.5) == Clip(0.5) and hash(Clip(0.5)) == hash(Clip(0.5)) and Clip(0.5) != Clip(0.4)


def test_needs_follow_the_base() -> None:
    assert React().needs == Needs("features", "head", "logits")
    assert React(base="odin").needs == Needs("features", "head", "logits", "gradient")
    assert React(base="mahalanobis").fit_needs == Needs("features", "head", "labels")
    example = make_example()
    over_layers = React(base="oodl(svm=nystroem)")
    assert "layer:*" in over_layers.needs
    (chosen,) = example.fitted(over_layers).needs.named("layer")
    assert chosen in example.classifier.layers, "once fitted it reads the layer alone that its base chose"


def test_its_spec_holds_that_of_its_base() -> None:
    react = build("react(base=odin(norm=l2,epsilon=0.002),percentile=95)")
    assert react == React(base=Odin(norm="l2", epsilon=0.002), percentile=95.0)
    assert label(react) == "react(base=odin(epsilon=0.002,norm=l2),percentile=95)"


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (
            "gram",
            "react cannot read through gram, which learns from batches of the network as it is; take another base",
        ),
        ("inversion", "react cannot read through inversion, which reads a classifier of its own"),
        ("nothing", "nothing"),
    ],
)
def test_refuses_bases(base: str, message: str) -> None:
    with pytest.raises(OodbenchError, match=message):
        React(base=base)  # type: ignore[arg-type]


def test_refuses_a_network_without_a_head_and_features_that_are_not_finite() -> None:
    fit = drawn(100, 0)
    with pytest.raises(OodbenchError, match="last step is not a linear layer"):
        React().fit(FitData(Outputs(fit.tensors())))
    broken = fit.features.clone()
    broken[4, 2] = torch.nan
    with pytest.raises(OodbenchError, match="the features of image 4 are not finite"):
        React().fit(FitData(fit.replaced(features=broken)))
