"""From what users write (a name, a group, a path) to image sets."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from oodbench.data.catalogue import DATASETS, FORM_OF, GROUPS, group_of, members_of
from oodbench.data.folder import FolderSource
from oodbench.data.imageset import MOST_CLASSES, ImageSet
from oodbench.data.made import made_set
from oodbench.data.own import Places, fit_images, is_there, labels_of, own_splits, read_own
from oodbench.data.reference import Reference, parse_reference
from oodbench.data.sources import how_to_get, locate, missing, read_named
from oodbench.data.splits import load_digits
from oodbench.errors import OodbenchError
from oodbench.files import cache_folder

if TYPE_CHECKING:
    # `oodbench list` reads this module and must not wait for torch.
    from oodbench.data.inputs import AnyForm
    from oodbench.data.matching import ImageShape

DEBIAN_DATASETS = Path("/usr/share/datasets")
"""Where Debian's dataset packages (dataset-fashion-mnist) put their files."""


Expected = Mapping[str, Mapping[str, Any]]
"""Set → what a benchmark says of it; see `Benchmark.expected`."""


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
        if self.published or any(0 in labels_of(one) for one in (self.fit, self.test)):
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


def load_id(
    reference: str,
    *,
    data_root: Path | None,
    seed: int,
    fit: str | None = None,
    given: Mapping[str, ImageSet] | None = None,
    expected: Expected | None = None,
) -> InDistribution:
    """The ID set of NAME, npz:PATH, folder:PATH and the like, with the images to fit on and to test on.

    Of the pixels, the first test image is read, for its form.

    Args:
        reference: a set of the catalogue has its published splits. `npz:X_test.npz` is fitted on an
            `X_train.npz` beside it, `list:test_X.txt` on a `train_X.txt`; a folder with train/ and test/ (or val/)
            below it, by whatever name and case is usual, on train/; else a seeded, stratified half is fitted on and the
            other half tested on.
        data_root: see `data_roots`.
        seed: of the halves.
        fit: another reference, for the images to fit on.
        given: sets by name, which are looked for first.
        expected: set → how many `images` it must have to test on.

    Raises:
        OodbenchError: the set is missing, damaged, without splits or labels, or cannot be an ID set.
    """
    places = Places(data_roots(data_root), given or {})
    asked = _asked(reference, places)
    if asked.kind == "group":
        raise OodbenchError(f"'{asked.value}' is a group of OOD sets; name one set as the ID set, e.g. cifar10")
    if fit is not None:
        fit_set = _fit_images(_asked(fit, places), places)
        test = _named(asked, "test", places, ("test",)) if asked.kind == "set" else read_own(asked, places)
    elif asked.kind == "set":
        fit_set, test = (_named(asked, split, places, ("fit", "test")) for split in ("fit", "test"))
    else:
        fit_set, test = own_splits(asked, places, seed)
    _check_count(test, (expected or {}).get(asked.name, {}))
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


class Expanded(NamedTuple):
    """The single OOD sets that are meant.

    Attributes:
        names: references to them.
        left_out: sentences on what was left out of the groups, and why.
        expected: set → `group`, near or far, as which it was asked for.
    """

    names: list[str]
    left_out: list[str]
    expected: Expected


def expand_ood(
    references: Sequence[str],
    *,
    id_name: str,
    data_root: Path | None,
    given: Mapping[str, ImageSet] | None = None,
) -> Expanded:
    """The single OOD sets that are meant.

    A group (noise, structured, near, far; also group:NAME) becomes its sets that are on this machine and are
    not the ID set. A set that is called like a group stays written set:NAME, so that expanding twice changes
    nothing. Duplicates are dropped; the order is kept.

    Raises:
        OodbenchError: no such name, the ID set itself, or a group without a set.
    """
    places = Places(data_roots(data_root), given or {})
    names: list[str] = []
    left_out: list[str] = []
    expected: dict[str, Mapping[str, Any]] = {}
    for reference in references:
        asked = _asked(reference, places)
        if asked.kind == "group":
            members, reasons = _group_members(asked.value, id_name, data_root)
            for one in members:
                if one not in names and asked.value in ("near", "far"):
                    expected[one] = {"group": asked.value}
            names += members
            left_out += reasons
        elif asked.name == id_name:
            raise OodbenchError(
                f"OOD set '{reference}' is called like the ID set, {id_name}; name another, or rename it"
            )
        else:
            names.append(_written(asked.value) if asked.kind == "set" and not asked.called else reference)
    names = list(dict.fromkeys(names))
    return Expanded(names, list(dict.fromkeys(left_out)), expected)


