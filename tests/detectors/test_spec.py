"""Detectors as text: round trips, lists, and errors in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oodbench.detectors.base import Detector
from oodbench.detectors.catalogue import DETECTORS, find
from oodbench.detectors.odin import Odin
from oodbench.detectors.spec import Detectors, build, label, parse_spec, split_specs
from oodbench.errors import OodbenchError
from oodbench.parameters import PLAIN, Parameter, parameters
from tests.detectors.sound import Columns, Nearest, Wrapper

HERE = "tests.detectors.sound"


def value_of(facts: Parameter) -> st.SearchStrategy[Any]:
    if facts.type is Detectors:
        return st.lists(detectors(BASES), min_size=2, max_size=3, unique=True).map(Detectors)
    if facts.type not in PLAIN:
        return detectors(BASES)
    if facts.choices:
        return st.sampled_from(facts.choices)
    if facts.type is bool:
        return st.booleans()
    if facts.type is str:
        return st.text(alphabet="abzAZ019_.-+'\"é/", min_size=1)
    low, high = (None if abs(bound) == float("inf") else facts.type(bound) for bound in (facts.low, facts.high))
    if facts.type is int:
        return st.integers(low, high)
    return st.floats(low, high, allow_nan=False, allow_infinity=False)


BASES = ("msp", "maxlogit", "energy")
"""Detectors that each of the catalogue can read through."""
BOUNDS = (("low", "high"), ("lower", "upper"))
"""Parameters of which the first must not be above the second."""
SIMPLE = (*BASES, "odin", "lc", "oodl", f"{HERE}:Nearest")
"""Detectors that the wrapper can read through."""


@st.composite
def detectors(draw: Callable[..., Any], names: Sequence[str] = (*DETECTORS, f"{HERE}:Nearest")) -> Detector:
    detector_class = find(draw(st.sampled_from(sorted(names)))).load()
    chosen = {}
    declared = parameters(detector_class)
    for facts in declared:
        if draw(st.booleans()):
            chosen[facts.name] = draw(value_of(facts))
    for pair in BOUNDS:
        given = [chosen.get(facts.name, facts.default) for facts in declared if facts.name in pair]
        chosen |= dict(zip(pair, sorted(given), strict=False))
    return detector_class(**chosen)


@st.composite
def wrapped(draw: Callable[..., Any]) -> Detector:
    """A detector in up to three others."""
    detector = draw(detectors(SIMPLE))
    for _ in range(draw(st.integers(0, 3))):
        detector = Wrapper(base=detector, percentile=draw(st.sampled_from([90.0, 95.0, 12.5])))
    return detector


@given(detector=detectors() | wrapped())
def test_a_label_rebuilds_its_detector(detector: Detector) -> None:
    assert build(label(detector)) == detector
    assert type(build(label(detector))) is type(detector)


@given(first=detectors() | wrapped(), second=detectors() | wrapped())
def test_two_detectors_that_differ_never_share_a_label(first: Detector, second: Detector) -> None:
    assert (label(first) == label(second)) == (first == second and type(first) is type(second))


@given(listed=st.lists(detectors() | wrapped(), min_size=1, max_size=4))
def test_a_list_of_labels_splits_into_them(listed: list[Detector]) -> None:
    assert split_specs(", ".join(map(label, listed))) == [label(detector) for detector in listed]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("odin", "odin"),
        ("odin()", "odin"),
        (" odin ( norm = l2 , epsilon = 2e-3 ) ", "odin(epsilon=0.002,norm=l2)"),
        ("odin(temperature=1000)", "odin"),
        ("odin(clip=True)", "odin(clip=true)"),
        ("odin(epsilon=0)", "odin(epsilon=0)"),
        ("odin(temperature=1)", "odin(temperature=1)"),
        ("odin(epsilon=0.1234567)", "odin(epsilon=0.1234567)"),
        ("smood", "msp"),
        ("random(seed=123456789)", "random(seed=123456789)"),
        (f"{HERE}:Nearest", f"{HERE}:Nearest"),
        (f"{HERE}:Nearest( k = 7 )", f"{HERE}:Nearest(k=7)"),
        (f"{HERE}:Wrapper(base=energy)", f"{HERE}:Wrapper"),
        (f"{HERE}:Wrapper(base=odin())", f"{HERE}:Wrapper(base=odin)"),
        (f"{HERE}:Wrapper(percentile=95, base=smood)", f"{HERE}:Wrapper(base=msp,percentile=95)"),
        (
            f"{HERE}:Wrapper( base = odin ( norm = l2, epsilon = 2e-3 ) , percentile = 95 )",
            f"{HERE}:Wrapper(base=odin(epsilon=0.002,norm=l2),percentile=95)",
        ),
        (
            f"{HERE}:Wrapper(base={HERE}:Wrapper(base={HERE}:Nearest(k=1)))",
            f"{HERE}:Wrapper(base={HERE}:Wrapper(base={HERE}:Nearest(k=1)))",
        ),
        ("lc(proxies=pixel-shuffled+patch-shuffled)", "lc(proxies=pixel-shuffled+patch-shuffled)"),
    ],
)
def test_labels(spec: str, expected: str) -> None:
    assert label(build(spec)) == expected


def test_the_label_is_of_the_detector_not_of_the_text() -> None:
    detector = build("odin(norm=l2,epsilon=0.002)", {"epsilon": "0.0014"})
    assert detector == Odin(norm="l2") and label(detector) == "odin(norm=l2)"


def test_parse_and_split() -> None:
    assert parse_spec("odin(norm=l2, epsilon=0.002)") == ("odin", {"norm": "l2", "epsilon": "0.002"})
    assert split_specs("msp,odin(norm=l2,epsilon=0.1),lc") == ["msp", "odin(norm=l2,epsilon=0.1)", "lc"]
    nested = f"{HERE}:Wrapper(base=odin(norm=l2,clip=true),percentile=95)"
    assert split_specs(f" lc , {nested},{nested} ") == ["lc", nested, nested]
    assert parse_spec(nested) == (f"{HERE}:Wrapper", {"base": "odin(norm=l2,clip=true)", "percentile": "95"})


def test_a_spec_names_a_class_by_its_place() -> None:
    assert build(f"{HERE}:Nearest(k=3)") == Nearest(k=3) and build(f"{HERE}:Columns") == Columns()
    nested = build(f"{HERE}:Wrapper(base=odin(norm=l2),percentile=95)")
    assert nested == Wrapper(base=Odin(norm="l2"), percentile=95) and str(nested) == label(nested)
    assert build(f"{HERE}:Wrapper(base=odin)", {"base": "lc(C=0.1)", "percentile": "85"}) == Wrapper(
        base=build("lc(C=0.1)"), percentile=85
    )


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "tests.detectors.nowhere:Nearest",
            "cannot be imported from tests.detectors.nowhere:Nearest.*look at the path",
        ),
        (f"{HERE}:Nowhere", f"cannot be imported from {HERE}:Nowhere"),
        (f"{HERE}:", "cannot be imported"),
        (":Nearest", "cannot be imported"),
        (f"{HERE}:Tensor", f"{HERE}:Tensor is no subclass of oodbench.Detector"),
        (f"{HERE}:parameter", "is no subclass of oodbench.Detector"),
        (f"{HERE}:Nearest(n=3)", f"no parameter of {HERE}:Nearest 'n'; .*has: k"),
        (f"{HERE}:Nearest(k=0)", "k must be finite and from 1"),
        (f"{HERE}:Wrapper(base=odyn)", "no detector 'odyn'; did you mean odin"),
        (f"{HERE}:Wrapper(base=odin(norm=l3))", "norm must be one of linf, l2, l1"),
        (f"{HERE}:Wrapper(base=odin(norm=l2)", "is not a detector"),
        (f"{HERE}:Wrapper(base=odin)(norm=l2))", "is not a detector"),
        (f"{HERE}:Wrapper(base=)", "not of the form PARAMETER=VALUE"),
        (f"{HERE}:Wrapper(base=a=odin(norm=l2))", "not of the form PARAMETER=VALUE"),
    ],
)
def test_what_is_wrong_in_a_place_or_inside_is_said(spec: str, message: str) -> None:
    with pytest.raises(OodbenchError, match=message):
        build(spec)


@pytest.mark.parametrize("text", ["", "msp,,lc", "msp,", "odin(norm=l2,lc", "odin)norm=l2(", "odin(norm=l2)),lc"])
def test_what_is_no_list(text: str) -> None:
    with pytest.raises(OodbenchError):
        for spec in split_specs(text):
            parse_spec(spec)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("odyn", r"no detector 'odyn'; did you mean odin or "),
        ("odin(epsilom=1)", r"no parameter of odin 'epsilom'; did you mean epsilon\?.*odin has: temperature, epsilon"),
        ("odin(zzz=1)", r"no parameter of odin 'zzz'; there are: .*temperature"),
        ("msp(temperature=2)", "msp has no parameters, so 'temperature'"),
        ("odin(epsilon=small)", "odin: epsilon must be a number, not 'small'"),
        ("odin(epsilon=nan)", "epsilon must be finite"),
        ("odin(epsilon=-1)", "epsilon must be finite and from 0"),
        ("odin(clip=1)", "odin: clip must be true or false, not '1'"),
        ("random(seed=1.5)", "random: seed must be a whole number, not '1.5'"),
        ("odin(norm=l3)", "norm must be one of linf, l2, l1"),
        ("odin(epsilon)", "not of the form PARAMETER=VALUE"),
        ("odin(epsilon=)", "not of the form PARAMETER=VALUE"),
        ("odin(epsilon=1=2)", "not of the form PARAMETER=VALUE"),
        ("odin(epsilon=1,)", "not of the form PARAMETER=VALUE"),
        ("odin(epsilon=1,epsilon=2)", "sets epsilon twice"),
        ("odin(norm=l2", "is not a detector"),
        ("", "is not a detector"),
    ],
)
def test_errors_say_what_and_what_else(spec: str, message: str) -> None:
    with pytest.raises(OodbenchError, match=message):
        build(spec)


def test_a_detector_outside_the_catalogue_is_called_by_its_place() -> None:
    class Mine(Odin):
        pass

    name = label(Mine(norm="l2"))
    assert name == f"{__name__}:{Mine.__qualname__}(norm=l2)" and not name.startswith("odin")
    with pytest.raises(OodbenchError):
        build(name)


def test_parameters_are_facts() -> None:
    facts = {facts.name: facts for facts in parameters(find("odin").load())}
    assert list(facts) == ["temperature", "epsilon", "norm", "fraction", "clip", "preset"]
    epsilon = facts["epsilon"]
    assert (epsilon.type, epsilon.default, epsilon.low, epsilon.high) == (float, 0.0014, 0, 1)
    assert 0.0 in epsilon.grid and facts["norm"].choices == ("linf", "l2", "l1")
    assert all(facts.help for facts in facts.values())


@pytest.mark.parametrize("name", DETECTORS)
def test_defaults_and_grids_are_within_their_ranges(name: str) -> None:
    detector_class = DETECTORS[name].load()
    for facts in parameters(detector_class):
        for value in (*facts.grid, *facts.choices, facts.default):
            held = getattr(detector_class(**{facts.name: value}), facts.name)
            assert (held if facts.type in PLAIN else str(held)) == value
        assert facts.help
