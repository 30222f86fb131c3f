"""The detectors there are, readable without importing torch.

A new detector is its own file and one entry in `built_in`. A detector of another package is an entry point of the
group `oodbench.detectors` there: `my-name = "package.module:Class"`.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING

from oodbench.detectors.built_in import BUILT_IN
from oodbench.detectors.entry import DetectorEntry
from oodbench.errors import OodbenchError, unknown_name

if TYPE_CHECKING:
    from oodbench.detectors.base import Detector

GROUP = "oodbench.detectors"
"""The entry points of other packages' detectors."""


DETECTORS: dict[str, DetectorEntry] = {entry.name: entry for entry in BUILT_IN}
"""The detectors that come with oodbench, by name; `catalogue()` has those of other packages too."""


@cache
def catalogue() -> dict[str, DetectorEntry]:
    """All detectors by name: those of oodbench, then those of installed packages.

    Raises:
        OodbenchError: two detectors have one name.
    """
    entries = [*BUILT_IN]
    for point in metadata.entry_points(group=GROUP):
        package = f"package {point.dist.name} {point.dist.version}" if point.dist else point.value
        entries.append(DetectorEntry(point.name, point.value, package, f"from {package}"))
    taken: dict[str, DetectorEntry] = {}
    for entry in entries:
        for name in (entry.name, *entry.aliases):
            if name in taken:
                raise OodbenchError(
                    f"two detectors are called '{name}': {taken[name].where} and {entry.where}; "
                    f"uninstall one package, or rename its entry point in the group {GROUP}"
                )
            taken[name] = entry
    return {entry.name: entry for entry in entries}


def find(name: str) -> DetectorEntry:
    """The entry of a name or an alias, or of `package.module:Class`.

    Raises:
        OodbenchError: there is none; the message has the nearest names.
    """
    if ":" in name:  # a class that is in no catalogue
        return DetectorEntry(name, name, f"class {name}", "a detector of yours")
    entries = catalogue()
    known = {known: entry for entry in entries.values() for known in (entry.name, *entry.aliases)}
    if name not in known:
        raise unknown_name("detector", name, known, "oodbench list detectors shows them all")
    return known[name]


def in_force(label: str) -> str:
    """A label, whose detectors may have aliases or names of earlier versions, with their names of today."""
    current = {alias: entry.name for entry in catalogue().values() for alias in entry.aliases}
    # At its start, and where a detector is another one's parameter.
    return re.sub(r"(^|=)([^\s(),=]+)(?=[(),]|$)", lambda found: found[1] + current.get(found[2], found[2]), label)


def name_of(detector_class: type[Detector]) -> str:
    """The catalogue's name of a detector class, or `module:Class` for one that is not in the catalogue."""
    where = f"{detector_class.__module__}:{detector_class.__qualname__}"
    for entry in catalogue().values():
        # An entry point may name the class by another module than the one that defines it.
        same_name = entry.where.partition(":")[2] == detector_class.__qualname__
        if entry.where == where or (same_name and entry.load() is detector_class):
            return entry.name
    return where
