"""What people call the parts of a set, to train on and to test on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from oodbench.errors import OodbenchError

SPLITS = {
    "train": "fit",
    "training": "fit",
    "test": "test",
    "testing": "test",
    "val": "val",
    "valid": "val",
    "validation": "val",
}
"""Each name, in small letters → which part that is."""


def split_folders(folder: Path) -> dict[str, Path]:
    """Which of fit, test and val lie below a folder, under a name that people give them, in any case.

    Raises:
        OodbenchError: two folders are called like the same split.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        split = SPLITS.get(path.name.casefold())
        if split is None or not path.is_dir():
            continue
        if split in found:
            raise OodbenchError(
                f"folder {folder} has both {found[split].name}/ and {path.name}/; name the one that is meant"
            )
        found[split] = path
    return found


def by_split(files: Sequence[Path], folder: Path) -> dict[str, list[Path]]:
    """Split → its files, where the names of all tell (`train-00000.parquet`, `x-test-01.tar`), or the folders below
    `folder` in which they lie (`train/0000.parquet`); else "" → all."""
    splits = [_split_of(file, folder) for file in files]
    if None in splits:
        return {"": list(files)}
    found: dict[str, list[Path]] = {}
    for split, file in zip(splits, files, strict=True):
        found.setdefault(str(split), []).append(file)
    return found


def _split_of(file: Path, folder: Path) -> str | None:
    below = file.relative_to(folder).parts[:-1] if file.is_relative_to(folder) else ()
    return next(filter(None, map(split_in, (file.stem, *reversed(below)))), None)


def split_in(name: str) -> str | None:
    """The split that a name tells of, as one of its parts between points, dashes and underscores."""
    parts = name.casefold().replace("_", "-").replace(".", "-").split("-")
    told = {SPLITS[part] for part in parts if part in SPLITS}
    return told.pop() if len(told) == 1 else None
