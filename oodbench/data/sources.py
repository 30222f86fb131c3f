"""Where the sets of the catalogue lie in a data folder, in all the forms that people have them in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from oodbench.data.catalogue import DATASETS, GROUPS
from oodbench.data.folder import read_archive, read_folder
from oodbench.data.idx import read_idx
from oodbench.data.imageset import ImageSet
from oodbench.data.lsun import read_lmdb
from oodbench.data.npz import read_npz
from oodbench.data.torchvision_sets import read_cifar, read_svhn
from oodbench.errors import OodbenchError

Reader = Callable[[str, list[Path], str], ImageSet]
"""From a set's name, what its pattern matched, and the split (fit or test)."""


@dataclass(frozen=True)
class Form:
    """One way in which a set may lie in a data folder.

    Attributes:
        test: glob pattern of its test split, or of the whole set where it has no splits.
        read: reads what the pattern of a split matches.
        fit: glob pattern of its training split; empty for forms without splits.
        count: images that the published form has, by which a half-extracted one is known.
    """

    test: str
    read: Reader
    fit: str = ""
    count: int | None = None


def _npz(name: str, paths: list[Path], split: str) -> ImageSet:
    return read_npz(name, paths[0])


def _folder(name: str, paths: list[Path], split: str) -> ImageSet:
    return read_folder(name, paths[0])


def _archive(name: str, paths: list[Path], split: str) -> ImageSet:
    return read_archive(name, paths[0])


def _idx(name: str, paths: list[Path], split: str) -> ImageSet:
    return read_idx(name, paths[0].parent, split)


def _cifar(name: str, paths: list[Path], split: str) -> ImageSet:
    return read_cifar(name, paths[0], split)


def _svhn(name: str, paths: list[Path], split: str) -> ImageSet:
    return read_svhn(name, paths[0], split)


def _lmdb(name: str, paths: list[Path], split: str) -> ImageSet:
    return read_lmdb(name, paths)


def _in(places: Sequence[str], test: str, read: Reader, fit: str = "", count: int | None = None) -> list[Form]:
    """The same form in several places of a data folder."""
    return [Form(place + test, read, fit and place + fit, count) for place in places]


def _idx_forms(name: str, torchvision_name: str) -> list[Form]:
    places = (f"{torchvision_name}/raw/", f"{name}/", f"{name}/{torchvision_name}/raw/")
    return _in(places, "*idx?-ubyte*", _idx, "*idx?-ubyte*")


def _odin_forms(name: str, archive: str, folder: str, count: int) -> list[Form]:
    places = ("", f"{name}/")
    return [
        *_in(places, folder, _folder, count=count),
        *_in(places, f"{archive}.tar.gz", _archive, count=count),
    ]


_LMDB_FORMS = [
    form
    for pattern in ("test_lmdb", "*_val_lmdb", "*_train_lmdb")
    for form in _in(("", "lsun-scenes/", "lsun/", "LSUN/"), pattern, _lmdb)
]
_LSUN_CROP = _odin_forms("lsun-crop", "LSUN", "LSUN/test", 10_000)
_LSUN_RESIZE = _odin_forms("lsun-resize", "LSUN_resize", "LSUN_resize", 10_000)

_SPECIAL: dict[str, list[Form]] = {
    "mnist": _idx_forms("mnist", "MNIST"),
    "fashion-mnist": _idx_forms("fashion-mnist", "FashionMNIST"),
    "kmnist": _idx_forms("kmnist", "KMNIST"),
    "cifar10": _in(("", "cifar10/"), "cifar-10-batches-py", _cifar, "cifar-10-batches-py"),
    "cifar100": _in(("", "cifar100/"), "cifar-100-python", _cifar, "cifar-100-python"),
    "svhn": _in(("", "svhn/", "SVHN/"), "test_32x32.mat", _svhn, "train_32x32.mat"),
    "textures": _in(("dtd/dtd/", "dtd/", "textures/dtd/"), "images", _folder, count=5_640),
    "notmnist": _in(("", "notmnist/"), "notMNIST_small", _folder),
    "tinyimagenet": _in(("", "tinyimagenet/"), "tiny-imagenet-200/val/images", _folder, count=10_000),
    "tinyimagenet-crop": _odin_forms("tinyimagenet-crop", "Imagenet", "Imagenet/test", 10_000),
    "tinyimagenet-resize": _odin_forms("tinyimagenet-resize", "Imagenet_resize", "Imagenet_resize", 10_000),
    "lsun-scenes": _LMDB_FORMS,
    "lsun-crop": _LSUN_CROP,
    "lsun-resize": _LSUN_RESIZE,
    "lsun": [*_LMDB_FORMS, *_LSUN_CROP, *_LSUN_RESIZE],
    "isun": _odin_forms("isun", "iSUN", "iSUN/iSUN_patches", 8_925),
}


