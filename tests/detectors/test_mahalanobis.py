"""Mahalanobis, plain and relative: the formulas in NumPy and scikit-learn, singular covariances, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.covariance import EmpiricalCovariance
from torch import Tensor

from oodbench.detectors import fitting
from oodbench.detectors.mahalanobis import Mahalanobis, RelativeMahalanobis
from oodbench.errors import OodbenchError
from oodbench.outputs import FitData, Outputs

LABELS = torch.arange(300) % 3


def drawn(count: int, seed: int) -> Tensor:
    """Features of very unlike scales, correlated, with classes apart in the first."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(count, 5, generator=generator) * torch.tensor([1.0, 10.0, 0.1, 3.0, 0.5])
    values[:, 1] += 5 * values[:, 0]
    values[:, 0] += 8 * (torch.arange(count) % 3)
    return values


FIT, TEST = drawn(300, 0), drawn(40, 1)


def scores(fit: Tensor, labels: Tensor | None, test: Tensor, shrinkage: float = 0.0) -> Tensor:
    fitted = Mahalanobis(shrinkage=shrinkage).fit(FitData(Outputs({"features": fit}), labels))
    return fitted.score(Outputs({"features": test}))


def by_hand(fit: Tensor, labels: Tensor, test: Tensor, shrinkage: float = 0.0) -> np.ndarray:
    h, y, x = fit.double().numpy(), labels.numpy(), test.double().numpy()
    means = {c: h[y == c].mean(axis=0) for c in np.unique(y)}
    sigma = sum(np.outer(one - means[c], one - means[c]) for one, c in zip(h, y, strict=True)) / len(h)
    sigma = (1 - shrinkage) * sigma + shrinkage * np.trace(sigma) / len(sigma) * np.eye(len(sigma))
    precision = np.linalg.inv(sigma)
    return np.array([-min((one - m) @ precision @ (one - m) for m in means.values()) for one in x])


@pytest.mark.parametrize("shrinkage", [0.0, 1e-6, 0.3])
def test_equals_the_formula(shrinkage: float) -> None:
    found = scores(FIT, LABELS, TEST, shrinkage)
    np.testing.assert_allclose(found.numpy(), by_hand(FIT, LABELS, TEST, shrinkage), rtol=1e-9)


@pytest.mark.parametrize("shrinkage", [0.0, 1e-6, 0.1])
def test_a_fit_set_fifty_times_over_changes_nothing(shrinkage: float) -> None:
    once = scores(FIT, LABELS, TEST, shrinkage)
    often = scores(FIT.repeat(50, 1), LABELS.repeat(50), TEST, shrinkage)
    torch.testing.assert_close(often, once, rtol=1e-9, atol=0)


def test_does_not_depend_on_the_scale_of_the_features() -> None:
    torch.testing.assert_close(
        scores(64 * FIT, LABELS, 64 * TEST, 0.01), scores(FIT, LABELS, TEST, 0.01), rtol=1e-9, atol=0
    )


def test_does_not_depend_on_the_labels_names() -> None:
    torch.testing.assert_close(scores(FIT, 7 * LABELS + 2, TEST), scores(FIT, LABELS, TEST), rtol=1e-12, atol=0)


def test_a_class_without_fit_images_is_no_class() -> None:
    two = LABELS != 1
    found = scores(FIT[two], LABELS[two], TEST)
    np.testing.assert_allclose(found.numpy(), by_hand(FIT[two], LABELS[two], TEST), rtol=1e-9)


def test_a_singular_covariance_is_said_and_never_inverted_in_silence() -> None:
    flat, test = torch.hstack([FIT, torch.full((300, 2), 3.0)]), torch.hstack([TEST, torch.full((40, 2), 3.0)])
    with pytest.raises(OodbenchError, match=r"covariance of the 7 features .* has rank 5 on 300 .* larger shrinkage"):
        scores(flat, LABELS, test, 0.0)
    found = scores(flat, LABELS, test, 1e-6)
    assert found.isfinite().all()
    # What lives in directions that no fit image has gone in is far, where a pseudo-inverse would not see it.
    moved = test.clone()
    moved[:, -1] += 1
    assert (scores(flat, LABELS, moved, 1e-6) < found - 1e4).all()


@pytest.mark.parametrize("shrinkage", [0.0, 0.5])
def test_features_that_do_not_vary_at_all_are_refused(shrinkage: float) -> None:
    with pytest.raises(OodbenchError, match="has rank 0 on 300 fit images"):
        scores(torch.ones(300, 4), LABELS, torch.ones(2, 4), shrinkage)


def test_far_from_the_origin_nothing_is_lost() -> None:
    shift = 1e8
    found = scores(FIT.double() + shift, LABELS, TEST.double() + shift)
    np.testing.assert_allclose(found.numpy(), by_hand(FIT, LABELS, TEST), rtol=1e-4)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "mahalanobis needs the classes of all fit images, but got none; give a labelled fit set"),
        (LABELS - 1, "but got label -1"),
    ],
)
def test_refuses_fit_images_without_classes(labels: Tensor | None, message: str) -> None:
    with pytest.raises(OodbenchError, match=message):
        scores(FIT, labels, TEST)


def test_refuses_features_that_are_not_finite() -> None:
    broken = FIT.clone()
    broken[7, 1] = torch.nan
    with pytest.raises(OodbenchError, match="the features of image 7 are not finite"):
        scores(broken, LABELS, TEST)


def relative(fit: Tensor, labels: Tensor, test: Tensor, shrinkage: float = 0.0) -> np.ndarray:
    fitted = RelativeMahalanobis(shrinkage=shrinkage).fit(FitData(Outputs({"features": fit}), labels))
    return fitted.score(Outputs({"features": test})).numpy()


def test_relative_is_the_difference_of_scikit_learns_distances() -> None:
    h, y, x = FIT.double().numpy(), LABELS.numpy(), TEST.double().numpy()
    means = np.stack([h[y == c].mean(axis=0) for c in range(3)])
    of_classes = EmpiricalCovariance(assume_centered=True).fit(h - means[y])
    of_all = EmpiricalCovariance().fit(h)
    distances = np.stack([of_classes.mahalanobis(x - mean) for mean in means], axis=1)
    expected = -(distances - of_all.mahalanobis(x)[:, None]).min(axis=1)
    np.testing.assert_allclose(relative(FIT, LABELS, TEST), expected, rtol=1e-9, atol=1e-9)


def test_fault_23_relative_is_not_plain_and_of_one_class_it_is_zero() -> None:
    """pytorch-ood divided one of the two covariances alone: its ranks were those of the plain distance."""
    assert spearmanr(relative(FIT, LABELS, TEST), scores(FIT, LABELS, TEST).numpy())[0] < 0.9
    assert not relative(FIT, torch.zeros_like(LABELS), TEST, 1e-6).any()


def test_relative_to_a_fit_set_fifty_times_over_changes_nothing() -> None:
    often = relative(FIT.repeat(50, 1), LABELS.repeat(50), TEST, 1e-6)
    np.testing.assert_allclose(often, relative(FIT, LABELS, TEST, 1e-6), rtol=1e-8, atol=1e-9)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = relative(FIT, LABELS, TEST)
    monkeypatch.setattr(fitting, "ROWS", 7)
    np.testing.assert_allclose(relative(FIT, LABELS, TEST), whole, rtol=1e-9, atol=1e-9)
