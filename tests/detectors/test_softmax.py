"""SMOOD: the log-odds of the largest probability, against exact arithmetic and float64 softmax."""

from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oodbench.detectors.softmax import Smood, top_log_odds
from oodbench.outputs import Outputs

ROWS = st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=6)


def exact_log_odds(row: list[float], temperature: float) -> float:
    with localcontext() as context:
        context.prec = 60
        powers = sorted((Decimal(value) / Decimal(temperature)).exp() for value in row)
        return float((powers[-1] / sum(powers[:-1])).ln())


@given(row=ROWS, temperature=st.sampled_from([0.5, 1.0, 3.0, 1000.0]))
def test_equals_arithmetic_of_sixty_digits(row: list[float], temperature: float) -> None:
    found = top_log_odds(torch.tensor([row]), temperature).item()
    assert found == pytest.approx(exact_log_odds(row, temperature), rel=1e-12, abs=1e-12)


def test_hand_case() -> None:
    # p = 1/2, 1/4, 1/4: the odds of the largest are 1.
    logits = torch.tensor([[2.0, 1.0, 1.0]]).log()
    assert Smood().score(Outputs({"logits": logits})).item() == pytest.approx(0, abs=1e-7)


def test_is_the_log_odds_of_the_softmax() -> None:
    logits = torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    largest = logits.double().softmax(dim=1).amax(dim=1)
    torch.testing.assert_close(Smood().score(Outputs({"logits": logits})), (largest / (1 - largest)).log())


@given(tied=st.integers(2, 6))
def test_classes_that_tie_for_the_top_are_all_counted(tied: int) -> None:
    # p = 1/tied each, so that the odds are 1/(tied − 1).
    logits = torch.full((1, tied), 3.0)
    expected = float(Fraction(1, tied - 1))
    assert top_log_odds(logits).exp().item() == pytest.approx(expected)
