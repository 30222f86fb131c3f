"""What tells, without a pixel being read, that pixels may have changed: facts of files, and code that makes images."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path


def identity_of(facts: object, modules: Sequence[str], packages: Sequence[str] = ()) -> str | None:
    """SHA-256 over facts of a set and over the code that makes its pixels; None where that code cannot be read.

    Args:
        facts: text, bytes, numbers, None, and tuples and lists of them: what their repr tells in full.
        modules: whose source text decides on the pixels.
        packages: installed distributions whose version does.
    """
    codes = [_source_hash(module) for module in modules]
    if None in codes:
        return None
    versions = [_version(package) for package in packages]
    return hashlib.sha256(repr((facts, codes, versions)).encode()).hexdigest()


Facts = tuple[str, int, int, int]


def file_facts(path: Path) -> Facts:
    """Absolute path, size, and the times of the last change of content and of anything, in nanoseconds.

    A copy that keeps the time of its original (cp -p, rsync -t) shows in the second time only. To be asked before
    the file is read, so that one that changes meanwhile is not taken for the one that was read.
    """
    status = path.stat()
    return os.path.abspath(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns


@cache
def _version(package: str) -> str:
    return importlib.metadata.version(package)


@cache
def _source_hash(module: str) -> str | None:
    # Found and not imported: some of these modules wait for torch.
    try:
        spec = importlib.util.find_spec(module)
        source = Path(spec.origin or "").read_bytes() if spec is not None else None
    except (ImportError, OSError, ValueError):
        return None
    return None if source is None else hashlib.sha256(source).hexdigest()
