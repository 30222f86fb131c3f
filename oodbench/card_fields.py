"""What may stand on a card, or in a guard's file: of every value its type and range, and what must agree.

A card is a file, which may come from anybody; whoever reads a `Card` that was loaded need not look again.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from oodbench.errors import UNSHOWN
from oodbench.metrics import METRICS

DEEPEST = 12
"""Records in records."""

MOST = 2**53
"""Whole numbers up to here are exact everywhere."""


@dataclass(frozen=True)
class Kind:
    """Values of one kind: in words, and what tells them."""

    words: str
    holds: Callable[[Any], bool]

    def __or__(self, other: Kind) -> Kind:
        return Kind(f"{self.words} or {other.words}", lambda value: self.holds(value) or other.holds(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e300


def listed(kind: Kind) -> Kind:
    """Lists of a kind."""
    return Kind(
        f"a list, each {kind.words}", lambda value: isinstance(value, list | tuple) and all(map(kind.holds, value))
    )


def table(kind: Kind) -> Kind:
    """Tables of text and of a kind."""
    return Kind(
        f"a table, each value {kind.words}",
        lambda value: isinstance(value, Mapping) and all(map(kind.holds, value.values())),
    )


def _is_record(value: Any, depth: int = 0) -> bool:
    """Whether it nests no deeper than DEEPEST, and its lists hold records alone or none."""
    if isinstance(value, str):
        return TEXT.holds(value)
    if not isinstance(value, Mapping | list | tuple):  # TOML and Python know more kinds than JSON
        return value is None or isinstance(value, bool | int | float)
    inner = [*value.values()] if isinstance(value, Mapping) else value
    if isinstance(value, list | tuple) and len({isinstance(one, Mapping) for one in inner}) > 1:
        return False
    return depth < DEEPEST and all(_is_record(one, depth + 1) for one in inner)


NOTHING = Kind("nothing", lambda value: value is None)
ANY = Kind("a record", _is_record)
# A half of a pair of UTF-16, which JSON can hold, can be written nowhere.
TEXT = Kind("text", lambda value: isinstance(value, str) and not re.search("[\ud800-\udfff]", value))
TEXTS = listed(TEXT)
NAME = Kind(
    "a name, without line ends and other characters that are not shown",
    lambda value: isinstance(value, str) and not re.search(f"[{UNSHOWN}]", value),
)
NAMES = listed(NAME)
COUNT = Kind("a whole number from 0 to 2^53", lambda value: type(value) is int and 0 <= value <= MOST)
POSITIVE = Kind("a whole number from 1 to 2^53", lambda value: type(value) is int and 1 <= value <= MOST)
NUMBER = Kind("a number", _is_number)
# NaN is let in: whoever compares metrics says of which it is the value.
SHARE = Kind(
    "a number from 0 to 1",
    lambda value: (_is_number(value) and 0 <= value <= 1) or (isinstance(value, float) and math.isnan(value)),
)
TABLE = table(ANY)
# Of which the values are looked at apart.
FIELDS = Kind("a table", lambda value: isinstance(value, Mapping))
TRUTH = Kind("true or false", lambda value: isinstance(value, bool))
SHAPE = Kind("three whole numbers from 1 up", lambda value: listed(POSITIVE).holds(value) and len(value) == 3)

# What has a ? at the end may be missing: older cards lack it, or it has nothing to say.
Fields = Mapping[str, Kind]

BENCHMARK: Fields = {
    "id": TEXT,
    "ood": TEXTS,
    "name": NAME,
    "version": COUNT,
    "seed": COUNT,
    "fit_limit": COUNT,
    "validation_ood": TEXTS,
    "models": TEXTS,
    "detectors": TEXTS | NOTHING,
    "parameters": TABLE,
    "fit": TEXT | NOTHING,
    "limit": COUNT | NOTHING,
    "mean": TEXT | NOTHING,
    "std": TEXT | NOTHING,
    "resize?": TEXT | COUNT | NOTHING,
    "crop?": TEXT | COUNT | NOTHING,
    "interpolation?": TEXT | NOTHING,
    "preprocess?": TEXT | NOTHING,
    "source?": TEXT,
    "partial?": TRUTH,
    "retrain?": TRUTH,
    "missing?": TEXTS,
    "tuning?": listed(TABLE),
    "expected?": table(TABLE),
}
SET: Fields = {
    "name": NAME,
    "role": TEXT,
    "group": NAME,
    "classifier": NAME,
    "count": COUNT,
    "content_hash": TEXT,
    "labels_hash": TEXT | NOTHING,
    "origin": TEXT,
    "matching": TEXT,
    "notes": TEXTS,
    "classes?": TEXTS,
}
SHEET: Fields = {"file": TEXT, "caption": TEXT}
CLASSIFIER: Fields = {
    "name": NAME,
    "content_hash": TEXT,
    "id_accuracy": SHARE | NOTHING,
    "model?": NAME,
    "models?": NAMES,
    "detectors?": NAMES,
    "image_shape?": SHAPE,
    "num_classes?": POSITIVE,
    "mean?": listed(NUMBER) | NUMBER | NOTHING,
    "std?": listed(NUMBER) | NUMBER | NOTHING,
    "preprocess?": TABLE | NOTHING,
    "head?": TEXT | NOTHING,
    "layers?": TEXTS,
    "training?": TABLE,
    "sheet?": Kind("a file and a caption", lambda value: not [*wrong(value, SHEET, "")]),
    "batch_size?": COUNT | NOTHING,
    "images?": table(table(COUNT)),
    "seconds?": table(NUMBER),
}
DETECTOR: Fields = {
    "label": NAME,
    "name": NAME,
    "paper": TEXT,
    "parameters": TABLE,
    "learned": table(TABLE),
}
ROW: Fields = {
    "id": NAME,
    "model": NAME,
    "detector": NAME,
    "ood": NAME,
    "group": NAME,
    "n_id": POSITIVE,
    "n_ood": POSITIVE,
    "id_accuracy": SHARE,
    "garbage_share?": SHARE | NOTHING,
    **{f"{name}?": SHARE for name in METRICS},
}
GUARD: Fields = {"threshold": NUMBER, "id_recall": SHARE, "classifier": FIELDS}
GUARDED: Fields = {
    **{f"{name}?": CLASSIFIER[f"{name}?"] for name in ("preprocess", "head", "layers")},
    **{name: CLASSIFIER[name] for name in ("name", "content_hash")},
    "num_classes": POSITIVE,
    "image_shape": SHAPE,
    "mean": listed(NUMBER),
    "std": listed(NUMBER),
}
"""What a guard's file says, and of its classifier."""
MACHINE: Fields = {
    "device?": TEXT,
    "batch_size?": COUNT | NOTHING,
    "workers?": COUNT,
    "compile?": TRUTH,
    "processes?": COUNT,
}
CARD: Fields = {
    "benchmark": FIELDS,
    "machine": FIELDS,
    "sets": listed(FIELDS),
    "classifiers": listed(FIELDS),
    "detectors": listed(FIELDS),
    "metrics": listed(FIELDS),
    "notes": TEXTS,
    "versions": Kind("versions, oodbench's among them", lambda value: table(TEXT).holds(value) and "oodbench" in value),
    "created": TEXT,
    "format": COUNT,
}


