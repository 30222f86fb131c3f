"""The readings of a classifier with a garbage class: hand values, the naive formulas' ranks, no saturation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata
from torch import Tensor

from oodbench.detectors.inversion import READINGS, Inversion, log_uncertainty
from oodbench.errors import OodbenchError
from oodbench.outputs import Outputs


def naive(reading: str, logits: Tensor) -> Tensor:
    """As METHODS 1.3 writes it."""
    p = logits.double().softmax(dim=1)
    size = p.shape[1]
    known, garbage = p[:, :-1], p[:, -1]
    return {
        "neg_garbage_probability": -garbage,
        "margin_probability": known.amax(dim=1) - garbage,
        "energy_fusion": logits[:, :-1].double().exp().sum(dim=1).log() - logits[:, -1].double() / 2,
        "max_probability": known.amax(dim=1),
        "margin_logit": logits[:, :-1].double().amax(dim=1) - logits[:, -1].double(),
        "certainty": 1 - size / (size - 1) * (1 - p.square().sum(dim=1)),
    }[reading]


def score(reading: str, logits: Tensor) -> Tensor:
    return Inversion(reading=reading).score(Outputs({"logits": logits}))


@pytest.mark.parametrize("reading", READINGS)
@given(seed=st.integers(0, 2**31), classes=st.integers(1, 12), scale=st.floats(0.1, 3))
def test_the_ranks_are_those_of_the_formula(reading: str, seed: int, classes: int, scale: float) -> None:
    logits = scale * torch.randn(40, classes + 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    # Rounded, so that what is equal but for the last bit ranks equal.
    ranks = [rankdata(np.round(values.numpy(), 9)) for values in (naive(reading, logits), score(reading, logits))]
    assert np.abs(ranks[0] - ranks[1]).max() <= 1


def test_hand_values() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64).log()
    assert float(score("neg_garbage_probability", logits)) == pytest.approx(math.log(0.8 / 0.2))
    assert float(score("margin_probability", logits)) == pytest.approx(math.log(1.3 / 0.7))
    assert float(score("energy_fusion", logits)) == pytest.approx(math.log(0.8 / math.sqrt(0.2)))
    assert float(score("max_probability", logits)) == pytest.approx(0)
    assert float(score("margin_logit", logits)) == pytest.approx(math.log(0.5 / 0.2))
    assert float(score("certainty", logits)) == pytest.approx(-math.log(1.5 * (1 - 0.38)))


def test_uncertainty_is_one_for_equal_outputs_and_zero_for_a_sure_one() -> None:
    assert float(log_uncertainty(torch.zeros(1, 11)).exp()) == pytest.approx(1)
    assert float(log_uncertainty(torch.tensor([[900.0, 0, 0]])).exp()) == 0


@pytest.mark.parametrize("reading", READINGS)
def test_nothing_saturates(reading: str) -> None:
    """Where the probabilities themselves are all 0 or 1 in float64, the order is still there."""
    logits = torch.tensor([[400.0, 0, -1], [300, 0, -1], [200, 0, -1]])
    found = score(reading, logits)
    assert found.isfinite().all() and found[0] > found[1] > found[2]
    if reading != "certainty":
        into_garbage = score(reading, logits.flip(1))
        assert into_garbage.isfinite().all() and into_garbage[0] < into_garbage[1] < into_garbage[2] < found[2]


def test_certainty_alone_is_blind_to_confident_garbage() -> None:
    known, garbage = torch.tensor([[9.0, 0, 0]]), torch.tensor([[0, 0, 9.0]])
    assert float(score("certainty", known)) == pytest.approx(float(score("certainty", garbage)))
    assert float(score("margin_logit", known)) > float(score("margin_logit", garbage))


def test_an_unknown_reading_is_refused() -> None:
    with pytest.raises(OodbenchError, match="reading must be one of"):
        Inversion(reading="vibes")
