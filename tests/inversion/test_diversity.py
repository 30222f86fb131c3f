"""Diversity: against naive formulas, an independent implementation, and cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from oodbench.errors import OodbenchError
from oodbench.inversion import diversity as module
from oodbench.inversion.diversity import coverage, diversity, feature_cosine, within_class_cosine


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def with_scikit_learn(real: Tensor, generated: Tensor, nearest: int) -> float:
    """Coverage by another way: nearest neighbours by trees."""
    radii = NearestNeighbors(n_neighbors=nearest + 1).fit(real).kneighbors(real)[0][:, -1]
    to_generated = NearestNeighbors(n_neighbors=1).fit(generated).kneighbors(real)[0][:, 0]
    return float(np.mean(to_generated <= radii))


@given(seed=st.integers(0, 999), real=st.integers(4, 30), made=st.integers(1, 30), nearest=st.integers(1, 3))
def test_coverage_equals_an_independent_implementation(seed: int, real: int, made: int, nearest: int) -> None:
    reals, generated = random(seed, real, 3).double(), random(seed + 1, made, 3).double()
    assert coverage(reals, generated, nearest) == with_scikit_learn(reals, generated, nearest)


def test_coverage_by_hand() -> None:
    # On a line; distances to the nearest other real image: 1, 1, 2, 6.
    real = torch.tensor([[0.0], [1.0], [3.0], [9.0]])
    assert coverage(real, torch.tensor([[-1.0]]), nearest=1) == 0.25
    assert coverage(real, torch.tensor([[2.0]]), nearest=1) == 0.5
    assert coverage(real, torch.tensor([[4.0]]), nearest=1) == 0.5
    assert coverage(real, torch.tensor([[100.0]]), nearest=1) == 0
    # With k = 2 the radii are 3, 2, 3, 8.
    assert coverage(real, torch.tensor([[-2.5]]), nearest=2) == 0.25


def test_real_images_cover_themselves_and_a_collapsed_generator_hardly_any() -> None:
    real = random(0, 400, 5)
    assert coverage(real, real) == 1
    assert coverage(real, real[:1].repeat(400, 1)) < 0.05
    # Lemma 2 of the paper: 1 − 2^−k expected for as many images of the same distribution.
    assert coverage(real, random(1, 400, 5)) == pytest.approx(1 - 2**-5, abs=0.03)


def test_coverage_does_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    real, generated = random(0, 50, 3), random(1, 20, 3)
    whole = coverage(real, generated)
    monkeypatch.setattr(module, "CHUNK", 7)
    assert coverage(real, generated) == whole


def test_coverage_is_exact_far_from_the_origin() -> None:
    """Planted fault: in float32, or by ‖a‖² + ‖b‖² − 2ab, distances of 1e-3 at 1e4 are lost."""
    real, generated = 1e-3 * random(0, 60, 3).double(), 1e-3 * random(1, 9, 3).double()
    near = coverage(real, generated)
    assert 0 < near < 1
    assert coverage(real + 1e4, generated + 1e4) == near


def test_coverage_needs_neighbours_and_images() -> None:
    for real, generated in ((random(0, 5, 2), random(1, 3, 2)), (random(0, 9, 2), random(1, 0, 2))):
        with pytest.raises(OodbenchError, match="give more images"):
            coverage(real, generated, nearest=5)


def test_cosine_over_all_pairs_and_within_classes() -> None:
    features = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [1.0, 1.0], [5.0, 5.0]])
    half = 0.5**0.5
    # Pairs: 1, 0, h, h, 0, h, h, h, h, 1.
    assert feature_cosine(features) == pytest.approx((2 + 6 * half) / 10)
    targets = torch.tensor([0, 0, 1, 1, 2])  # A class of one image has no pairs.
    assert within_class_cosine(features, targets) == pytest.approx((1 + half) / 2)
    assert np.isnan(feature_cosine(features[:1]))


def test_the_measurements_together() -> None:
    real, made, targets = random(0, 30, 4), random(1, 20, 4), torch.arange(20) % 3
    measured = diversity(made, targets, real)
    assert measured.feature_cosine == feature_cosine(made)
    assert measured.within_class_cosine == within_class_cosine(made, targets)
    assert measured.coverage == coverage(real, made)
