"""From what users write (a name, a group, a path) to image sets."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from oodbench.data.catalogue import DATASETS, GROUPS, group_of
from oodbench.data.folder import FolderSource, read_folder
from oodbench.data.imageset import ImageSet
from oodbench.data.npz import read_npz
from oodbench.data.reference import Reference, parse_reference
from oodbench.data.sources import how_to_get, locate, read_named
from oodbench.data.splits import halves, load_digits
from oodbench.errors import OodbenchError
from oodbench.files import cache_folder

if TYPE_CHECKING:
    # `oodbench list` reads this module and must not wait for torch.
    from oodbench.data.inputs import AnyForm
    from oodbench.data.matching import ImageShape

MOST_GENERATED = 10_000
"""Generated sets have as many images as the ID test set, but no more than these."""

MOST_CLASSES = 100_000
"""A larger label is a mistake; ImageNet-21k has 21,841 classes."""

MOST_SHOWN = 20
"""Classes in a sentence."""

DEBIAN_DATASETS = Path("/usr/share/datasets")
"""Where Debian's dataset packages (dataset-fashion-mnist) put their files."""


@dataclass(frozen=True)
class InDistribution:
    """An ID set: images to fit on, images to test on, both with labels 0 … K−1.

    Attributes:
        name: as users and tables call it.
        fit: the whole training split.
        test: the test split.
        num_classes: K.
        image_shape: (C, H, W) of the first test image.
        published: whether K is known for this set, and not only told by its largest label.
    """

    name: str
    fit: ImageSet
    test: ImageSet
    num_classes: int
    image_shape: ImageShape
    published: bool = False

    @property
    def about_labels(self) -> str:
        """What may be wrong with labels that are too large, in words; empty where nothing."""
        if self.published or any(0 in _labels(one) for one in (self.fit, self.test)):
            return ""
        return f" (its labels go to {self.num_classes - 1}, and none is 0: where they count from 1, subtract 1)"


def data_roots(data_root: Path | None) -> list[Path]:
    """The folders that hold data sets, in the order in which they are searched; not all need be there.

    `data_root`, or where it is None the folder that the environment variable OODBENCH_DATA names and ./data;
    then the cache, where `oodbench fetch` puts sets, and Debian's dataset packages.
    """
    given = os.environ.get("OODBENCH_DATA")
    chosen = [Path(data_root)] if data_root is not None else [*([Path(given)] if given else []), Path("data")]
    return [*chosen, cache_folder() / "data", DEBIAN_DATASETS]


def available(name: str, data_root: Path | None) -> str | None:
    """Where a set of the catalogue is found, in words, or None; looks at file names only."""
    if DATASETS[name].kind != "files":
        return "built in"
    found = locate(name, data_roots(data_root))
    return str(found.paths("test")[0]) if found else None


def load_id(reference: str, *, data_root: Path | None, seed: int, fit: str | None = None) -> InDistribution:
    """The ID set of NAME, npz:PATH or folder:PATH, with the images to fit on and to test on.

    Of the pixels, the first test image is read, for its form.

    Args:
        reference: a set of the catalogue has its published splits. `npz:X_test.npz` is fitted on an
            `X_train.npz` beside it; a folder with train/ and test/ (or val/) below it, on train/; else a
            seeded, stratified half is fitted on and the other half tested on.
        data_root: see `data_roots`.
        seed: of the halves.
        fit: another reference, for the images to fit on.

    Raises:
        OodbenchError: the set is missing, damaged, without splits or labels, or cannot be an ID set.
    """
    roots = data_roots(data_root)
    asked = parse_reference(reference)
    if asked.kind == "group":
        raise OodbenchError(f"'{asked.value}' is a group of OOD sets; name one set as the ID set, e.g. cifar10")
    if fit is not None:
        fit_set, test = _fit_images(parse_reference(fit), roots), _test_images(asked, roots)
    elif asked.kind == "set":
        fit_set, test = (_named(asked.value, split, roots, ("fit", "test")) for split in ("fit", "test"))
    else:
        fit_set, test = _own_splits(asked, seed)
    entry = DATASETS.get(asked.value) if asked.kind == "set" else None
    num_classes = _checked_classes(fit_set, test, entry.num_classes if entry else None)
    first = test.read(0, 1)[0]
    return InDistribution(
        asked.name,
        _with_note(fit_set, _missing_classes(fit_set, num_classes)),
        test,
        num_classes,
        (1 if first.ndim == 2 else 3, first.shape[0], first.shape[1]),
        published=entry is not None and entry.num_classes is not None,
    )


