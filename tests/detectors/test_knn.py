"""Nearest neighbours: against scikit-learn, hand geometry, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from oodbench.detectors import knn
from oodbench.detectors.knn import NearestNeighbours
from oodbench.errors import OodbenchError
from oodbench.outputs import FitData, Outputs


def outputs(features: Tensor) -> Outputs:
    return Outputs({"features": features})


def drawn(count: int, seed: int) -> Tensor:
    return torch.randn(count, 7, generator=torch.Generator().manual_seed(seed))


def scores(fit: Tensor, test: Tensor, k: int) -> Tensor:
    return NearestNeighbours(k=k).fit(FitData(outputs(fit))).score(outputs(test))


@pytest.mark.parametrize("k", [1, 50, 200])
def test_is_scikit_learns_distance_between_directions(k: int) -> None:
    fit, test = drawn(200, 0), drawn(40, 1)
    bank, query = (one.double().numpy() / np.linalg.norm(one.double().numpy(), axis=1)[:, None] for one in (fit, test))
    distances, _ = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(bank).kneighbors(query)
    np.testing.assert_allclose(scores(fit, test, k).numpy(), -distances[:, -1], rtol=1e-9)


def test_by_hand_in_the_plane() -> None:
    # Directions at 0°, 90° and 180°, of other lengths; the query at 0° is at chords 0, √2 and 2 of them.
    fit = torch.tensor([[2.0, 0.0], [0.0, 5.0], [-3.0, 0.0]])
    found = [float(scores(fit, torch.tensor([[7.0, 0.0]]), k)) for k in (1, 2, 3)]
    assert found == pytest.approx([0.0, -(2**0.5), -2.0], abs=1e-15)


def test_duplicates_of_fit_images_are_at_no_distance_in_any_batch() -> None:
    fit = 100 * drawn(300, 0)
    assert scores(fit, fit, 1).abs().max() == 0
    assert torch.equal(scores(fit, fit[5:6], 1), scores(fit, fit, 1)[5:6])


def test_features_of_zeros_are_at_distance_one() -> None:
    fit = drawn(30, 0)
    assert scores(fit, torch.zeros(2, 7), 30).tolist() == pytest.approx([-1.0, -1.0], abs=1e-15)
    with_zeros = torch.cat([fit, torch.zeros(1, 7)])
    assert scores(with_zeros, torch.zeros(1, 7), 1).tolist() == [0.0]


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = scores(drawn(200, 0), drawn(41, 1), 5)
    monkeypatch.setattr(knn, "BLOCK", 1)
    monkeypatch.setattr(knn, "LEAST_ROWS", 3)
    torch.testing.assert_close(scores(drawn(200, 0), drawn(41, 1), 5), whole, rtol=1e-12, atol=0)
    monkeypatch.setattr(knn, "LEAST_ROWS", 1)
    torch.testing.assert_close(scores(drawn(200, 0), drawn(41, 1), 5), whole, rtol=1e-12, atol=0)


def test_refuses_a_fit_set_that_is_too_small_and_features_that_are_not_finite() -> None:
    with pytest.raises(OodbenchError, match=r"knn\(k=50\) needs 50 fit images or more, but got 49; give more fit"):
        scores(drawn(49, 0), drawn(1, 1), 50)
    with pytest.raises(OodbenchError, match="the features of image 0 are not finite"):
        scores(torch.full((50, 3), torch.inf), drawn(1, 1), 50)
