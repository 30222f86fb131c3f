"""Scores of softmax probabilities, against exact arithmetic, SciPy and float64 softmax."""

from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from oodbench.detectors.softmax import Entropy, Gen, Msp, log_probabilities, top_log_odds
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
    assert Msp().score(Outputs({"logits": logits})).item() == pytest.approx(0, abs=1e-7)


def test_is_the_log_odds_of_the_softmax() -> None:
    logits = torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    largest = logits.double().softmax(dim=1).amax(dim=1)
    torch.testing.assert_close(Msp().score(Outputs({"logits": logits})), (largest / (1 - largest)).log())


@given(tied=st.integers(2, 6))
def test_classes_that_tie_for_the_top_are_all_counted(tied: int) -> None:
    # p = 1/tied each, so that the odds are 1/(tied − 1).
    logits = torch.full((1, tied), 3.0)
    expected = float(Fraction(1, tied - 1))
    assert top_log_odds(logits).exp().item() == pytest.approx(expected)


@given(row=st.lists(st.floats(-400, 400, width=32), min_size=2, max_size=6))
def test_log_probabilities_equal_arithmetic_of_many_digits(row: list[float]) -> None:
    found, rest = (one[0].tolist() for one in log_probabilities(torch.tensor([row])))
    with localcontext() as context:
        context.prec = 400
        powers = [Decimal(value).exp() for value in row]
        expected = [float((power / sum(powers)).ln()) for power in powers]
        others = [float(((sum(powers) - power) / sum(powers)).ln()) for power in powers]
    # Nothing is lost where p is next to 1: the logarithm keeps its leading digits.
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-300)
    assert rest == pytest.approx(others, rel=1e-9, abs=1e-15)


def logits_of(*probabilities: float) -> Outputs:
    return Outputs({"logits": torch.tensor([probabilities], dtype=torch.float64).log()})


def test_entropy_is_scipys() -> None:
    logits = 3 * torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    expected = -stats.entropy(logits.double().softmax(dim=1).numpy(), axis=1)
    np.testing.assert_allclose(Entropy().score(Outputs({"logits": logits})).numpy(), expected, rtol=1e-9)
    assert Entropy().score(logits_of(0.25, 0.25, 0.25, 0.25)).item() == pytest.approx(-np.log(4))


def test_entropy_and_gen_tell_apart_what_float32_takes_for_certain() -> None:
    leads = torch.tensor([[30.0, 0, 0], [60, 0, 0], [90, 0, 0]])
    assert (leads.softmax(dim=1).amax(dim=1) == 1).all(), "else this shows nothing"
    for detector in (Entropy(), Gen(), Gen(gamma=2)):
        scores = detector.score(Outputs({"logits": leads})).tolist()
        assert scores[0] < scores[1] < scores[2]


def test_gen_by_hand() -> None:
    # p = 1/2, 1/4, 1/4; γ = 1/2: √(1/4) + 2√(3/16) = 0.5 + 0.8660…, and of the largest alone 0.5.
    outputs = logits_of(0.5, 0.25, 0.25)
    assert Gen(gamma=0.5).score(outputs).item() == pytest.approx(-0.5 - np.sqrt(3) / 2)
    assert Gen(gamma=0.5, largest=1).score(outputs).item() == pytest.approx(-0.5)
    assert Gen(gamma=0.5, largest=3).score(outputs).item() == Gen(gamma=0.5, largest=100).score(outputs).item()


def test_gen_near_one_equals_many_digits() -> None:
    # Lead 25 over two classes: 1 − p = 2e^−25/(1 + 2e^−25), of which float64's 1 − p keeps five digits.
    with localcontext() as context:
        context.prec = 60
        small = Decimal(-25).exp()
        p, q = 1 / (1 + 2 * small), small / (1 + 2 * small)
        expected = -(float(p * (1 - p)) ** 0.1 + 2 * float(q * (1 - q)) ** 0.1)
    found = Gen().score(Outputs({"logits": torch.tensor([[25.0, 0.0, 0.0]])})).item()
    assert found == pytest.approx(expected, rel=1e-13)
