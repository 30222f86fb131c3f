"""What users write for a data set, taken apart."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from oodbench.data.catalogue import DATASETS, GROUPS
from oodbench.errors import OodbenchError, unknown_name

HINT = "`oodbench list datasets` shows them all; a file or folder of yours is npz:PATH or folder:PATH"


class Reference(NamedTuple):
    """What a user wrote, taken apart: a set's name, a group, or the path of an npz file or a folder."""

    kind: str
    value: str

    @property
    def path(self) -> Path:
        return Path(self.value).expanduser()

    @property
    def name(self) -> str:
        """How the set is called: by its name, or by its file's stem or its folder's name."""
        if self.kind == "npz":
            return self.path.stem
        return self.path.resolve().name if self.kind == "folder" else self.value


def parse_reference(reference: str) -> Reference:
    """NAME, set:NAME, group:NAME, npz:PATH or folder:PATH, taken apart; NAME may be a set's or a group's.

    Raises:
        OodbenchError: no such kind, set or group.
    """
    kind, colon, value = reference.partition(":")
    if not colon:
        kind, value = ("group" if reference in GROUPS else "set"), reference
    if kind not in ("set", "group", "npz", "folder") or not value:
        raise OodbenchError(f"'{reference}' names no data set; write NAME, group:NAME, npz:PATH or folder:PATH")
    if kind == "group" and value not in GROUPS:
        raise unknown_name("group of data sets", value, GROUPS)
    if kind == "set" and value not in DATASETS:
        raise unknown_name("data set", value, [*DATASETS, *GROUPS], HINT)
    return Reference(kind, value)