def load_ood(
    reference: str,
    *,
    id_set: InDistribution,
    shape: AnyForm,
    seed: int,
    data_root: Path | None,
    given: Mapping[str, ImageSet] | None = None,
    expected: Expected | None = None,
) -> ImageSet:
    """One OOD set, with its group.

    Args:
        reference: a set's name (or set:NAME), npz:PATH, folder:PATH and the like. Of splits the test split is taken.
        id_set: its test images decide how many are generated and what derived sets are made from.
        shape: of the classifier's input, (C, H, W) or what brings images into it: the form of what is made.
        seed: of generated and derived images.
        data_root: see `data_roots`.
        given: sets by name, which are looked for first.
        expected: set → its `group`, where it is not that of the catalogue, and how many `images` it must have.

    Raises:
        OodbenchError: the set is missing or damaged, has another number of images, or the reference is a group.
    """
    places = Places(data_roots(data_root), given or {})
    # Groups are expanded before: here "structured" is the set.
    known = reference in DATASETS and reference not in places.given
    asked = Reference("set", reference) if known else _asked(reference, places)
    if asked.kind == "group":
        raise OodbenchError(f"'{reference}' is a group of data sets; it must be expanded before a set is loaded")
    if asked.kind == "set":
        images = made_set(asked.value, id_set.test, shape, seed) or _named(asked, "test", places)
        group = group_of(asked.value, id_set.name)
    else:
        images = read_own(asked, places)
        group = images.group or "other"
    facts = (expected or {}).get(asked.name, {})
    _check_count(images, facts)
    return replace(images, name=asked.name, group=facts.get("group", group))


def not_there(references: Sequence[str], *, data_root: Path | None, given: Mapping[str, ImageSet]) -> dict[str, str]:
    """Reference → why it is not on this machine, in words, of those that are not; looks at file names only."""
    places = Places(data_roots(data_root), given)
    found: dict[str, str] = {}
    for reference in references:
        asked = _asked(reference, places)
        if asked.kind == "set" and DATASETS[asked.value].kind == "files" and not locate(asked.value, places.roots):
            found[reference] = str(missing(asked.value, places.roots))
        elif asked.kind not in ("set", "group") and (reason := is_there(asked, places)):
            found[reference] = reason
    return found


def is_inverted(reference: str) -> bool:
    """Whether the images of a set are made of each classifier under test."""
    name = reference.removeprefix("set:")
    return name in DATASETS and DATASETS[name].kind == "inverted"


def load_images(reference: str, *, data_root: Path | None) -> ImageSet:
    """The images of NAME, npz:PATH, folder:PATH and the like; of splits the test split.

    Raises:
        OodbenchError: the set is missing or damaged, is made and not read, or the reference is a group.
    """
    places = Places(data_roots(data_root), {})
    asked = parse_reference(reference)
    if asked.kind == "group" or (asked.kind == "set" and DATASETS[asked.value].kind not in ("files", "built in")):
        raise OodbenchError(f"'{reference}' is no set of images that can be read; name a set, npz:PATH or folder:PATH")
    return _named(asked, "test", places) if asked.kind == "set" else read_own(asked, places)


def _check_count(images: ImageSet, facts: Mapping[str, Any]) -> None:
    """Raise OodbenchError for a set with another number of images than the benchmark says."""
    wanted = facts.get("images", len(images))
    if len(images) != wanted:
        raise OodbenchError(
            f"{images.name} ({images.origin}) has {len(images):,} images where the benchmark has {wanted:,}; get the "
            "published list, or run a benchmark of your own with what there is"
        )