def expand_ood(references: Sequence[str], *, id_name: str, data_root: Path | None) -> tuple[list[str], list[str]]:
    """The single OOD sets that are meant, and sentences on what was left out of the groups and why.

    A group (noise, structured, near, far; also group:NAME) becomes its sets that are on this machine and are
    not the ID set. A set that is called like a group stays written set:NAME, so that expanding twice changes
    nothing. Duplicates are dropped; the order is kept.

    Raises:
        OodbenchError: no such name, the ID set itself, or a group without a set.
    """
    names: list[str] = []
    left_out: list[str] = []
    for reference in references:
        asked = parse_reference(reference)
        if asked.kind == "group":
            members, reasons = _group_members(asked.value, id_name, data_root)
            names += members
            left_out += reasons
        elif asked.name == id_name:
            raise OodbenchError(
                f"OOD set '{reference}' is called like the ID set, {id_name}; name another, or rename it"
            )
        else:
            names.append(_written(asked.value) if asked.kind == "set" else reference)
    return list(dict.fromkeys(names)), list(dict.fromkeys(left_out))


def load_ood(reference: str, *, id_set: InDistribution, shape: AnyForm, seed: int, data_root: Path | None) -> ImageSet:
    """One OOD set, with its group.

    Args:
        reference: a set's name (or set:NAME), npz:PATH or folder:PATH. Of splits the test split is taken.
        id_set: its test images decide how many are generated and what derived sets are made from.
        shape: of the classifier's input, (C, H, W) or what brings images into it: the form of what is made.
        seed: of generated and derived images.
        data_root: see `data_roots`.

    Raises:
        OodbenchError: the set is missing or damaged, or the reference is a group.
    """
    # Groups are expanded before: here "structured" is the set.
    asked = Reference("set", reference) if reference in DATASETS else parse_reference(reference)
    if asked.kind == "group":
        raise OodbenchError(f"'{reference}' is a group of data sets; it must be expanded before a set is loaded")
    if asked.kind != "set":
        return replace(_test_images(asked, []), group="other")
    images = _made(asked.value, id_set.test, shape, seed) or _named(asked.value, "test", data_roots(data_root))
    return replace(images, group=group_of(asked.value, id_set.name))


def is_inverted(reference: str) -> bool:
    """Whether the images of a set are made of each classifier under test."""
    name = reference.removeprefix("set:")
    return name in DATASETS and DATASETS[name].kind == "inverted"


def is_made(reference: str) -> bool:
    """Whether the images of a set are made, in the form that they are asked for in."""
    name = reference.removeprefix("set:")
    return name in DATASETS and DATASETS[name].kind in ("generated", "derived")


def load_images(reference: str, *, data_root: Path | None) -> ImageSet:
    """The images of NAME, npz:PATH or folder:PATH; of splits the test split.

    Raises:
        OodbenchError: the set is missing or damaged, is made and not read, or the reference is a group.
    """
    asked = parse_reference(reference)
    if asked.kind == "group" or (asked.kind == "set" and DATASETS[asked.value].kind not in ("files", "built in")):
        raise OodbenchError(f"'{reference}' is no set of images that can be read; name a set, npz:PATH or folder:PATH")
    if asked.kind == "set":
        return _named(asked.value, "test", data_roots(data_root))
    return _test_images(asked, [])


