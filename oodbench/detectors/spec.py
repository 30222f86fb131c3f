"""Detectors as text: `odin(norm=l2)` to a detector and back, and what hyper-parameters there are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, get_type_hints

from oodbench.detectors.base import Detector
from oodbench.detectors.catalogue import find, name_of
from oodbench.errors import OodbenchError, unknown_name


@dataclass(frozen=True)
class ParameterFacts:
    """A hyper-parameter as declared; `type` is int, float, bool or str."""

    name: str
    type: type
    default: Any
    low: float
    high: float
    choices: tuple[Any, ...]
    grid: tuple[Any, ...]
    help: str
    training: bool


def parameters(detector_class: type[Detector]) -> list[ParameterFacts]:
    """The hyper-parameters of a detector, in the order of declaration."""
    types = get_type_hints(detector_class)
    return [
        ParameterFacts(declared.name, types[declared.name], declared.default, **declared.metadata)
        for declared in fields(detector_class)
    ]


def split_specs(text: str) -> list[str]:
    """The specs in a list like `smood,odin(norm=l2,epsilon=0.1),lc`: commas inside parentheses do not part.

    Raises:
        OodbenchError: a parenthesis has no partner, or there is nothing between two commas.
    """
    specs = [spec.strip() for spec in re.split(r",(?![^(]*\))", text)]
    if "" in specs or any(spec.count("(") != spec.count(")") for spec in specs):
        raise OodbenchError(f"'{text}' is not a list of detectors; write e.g. smood,odin(norm=l2,epsilon=0.1),lc")
    return specs


def parse_spec(spec: str) -> tuple[str, dict[str, str]]:
    """The catalogue's name and the parameters as text, of `odin(norm=l2, epsilon=0.002)` or `odin`.

    Raises:
        OodbenchError: the text has another form, there is no such detector, or a parameter is given twice.
    """
    matched = re.fullmatch(r"\s*([^\s(),=]+)\s*(?:\(([^()]*)\))?\s*", spec)
    if not matched:
        raise OodbenchError(f"'{spec}' is not a detector; write NAME or NAME(PARAMETER=VALUE, …)")
    name, inside = find(matched[1]).name, (matched[2] or "").strip()
    given: dict[str, str] = {}
    for assignment in inside.split(",") if inside else ():
        key, equals, value = (part.strip() for part in assignment.partition("="))
        if not (key and equals and value) or "=" in value:
            raise OodbenchError(f"'{assignment.strip()}' in '{spec}' is not of the form PARAMETER=VALUE")
        if key in given:
            raise OodbenchError(f"'{spec}' sets {key} twice; set it once")
        given[key] = value
    return name, given


def build(spec: str, overrides: Mapping[str, str] | None = None) -> Detector:
    """The detector of a spec, with parameters as text, in their declared types.

    Args:
        overrides: parameters that replace those of the spec, as text.

    Raises:
        OodbenchError: no such detector or parameter, or a value of the wrong type or out of its range.
    """
    name, given = parse_spec(spec)
    detector_class = find(name).load()
    declared = {facts.name: facts for facts in parameters(detector_class)}
    values = {}
    for key, text in {**given, **(overrides or {})}.items():
        if not declared:
            raise OodbenchError(f"{name} has no parameters, so '{key}' cannot be set; leave it out")
        if key not in declared:
            raise unknown_name(f"parameter of {name}", key, declared, f"{name} has: {', '.join(declared)}")
        values[key] = _from_text(text, declared[key].type, f"{name}: {key}")
    return detector_class(**values)


def label(detector: Detector) -> str:
    """The detector as text: its name, and the parameters that differ from the defaults, `odin(norm=l2)`.

    `build(label(d)) == d` for every detector of the catalogue, so two that differ never share a label.
    """
    changed = [
        f"{facts.name}={_to_text(getattr(detector, facts.name))}"
        for facts in parameters(type(detector))
        if getattr(detector, facts.name) != facts.default
    ]
    return name_of(type(detector)) + (f"({','.join(changed)})" if changed else "")


def _from_text(text: str, wanted: type, what: str) -> Any:
    text = text.strip()
    words = {"true": True, "false": False}
    try:
        return words[text.lower()] if wanted is bool else wanted(text)
    except (ValueError, KeyError):
        kind = {int: "a whole number", float: "a number", bool: "true or false"}[wanted]
        raise OodbenchError(f"{what} must be {kind}, not '{text}'") from None


def _to_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return str(value)
