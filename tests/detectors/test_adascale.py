"""AdaSCALE: against the few lines of its paper, asked image by image of the network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from oodbench.classifier import Classifier
from oodbench.detectors.adascale import AdaScale
from oodbench.detectors.spec import build
from oodbench.errors import OodbenchError
from oodbench.example import make_example
from oodbench.live import passes
from oodbench.outputs import Needs


def features_of(classifier: Classifier, pixels: Tensor) -> np.ndarray:
    found = [live.features for live in passes(classifier, pixels.split(64), Needs("features"))]
    return torch.cat(found).numpy()


def statistic(classifier: Classifier, images: Tensor, detector: AdaScale) -> tuple[np.ndarray, np.ndarray]:
    """h, and Q' by loops."""
    pixels = (images.double() / 255).requires_grad_()
    classifier.module.eval()
    classifier(pixels).amax(dim=1).sum().backward()
    assert pixels.grad is not None
    gradient = pixels.grad.flatten(1).numpy()
    moved = pixels.detach().flatten(1).clone().numpy()
    for row, of_row in zip(moved, gradient, strict=True):
        for place in np.argsort(np.abs(of_row), kind="stable")[: int(len(of_row) * detector.moved)]:
            row[place] += detector.epsilon * np.sign(of_row[place])
    before = features_of(classifier, pixels.detach())
    after = features_of(classifier, torch.from_numpy(moved).view_as(pixels))
    found = []
    for h, other in zip(before, after, strict=True):
        order = np.argsort(-h, kind="stable")
        many, few = (order[: max(1, int(len(h) * share / 100))] for share in (detector.correction, detector.shifted))
        found.append(np.maximum(other, 0)[many].sum() + detector.weight * np.abs(h - other)[few].sum())
    return before, np.array(found)


@pytest.mark.parametrize("detector", [AdaScale(), AdaScale(low=30, high=90, correction=50, shifted=25, moved=0.3)])
def test_is_what_its_paper_says(detector: AdaScale) -> None:
    example = make_example(precision=torch.float64)
    head = example.classifier.head_weights()
    assert head is not None
    _, known = statistic(example.classifier, example.fit_images, detector)
    h, found = statistic(example.classifier, example.all_images, detector)
    # A hair, by which the images of the fit set are counted as they are.
    below = np.array([(known <= one * (1 + 1e-12)).mean() for one in found])
    percentiles = detector.low + (1 - below) * (detector.high - detector.low)
    assert len(np.unique(np.round(h.shape[1] * percentiles / 100))) > 1
    energies = []
    for row, percentile in zip(h, percentiles, strict=True):
        count = row.size - int(np.round(row.size * percentile / 100))
        r = row.sum() / np.sort(row)[::-1][:count].sum()
        logits = head.weight.numpy() @ (row * np.exp(r)) + head.bias.numpy()
        energies.append(np.logaddexp.reduce(logits))
    scores = example.scores(example.fitted(detector), example.all_images)
    np.testing.assert_allclose(scores.numpy(), energies, rtol=1e-8)


def test_an_equal_range_is_scale() -> None:
    example = make_example()
    scale, ours = (example.fitted(build(one)) for one in ("scale(percentile=80)", "adascale(low=80,high=80)"))
    assert torch.equal(example.scores(scale, example.all_images), example.scores(ours, example.all_images))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("adascale(low=90)", "adascale: low is 90, above high, 85"),
        ("adascale(base=lc)", "adascale cannot read through lc, which learns from other sets"),
        ("adascale(base=gram)", "which learns from batches of the network as it is"),
    ],
)
def test_what_is_refused(spec: str, message: str) -> None:
    with pytest.raises(OodbenchError, match=message):
        build(spec)
