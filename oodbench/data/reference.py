"""What users write for a data set, taken apart."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from oodbench.data.catalogue import DATASETS, GROUPS
from oodbench.data.split_names import SPLITS
from oodbench.errors import OodbenchError, unknown_name

PATH_KINDS = ("npz", "npy", "folder", "list", "hf", "tar")
"""Kinds of references to files and folders of the user's, each before a colon and the path."""

HINT = "`oodbench list datasets` shows them all; a file or folder of yours is npz:PATH or folder:PATH"

_NAMED = re.compile(rf"([^=:/\\]+)=((?:set|{'|'.join(PATH_KINDS)}):.+)", re.DOTALL)

_INNER = {"images", "imgs", "img", "data", "pictures", *SPLITS}
"""Folders that do not tell which set they belong to: the folder above does."""


class Reference(NamedTuple):
    """What a user wrote, taken apart: a set's name, a group, or the path of a file or folder of one of PATH_KINDS.

    `called` is the name that the user gave the set, or empty.
    """

    kind: str
    value: str
    called: str = ""

    @property
    def path(self) -> Path:
        return Path(self.value).expanduser()

    @property
    def name(self) -> str:
        """How the set is called: as the user says, else by its name, its file's stem or its folder's name."""
        if self.called:
            return self.called
        if self.kind not in PATH_KINDS:
            return self.value
        # As it is written: a link gives the name, not what it leads to.
        path = Path(os.path.abspath(self.path))
        if self.path.suffix and self.kind != "folder" and not path.is_dir():
            # Of tar files; a file may be called so too.
            pattern = any(sign in path.name for sign in "*?[") and not path.exists()
            return path.parent.name if pattern else path.stem
        return path.parent.name if path.name.casefold() in _INNER and path.parent.name else path.name


def parse_reference(reference: str) -> Reference:
    """NAME, set:NAME, group:NAME, npz:PATH, folder:PATH and the like, taken apart, each but groups also as CALLED=….

    NAME may be a set's or a group's.

    Raises:
        OodbenchError: no such kind, set or group.
    """
    named = _NAMED.fullmatch(reference)
    called, written = (named[1].strip(), named[2]) if named else ("", reference)
    kind, colon, value = written.partition(":")
    if not colon:
        kind, value = ("group" if written in GROUPS else "set"), written
    if kind not in ("set", "group", *PATH_KINDS) or not value:
        paths = ", ".join(f"{one}:PATH" for one in PATH_KINDS)
        raise OodbenchError(f"'{reference}' names no data set; write NAME, group:NAME, {paths}, or CALLED=npz:PATH")
    if kind == "group" and value not in GROUPS:
        raise unknown_name("group of data sets", value, GROUPS)
    if kind == "set" and value not in DATASETS:
        raise unknown_name("data set", value, [*DATASETS, *GROUPS], HINT)
    return Reference(kind, value, called)
