"""Benchmark: what is to be run, as data; from TOML, from keyword arguments, and back."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

import tomli_w

from oodbench.card_fields import BENCHMARK, wrong
from oodbench.errors import OodbenchError, unknown_name
from oodbench.files import read_toml

DEFAULT = "digits"
"""The benchmark that is run where none is named."""

_DECIDED = ("id", "ood", "name", "parameters", "expected")
PREPROCESS = ("resize", "crop", "interpolation", "preprocess")
_SELDOM = (*PREPROCESS, "retrain", "tuning", "expected", "source", "partial", "missing")
"""Fields that stand on a card only where they say something, so that benchmarks from before they were are the same."""

VERSION = 1


@dataclass(frozen=True)
class Benchmark:
    """What is to be run. Equal benchmarks on equal data and weights give equal scores on one kind of device.

    Where several names may stand, one alone may stand too: `ood="noise"`, `detectors="msp"`.

    Attributes:
        name: how results call it; `custom` where none is given and it is not the default benchmark.
        id: the ID set: a name, `npz:PATH`, `folder:PATH` and the like (docs/data.md), or a name given to `run`.
        ood: the OOD sets: likewise, and groups.
        models: classifiers: a checkpoint's path, `ARCHITECTURE=PATH`, or an architecture that oodbench trains on the
            ID set; none is the default architecture for the ID set's images.
        mean, std: input normalisation of checkpoints that do not know theirs: numbers separated by commas, or a name.
        resize, crop, interpolation, preprocess: how images become their input: 256 or "224x224", 224, "bicubic"; or the
            name of published weights, "ResNet50_Weights.IMAGENET1K_V2".
        retrain: whether classifiers that come with oodbench are trained on this machine instead; they score otherwise.
        detectors: names with parameters, e.g. `odin(norm=l2)`, or from Python Detector objects; None are the default
            ones of the catalogue, on anything but the default ID set and classifier without those that train one.
        parameters: hyper-parameters of all detectors of a name, e.g. {"odin.epsilon": 0.002}.
        fit: where fit images come from, if not from the ID set's training split.
        fit_limit: how many fit images are drawn at most.
        validation_ood: OOD sets that detectors may use for choices; never among `ood`.
        limit: how many images are drawn at most from each scored set; None is all.
        seed: of every draw and every generated image.
        tuning: how its detectors were chosen, as `oodbench tune` writes it; nothing is decided by it.
        version: of the benchmark's definition; results of different versions do not mix.
        expected: set → `group`, the group that it belongs to here, and `images`, how many it must have.
        source: where the data of the benchmark are to be had, in a sentence.
        partial: whether to run on those OOD sets that are on this machine.
        missing: those that were not, where it was run so.
    """

    id: str = field(default_factory=lambda: _default("id"))
    ood: tuple[str, ...] = field(default_factory=lambda: tuple(_default("ood")))
    detectors: tuple[Any, ...] | None = None
    models: tuple[str, ...] = ()
    mean: str | None = None
    std: str | None = None
    resize: str | int | None = None
    crop: str | int | None = None
    interpolation: str | None = None
    preprocess: str | None = None
    retrain: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)
    fit: str | None = None
    fit_limit: int = 5000
    validation_ood: tuple[str, ...] = ()
    limit: int | None = None
    seed: int = 0
    tuning: tuple[Mapping[str, Any], ...] = ()
    name: str = ""
    version: int = VERSION
    expected: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    source: str = ""
    partial: bool = False
    missing: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for listed in ("ood", "detectors", "models", "validation_ood", "missing"):
            value = getattr(self, listed)
            if listed == "detectors" and value is None:
                continue
            if not isinstance(value, list | tuple) and _is_name(value, listed):
                value = (value,)  # one is meant
            if not isinstance(value, list | tuple) or not all(_is_name(item, listed) for item in value):
                raise OodbenchError(f"the benchmark's '{listed}' must be a list of names, not {value!r}")
            object.__setattr__(self, listed, tuple(value))
        # What a card could not hold is refused before it is run.
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        texts = None if self.detectors is None else [*map(str, self.detectors)]
        for fault in wrong(values | {"detectors": texts}, BENCHMARK, "the benchmark's "):
            raise OodbenchError(fault)
        object.__setattr__(self, "tuning", tuple(self.tuning))
        if not self.name:
            default = {key: _default(key) for key in ("id", "ood")}
            changed = any(getattr(self, one.name) != one.default for one in fields(self) if one.name not in _DECIDED)
            changed |= bool(self.parameters or self.expected)
            is_default = not changed and (self.id, list(self.ood)) == (*default.values(),)
            object.__setattr__(self, "name", DEFAULT if is_default else "custom")
        if not all(map(_is_fact, self.expected.values())):
            raise OodbenchError(
                f"the benchmark's expected must be tables of 'group' and a number of 'images', not {self.expected!r}"
            )
        for needed in ("ood", "detectors"):
            if getattr(self, needed) == ():
                raise OodbenchError(f"the benchmark names no {needed}; give at least one")
        for counted in ("limit", "fit_limit"):
            value = getattr(self, counted)
            if value is not None and value < 2:
                raise OodbenchError(f"{counted} must be a whole number of at least 2, not {value!r}")
        if self.version != VERSION:
            raise OodbenchError(
                f"benchmark '{self.name}' is of version {self.version}; this oodbench runs version {VERSION}"
            )

    @classmethod
    def load(cls, reference: str) -> Benchmark:
        """Read a benchmark: the name of an embedded one, or the path of a TOML file.

        Raises:
            OodbenchError: there is none, it is not TOML, or a key is unknown or of the wrong type.
        """
        embedded = embedded_benchmarks()
        if reference in embedded:
            values, where = tomllib.loads(embedded[reference]), f"benchmark '{reference}'"
        elif Path(reference).is_file():
            values, where = read_toml(Path(reference)), reference
        else:
            raise unknown_name("benchmark", reference, embedded, "or give the path of a TOML file")
        known = {declared.name for declared in fields(cls)}
        for key in values:
            if key not in known:
                raise unknown_name(f"key (in {where})", key, known)
        return cls(**{"name": Path(reference).stem} | values)

    def there(self, data_root: Path | None, given: Mapping[str, Any]) -> Benchmark:
        """The benchmark, if its data are on this machine; where it is partial, without the OOD sets that are not.

        Args:
            data_root: see `load.data_roots`.
            given: image sets by name.

        Raises:
            OodbenchError: something that it needs is not there; names all of it.
        """
        from oodbench.data.load import not_there

        asked = [self.id, *([self.fit] if self.fit else []), *self.validation_ood, *self.ood]
        absent = not_there(list(dict.fromkeys(asked)), data_root=data_root, given=given)
        missing = tuple(one for one in self.ood if one in absent)
        if self.partial and missing and len(missing) < len(self.ood) and not set(absent) - set(missing):
            return replace(self, missing=missing)
        if len(absent) < 2 and not self.source:
            return self  # read, it says what is missing
        if not absent:
            return self
        reasons = "".join(f"\n- {reason}" for reason in absent.values())
        way = f"\n{self.source}" if self.source else ""
        rest = len(self.ood) - len(missing)
        if not self.partial and rest and not set(absent) - set(missing):
            way += f"\nTo run on the {rest} OOD set(s) that are there: --partial; the tables say so."
        raise OodbenchError(f"benchmark '{self.name}' needs {len(absent)} thing(s) that are not here:{reasons}{way}")

    def as_dict(self) -> dict[str, Any]:
        """Values that JSON can hold, as they stand on the card."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        values["parameters"] = dict(self.parameters)
        values["expected"] = {name: dict(facts) for name, facts in self.expected.items()}
        values["detectors"] = None if self.detectors is None else list(map(str, self.detectors))
        shown = {key: value for key, value in values.items() if value or key not in _SELDOM}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in shown.items()}

    def to_toml(self) -> str:
        """The text of a file that `load` reads, without what is as by default."""
        default, always = Benchmark().as_dict(), ("id", "ood", "version")
        kept = {name: value for name, value in self.as_dict().items() if name in always or value != default.get(name)}
        return tomli_w.dumps({name: value for name, value in kept.items() if name != "name"})

    def short_hash(self) -> str:
        """Six hexadecimal digits that differ between different benchmarks."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()[:6]


def _default(key: str) -> Any:
    """What the default benchmark says."""
    return tomllib.loads(embedded_benchmarks()[DEFAULT])[key]


def _is_fact(facts: Mapping[str, Any]) -> bool:
    """Whether a benchmark says of a set what it may say."""
    if not facts.keys() <= {"group", "images"}:
        return False
    images = facts.get("images", 0)
    return isinstance(facts.get("group", ""), str) and isinstance(images, int) and not isinstance(images, bool)


def _is_name(item: Any, listed: str) -> bool:
    if isinstance(item, str):
        return True
    if listed != "detectors":
        return False
    # Only where an object was given: reading a benchmark does not wait for torch.
    from oodbench.detectors.base import Detector

    return isinstance(item, Detector)


def embedded_benchmarks() -> dict[str, str]:
    """The benchmarks that come with the package: name → TOML."""
    folder = resources.files("oodbench.benchmarks")
    return {
        entry.name.removesuffix(".toml"): entry.read_text(encoding="utf-8")
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".toml")
    }