def _asked(reference: str, places: Places) -> Reference:
    return Reference("given", reference) if reference in places.given else parse_reference(reference)


def _named(asked: Reference, split: str, places: Places, needed: Sequence[str] = ()) -> ImageSet:
    """A split of a set that is read; with `needed`, as a part of an ID set (see `read_named`)."""
    name = asked.value
    if needed and DATASETS[name].num_classes is None:
        known = ", ".join(entry.name for entry in DATASETS.values() if entry.num_classes is not None)
        raise OodbenchError(
            f"{name} is an OOD set only; as the ID set name one of {known}, or images of yours as "
            f"npz:PATH or folder:PATH"
        )
    images = load_digits(split) if name == "digits" else read_named(name, places.roots, split, needed)
    return replace(images, name=asked.name)


def _fit_images(asked: Reference, places: Places) -> ImageSet:
    """The images to fit on of a reference that was given for them alone."""
    if asked.kind == "group":
        raise OodbenchError(f"'{asked.value}' is a group of OOD sets; fit on the training images of the ID set")
    return _named(asked, "fit", places, ("fit",)) if asked.kind == "set" else fit_images(asked, places)


def _checked_classes(fit: ImageSet, test: ImageSet, num_classes: int | None) -> int:
    """K, the given one or the largest label + 1; every label must be among 0 … K−1."""
    if num_classes is None:
        num_classes = min(int(max(labels_of(fit).max(), labels_of(test).max())) + 1, MOST_CLASSES)
    for images in (fit, test):
        labels = labels_of(images)
        wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
        if len(wrong):
            label = labels[wrong[0]]
            what = f"; an ID set needs labels 0 … {max(num_classes - 1, 0)}"
            if label >= MOST_CLASSES:
                what = f": more than {MOST_CLASSES:,} classes are not plausible; correct it, or leave the image out"
            raise OodbenchError(f"image {wrong[0]} of {images.name} ({images.origin}) has the label {label}{what}")
    if num_classes < 2:
        raise OodbenchError(f"{test.name} ({test.origin}) has one class only; an ID set needs two or more")
    classes = [images.source.class_folders for images in (fit, test) if isinstance(images.source, FolderSource)]
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
    absent = np.setdiff1d(np.arange(num_classes), labels_of(fit)).tolist()
    shown = ", ".join(map(fit.class_name, absent[:20])) + (f" … ({len(absent):,} in all)" if len(absent) > 20 else "")
    return f"no image to fit on of class(es) {shown}" if absent else ""


def _written(name: str) -> str:
    return f"set:{name}" if name in GROUPS else name


def _group_members(group: str, id_name: str, data_root: Path | None) -> tuple[list[str], list[str]]:
    """The sets of a group that are on this machine, and why others are not among them."""
    if group in ("near", "far") and id_name not in DATASETS:
        raise OodbenchError(
            f"which sets are {group} is known only for ID sets of the catalogue, and '{id_name}' is none; "
            f"name single OOD sets, or a benchmark that does (`oodbench list benchmarks`)"
        )
    members: list[str] = []
    reasons: list[str] = []
    places: dict[str, str] = {}
    forms: dict[str, str] = {}
    for name in members_of(group, id_name):
        place, form = available(name, data_root), FORM_OF.get(name, name)
        if place is None:
            reasons.append(f"{name} ({group}) is left out: not on this machine. {how_to_get(name)}")
        elif DATASETS[name].kind == "files" and place in places:
            reasons.append(f"{name} ({group}) is left out: the same files as {places[place]}, {place}")
        elif group in ("near", "far") and form in forms:
            reasons.append(f"{name} ({group}) is left out: another form of {forms[form]}")
        else:
            members.append(_written(name))
            places[place] = forms[form] = name
    if not members:
        raise OodbenchError(f"group '{group}' has no set on this machine for the ID set {id_name}. {' '.join(reasons)}")
    return members, reasons
