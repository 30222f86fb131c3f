"""Detectors as text: `odin(norm=l2)`, `react(base=odin(norm=l2),percentile=95)`, to a detector and back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from oodbench.detectors.base import Detector
from oodbench.detectors.catalogue import find, name_of
from oodbench.errors import OodbenchError, unknown_name
from oodbench.parameters import parameters, to_text


def split_specs(text: str) -> list[str]:
    """The specs in a list like `msp,odin(norm=l2,epsilon=0.1),lc`: commas inside parentheses do not part.

    Raises:
        OodbenchError: a parenthesis has no partner, or there is nothing between two commas.
    """
    specs = _split(text, ",")
    if specs is None or "" in specs:
        raise OodbenchError(f"'{text}' is not a list of detectors; write e.g. msp,odin(norm=l2,epsilon=0.1),lc")
    return specs


def _split(text: str, separator: str) -> list[str] | None:
    """The parts between the separators that are in no parentheses; None where a parenthesis has no partner."""
    parts, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            return None
        if character == separator and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts] if depth == 0 else None


def parse_spec(spec: str) -> tuple[str, dict[str, str]]:
    """The catalogue's name and the parameters as text, of `odin(norm=l2, epsilon=0.002)` or `odin`.

    Raises:
        OodbenchError: the text has another form, there is no such detector, or a parameter is given twice.
    """
    matched = re.fullmatch(r"\s*([^\s(),=]+)\s*(?:\((.*)\))?\s*", spec, re.DOTALL)
    assignments = _split(matched[2].strip(), ",") if matched and matched[2] and matched[2].strip() else []
    if not matched or assignments is None:
        raise OodbenchError(f"'{spec}' is not a detector; write NAME or NAME(PARAMETER=VALUE, …)")
    given: dict[str, str] = {}
    for assignment in assignments:
        key, equals, value = (part.strip() for part in assignment.partition("="))
        if not (key and equals and value) or "=" in value.partition("(")[0]:
            raise OodbenchError(f"'{assignment}' in '{spec}' is not of the form PARAMETER=VALUE")
        if key in given:
            raise OodbenchError(f"'{spec}' sets {key} twice; set it once")
        given[key] = value
    return find(matched[1]).name, given


def build(spec: str, overrides: Mapping[str, str] | None = None) -> Detector:
    """The detector of a spec, with parameters as text, in their declared types.

    Args:
        overrides: parameters that replace those of the spec, as text.

    Raises:
        OodbenchError: no such detector or parameter, or a value of the wrong type or out of its range.
    """
    name, given = parse_spec(spec)
    return changed(find(name).load()(), {**given, **(overrides or {})})


def changed(detector: Detector, values: Mapping[str, str]) -> Detector:
    """The detector with parameters given as text.

    Raises:
        OodbenchError: no such parameter, or a value of the wrong type or out of its range.
    """
    name = name_of(type(detector))
    declared = {facts.name: facts for facts in parameters(type(detector))}
    for key in values:
        if not declared:
            raise OodbenchError(f"{name} has no parameters, so '{key}' cannot be set; leave it out")
        if key not in declared:
            raise unknown_name(f"parameter of {name}", key, declared, f"{name} has: {', '.join(declared)}")
    return replace(detector, **{key: declared[key].parsed(text, name) for key, text in values.items()})


def label(detector: Detector) -> str:
    """The detector as text: its name, and the parameters that differ from the defaults, `odin(norm=l2)`.

    `build(label(d)) == d` for every detector that can be imported, so two that differ never share a label.
    """
    default = type(detector)()
    changed = [
        f"{facts.name}={to_text(getattr(detector, facts.name))}"
        for facts in parameters(type(detector))
        if getattr(detector, facts.name) != getattr(default, facts.name)
    ]
    return name_of(type(detector)) + (f"({','.join(changed)})" if changed else "")


class Detectors(tuple[Detector, ...]):
    """Several detectors as one parameter, written joined by +: `energy+knn(k=10)`."""

    @staticmethod
    def from_text(text: str) -> Detectors:
        """The detectors of such a text.

        Raises:
            OodbenchError: a parenthesis has no partner, or a part is no detector.
        """
        specs = _split(text, "+")
        if specs is None or "" in specs:
            raise OodbenchError(f"'{text}' is not several detectors; write e.g. energy+knn(k=10)")
        return Detectors(map(build, specs))

    def __str__(self) -> str:
        return "+".join(map(label, self))
