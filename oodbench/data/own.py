"""The user's own sets: files and folders of the kinds that people have, and what is given from Python."""

from __future__ import annotations

import glob
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from oodbench.data.folder import read_folder
from oodbench.data.imagelist import find_list, read_list
from oodbench.data.imageset import ImageSet
from oodbench.data.npz import read_npz, splits_of
from oodbench.data.parquet import read_tables, table_files
from oodbench.data.reference import Reference
from oodbench.data.split_names import by_split, split_folders
from oodbench.data.splits import halves
from oodbench.data.tar import read_tar, tar_files
from oodbench.errors import OodbenchError

Parts = dict[str, tuple[str, Callable[[], ImageSet]]]
"""Split (fit, test, val, or "" for all images) → what it is called there, and how it is read."""


@dataclass(frozen=True)
class Places:
    """Where references lead: the data folders, and the sets that were given from Python by name."""

    roots: Sequence[Path]
    given: Mapping[str, ImageSet]


def own_splits(asked: Reference, places: Places, seed: int) -> tuple[ImageSet, ImageSet]:
    """(fit, test) of a set of the user's: its two splits, or two halves of it."""
    parts = _parts(asked, places)
    test = _chosen(parts, "test")
    beside = _beside(asked, places)
    if "fit" in parts and test != "fit":
        return parts["fit"][1](), parts[test][1]()
    whole = parts[test][1]()
    if beside is not None:
        return read_own(asked._replace(value=str(beside), called=asked.name), places), whole
    return halves(whole, labels_of(whole), seed)


def fit_images(asked: Reference, places: Places) -> ImageSet:
    """The images to fit on of a set of the user's that was given for them alone."""
    parts = _parts(asked, places)
    return parts[_chosen(parts, "fit")][1]()


def read_own(asked: Reference, places: Places) -> ImageSet:
    """The test images of a set of the user's, all of it where it has no splits."""
    parts = _parts(asked, places)
    called, read = parts[_chosen(parts, "test")]
    note = f"of the {'folder' if asked.path.is_dir() else 'file'}'s splits, {called} was taken" if called else ""
    images = read()
    return replace(images, notes=(*images.notes, note)) if note else images


def is_there(asked: Reference, places: Places) -> str:
    """Why a set of the user's is not there, in words; empty where it is. Looks at names only."""
    if asked.kind == "given":
        return ""
    if asked.kind == "list":
        try:
            find_list(asked.path, places.roots)
        except OodbenchError as error:
            return str(error)
        return ""
    there = asked.path.exists() or (asked.kind == "tar" and glob.glob(str(asked.path)))
    return "" if there else f"there is no {'folder' if asked.kind == 'folder' else 'file'} {asked.path}; check the path"


def labels_of(images: ImageSet) -> np.ndarray:
    """The labels of a set; OodbenchError where it has none."""
    if images.labels is None:
        raise OodbenchError(
            f"{images.name} ({images.origin}) has no labels, so it cannot be the ID set; add a key 'labels' "
            f"to the npz file, or put the images in one folder a class"
        )
    return images.labels


def _parts(asked: Reference, places: Places) -> Parts:
    name, path = asked.name, asked.path
    if asked.kind == "given":
        return {"": ("", lambda: places.given[asked.value])}
    if asked.kind in ("npz", "npy"):
        splits = splits_of(path)
        if splits:
            return {split: (keys.images, partial(read_npz, name, path, keys)) for split, keys in splits.items()}
        return {"": ("", partial(read_npz, name, path))}
    if asked.kind == "list":
        return {"": ("", partial(read_list, name, path, places.roots))}
    if asked.kind == "hf":
        tables = table_files(path)
        return {split: (split, partial(read_tables, name, files)) for split, files in tables.items()}
    folders = split_folders(path)
    if asked.kind == "tar":
        if len(folders) > 1:
            return {split: (f"{one.name}/", partial(read_tar, name, tar_files(one))) for split, one in folders.items()}
        shards = by_split(tar_files(path), path)
        return {split: (split, partial(read_tar, name, files)) for split, files in shards.items()}
    if len(folders) > 1:
        return {split: (f"{one.name}/", partial(read_folder, name, one)) for split, one in folders.items()}
    return {"": ("", partial(read_folder, name, path))}


def _chosen(parts: Parts, wanted: str) -> str:
    """The split to take: the wanted one, else all images, else the next best."""
    order = {"test": ("test", "", "val"), "fit": ("fit", "", "test", "val")}[wanted]
    return next((split for split in order if split in parts), next(iter(parts)))


def _beside(asked: Reference, places: Places) -> Path | None:
    """The file to fit on beside a file to test on: X_train.npz beside X_test.npz, train_X.txt beside test_X.txt."""
    if asked.kind == "npz" and asked.path.stem.endswith("_test"):
        beside = asked.path.with_name(f"{asked.path.stem.removesuffix('_test')}_train.npz")
    elif asked.kind == "list" and asked.path.stem.startswith("test_"):
        found = find_list(asked.path, places.roots)
        beside = found.with_name(f"train_{found.stem.removeprefix('test_')}{found.suffix}")
    else:
        return None
    return beside if beside.is_file() else None
