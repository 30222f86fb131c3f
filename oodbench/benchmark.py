"""Benchmark: what is to be run, as data; from TOML, from keyword arguments, and back."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

import tomli_w

from oodbench.errors import OodbenchError, unknown_name

DEFAULT = "digits"
"""The benchmark that is run where none is named."""

_DECIDED = ("id", "ood", "name", "parameters")
PREPROCESS = ("resize", "crop", "interpolation", "preprocess")
VERSION = 1


@dataclass(frozen=True)
class Benchmark:
    """What is to be run. Equal benchmarks on equal data and weights give equal scores on one kind of device.

    Attributes:
        name: how results call it; `custom` where none is given and it is not the default benchmark.
        id: the ID set: a name, `npz:PATH` or `folder:PATH`.
        ood: the OOD sets: names, groups, `npz:PATH` or `folder:PATH`.
        models: classifiers: a checkpoint's path, `ARCHITECTURE=PATH`, or an architecture that oodbench trains on the
            ID set; none is the default architecture for the ID set's images.
        mean, std: input normalisation of checkpoints that do not know theirs: numbers separated by commas, or a name.
        resize, crop, interpolation, preprocess: how images become their input: 256 or "224x224", 224, "bicubic"; or the
            name of published weights, "ResNet50_Weights.IMAGENET1K_V2".
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
    parameters: Mapping[str, Any] = field(default_factory=dict)
    fit: str | None = None
    fit_limit: int = 5000
    validation_ood: tuple[str, ...] = ()
    limit: int | None = None
    seed: int = 0
    tuning: tuple[Mapping[str, Any], ...] = ()
    name: str = ""
    version: int = VERSION

    def __post_init__(self) -> None:
        if not self.name:
            default = {key: _default(key) for key in ("id", "ood")}
            changed = any(getattr(self, one.name) != one.default for one in fields(self) if one.name not in _DECIDED)
            is_default = not changed and not self.parameters and (self.id, list(self.ood)) == (*default.values(),)
            object.__setattr__(self, "name", DEFAULT if is_default else "custom")
        for listed in ("ood", "detectors", "models", "validation_ood"):
            value = getattr(self, listed)
            if listed == "detectors" and value is None:
                continue
            if not isinstance(value, list | tuple) or not all(_is_name(item, listed) for item in value):
                raise OodbenchError(f"the benchmark's '{listed}' must be a list of names, not {value!r}")
            object.__setattr__(self, listed, tuple(value))
        if not isinstance(self.tuning, list | tuple) or not all(isinstance(one, Mapping) for one in self.tuning):
            raise OodbenchError(f"the benchmark's 'tuning' must be what oodbench tune wrote, not {self.tuning!r}")
        object.__setattr__(self, "tuning", tuple(self.tuning))
        for text in ("id", "name"):
            if not isinstance(getattr(self, text), str):
                raise OodbenchError(f"the benchmark's '{text}' must be a name, not {getattr(self, text)!r}")
        for name in PREPROCESS:
            value = getattr(self, name)
            sizes = (str, int) if name in ("resize", "crop") else (str,)
            if value is not None and (not isinstance(value, sizes) or isinstance(value, bool)):
                raise OodbenchError(f"the benchmark's '{name}' must be a text such as \"224\", not {value!r}")
        for needed in ("ood", "detectors"):
            if getattr(self, needed) == ():
                raise OodbenchError(f"the benchmark names no {needed}; give at least one")
        for counted in ("limit", "fit_limit"):
            value = getattr(self, counted)
            if value is not None and (not isinstance(value, int) or value < 2):
                raise OodbenchError(f"{counted} must be a whole number of at least 2, not {value!r}")
        if not isinstance(self.seed, int) or self.seed < 0:
            raise OodbenchError(f"seed must be a whole number from 0 up, not {self.seed!r}")
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
            text, where = embedded[reference], f"benchmark '{reference}'"
        elif Path(reference).is_file():
            text, where = Path(reference).read_text(encoding="utf-8"), reference
        else:
            raise unknown_name("benchmark", reference, embedded, "or give the path of a TOML file")
        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise OodbenchError(f"{where} is not valid TOML: {error}") from error
        known = {declared.name for declared in fields(cls)}
        for key in values:
            if key not in known:
                raise unknown_name(f"key (in {where})", key, known)
        return cls(**{"name": Path(reference).stem} | values)

    def as_dict(self) -> dict[str, Any]:
        """Values that JSON can hold, as they stand on the card."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        # What is not said does not stand there, so that benchmarks from before it could be said are what they were.
        values = {name: value for name, value in values.items() if name not in PREPROCESS or value is not None}
        values["parameters"] = dict(self.parameters)
        values["detectors"] = None if self.detectors is None else list(map(str, self.detectors))
        if not self.tuning:
            del values["tuning"]
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    def to_toml(self) -> str:
        """The text of a file that `load` reads, without what is as by default."""
        default, always = Benchmark().as_dict() | {"tuning": []}, ("id", "ood", "version")
        kept = {name: value for name, value in self.as_dict().items() if name in always or value != default[name]}
        return tomli_w.dumps({name: value for name, value in kept.items() if name != "name"})

    def short_hash(self) -> str:
        """Six hexadecimal digits that differ between different benchmarks."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()[:6]


def _default(key: str) -> Any:
    """What the default benchmark says."""
    return tomllib.loads(embedded_benchmarks()[DEFAULT])[key]


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