def make_proxy(name: str, fit: ImageSet, seed: int, form: AnyForm) -> ImageSet:
    """The proxy OOD set `name` made from ID fit images in the classifier's form: a derived set (METHODS section 2).

    Raises:
        OodbenchError: no such derived set.
    """
    from oodbench.data.noise import derived_set

    return derived_set(name, fit, seed, form)


def _made(name: str, id_test: ImageSet, form: AnyForm, seed: int) -> ImageSet | None:
    """The generated or derived set of this name; None for sets that are read."""
    if DATASETS[name].kind == "derived":
        return make_proxy(name, id_test.drawn(MOST_GENERATED, seed), seed, form)
    if DATASETS[name].kind != "generated":
        return None
    from oodbench.data.inputs import as_form

    form = as_form(form)
    images = _generated(name, min(len(id_test), MOST_GENERATED), form.shape, seed)
    # What takes images by a function whose output is no pixels takes these by it too.
    return images if form.has_pixels else replace(images, prepared=False)


def _generated(name: str, count: int, shape: ImageShape, seed: int) -> ImageSet:
    if name == "structured":
        from oodbench.data.structured import structured_set

        return structured_set(count, shape, seed)
    if name == "photos":
        from oodbench.data.photos import photos_set

        return photos_set(count, shape, seed)
    from oodbench.data.noise import noise_set

    return noise_set(name, count, shape, seed)


def _named(name: str, split: str, roots: Sequence[Path], needed: Sequence[str] = ()) -> ImageSet:
    """A split of a set that is read; with `needed`, as a part of an ID set (see `read_named`)."""
    if needed and DATASETS[name].num_classes is None:
        known = ", ".join(entry.name for entry in DATASETS.values() if entry.num_classes is not None)
        raise OodbenchError(
            f"{name} is an OOD set only; as the ID set name one of {known}, or images of yours as "
            f"npz:PATH or folder:PATH"
        )
    return load_digits(split) if name == "digits" else read_named(name, roots, split, needed)


def _read_path(asked: Reference, path: Path) -> ImageSet:
    return read_npz(asked.name, path) if asked.kind == "npz" else read_folder(asked.name, path)


def _split_folders(asked: Reference) -> tuple[Path, Path] | None:
    """train/ and test/ (or val/) below a folder, where both are there."""
    train = asked.path / "train"
    tests = [asked.path / name for name in ("test", "val") if (asked.path / name).is_dir()]
    return (train, tests[0]) if asked.kind == "folder" and train.is_dir() and tests else None


def _own_splits(asked: Reference, seed: int) -> tuple[ImageSet, ImageSet]:
    """(fit, test) of a path: its two splits, or two halves of it."""
    folders = _split_folders(asked)
    if folders:
        return _read_path(asked, folders[0]), _read_path(asked, folders[1])
    whole = _read_path(asked, asked.path)
    beside = asked.path.with_name(f"{asked.path.stem.removesuffix('_test')}_train.npz")
    if asked.kind == "npz" and asked.path.stem.endswith("_test") and beside.is_file():
        return read_npz(asked.name, beside), whole
    return halves(whole, _labels(whole), seed)


def _fit_images(asked: Reference, roots: Sequence[Path]) -> ImageSet:
    """The images to fit on of a reference that was given for them alone."""
    if asked.kind == "group":
        raise OodbenchError(f"'{asked.value}' is a group of OOD sets; fit on the training images of the ID set")
    if asked.kind == "set":
        return _named(asked.value, "fit", roots, ("fit",))
    folders = _split_folders(asked)
    return _read_path(asked, folders[0] if folders else asked.path)


