"""The contract's base class: what a hyper-parameter may be, what fitting gives, and where the errors are."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from oodbench.detectors.base import WIDTHS, Detector, State, parameter
from oodbench.detectors.logits import Energy
from oodbench.detectors.odin import Odin
from oodbench.errors import NotFittedError, OodbenchError
from oodbench.outputs import FitData, Needs, Outputs
from tests.detectors.sound import Wrapper


@dataclass(frozen=True)
class Shifted(Detector):
    """The mean logit, less what was learned."""

    factor: float = parameter(1.0, "what it is multiplied by", low=0.5, high=2.0)
    count: int = parameter(3, "a count", low=1)
    flag: bool = parameter(False, "a switch")
    mode: str = parameter("a", "a choice", choices=("a", "b"))
    word: str = parameter("free", "a word")

    fit_needs = Needs("logits")

    def learn(self, data: FitData) -> State:
        return {"mean": data.outputs.logits.double().mean(), "seen": len(data.outputs)}

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


def of_logits(logits: Tensor) -> Outputs:
    return Outputs({"logits": logits})


def test_fitting_gives_a_copy_that_has_learned() -> None:
    detector, data = Shifted(factor=2), FitData(of_logits(LOGITS))
    assert detector.learns() and not detector.fitted
    with pytest.raises(NotFittedError, match=r"Shifted must be fitted before it can score: call fit\(data\)"):
        detector(of_logits(LOGITS))
    fitted = detector.fit(data)
    assert type(fitted) is Shifted and fitted is not detector and fitted.fitted and not detector.fitted
    assert fitted == detector and hash(fitted) == hash(detector), "what was learned is no hyper-parameter"
    assert fitted(of_logits(LOGITS)).tolist() == fitted.score(of_logits(LOGITS)).tolist() == [-4, 4]
    other = fitted.fit(FitData(of_logits(LOGITS + 1)))
    assert other(of_logits(LOGITS)).tolist() == [-6, 2] and fitted(of_logits(LOGITS)).tolist() == [-4, 4]
    with pytest.raises(OodbenchError):
        fitted.fit(FitData(Outputs({})))
    assert fitted(of_logits(LOGITS)).tolist() == [-4, 4]
    assert not replace(fitted).fitted, "what is made anew has learned nothing"


def test_what_learns_nothing_is_fitted_as_it_is() -> None:
    assert not Unbounded.learns() and Unbounded().fitted and Unbounded().state == {}
    fitted = Unbounded().fit(FitData(of_logits(LOGITS)))
    assert fitted.state == {} and fitted(of_logits(LOGITS)).tolist() == [4, 12]


@dataclass(frozen=True)
class Keeps(Detector):
    """Learns what the test puts there."""

    fit_needs = Needs("logits")

    def learn(self, data: FitData) -> State:
        return {"all": data.outputs.logits, "turned": data.outputs.logits.T, "in": {"some": data.outputs.logits[:, :1]}}

    def score(self, outputs: Outputs) -> Tensor:
        return outputs.logits.double().sum(dim=1)


def test_what_was_learned_is_a_copy_and_lies_in_order_at_any_depth() -> None:
    logits = LOGITS.clone().requires_grad_()
    state = Keeps().fit(FitData(of_logits(logits))).state
    with torch.no_grad():
        logits.zero_()
    for found, expected in ((state["all"], LOGITS), (state["turned"], LOGITS.T), (state["in"]["some"], LOGITS[:, :1])):
        assert torch.equal(found, expected) and found.is_contiguous() and not found.requires_grad
        assert found.untyped_storage().nbytes() == 4 * found.numel(), "else a view keeps all of it alive"


def test_state_moves_and_is_taken_over_at_any_depth() -> None:
    fitted = Keeps().fit(FitData(of_logits(LOGITS)))
    moved = fitted.to("meta")
    assert {moved.state[name].device.type for name in ("all", "turned")} == {"meta"}
    assert moved.state["in"]["some"].device.type == "meta" and moved == fitted
    assert fitted.state["in"]["some"].device.type == "cpu", "the detector itself stays where it is"
    fresh = Shifted(factor=0.5)
    learned = Shifted().fit(FitData(of_logits(LOGITS))).state
    assert fresh.with_state(learned)(of_logits(LOGITS)).tolist() == [-1, 1] and not fresh.fitted


def outputs(logits: int = 3, features: int = 4, stem: int = 5, side: int = 8) -> Outputs:
    widths = {"logits": (logits,), "features": (features,), "layer:stem": (stem,), "maps:stem": (stem, side, side)}
    return Outputs(
        {name: torch.ones(2, *width) for name, width in widths.items()} | {"images": torch.ones(2, 3, side, side)}
    )


@dataclass(frozen=True)
class Reads(Detector):
    """Reads what the test says."""

    what: str = parameter("features", "a quantity")

    @property
    def needs(self) -> Needs:
        return Needs(*self.what.split("+"))

    @property
    def fit_needs(self) -> Needs:
        return self.needs

    def learn(self, data: FitData) -> State:
        return {"count": len(data.outputs)}

    def score(self, outputs: Outputs) -> Tensor:
        return torch.zeros(len(outputs), dtype=torch.float64)


@pytest.mark.parametrize(
    ("what", "other", "message"),
    [
        ("logits", {"logits": 7}, "fitted on logits of width 3, asked to score logits of width 7"),
        ("features", {"features": 7}, "features of width 4, asked to score features of width 7: fit the detector on"),
        ("layer:stem", {"stem": 7}, "layer:stem of width 5, asked to score layer:stem of width 7"),
        ("layer:*", {"stem": 7}, "layer:stem of width 5, .* of width 7"),
        ("maps:stem", {"side": 9}, "maps:stem of width 5×8×8, asked to score maps:stem of width 5×9×9"),
        ("maps:*", {"stem": 7}, "maps:stem of width 5×8×8, .* of width 7×8×8"),
        ("logits+features", {"features": 7}, "features of width 4"),
    ],
)
def test_outputs_of_other_widths_than_it_was_fitted_on_are_refused(
    what: str, other: dict[str, int], message: str
) -> None:
    fitted = Reads(what=what).fit(FitData(outputs()))
    assert fitted(outputs()).tolist() == [0, 0]
    with pytest.raises(OodbenchError, match=message):
        fitted(outputs(**other))
    assert WIDTHS in fitted.state and fitted.state["count"] == 2
    with pytest.raises(OodbenchError, match=message):  # the widths go along with what was learned
        Reads(what=what).with_state(fitted.state)(outputs(**other))


def test_what_it_does_not_read_may_have_any_width() -> None:
    fitted = Reads(what="features").fit(FitData(outputs()))
    assert fitted(outputs(logits=9, stem=9, side=9)).tolist() == [0, 0]
    of_images = Reads(what="images+features").fit(FitData(outputs()))
    assert of_images(outputs(side=9)).tolist() == [0, 0], "images are matched to the classifier, not to the detector"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (torch.zeros(2), r"Gives gave scores of shape \(2,\) and type torch.float32 for 2 images"),
        (torch.zeros(2, 1, dtype=torch.float64), r"shape \(2, 1\) and type torch.float64"),
        (
            torch.zeros(3, dtype=torch.float64),
            r"shape \(3,\) .* for 2 images; its score\(outputs\) must return float64",
        ),
        (torch.tensor(0.0, dtype=torch.float64), r"shape \(\)"),
        (torch.zeros(2, dtype=torch.int64), r"type torch.int64"),
    ],
)
def test_scores_of_another_form_are_refused(given: Tensor, message: str) -> None:
    @dataclass(frozen=True)
    class Gives(Detector):
        def score(self, outputs: Outputs) -> Tensor:
            return given

    with pytest.raises(OodbenchError, match=message):
        Gives()(of_logits(LOGITS))


def test_a_parameter_can_be_a_detector() -> None:
    assert Wrapper() == Wrapper(base="energy") == Wrapper(base=Energy())  # type: ignore[arg-type]
    wrapped = Wrapper(base="odin(norm=l2)", percentile=95)  # type: ignore[arg-type]
    assert wrapped.base == Odin(norm="l2") and hash(wrapped) == hash(Wrapper(base=Odin(norm="l2"), percentile=95.0))
    assert wrapped != Wrapper(percentile=95) and str(wrapped.base) == "odin(norm=l2)"
    assert wrapped.needs == Needs("features", "head", "logits", "gradient")
    for wrong, message in (
        (3, "Wrapper: base must be a detector, not 3"),
        (Energy, "base must be a detector"),
        ("enrgy", "no detector 'enrgy'; did you mean energy"),
        ("odin(norm=l3)", "norm must be one of linf, l2, l1"),
    ):
        with pytest.raises(OodbenchError, match=message):
            Wrapper(base=wrong)  # type: ignore[arg-type]


def test_defaults() -> None:
    assert Unbounded().needs == Needs("logits") and Unbounded().fit_needs == Needs()
    assert not Unbounded().control and Unbounded.reads is None
    assert Unbounded().reduce(of_logits(LOGITS)) == {}
    with pytest.raises(TypeError):
        Detector()  # type: ignore[abstract]
