"""Relation: the formula image by image, and what a larger bank changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from oodbench.detectors import knn
from oodbench.detectors.relation import Relation
from oodbench.outputs import FitData, Outputs


def drawn(count: int, seed: int) -> Outputs:
    generator = torch.Generator().manual_seed(seed)
    features, logits = (torch.randn(count, width, generator=generator) for width in (3, 4))
    return Outputs({"features": features, "logits": 2 * logits})


FIT, TEST = drawn(60, 0), drawn(15, 1)


def scores(detector: Relation, fit: Outputs = FIT) -> np.ndarray:
    return detector.fit(FitData(fit)).score(TEST).numpy()


@pytest.mark.parametrize(
    "detector", [Relation(), Relation(power=4.0), Relation(threshold=0.0), Relation(threshold=0.3)]
)
def test_equals_the_formula(detector: Relation) -> None:
    expected = []
    for h, z in zip(TEST.features.double(), TEST.logits.double(), strict=True):
        total = 0.0
        for bank, own in zip(FIT.features.double(), FIT.logits.double(), strict=True):
            cosine = float(h @ bank / (h.norm() * bank.norm()))
            kernel = max(0.0, cosine) * float(z.softmax(dim=0) @ own.softmax(dim=0))
            total += kernel**detector.power if kernel > detector.threshold else 0.0
        expected.append(total / len(FIT))
    np.testing.assert_allclose(scores(detector), expected, rtol=1e-9)


def test_a_fit_set_often_over_and_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = scores(Relation())
    often = Outputs({name: one.repeat(20, 1) for name, one in FIT.tensors().items()})
    np.testing.assert_allclose(scores(Relation(), often), whole, rtol=1e-9)
    monkeypatch.setattr(knn, "BLOCK", 1)
    monkeypatch.setattr(knn, "LEAST_ROWS", 1)
    np.testing.assert_allclose(scores(Relation()), whole, rtol=1e-12)
