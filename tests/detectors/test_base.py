"""The contract's base class: what a hyper-parameter may be, what is learned, and where the errors are."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from oodbench.detectors.base import Detector, State, parameter, require_width
from oodbench.errors import NotFittedError, OodbenchError
from oodbench.outputs import Needs, Outputs


@dataclass(frozen=True)
class Shifted(Detector):
    """The mean logit, less what was learned."""

    factor: float = parameter(1.0, "what it is multiplied by", low=0.5, high=2.0)
    count: int = parameter(3, "a count", low=1)
    flag: bool = parameter(False, "a switch")
    mode: str = parameter("a", "a choice", choices=("a", "b"))
    word: str = parameter("free", "a word")

    def learn(self, outputs: Outputs) -> State:
        return {"mean": outputs.logits.double().mean(), "seen": len(outputs)}

    def score(self, outputs: Outputs) -> Tensor:
        return self.factor * (outputs.logits.double().mean(dim=1) - self.state["mean"])


LOGITS = torch.tensor([[1.0, 3.0], [5.0, 7.0]])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"factor": 2.1}, "factor must be finite and from 0.5 to 2.0, not 2.1"),
        ({"factor": math.nan}, "factor"),
        ({"count": math.inf}, "count must be of type int"),
        ({"count": 0}, "count must be finite and from 1"),
        ({"count": 2.0}, "count must be of type int, not 2.0"),
        ({"count": True}, "count must be of type int, not True"),
        ({"factor": True}, "factor must be of type float, not True"),
        ({"factor": "1"}, "factor must be of type float"),
        ({"flag": 1}, "flag must be of type bool"),
        ({"mode": "c"}, "mode must be one of a, b, not 'c'"),
        ({"mode": 1}, "mode must be of type str"),
        ({"word": "two words"}, "word must be a word"),
        ({"word": "a,b"}, "word must be a word"),
        ({"word": ""}, "word must be a word"),
    ],
)
def test_what_a_hyper_parameter_may_not_be(values: dict[str, Any], message: str) -> None:
    with pytest.raises(OodbenchError, match=message):
        Shifted(**values)


def test_infinity_is_refused_where_no_bound_is_declared() -> None:
    assert Shifted(count=10**400).count == 10**400  # no float can hold it, but a whole number it is
    with pytest.raises(OodbenchError, match="finite"):
        Unbounded(value=math.inf)


@dataclass(frozen=True)
class Unbounded(Detector):
    value: float = parameter(0.0, "anything finite")

    def score(self, outputs: Outputs) -> Tensor:
        return outputs.logits.double().sum(dim=1)


def test_a_whole_number_for_a_float_is_that_float() -> None:
    detector = Shifted(factor=2)
    assert detector == Shifted(factor=2.0) and type(detector.factor) is float
    assert hash(detector) == hash(Shifted(factor=2.0))


def test_hyper_parameters_are_frozen_and_known() -> None:
    with pytest.raises(FrozenInstanceError):
        Shifted().factor = 1.5  # type: ignore[misc]
    with pytest.raises(TypeError):
        Shifted(unknown=1)  # type: ignore[call-arg]


def test_an_undeclared_field_is_a_mistake_of_the_author() -> None:
    @dataclass(frozen=True)
    class Undeclared(Unbounded):
        k: int = 3

    with pytest.raises(TypeError, match=r"Undeclared\.k must be .* declared with parameter"):
        Undeclared()


def test_learning_and_forgetting() -> None:
    detector = Shifted()
    assert detector.learns() and not Unbounded.learns()
    assert Unbounded().state == {} and Unbounded().fit(Outputs(logits=LOGITS)).state == {}
    with pytest.raises(NotFittedError, match="Shifted must be fitted"):
        detector.score(Outputs(logits=LOGITS))
    assert detector.fit(Outputs(logits=LOGITS)) is detector
    assert detector.score(Outputs(logits=LOGITS)).tolist() == [-2, 2]
    assert detector == Shifted(), "what was learned is no hyper-parameter"
    with pytest.raises(OodbenchError):
        detector.fit(Outputs())
    with pytest.raises(NotFittedError):  # nothing of the earlier fit remains after one that failed
        detector.score(Outputs(logits=LOGITS))


def test_state_moves_and_loads() -> None:
    learned = Shifted().fit(Outputs(logits=LOGITS)).state
    other = Shifted(factor=0.5).load_state(learned)
    assert other.score(Outputs(logits=LOGITS)).tolist() == [-1, 1]
    assert other.to("meta").state["mean"].device.type == "meta"
    assert other.state["seen"] == 2 and learned["mean"].device.type == "cpu"


def test_defaults() -> None:
    assert Unbounded().needs == Needs(logits=True)
    assert not Unbounded().control
    with pytest.raises(TypeError):
        Detector()  # type: ignore[abstract]


def test_require_width() -> None:
    assert require_width("features", torch.zeros(2, 3), 3).dtype == torch.float64
    for wrong in (torch.zeros(2, 4), torch.zeros(3), torch.zeros(2, 3, 1)):
        with pytest.raises(OodbenchError, match="fitted on features of width 3"):
            require_width("features", wrong, 3)
