"""One declaration of every setting: type, default, help, range, choices and search grid. Torch is not imported.

Detectors, trainings and inversions declare their settings with `parameter`; the command line's options, `--set`,
specs such as `odin(norm=l2)`, tables and the card are made from the declarations.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from oodbench.errors import OodbenchError, unknown_name

PLAIN = (int, float, bool, str)

_KINDS = {int: "a whole number", float: "a number", bool: "true or false"}


def parameter(
    default: Any,
    help: str,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    choices: Sequence[Any] = (),
    grid: Sequence[Any] = (),
    training: bool = False,
) -> Any:
    """Declare a field of a frozen dataclass as a setting: its default, what it is, its range (inclusive) or choices.

    Args:
        grid: the values that a search tries.
        training: it decides how a detector's own classifier is trained (see `Detector.reads`), not how the outputs
            are read.
    """
    facts = {"help": help, "low": low, "high": high, "choices": tuple(choices), "grid": tuple(grid)}
    return field(default=default, metadata=facts | {"training": training})


@dataclass(frozen=True)
class Parameter:
    """A setting as declared.

    Attributes:
        type: int, float, bool, str, or a class with `from_text`, whose objects are written as `str` writes them:
            a detector that another one reads through.
    """

    name: str
    type: Any
    default: Any
    help: str
    low: float
    high: float
    choices: tuple[Any, ...]
    grid: tuple[Any, ...]
    training: bool

    @property
    def range(self) -> str:
        """The choices, or the range, in words; empty where anything goes."""
        if self.choices:
            return ", ".join(map(to_text, self.choices))
        low, high = ("" if math.isinf(bound) else to_text(bound) for bound in (self.low, self.high))
        return f"{low} … {high}".strip() if low or high else ""

    def checked(self, value: Any, owner: str) -> Any:
        """The value in the declared type, if it may have it.

        Raises:
            OodbenchError: it is of another type, out of its range, or none of the choices.
        """
        if self.type not in PLAIN:
            return self._object(value, owner)
        if self.type is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value) if abs(value) < 2**1023 else math.inf
        if not isinstance(value, self.type) or (self.type is int and isinstance(value, bool)):
            raise OodbenchError(f"{owner}: {self.name} must be of type {self.type.__name__}, not {value!r}")
        if self.choices and value not in self.choices:
            raise OodbenchError(
                f"{owner}: {self.name} must be one of {', '.join(map(str, self.choices))}, not {value!r}"
            )
        if isinstance(value, str) and not re.fullmatch(r"[^\s,()=]+", value):
            raise OodbenchError(f"{owner}: {self.name} must be a word without spaces, commas, ( ) or =, not {value!r}")
        finite = not isinstance(value, float) or math.isfinite(value)
        if isinstance(value, int | float) and not (self.low <= value <= self.high and finite):
            raise OodbenchError(
                f"{owner}: {self.name} must be finite and from {self.low} to {self.high}, not {value!r}"
            )
        return self.type(value)

    def parsed(self, text: str, owner: str) -> Any:
        """The value that a text stands for; its range is looked at by `checked`.

        Raises:
            OodbenchError: it is not of the declared type.
        """
        text = text.strip()
        if self.type not in PLAIN:
            return self._object(text, owner)
        words = {"true": True, "false": False}
        try:
            return words[text.lower()] if self.type is bool else self.type(text)
        except (ValueError, KeyError):
            raise OodbenchError(f"{owner}: {self.name} must be {_KINDS[self.type]}, not '{text}'") from None

    def _object(self, value: Any, owner: str) -> Any:
        made = self.type.from_text(value) if isinstance(value, str) else value
        if not isinstance(made, self.type):
            raise OodbenchError(f"{owner}: {self.name} must be a {self.type.__name__.lower()}, not {value!r}")
        return made


@cache
def parameters(declaring: type) -> tuple[Parameter, ...]:
    """The settings of a dataclass, in the order of declaration, without those of dataclasses inside it.

    Raises:
        TypeError: a field is not declared with `parameter`, or is of another type than a `Parameter` may have.
    """
    types = get_type_hints(declaring)
    found = []
    for one in fields(declaring):
        wanted, facts = types[one.name], dict(one.metadata)
        if not facts and is_dataclass(wanted):
            continue
        if facts and get_origin(wanted) is Literal:
            wanted, facts["choices"] = str, get_args(wanted)
        if not facts or not (wanted in PLAIN or hasattr(wanted, "from_text")):
            raise TypeError(
                f"{declaring.__name__}.{one.name} must be an int, float, bool, str or detector declared with "
                f"parameter(...)"
            )
        found.append(Parameter(one.name, wanted, one.default, **facts))
    return tuple(found)


@cache
def all_parameters(declaring: type) -> Mapping[str, Parameter]:
    """The settings of a dataclass and of the dataclasses inside it, by name."""
    types = get_type_hints(declaring)
    inside = [types[one.name] for one in fields(declaring) if not one.metadata]
    theirs = {name: one for kind in inside for name, one in all_parameters(kind).items()}
    return theirs | {one.name: one for one in parameters(declaring)}


def changed(settings: Any, values: Mapping[str, Any]) -> Any:
    """A dataclass object with other settings, of its own or of those inside it; texts are parsed.

    Raises:
        OodbenchError: there is no such setting, or a value is of the wrong type or out of its range.
    """
    kind: type = type(settings)
    known, own = all_parameters(kind), {one.name for one in parameters(kind)}
    for name in values:
        if name not in known:
            raise unknown_name("setting", name, known)
    new = {}
    for name in own & values.keys():
        parse = isinstance(values[name], str) and known[name].type is not str
        new[name] = known[name].parsed(values[name], kind.__name__) if parse else values[name]
    for one in fields(kind):
        if not one.metadata:
            inside = getattr(settings, one.name)
            kind_inside: type = type(inside)
            theirs = all_parameters(kind_inside).keys() - own
            new[one.name] = changed(inside, {name: value for name, value in values.items() if name in theirs})
    return replace(settings, **new)


def rows_of(settings: Any) -> list[dict[str, str]]:
    """A table of a dataclass object's settings: name, type, value, range or choices, search grid, what it is."""
    kind: type = type(settings)
    values = _values(settings)
    return [
        {
            "name": one.name,
            "type": "detector" if one.type not in PLAIN else "word" if one.type is str else one.type.__name__,
            "default": to_text(values[one.name]),
            "range": one.range,
            "grid": ", ".join(map(to_text, one.grid)),
            "what it is": one.help,
        }
        for one in all_parameters(kind).values()
    ]


def _values(settings: Any) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for one in fields(settings):
        value = getattr(settings, one.name)
        values = values | {one.name: value} if one.metadata else _values(value) | values
    return values


def check_parameters(declaring: Any) -> None:
    """Bring every setting of a dataclass object, from its `__post_init__`, into its declared type.

    Raises:
        OodbenchError: see `Parameter.checked`.
    """
    kind: type = type(declaring)
    for one in parameters(kind):
        value = one.checked(getattr(declaring, one.name), kind.__name__)
        object.__setattr__(declaring, one.name, value)


def to_text(value: Any) -> str:
    """A value as users write it: `parsed` gives it back."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return str(value)
