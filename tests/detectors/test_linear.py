"""lc: both modes against scikit-learn used directly, hand geometry, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from oodbench.detectors.linear import LinearClassifier
from oodbench.errors import OodbenchError
from oodbench.outputs import FitData, Needs, Outputs

DRAW = np.random.default_rng(0)
SCALES = np.array([1.0, 100.0, 0.01, 1.0])
ID, PROXY, MORE, TEST = (
    SCALES * (DRAW.normal(size=(n, 4)) + shift) for n, shift in ((90, 0), (90, 1), (30, -1), (40, 0))
)
LABELS = torch.arange(90) % 3


def outputs(features: np.ndarray) -> Outputs:
    return Outputs({"features": torch.from_numpy(features)})


def data(features: np.ndarray, labels: Tensor | None = None, **sets: np.ndarray) -> FitData:
    return FitData(outputs(features), labels, {name.replace("_", "-"): outputs(one) for name, one in sets.items()})


def test_proxy_is_logistic_regression_on_standardised_features() -> None:
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=0.01))
    pipeline.fit(np.concatenate([ID, PROXY]), np.repeat([1, 0], 90))
    detector = LinearClassifier().fit(data(ID, pixel_shuffled=PROXY))
    found = detector.score(outputs(TEST)).numpy()
    np.testing.assert_allclose(found, pipeline.decision_function(TEST), rtol=1e-9, atol=1e-9)


def test_proxies_together_weigh_as_much_as_id() -> None:
    detector = LinearClassifier(proxies="pixel-shuffled+patch-shuffled", C=1.0)
    assert detector.needs == Needs("features")
    assert detector.fit_needs == Needs("features", "proxy:pixel-shuffled", "proxy:patch-shuffled")
    found = detector.fit(data(ID, pixel_shuffled=PROXY, patch_shuffled=MORE)).score(outputs(TEST)).numpy()
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, class_weight="balanced"))
    pipeline.fit(np.concatenate([ID, PROXY, MORE]), np.repeat([1, 0], [90, 120]))
    np.testing.assert_allclose(found, pipeline.decision_function(TEST), rtol=1e-6, atol=1e-6)


def test_boundary_is_the_largest_distance_by_one_least_squares_a_class() -> None:
    scaler = StandardScaler().fit(ID)
    distances = []
    for k in range(3):
        model = Ridge(alpha=50.0).fit(scaler.transform(ID), np.where(LABELS.numpy() == k, 1, -1))
        distances.append(model.predict(scaler.transform(TEST)) / np.linalg.norm(model.coef_))
    detector = LinearClassifier(mode="boundary").fit(data(ID, LABELS))
    assert detector.fit_needs == Needs("features", "labels") and detector.needs == Needs("features")
    np.testing.assert_allclose(detector.score(outputs(TEST)).numpy(), np.max(distances, axis=0), rtol=1e-9)


@pytest.mark.parametrize("present", [(0, 1), (1, 2)])
def test_two_classes_have_two_boundaries_and_a_missing_one_has_none(present: tuple[int, int]) -> None:
    # Classes at x = −1 and +1, in a space of one dimension: the boundary is x = 0, and distances are ±x.
    features = torch.tensor([[-1.0], [1.0]]).repeat(20, 1)
    fit_data = FitData(Outputs({"features": features}), torch.tensor(present * 20))
    detector = LinearClassifier(mode="boundary").fit(fit_data)
    scores = detector.score(Outputs({"features": torch.tensor([[-3.0], [0.0], [0.5]])}))
    torch.testing.assert_close(scores, torch.tensor([3.0, 0.0, 0.5], dtype=torch.float64))


@pytest.mark.parametrize("mode", ["proxy", "boundary"])
def test_features_that_do_not_vary_are_no_harm(mode: str) -> None:
    flat, other = (
        np.hstack([ID, np.zeros((90, 1)), np.full((90, 1), 7.3)]),
        np.hstack([PROXY, np.zeros((90, 1)), np.full((90, 1), 7.3)]),
    )
    plain = LinearClassifier(mode=mode).fit(data(ID, LABELS, pixel_shuffled=PROXY)).score(outputs(TEST))
    detector = LinearClassifier(mode=mode).fit(data(flat, LABELS, pixel_shuffled=other))
    test = np.hstack([TEST, np.zeros((40, 1)), np.full((40, 1), 7.3)])
    torch.testing.assert_close(detector.score(outputs(test)), plain, rtol=1e-6, atol=1e-6)
    all_flat = LinearClassifier(mode=mode).fit(data(0 * ID, LABELS, pixel_shuffled=0 * PROXY))
    assert all_flat.score(outputs(TEST)).isfinite().all()


def broken() -> np.ndarray:
    values = ID.copy()
    values[7, 1] = np.nan
    return values


@pytest.mark.parametrize(
    ("mode", "given", "message"),
    [
        ("boundary", {"labels": None}, "needs the classes of all fit images, at least two, but got none"),
        ("boundary", {"labels": torch.zeros(90, dtype=torch.int64)}, r"but got \[0\]"),
        ("boundary", {"labels": LABELS - 1}, r"but got \[-1, 0, 1\]"),
        ("proxy", {}, "without the proxy set 'pixel-shuffled'"),
        ("proxy", {"patch_shuffled": PROXY}, "without the proxy set 'pixel-shuffled'"),
        ("proxy", {"pixel_shuffled": broken()}, "features of pixel-shuffled of image 7 are not finite"),
        ("proxy", {"features": broken(), "pixel_shuffled": PROXY}, "the features of image 7 are not finite .1 of 90"),
    ],
)
def test_refusals(mode: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(OodbenchError, match=message):
        LinearClassifier(mode=mode).fit(data(**({"features": ID} | given)))
