"""Image lists as OpenOOD has them: text files of `path label` a line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from oodbench.data.decoding import header_notes
from oodbench.data.folder import FolderSource, check_utf8
from oodbench.data.imageset import MOST_CLASSES, ImageSet
from oodbench.errors import OodbenchError

OPENOOD_FOLDERS = ("images_classic", "images_largescale")
"""Where OpenOOD's lists start, below its data folder."""

SHOWN = 5
"""Files that an error names; it counts the others."""


def find_list(path: Path, roots: Sequence[Path]) -> Path:
    """The list itself: where `path` says, or below one of the data folders.

    Raises:
        OodbenchError: it is in none of these places.
    """
    places = [path, *(root / path for root in roots)]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        looked = ", ".join(map(str, roots))
        raise OodbenchError(f"there is no image list {path}" + (f", nor below {looked}" if looked else ""))
    return found


def read_list(name: str, path: Path, roots: Sequence[Path]) -> ImageSet:
    """The images of a list, in its order, with its labels where one is not −1; see `find_list`.

    A line is a path, which may hold spaces, and behind the last space a whole number. Paths start at the list's folder,
    at a data folder, or at one of OPENOOD_FOLDERS in it: at the first of these below which the first image is.

    Raises:
        OodbenchError: there is no such list, a line is of another form, or images are missing or damaged.
    """
    path = find_list(path, roots)
    files, labels = _lines(path)
    folders = [path.parent, *roots, *(root / below for root in roots for below in OPENOOD_FOLDERS)]
    # Unlike a path's own method, it takes a name for which no file system has room for one that is not there.
    folder = next((one for one in folders if os.path.isfile(one / files[0])), None)
    if folder is None:
        looked = ", ".join(dict.fromkeys(map(str, folders)))
        raise OodbenchError(
            f"the first image of {path}, {files[0]}, is in none of {looked}; name the folder that its paths start at "
            "with --data-root"
        )
    _check_there(path, folder, files)
    notes = header_notes(((folder / file, str(folder / file)) for file in files), len(files))
    known = labels if (labels != -1).any() else None
    origin, classes = f"{path}, images in {folder}", _class_names(files, labels)
    return ImageSet(name, FolderSource(folder, files), origin, known, notes=tuple(notes), classes=classes)


def _lines(path: Path) -> tuple[tuple[PurePosixPath, ...], np.ndarray]:
    files: list[PurePosixPath] = []
    labels: list[int] = []
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise OodbenchError(f"image list {path} is not UTF-8 ({error.reason}); save it as such") from error
    except OSError as error:
        raise OodbenchError(f"image list {path} cannot be read ({error.strerror})") from error
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        file, _, label = line.rstrip().rpartition(" ")
        try:
            value = int(label)
        except ValueError:
            value = -2
        if not file or not -1 <= value < 2**63:
            raise OodbenchError(
                f"line {number} of {path} is '{line.strip()[:80]}'; a line is a path, a space and a label, a whole "
                "number from 0 up, or -1"
            )
        files.append(PurePosixPath(file.strip()))
        labels.append(value)
    if not files:
        raise OodbenchError(f"image list {path} names no images")
    return tuple(files), np.array(labels, dtype=np.int64)


def _class_names(files: Sequence[PurePosixPath], labels: np.ndarray) -> tuple[str, ...]:
    """The folders' names, where the images of each class lie in a folder of its own; empty for labels without any."""
    folders: dict[int, set[str]] = {}
    for file, label in zip(files, labels.tolist(), strict=True):
        if label != -1:
            folders.setdefault(label, set()).add(file.parent.name)
    names = {label: one.pop() for label, one in folders.items() if len(one) == 1}
    apart = len(names) == len(folders) == len(set(names.values())) > 1
    return tuple(names.get(label, "") for label in range(max(names) + 1)) if apart and max(names) < MOST_CLASSES else ()


def _check_there(path: Path, folder: Path, files: Sequence[PurePosixPath]) -> None:
    """Raise OodbenchError, naming some, for images of the list that are not there; each folder is listed once."""
    names: dict[PurePosixPath, frozenset[str]] = {}
    missing = []
    for file in files:
        check_utf8(str(folder / file))
        if file.parent not in names:
            try:
                names[file.parent] = frozenset(entry.name for entry in (folder / file.parent).iterdir())
            except OSError:
                names[file.parent] = frozenset()
        if file.name not in names[file.parent]:
            missing.append(str(file))
    if missing:
        shown = ", ".join(missing[:SHOWN]) + (", …" if len(missing) > SHOWN else "")
        raise OodbenchError(
            f"{len(missing):,} of the {len(files):,} images of {path} are not below {folder}: {shown}; get them, or "
            "take their lines out on purpose"
        )
