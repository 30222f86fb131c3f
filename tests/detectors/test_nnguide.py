"""Nearest-neighbour guidance: the formula, by hand, the bank, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from oodbench.detectors import knn
from oodbench.detectors.nnguide import NearestNeighbourGuidance
from oodbench.errors import OodbenchError
from oodbench.outputs import FitData, Outputs


def drawn(count: int, seed: int) -> Outputs:
    generator = torch.Generator().manual_seed(seed)
    features, logits = (torch.randn(count, width, generator=generator) for width in (7, 4))
    return Outputs({"features": features, "logits": 2 * logits})


FIT, TEST = drawn(200, 0), drawn(41, 1)


def scores(fit: Outputs = FIT, test: Outputs = TEST, **settings: int) -> np.ndarray:
    return NearestNeighbourGuidance(**settings).fit(FitData(fit)).score(test).numpy()


@pytest.mark.parametrize("k", [1, 10, 200])
def test_equals_the_formula(k: int) -> None:
    h, x = (one.features.double().numpy() for one in (FIT, TEST))
    h, x = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (h, x))
    energy, own = (logsumexp(one.logits.double().numpy(), axis=1) for one in (FIT, TEST))
    guidance = np.sort(x @ h.T * energy, axis=1)[:, ::-1][:, :k].mean(axis=1)
    np.testing.assert_allclose(scores(k=k), own * guidance, rtol=1e-9)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = scores()
    monkeypatch.setattr(knn, "BLOCK", 1)
    monkeypatch.setattr(knn, "LEAST_ROWS", 1)
    np.testing.assert_allclose(scores(), whole, rtol=1e-12)


def test_the_bank_is_drawn_from_the_fit_images_alone() -> None:
    few = NearestNeighbourGuidance(bank=20).fit(FitData(FIT)).state["bank"]
    every = NearestNeighbourGuidance().fit(FitData(FIT)).state["bank"]
    assert len(few) == 20 and len(every) == 200
    assert {tuple(row) for row in few.tolist()} < {tuple(row) for row in every.tolist()}


def test_refuses_a_bank_that_is_too_small() -> None:
    with pytest.raises(OodbenchError, match=r"nnguide\(k=10\) needs a bank of 10 fit images or more, but got 9"):
        scores(k=10, bank=9)
