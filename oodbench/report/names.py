"""Display names: how a paper spells detectors, sets, models and groups. Nothing is decided by them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from oodbench.detectors.catalogue import catalogue
from oodbench.errors import OodbenchError, unknown_name
from oodbench.files import read_toml

KINDS = ("detectors", "sets", "models", "groups")


@dataclass(frozen=True)
class Names:
    """Name → display name of each of KINDS; what has none is shown as it is called."""

    detectors: Mapping[str, str]
    sets: Mapping[str, str]
    models: Mapping[str, str]
    groups: Mapping[str, str]

    @classmethod
    def load(cls, path: Path | None = None) -> Names:
        """The package's names, and before them those of a TOML file with tables called as KINDS.

        Detectors may be called by any of their names; one with its parameters goes before the detector alone.

        Raises:
            OodbenchError: the file cannot be read, or has another form.
        """
        text = resources.files("oodbench.report").joinpath("names.toml").read_text(encoding="utf-8")
        merged = _checked(tomllib.loads(text), "names.toml")
        for kind, names in (_checked(read_toml(path), str(path)) if path else {}).items():
            merged[kind] |= names
        return cls(**merged)

    def detector(self, label: str) -> str:
        """`ODIN (norm=l2)` of `odin(norm=l2)`."""
        label = same_name(label)
        name, parenthesis, parameters = label.partition("(")
        if label in self.detectors or name not in self.detectors:
            return self.detectors.get(label, label)
        return self.detectors[name] + (f" ({parameters}" if parenthesis else "")

    def set(self, name: str) -> str:
        """`CIFAR-100` of `cifar100`."""
        return self.sets.get(name, name)

    def model(self, name: str) -> str:
        """`ResNet-20` of `resnet20`."""
        return self.models.get(name, name)

    def group(self, name: str) -> str:
        """`Near-OOD` of `near`."""
        return self.groups.get(name, name)


def same_name(label: str) -> str:
    """A detector's label with the catalogue's name for it, whichever of its names it has."""
    name, parenthesis, parameters = label.partition("(")
    return _catalogue_names().get(name, name) + parenthesis + parameters


@cache
def _catalogue_names() -> dict[str, str]:
    return {name: entry.name for entry in catalogue().values() for name in (entry.name, *entry.aliases)}


def _checked(values: Mapping[str, object], where: str) -> dict[str, dict[str, str]]:
    made: dict[str, dict[str, str]] = {kind: {} for kind in KINDS}
    for kind, names in values.items():
        if kind not in KINDS:
            raise unknown_name(f"table of display names ({where})", kind, KINDS)
        if not isinstance(names, Mapping) or not all(isinstance(name, str) for name in names.values()):
            raise OodbenchError(f'{where}: [{kind}] takes lines like msp = "MSP", each a name and a text in quotes')
        made[kind] = {same_name(name) if kind == "detectors" else name: str(shown) for name, shown in names.items()}
    return made
