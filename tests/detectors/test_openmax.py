"""OpenMax: the algorithm in NumPy with SciPy's Weibull, the fit, and classes that are never right."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import softmax
from torch import Tensor

from oodbench.detectors.openmax import STEEPEST, OpenMax, weibull
from oodbench.errors import OodbenchError
from oodbench.outputs import FitData, Outputs

SHIFT = 1e4


def drawn(count: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 4
    logits = torch.randn(count, 4, generator=generator)
    return logits + 3 * torch.nn.functional.one_hot(labels, 4), labels


FIT, TEST = drawn(400, 0), drawn(30, 1)


def fitted(logits: Tensor, labels: Tensor, **settings: int) -> OpenMax:
    return OpenMax(**settings).fit(FitData(Outputs({"logits": logits}), labels))


def by_hand(detector: OpenMax, fit: np.ndarray, labels: np.ndarray, test: np.ndarray) -> list[float]:
    means, laws, least = {}, {}, {}
    for k in range(fit.shape[1]):
        own = fit[(labels == k) & (fit.argmax(axis=1) == k)]
        means[k] = own.mean(axis=0)
        tail = np.sort(np.linalg.norm(own - means[k], axis=1))[-detector.tail :]
        shape, log_scale = weibull(tail - tail[0] + SHIFT)
        laws[k], least[k] = stats.weibull_min(shape, scale=np.exp(log_scale)), tail[0]
    scores = []
    for z in test:
        revised, unknown = z.copy(), 0.0
        for place, k in enumerate(np.argsort(-z)[: detector.alpha]):
            outlying = laws[k].cdf(np.linalg.norm(z - means[k]) - least[k] + SHIFT)
            alpha = min(detector.alpha, len(z))
            lost = z[k] * outlying * (alpha - place) / alpha
            revised[k], unknown = z[k] - lost, unknown + lost
        p = softmax([unknown, *revised])[0]
        scores.append(np.log((1 - p) / p))
    return scores


@pytest.mark.parametrize("settings", [{}, {"alpha": 2}, {"tail": 5, "alpha": 1}])
def test_equals_the_algorithm(settings: dict[str, int]) -> None:
    detector = fitted(*FIT, **settings)
    expected = by_hand(detector, FIT[0].double().numpy(), FIT[1].numpy(), TEST[0].double().numpy())
    found = detector.score(Outputs({"logits": TEST[0]})).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [0.7, 2.0, 9.0])
def test_the_fit_is_scipys(shape: float) -> None:
    values = stats.weibull_min(shape, scale=3.0).rvs(400, random_state=0)
    found, log_scale = weibull(values)
    theirs = stats.weibull_min.fit(values, floc=0)
    assert (found, np.exp(log_scale)) == pytest.approx((theirs[0], theirs[2]), rel=1e-3)
    ours = stats.weibull_min.nnlf((found, 0.0, np.exp(log_scale)), values)
    assert ours <= stats.weibull_min.nnlf(theirs, values) + 1e-9, "no parameters are likelier"


def test_a_tail_of_one_distance_is_a_step() -> None:
    assert weibull(np.full(5, SHIFT)) == (STEEPEST, pytest.approx(np.log(SHIFT)))


def test_the_farther_the_likelier_unknown() -> None:
    detector, mean = fitted(*FIT), fitted(*FIT).state["means"][0]
    away = torch.tensor([1.0, -1.0, 0.5, -0.5]).double()
    scores = detector.score(Outputs({"logits": torch.stack([mean + step * away for step in (0.0, 2.0, 20.0)])}))
    assert scores[0] > scores[1] and scores[0] > scores[2]


def test_a_class_that_is_never_right_is_named_and_unknown() -> None:
    logits, labels = FIT[0], FIT[1].clone()
    labels[labels == 2] = 1
    detector = fitted(logits, labels)
    assert detector.state["classes never right"] == [2] and len(detector.state["means"]) == 3
    of_class_2 = TEST[0][TEST[1] == 2]
    assert (detector.score(Outputs({"logits": of_class_2})) < fitted(*FIT).score(Outputs({"logits": of_class_2}))).all()


def test_refuses_a_classifier_that_has_nothing_right() -> None:
    logits = FIT[0]
    with pytest.raises(
        OodbenchError, match="openmax learns from fit images that are classified right, and none of 400"
    ):
        fitted(logits, (logits.argmax(dim=1) + 1) % 4)