def faults(values: Any) -> Iterable[str]:
    """What of the values of a card's file cannot be, in words; nothing where all can."""
    broken = [*wrong(values, CARD, "")]
    if broken:
        return broken
    unknown = [f"{name} is unknown" for name in values if name not in CARD]
    records = {"sets": SET, "classifiers": CLASSIFIER, "detectors": DETECTOR, "metrics": ROW}
    broken = [*unknown, *wrong(values["benchmark"], BENCHMARK, "benchmark: "), *wrong(values["machine"], MACHINE, "")]
    for name, fields in records.items():
        for number, record in enumerate(values[name], 1):
            broken += wrong(record, fields, f"{name}, record {number}: ")
    return broken or [*_disagreements(values)]


def wrong(record: Any, fields: Fields, where: str) -> Iterable[str]:
    """What of a record is missing or of another kind."""
    if not isinstance(record, Mapping):
        yield f"{where}{_shown(record)} is no table"
        return
    for declared, kind in fields.items():
        name = declared.removesuffix("?")
        if name not in record:
            if name == declared:
                yield f"{where}{name} is missing"
        elif not kind.holds(record[name]):
            yield f"{where}{name} is {_shown(record[name])}, not {kind.words}"


def _disagreements(values: Mapping[str, Any]) -> Iterable[str]:
    rows = values["metrics"]
    if not rows:
        yield "it has no metrics"
    for name, keys in (
        ("metrics", ["/".join([row["model"], row["detector"], row["ood"]]) for row in rows]),
        ("classifiers", [one["name"] for one in values["classifiers"]]),
        ("detectors", [one["label"] for one in values["detectors"]]),
    ):
        yield from (f"{name}: {_shown(key)} is there twice" for key, count in Counter(keys).items() if count > 1)
    if len({row["id"] for row in rows}) > 1:
        yield "metrics: there are several ID sets"
    for number, one in enumerate(values["classifiers"], 1):
        if one.get("models") and "detectors" not in one:
            yield f"classifiers, record {number}: detectors is missing"
    scored = [one for one in values["sets"] if one["role"] in ("ID test", "OOD")]
    if not any(one["role"] == "ID test" for one in scored):
        yield "sets: there is none of ID test"
    shapes = {one["name"] for one in values["classifiers"] if "image_shape" in one}
    for unknown in {one["classifier"] for one in scored} - ({row["model"] for row in rows} & shapes):
        yield f"sets: {_shown(unknown)} is no model of the metrics with an image_shape"
    for unknown in {row["model"] for row in rows} - {one["name"] for one in values["classifiers"]}:
        yield f"metrics: the model {_shown(unknown)} is no classifier"


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of too many digits
        text = "something too large"
    return text if len(text) <= 60 else f"{text[:57]}..."
