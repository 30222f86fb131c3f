"""Outputs on disk by content address, in shards: what was computed once is never computed again.

An address is a hash of everything that decides what lies under it, so that nothing can be read for something else;
what is read is verified. One file a shard, whole or not at all: a killed run loses what it had not finished.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open
from torch import Tensor

from oodbench.errors import OodbenchError
from oodbench.files import cache_folder, sweep, write_whole
from oodbench.progress import Reporter
from oodbench.tensor_file import Read, read_sealed, sealed

FORMAT = 1

SHARD = 1024
"""Images whose outputs lie in one file."""

DEFAULT_LIMIT = 20e9
"""Bytes that a store may take; the environment variable OODBENCH_STORE_GB says otherwise."""


def address(*parts: object) -> str:
    """The hash of values that JSON can hold, and of the store's format."""
    return hashlib.sha256(json.dumps([FORMAT, *parts]).encode()).hexdigest()


class Entry(NamedTuple):
    """A file of the store: where it is, its size in bytes, when it was last used, and what it is of, in words."""

    path: Path
    size: int
    used: float
    facts: Mapping[str, str]


@dataclass(frozen=True)
class Store:
    """Named tensors under addresses, in a folder; see `NO_STORE` for one that keeps nothing.

    Attributes:
        folder: None keeps nothing.
        limit: bytes that it may take once it is trimmed.
        reporter: is told of what was damaged.
    """

    folder: Path | None
    limit: float = DEFAULT_LIMIT
    reporter: Reporter = field(default_factory=Reporter)

    @classmethod
    def default(cls, reporter: Reporter | None = None) -> Store:
        """The store in oodbench's cache.

        Raises:
            OodbenchError: OODBENCH_STORE_GB is not a number of at least 0.
        """
        text = os.environ.get("OODBENCH_STORE_GB")
        try:
            limit = DEFAULT_LIMIT if text is None else 1e9 * float(text)
        except ValueError:
            limit = -1.0
        if not limit >= 0:
            raise OodbenchError(f"OODBENCH_STORE_GB must be a number of gigabytes from 0 up, not '{text}'")
        return cls(cache_folder() / "store", limit, reporter or Reporter())

    @property
    def keeps(self) -> bool:
        """Whether it keeps anything."""
        return self.folder is not None

    def read(self, where: str) -> Read | None:
        """The tensors and facts under an address; None where there are none, or they are damaged, which is said."""
        path = self._path(where)
        if path is None:
            return None
        # Twice: one that another process removes or replaces while it is read is gone or whole the second time.
        found = _sound(path, where) or _sound(path, where)
        if found is None:
            if path.exists():
                self.reporter.say(f"{path} of the store is damaged: it is made anew")
            return None
        with suppress(OSError):  # somebody else may have cleared it meanwhile
            os.utime(path)
        return found

    def write(self, where: str, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
        """Keep tensors under an address, with what they are of, in words."""
        path = self._path(where)
        if path is None:
            return
        kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        try:
            # As bytes: where safetensors writes a file itself, a full disk is no OSError.
            write_whole(path, sealed(kept, {**facts, "address": where}))
        except OSError as error:
            raise OodbenchError(
                f"the store cannot write into {path.parent} ({error.strerror}); make room, move it with the "
                f"environment variable OODBENCH_CACHE, or keep nothing with --no-store"
            ) from error

    def entries(self) -> Iterator[Entry]:
        """All files, the longest unused first."""
        for path, status in self._files():
            try:
                with safe_open(path, framework="pt") as file:
                    facts = dict(file.metadata() or {})
            except (OSError, RuntimeError, SafetensorError):
                if not path.exists():  # somebody else cleared it meanwhile
                    continue
                facts = {}
            yield Entry(path, status.st_size, status.st_mtime, facts)

    def trim(self) -> int:
        """Remove what was longest unused until the rest is within the limit; the bytes that went."""
        for folder in self.folder.glob("*/") if self.folder else ():
            sweep(folder)
        files = self._files()
        over = sum(status.st_size for _, status in files) - self.limit
        gone = 0
        for path, status in files:
            if gone >= over:
                break
            path.unlink(missing_ok=True)
            gone += status.st_size
        return gone

    def _files(self) -> list[tuple[Path, os.stat_result]]:
        """Those that are finished, the longest unused first."""
        found = []
        for path in self.folder.glob("*/*.safetensors") if self.folder else ():
            # `atomic_write` writes under a name that starts with a point.
            if not path.name.startswith("."):
                with suppress(FileNotFoundError):
                    found.append((path, path.stat()))
        return sorted(found, key=lambda one: one[1].st_mtime)

    def _path(self, where: str) -> Path | None:
        return self.folder / where[:2] / f"{where}.safetensors" if self.folder else None


NO_STORE = Store(None)


def _sound(path: Path, where: str) -> Read | None:
    """The tensors and facts of a file of the store; None where it is not there, or not what belongs there."""
    try:
        tensors, facts = read_sealed(path)
    except (OSError, ValueError):
        return None
    return (tensors, facts) if facts.get("address") == where else None
