"""MaxLogit and energy against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oodbench.detectors.logits import Energy, MaxLogit
from oodbench.outputs import Outputs

LOGITS = torch.tensor([[1.0, 2.0, 3.0], [-1.0, -2.0, -3.0], [0.0, 0.0, 0.0]])


def test_max_logit() -> None:
    assert MaxLogit().score(Outputs({"logits": LOGITS})).tolist() == [3, -1, 0]


def test_energy_by_hand() -> None:
    found = Energy().score(Outputs({"logits": LOGITS}))
    assert found[0].item() == pytest.approx(math.log(math.exp(1) + math.exp(2) + math.exp(3)), rel=1e-15)
    assert found[2].item() == pytest.approx(math.log(3), rel=1e-15)
    assert Energy(temperature=2).score(Outputs({"logits": LOGITS}))[2].item() == pytest.approx(2 * math.log(3))


@given(shift=st.floats(-1e3, 1e3), temperature=st.floats(0.1, 100))
def test_energy_moves_with_the_logits(shift: float, temperature: float) -> None:
    detector = Energy(temperature)
    moved = detector.score(Outputs({"logits": LOGITS.double() + shift}))
    torch.testing.assert_close(moved, detector.score(Outputs({"logits": LOGITS})) + shift, rtol=1e-9, atol=1e-9)


def test_cold_energy_is_the_largest_logit() -> None:
    cold = Energy(temperature=1e-3).score(Outputs({"logits": LOGITS[:2]}))
    torch.testing.assert_close(cold, MaxLogit().score(Outputs({"logits": LOGITS[:2]})))
