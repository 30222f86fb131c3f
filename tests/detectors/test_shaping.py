"""Detectors that read another one on a network with shaped features, or another head: by hand, and over any base."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oodbench.detectors.base import Detector
from oodbench.detectors.catalogue import DETECTORS
from oodbench.detectors.shaping import Shaping, largest, pruned_count, share_of_largest
from oodbench.detectors.spec import build
from oodbench.errors import OodbenchError
from oodbench.example import make_example
from oodbench.outputs import FitData, Head, Needs, Outputs

NAMES = [name for name, entry in DETECTORS.items() if issubclass(entry.load(), Shaping)]
WEIGHT = torch.tensor([[1.0, -2.0, 0.5, 3.0], [0.0, 1.0, -1.0, 2.0]], dtype=torch.float64)
HEAD = Head(WEIGHT, torch.tensor([0.25, -0.5], dtype=torch.float64))
ROWS = [[1.0, 2.0, 0.0, 5.0], [4.0, 4.0, 4.0, 4.0], [0.0, 0.0, 0.0, 0.0]]
FIT = [[0.0, 1.0, 2.0, 0.0], [1.0, 3.0, 2.0, 0.5], [2.0, 5.0, 2.0, 1.0]]


def of(rows: list[list[float]]) -> Outputs:
    features = torch.tensor(rows)
    return Outputs({"features": features, "logits": HEAD(features).float()}, HEAD)


def energy(features: list[list[float]], head: Head = HEAD, factors: Any = 1.0) -> np.ndarray:
    logits = np.asarray(features, dtype=np.float64) @ head.weight.numpy().T + head.bias.numpy()
    return np.asarray(np.log(np.exp(np.reshape(factors, (-1, 1)) * logits).sum(axis=1)))


E3, E2, E12 = np.exp(8 / 5), np.exp(8 / 7), np.exp(2.0)
BY_HAND = {
    # Half of four are pruned; of equal ones the first are left.
    "ash_p(percentile=50)": energy([[0, 2, 0, 5], [4, 4, 0, 0], [0, 0, 0, 0]]),
    "ash_b(percentile=50)": energy([[0, 4, 0, 4], [8, 8, 0, 0], [0, 0, 0, 0]]),
    "ash_s(percentile=50)": energy([[0, 2 * E2, 0, 5 * E2], [4 * E12, 4 * E12, 0, 0], [0, 0, 0, 0]]),
    "ash_s(percentile=75)": energy([[0, 0, 0, 5 * E3], [4 * np.exp(4), 0, 0, 0], [0, 0, 0, 0]]),
    # One is left where the share would leave none.
    "ash_p(percentile=100)": energy([[0, 0, 0, 5], [4, 0, 0, 0], [0, 0, 0, 0]]),
    "ash_p(percentile=0)": energy(ROWS),
    "scale(percentile=50)": energy([[1 * E2, 2 * E2, 0, 5 * E2], [4 * E12] * 4, [0, 0, 0, 0]]),
    "lts(percentile=50)": energy(ROWS, factors=[(8 / 7) ** 2, 4, 1]),
    "lts(percentile=75)": energy(ROWS, factors=[(8 / 5) ** 2, 16, 1]),
    # α = (0, 1, 2, 0), β = (1, 3, 2, 0.5) feature by feature.
    "vra(lower=0,upper=50)": energy([[1, 2, 0, 0.5], [1, 3, 2, 0.5], [0, 0, 0, 0]]),
    "vra(lower=0,upper=50,amplification=2)": energy([[3, 4, 0, 0.5], [1, 3, 2, 0.5], [2, 0, 0, 2]]),
    # W ⊙ h̄ = ((1, −6, 1, 1.5), (0, 3, −2, 1)): the largest two, four, and of the three that are 1 the first two.
    "dice(percentile=75)": energy(ROWS, Head(torch.tensor([[0, 0, 0, 3], [0, 1.0, 0, 0]]).double(), HEAD.bias)),
    "dice(percentile=50)": energy(ROWS, Head(torch.tensor([[1, 0, 0.5, 3], [0, 1.0, 0, 0]]).double(), HEAD.bias)),
    "dice(percentile=0)": energy(ROWS),
}


@pytest.mark.parametrize("spec", BY_HAND)
def test_by_hand(spec: str) -> None:
    test, fit = of(ROWS), of(FIT)
    kept = test.features.clone(), fit.features.clone()
    found = build(spec).fit(FitData(fit)).score(test)
    np.testing.assert_allclose(found.numpy(), BY_HAND[spec], rtol=1e-12)
    assert torch.equal(test.features, kept[0]) and torch.equal(fit.features, kept[1]), "fault 49: nothing in place"


def test_every_shaping_detector_is_tried_by_hand_or_has_a_test_of_its_own() -> None:
    assert {spec.partition("(")[0] for spec in BY_HAND} | {"react"} == set(NAMES)


@pytest.mark.parametrize("size", [1, 7, 64, 512, 2048])
@pytest.mark.parametrize("percentile", [0.0, 60.0, 65.0, 90.0, 99.9, 100.0])
def test_counts_are_exact(size: int, percentile: float) -> None:
    count = pruned_count(size, percentile)
    assert count == max(1, size - int(np.round(size * percentile / 100)))  # as in the authors' codes
    features = torch.randint(0, 3, (50, size), generator=torch.Generator().manual_seed(0)).double()
    values, places = largest(features, count)
    for row, found, where in zip(features.tolist(), values.tolist(), places.tolist(), strict=True):
        expected = sorted(range(size), key=lambda place, row=row: (-row[place], place))[:count]  # type: ignore[misc]
        assert where == expected and found == [row[place] for place in expected]


def test_shares_are_within_their_range_and_count_nothing_negative() -> None:
    features = torch.tensor([[-1.0, 2.0, 6.0], [-1.0, -2.0, -3.0], [0, 0, 0], [1e-320, 0, 0]], dtype=torch.float64)
    found = share_of_largest(features, 1)
    torch.testing.assert_close(found[:, 0], torch.tensor([8 / 6, 1, 1, 1], dtype=torch.float64))
    each = share_of_largest(features, torch.tensor([2, 1, 1, 3]))
    torch.testing.assert_close(each[:, 0], torch.ones(4, dtype=torch.float64))


def test_zero_features_have_gradients() -> None:
    for name in NAMES:
        fitted = build(name).fit(FitData(of(FIT)))
        features = torch.zeros(2, 4, requires_grad=True)
        fitted.score(Outputs({"features": features, "logits": HEAD(features)}, HEAD)).sum().backward()
        assert features.grad is not None and features.grad.isfinite().all(), name


class WithHead(nn.Module):
    """What the detector makes of features, as the last step of a network."""

    def __init__(self, detector: Detector, head: Head) -> None:
        super().__init__()
        self.detector, self.head = detector, head

    def forward(self, features: Tensor) -> Tensor:
        assert isinstance(self.detector, Shaping)
        changes = self.detector.changes(self.detector.state)
        features = changes.get("features", lambda values: values)(features)
        logits: Tensor = changes.get("head", lambda head: head)(self.head)(features)
        return logits


@pytest.mark.parametrize("count", [3, 40])
@pytest.mark.parametrize("name", NAMES)
def test_over_odin_gradient_and_perturbed_pass_go_through_the_changed_network(name: str, count: int) -> None:
    example = make_example(precision=torch.float64)
    fitted = example.fitted(build(f"{name}(base=odin(temperature=10,epsilon=0.01))"))
    module = copy.deepcopy(example.classifier.module).eval()
    head = example.classifier.head_weights()
    assert head is not None
    module.head = WithHead(fitted, head)
    pixels = (example.all_images[-count:].double() / 255).requires_grad_()
    logits = module(example.classifier.normalise(pixels))
    F.cross_entropy(logits / 10, logits.argmax(dim=1), reduction="sum").backward()
    assert pixels.grad is not None
    with torch.no_grad():
        moved = module(example.classifier.normalise(pixels - 0.01 * pixels.grad.sign())) / 10
    top = moved.amax(dim=1)
    others = moved.scatter(1, moved.argmax(dim=1, keepdim=True), -torch.inf).logsumexp(dim=1)
    found = example.scores(fitted, example.all_images[-count:])
    torch.testing.assert_close(found, top - others, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_a_base_that_learns_does_so_on_the_changed_network(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.rand(count, 4, generator=generator) for count in (60, 10)]
    fit, test = (Outputs({"features": one, "logits": HEAD(one).float()}, HEAD) for one in drawn)
    fitted = build(f"{name}(base=vim(dimensions=2))").fit(FitData(fit))
    assert isinstance(fitted, Shaping)
    changes = fitted.changes(fitted.state)
    expected = build("vim(dimensions=2)").fit(FitData(fit.edited(changes))).score(test.edited(changes))
    assert torch.equal(fitted.score(test), expected)


@pytest.mark.parametrize("name", NAMES)
def test_needs_and_what_is_refused(name: str) -> None:
    assert build(name).needs == Needs("features", "head", "logits")
    assert "gradient" in build(f"{name}(base=odin)").needs
    assert build(f"{name}(base=mahalanobis)").fit_needs == Needs("features", "head", "labels")
    with pytest.raises(OodbenchError, match=f"{name} cannot read through gram, which learns from batches"):
        build(f"{name}(base=gram)")
    with pytest.raises(OodbenchError, match=f"{name} cannot read through inversion, which reads a classifier of its"):
        build(f"{name}(base=inversion)")


def test_the_mask_of_dice_follows_its_parameter() -> None:
    fitted = [build(f"dice(percentile={percentile})").fit(FitData(of(FIT))) for percentile in (25, 50, 75)]
    assert [int(one.state["mask"].sum()) for one in fitted] == [6, 4, 2], "fault 36: a search that searches nothing"


def test_vra_refuses_bounds_that_cross() -> None:
    with pytest.raises(OodbenchError, match="vra: lower is 60, above upper, 50; give a smaller one"):
        build("vra(upper=50)")