def forms(name: str) -> list[Form]:
    """The forms looked for, in this order: npz files, the form of the publisher or torchvision, folders."""
    return [
        Form(f"{name}_test.npz", _npz, fit=f"{name}_train.npz"),
        *(Form(f"{name}{ending}.npz", _npz) for ending in ("_32", "_sample", "")),
        *_SPECIAL.get(name, []),
        *(Form(f"{name}/{test}", _folder, fit=f"{name}/train") for test in ("test", "val")),
        Form(name, _folder),
    ]


@dataclass(frozen=True)
class Found:
    """A form that is there, and the data folder it was found in."""

    form: Form
    root: Path

    def paths(self, split: str) -> list[Path]:
        """What is there of a split, sorted."""
        pattern = self.form.fit if split == "fit" else self.form.test
        return sorted(self.root.glob(pattern)) if pattern else []


def locate(name: str, roots: Sequence[Path], needed: Sequence[str] = ()) -> Found | None:
    """The first form of a set that is there: folder by folder, and in each form by form; no pixels are read.

    `needed`: the splits (fit, test) that must be there, in a form that has both; if empty, the test split
    will do, or all images of a form without splits. A form that is there but incomplete is found too: reading
    it raises, rather than quietly taking another.
    """
    for root in roots:
        for form in forms(name):
            found = Found(form, root)
            if (form.fit or not needed) and all(found.paths(split) for split in needed or ("test",)):
                return found
    return None


def read_named(name: str, roots: Sequence[Path], split: str = "test", needed: Sequence[str] = ()) -> ImageSet:
    """A split of a set of the catalogue, from the first form that is there (see `locate`).

    Raises:
        OodbenchError: the set is not there, incomplete or damaged.
    """
    found = locate(name, roots, needed)
    if found is None:
        raise missing(name, roots, needed)
    paths = found.paths(split)
    images = found.form.read(name, paths, split)
    if found.form.count is not None and len(images) != found.form.count:
        raise OodbenchError(
            f"{name} at {paths[0]} has {len(images):,} images where {found.form.count:,} are published: it "
            f"is not wholly extracted; unpack it again, or name it folder:{paths[0]} to take what is there"
        )
    return images


def missing(name: str, roots: Sequence[Path], needed: Sequence[str] = ()) -> OodbenchError:
    """The error for a set that is not on this machine: where it was sought, as what, and how to get it."""
    looked = ", ".join(f"{root}{'' if root.is_dir() else ' (not there)'}" for root in roots)
    if not needed:
        expected = ", ".join(form.test for form in forms(name))
        group = DATASETS[name].group
        alike = [
            f"set:{one}" if one in GROUPS else one
            for one, entry in DATASETS.items()
            if group and entry.group == group and (entry.kind in ("built in", "generated") or locate(one, roots))
        ]
        instead = f" Of the group {group} there are: {', '.join(alike)}." if alike else ""
        return OodbenchError(
            f"{name} is not on this machine. Looked in {looked} for: {expected}. {how_to_get(name)}{instead}"
        )
    expected = ", ".join(f"{form.fit} and {form.test}" for form in forms(name) if form.fit)
    pooled = locate(name, roots)
    hint = (
        f" There is {pooled.paths('test')[0]}, which serves as an OOD set only: without separate training "
        f"and test images a classifier may be tested on what it was trained on."
        if pooled
        else ""
    )
    return OodbenchError(
        f"{name} as the ID set, with a training and a test split, is not on this machine. Looked in {looked} "
        f"for: {expected}.{hint} {how_to_get(name)}"
    )


def how_to_get(name: str) -> str:
    """The next step towards a set that is not there, in a sentence."""
    from oodbench.data.fetch import FETCHABLE

    if name in FETCHABLE:
        return f"`oodbench fetch {name}` gets it."
    url = DATASETS[name].url
    return f"It can be had at {url}." if url else "Put it there under one of these names."
