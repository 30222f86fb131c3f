"""What the catalogue knows of a detector, and the families of detectors; torch is not imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from importlib import import_module
from operator import attrgetter
from typing import TYPE_CHECKING

from oodbench.errors import OodbenchError

if TYPE_CHECKING:
    from oodbench.detectors.base import Detector

FAMILIES = {
    "logits": "They read the logits.",
    "features": "They read the penultimate features or layers before, as they come.",
    "shaping": "They change features or maps, and another detector reads what comes out.",
    "gradients and perturbed images": "They follow gradients, or move the images along them.",
    "several passes or detectors": "They average several views, networks or detectors.",
    "a classifier of their own": "They read a classifier that a recipe trains.",
    "controls": "They ignore on purpose what tells ID from OOD: to see what a benchmark measures.",
    "others": "Detectors of other packages.",
}
"""Family → what its detectors have in common."""


@dataclass(frozen=True)
class DetectorEntry:
    """What the catalogue knows of a detector.

    Attributes:
        where: `module:Class`.
        paper: authors, year and arXiv number; of a detector from outside, its package and version.
        aliases: other names that users know it by.
        default: whether it is run where no detectors are named.
        family: the key in `FAMILIES`, by which lists are ordered.
    """

    name: str
    where: str
    paper: str
    summary: str
    aliases: tuple[str, ...] = ()
    default: bool = False
    family: str = "others"

    def load(self) -> type[Detector]:
        """Import the class.

        Raises:
            OodbenchError: it cannot be imported, or is no Detector.
        """
        from oodbench.detectors.base import Detector

        module, _, attribute = self.where.partition(":")
        named_by_place = self.name == self.where
        try:
            with _current_folder_first() if named_by_place else nullcontext():
                loaded = attrgetter(attribute)(import_module(module))
        except (ImportError, AttributeError, ValueError) as error:
            raise OodbenchError(
                f"detector '{self.name}' cannot be imported from {self.where}: {error}; "
                f"reinstall or remove the package that it comes from, or look at the path"
            ) from error
        if not (isinstance(loaded, type) and issubclass(loaded, Detector)):
            raise OodbenchError(f"detector '{self.name}': {self.where} is no subclass of oodbench.Detector")
        return loaded


@contextmanager
def _current_folder_first() -> Iterator[None]:
    """Modules looked for in the current folder first: `python -m oodbench` does so, the console script does not."""
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with suppress(ValueError):
            sys.path.remove(folder)
