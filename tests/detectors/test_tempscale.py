"""Temperature scaling: the least of the negative log-likelihood, by other optimizers, and its ends."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn.functional import cross_entropy

from oodbench.detectors.softmax import Msp, top_log_odds
from oodbench.detectors.tempscale import COLDEST, HOTTEST, TemperatureScaling
from oodbench.errors import OodbenchError
from oodbench.outputs import FitData, Outputs


def drawn(temperature: float, count: int = 5000) -> tuple[Tensor, Tensor]:
    """Logits whose classes are drawn by their softmax at a temperature, which is the best one for them."""
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(count, 6, generator=generator)
    labels = torch.multinomial((logits / temperature).softmax(dim=1), 1, generator=generator)[:, 0]
    return logits, labels


def fitted(logits: Tensor, labels: Tensor | None) -> TemperatureScaling:
    return TemperatureScaling().fit(FitData(Outputs({"logits": logits}), labels))


def loss(logits: Tensor, labels: Tensor, temperature: float) -> float:
    return float(cross_entropy(logits.double() / temperature, labels))


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.8])
@pytest.mark.parametrize("bracket", [(0.5, 1.0), (5.0, 9.0)])
def test_is_where_another_optimizer_ends_from_two_starts(temperature: float, bracket: tuple[float, float]) -> None:
    logits, labels = drawn(temperature)
    best = minimize_scalar(lambda one: loss(logits, labels, abs(one)), bracket=bracket, tol=1e-10).x
    found = fitted(logits, labels).state["temperature"]
    assert found == pytest.approx(abs(best), rel=1e-5) and found == pytest.approx(temperature, rel=0.1)


def test_scores_are_msp_at_that_temperature() -> None:
    logits, labels = drawn(2.0)
    detector, outputs = fitted(logits, labels), Outputs({"logits": logits[:20]})
    assert torch.equal(detector.score(outputs), top_log_odds(logits[:20], detector.state["temperature"]))
    assert not torch.equal(detector.score(outputs), Msp().score(outputs))


def test_a_fit_set_often_over_changes_nothing() -> None:
    logits, labels = drawn(2.0, 300)
    once, often = fitted(logits, labels), fitted(logits.repeat(40, 1), labels.repeat(40))
    assert often.state["temperature"] == pytest.approx(once.state["temperature"], rel=1e-8)


def test_where_the_loss_falls_to_an_end_it_is_the_end() -> None:
    logits, _ = drawn(1.0, 100)
    assert fitted(logits, logits.argmax(dim=1)).state["temperature"] == COLDEST
    assert fitted(logits, logits.argmin(dim=1)).state["temperature"] == HOTTEST


def test_refuses_what_it_cannot_learn_from() -> None:
    logits, labels = drawn(1.0, 100)
    with pytest.raises(OodbenchError, match="tempscale needs the classes of all fit images"):
        fitted(logits, None)
    logits[7, 1] = np.nan
    with pytest.raises(OodbenchError, match="the logits of image 7 are not finite"):
        fitted(logits, labels)