def _test_images(asked: Reference, roots: Sequence[Path]) -> ImageSet:
    """The test images of a reference, all of it where it has no splits."""
    if asked.kind == "set":
        return _named(asked.value, "test", roots, ("test",))
    folders = _split_folders(asked)
    if not folders:
        return _read_path(asked, asked.path)
    return _with_note(_read_path(asked, folders[1]), f"of the folder's splits, {folders[1].name}/ was taken")


def _labels(images: ImageSet) -> np.ndarray:
    if images.labels is None:
        raise OodbenchError(
            f"{images.name} ({images.origin}) has no labels, so it cannot be the ID set; add a key 'labels' "
            f"to the npz file, or put the images in one folder a class"
        )
    return images.labels


def _checked_classes(fit: ImageSet, test: ImageSet, num_classes: int | None) -> int:
    """K, the given one or the largest label + 1; every label must be among 0 … K−1."""
    if num_classes is None:
        num_classes = int(max(_labels(fit).max(), _labels(test).max())) + 1
        for images in (fit, test):
            labels, index = _labels(images), int(_labels(images).argmax())
            if labels[index] >= MOST_CLASSES:
                raise OodbenchError(
                    f"image {index} of {images.name} ({images.origin}) has the label {labels[index]}: more than "
                    f"{MOST_CLASSES:,} classes are not plausible; correct the label, or leave the image out"
                )
    for images in (fit, test):
        labels = _labels(images)
        wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
        if len(wrong):
            raise OodbenchError(
                f"image {wrong[0]} of {images.name} ({images.origin}) has the label {labels[wrong[0]]}; "
                f"an ID set needs labels 0 … {max(num_classes - 1, 0)}"
            )
    if num_classes < 2:
        raise OodbenchError(f"{test.name} ({test.origin}) has one class only; an ID set needs two or more")
    classes = [images.source.classes for images in (fit, test) if isinstance(images.source, FolderSource)]
    if len(classes) == 2 and classes[0] != classes[1]:
        different = ", ".join(sorted(set(classes[0]) ^ set(classes[1])))
        raise OodbenchError(
            f"the class folders of {fit.origin} and {test.origin} differ ({different}), so their labels "
            f"would not mean the same; give both the same folders, empty where a class has no images"
        )
    return num_classes


def _with_note(images: ImageSet, note: str) -> ImageSet:
    return replace(images, notes=(*images.notes, note)) if note else images


def _missing_classes(fit: ImageSet, num_classes: int) -> str:
    absent = sorted(set(range(num_classes)) - set(_labels(fit).tolist()))
    shown = ", ".join(map(str, absent[:MOST_SHOWN]))
    more = f" and {len(absent) - MOST_SHOWN} more" if len(absent) > MOST_SHOWN else ""
    return f"no image to fit on of class(es) {shown}{more}" if absent else ""


def _written(name: str) -> str:
    return f"set:{name}" if name in GROUPS else name


def _group_members(group: str, id_name: str, data_root: Path | None) -> tuple[list[str], list[str]]:
    """The sets of a group that are on this machine, and why others are not among them."""
    if group in ("near", "far") and id_name not in DATASETS:
        raise OodbenchError(
            f"which sets are {group} is known only for ID sets of the catalogue, and '{id_name}' is none; "
            f"name single OOD sets"
        )
    members: list[str] = []
    reasons: list[str] = []
    places: dict[str, str] = {}
    for name, entry in DATASETS.items():
        if name == id_name or group_of(name, id_name) != group:
            continue
        place = available(name, data_root)
        if place is None:
            reasons.append(f"{name} ({group}) is left out: not on this machine. {how_to_get(name)}")
        elif entry.kind == "files" and place in places:
            reasons.append(f"{name} ({group}) is left out: the same files as {places[place]}, {place}")
        else:
            members.append(_written(name))
            places[place] = name
    if not members:
        raise OodbenchError(f"group '{group}' has no set on this machine for the ID set {id_name}. {' '.join(reasons)}")
    return members, reasons
