"""The data sets that oodbench knows by name; torch is not imported, so that `oodbench list` is instant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

GROUPS = ("noise", "structured", "near", "far")
"""The groups of OOD sets; near and far depend on the ID set."""

Kind = Literal["files", "built in", "generated", "derived", "inverted"]
"""Read from files; part of an installed library; drawn from a seed; made from the ID test images; made of each
classifier under test."""

ADVERSARIAL = "adversarial"
"""The group of sets that are made against the classifier under test: no mean over sets counts them."""

Family = Literal["grey characters and objects", "natural objects", "street numbers", "structured", "noise", "inverted"]


@dataclass(frozen=True)
class DatasetEntry:
    """What is known of a data set before it is read.

    Attributes:
        name: as users and tables call it.
        title: what it is, in a few words.
        source: paper or publisher, with the year.
        family: near OOD sets have the ID set's family, far ones another.
        group: noise or structured; empty where the ID set decides between near and far.
        kind: how its images are had.
        num_classes: K of a set that can be the ID set; None for sets that are OOD only.
        image_shape: (C, H, W) as published; None where images differ, or follow the classifier.
        note: what one must know before comparing figures.
        url: where the publisher offers it; empty where nothing is to be downloaded.
    """

    name: str
    title: str
    source: str
    family: Family
    group: str = ""
    kind: Kind = "files"
    num_classes: int | None = None
    image_shape: tuple[int, int, int] | None = None
    note: str = ""
    url: str = ""


_RESIZE_ARTEFACTS = (
    "Its images were resized without antialiasing; the artefacts alone are easy to detect, so figures on it "
    "flatter a detector (Tack et al. 2020, arXiv 2007.08176)."
)
_FROM_ID = "Made from the ID test images."
_LIANG = "Liang et al. 2018 (ODIN), arXiv 1706.02690"
_HENDRYCKS = "Hendrycks et al. 2019 (Outlier Exposure), arXiv 1812.04606"
_YU = "Yu et al. 2015, arXiv 1506.03365"
_RGB = (3, 32, 32)
_ODIN_ARCHIVES = "https://github.com/facebookresearch/odin"


def _characters(name: str, title: str, source: str, num_classes: int | None, url: str, note: str = "") -> DatasetEntry:
    return DatasetEntry(
        name, title, source, "grey characters and objects", "", "files", num_classes, (1, 28, 28), note, url
    )


def _natural(name: str, title: str, source: str, num_classes: int | None, url: str, note: str = "") -> DatasetEntry:
    return DatasetEntry(name, title, source, "natural objects", "", "files", num_classes, _RGB, note, url)


def _structured(
    name: str,
    title: str,
    source: str,
    note: str = "",
    url: str = "",
    image_shape: tuple[int, int, int] | None = None,
    kind: Kind = "files",
) -> DatasetEntry:
    return DatasetEntry(name, title, source, "structured", "structured", kind, None, image_shape, note, url)


def _noise(name: str, title: str, source: str, kind: Kind = "generated", note: str = "") -> DatasetEntry:
    return DatasetEntry(name, title, source, "noise", "noise", kind, note=note)


DATASETS: dict[str, DatasetEntry] = {
    entry.name: entry
    for entry in (
        DatasetEntry(
            "digits",
            "Handwritten digits, 8×8 grey (scikit-learn)",
            "Alpaydin & Kaynak 1998, UCI",
            "grey characters and objects",
            kind="built in",
            num_classes=10,
            image_shape=(1, 8, 8),
            note="Split once for all, stratified: 1,197 images to fit on, 600 to test on.",
        ),
        _characters(
            "mnist",
            "Handwritten digits",
            "LeCun et al. 1998",
            10,
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
        ),
        _characters(
            "fashion-mnist",
            "Articles of clothing",
            "Xiao et al. 2017, arXiv 1708.07747",
            10,
            "https://github.com/zalandoresearch/fashion-mnist",
            "Debian's package dataset-fashion-mnist is read where it is installed.",
        ),
        _characters(
            "kmnist",
            "Cursive Japanese characters (Kuzushiji-MNIST)",
            "Clanuwat et al. 2018, arXiv 1812.01718",
            10,
            "https://github.com/rois-codh/kmnist",
        ),
        _characters(
            "notmnist",
            "Letters A–J in many typefaces",
            "Bulatov 2011",
            None,
            "http://yaroslavvb.blogspot.com/2011/09/notmnist-dataset.html",
            "Two files of the published archive are empty; remove them, they are refused.",
        ),
        _characters(
            "omniglot",
            "Handwritten characters of 50 alphabets, white on black",
            "Lake et al. 2015",
            None,
            "https://github.com/brendenlake/omniglot",
            "Some characters look like digits. The publisher's images are black on white, 105×105.",
        ),
        _natural(
            "cifar10",
            "Photographs of 10 kinds of object",
            "Krizhevsky 2009",
            10,
            "https://www.cs.toronto.edu/~kriz/cifar.html",
        ),
        _natural(
            "cifar100",
            "Photographs of 100 kinds of object",
            "Krizhevsky 2009",
            100,
            "https://www.cs.toronto.edu/~kriz/cifar.html",
        ),
        _natural(
            "tinyimagenet",
            "Photographs of 200 ImageNet classes",
            "Le & Yang 2015",
            None,
            "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
            "Copies differ in which classes are left out as overlapping CIFAR; compare hashes.",
        ),
        _natural(
            "tinyimagenet-crop",
            "Tiny-ImageNet, random crops (ODIN archive)",
            _LIANG,
            None,
            _ODIN_ARCHIVES,
        ),
        _natural(
            "tinyimagenet-resize",
            "Tiny-ImageNet, shrunk (ODIN archive)",
            _LIANG,
            None,
            _ODIN_ARCHIVES,
            _RESIZE_ARTEFACTS,
        ),
        DatasetEntry(
            "svhn",
            "Street View house numbers",
            "Netzer et al. 2011",
            "street numbers",
            num_classes=10,
            image_shape=_RGB,
            url="http://ufldl.stanford.edu/housenumbers",
        ),
        _structured(
            "textures",
            "Describable Textures (DTD)",
            "Cimpoi et al. 2014, arXiv 1311.3618",
            "The image folder is read whole (5,640 images), without DTD's ten splits, as OOD benchmarks do.",
            "https://www.robots.ox.ac.uk/~vgg/data/dtd",
        ),
        _structured(
            "scenes",
            "Photographs of places",
            "Zhou et al. 2017 (Places)",
            url="http://places2.csail.mit.edu",
        ),
        _structured(
            "lsun-crop",
            "LSUN test, random crops (ODIN archive)",
            f"{_YU}; {_LIANG}",
            url=_ODIN_ARCHIVES,
        ),
        _structured(
            "lsun-resize",
            "LSUN test, shrunk to 32×32 (ODIN archive)",
            f"{_YU}; {_LIANG}",
            _RESIZE_ARTEFACTS,
            _ODIN_ARCHIVES,
            _RGB,
        ),
        _structured(
            "lsun-scenes",
            "LSUN scenes from the lmdb files",
            _YU,
            "The test file if there, else all val files, else all train files; shorter side to 32 (bilinear, "
            "antialias), centre crop 32×32.",
            "https://www.yf.io/p/lsun",
            _RGB,
        ),
        _structured(
            "lsun",
            "LSUN in whatever form is found",
            _YU,
            "An npz file called lsun, else scenes (lmdb), else lsun-crop, else lsun-resize, else a folder "
            "called lsun; name one of these forms to have figures that compare.",
            "https://www.yf.io/p/lsun",
        ),
        _structured(
            "isun",
            "iSUN, shrunk to 32×32 (ODIN archive)",
            f"Xu et al. 2015, arXiv 1504.06755; {_LIANG}",
            url=_ODIN_ARCHIVES,
            image_shape=_RGB,
        ),
        _structured(
            "photos",
            "Windows of the two photographs that come with scikit-learn",
            "oodbench",
            "Two photographs only: the images resemble each other.",
            kind="generated",
        ),
        _structured(
            "structured",
            "Gratings, checkerboards, smooth blobs, 1/f fields, Mondrians",
            "oodbench",
            "Alone, the word 'structured' names the group; set:structured is this set.",
            kind="generated",
        ),
        _noise("gaussian", "Each value i.i.d. N(0.5, 1), clipped to [0, 1]", _LIANG),
        _noise("uniform", "Each value i.i.d. uniform on [0, 1]", _LIANG),
        _noise("rademacher", "Each value i.i.d. 0 or 1", _HENDRYCKS),
        _noise("blobs", "Blurred and thresholded noise", _HENDRYCKS),
        _noise("pixel-shuffled", "ID images, pixel positions shuffled", "oodbench", "derived", _FROM_ID),
        _noise("patch-shuffled", "ID images, 4×4-pixel patches shuffled", "oodbench", "derived", _FROM_ID),
        _noise(
            "fourier-phase-scrambled",
            "ID images, Fourier phases random",
            "Galerne et al. 2011",
            "derived",
            _FROM_ID,
        ),
        DatasetEntry(
            "inverted",
            "What each classifier takes for its classes: drawn compositions, moved until it is sure of them",
            "oodbench",
            "inverted",
            ADVERSARIAL,
            "inverted",
            note="Of the classifier under test itself, with a confidence of 0.9 or more; no mean over sets counts it.",
        ),
    )
}


def group_of(name: str, id_name: str) -> str:
    """The group of an OOD set beside an ID set: noise, structured, near, far; other for unknown names."""
    entry, id_entry = DATASETS.get(name), DATASETS.get(id_name)
    if entry is not None and entry.group:
        return entry.group
    if entry is None or id_entry is None:
        return "other"
    return "near" if entry.family == id_entry.family else "far"


FORM_OF = {"tinyimagenet-crop": "tinyimagenet", "tinyimagenet-resize": "tinyimagenet"}
"""Sets that are other forms of one; near and far take one of them."""

_OPENOOD_FAR = ("mnist", "svhn", "textures", "scenes")
OPENOOD_GROUPS = {
    "cifar10": {"near": ("cifar100", "tinyimagenet"), "far": _OPENOOD_FAR},
    "cifar100": {"near": ("cifar10", "tinyimagenet"), "far": _OPENOOD_FAR},
}
"""ID set → its groups in OpenOOD v1.5 (Zhang et al. 2023, arXiv 2306.09301); scenes stand for its Places365."""


def members_of(group: str, id_name: str) -> list[str]:
    """The sets of a group beside an ID set: OpenOOD's where it has such, else those that `group_of` puts there.

    Far sets that would be blown up to more than twice their size are none: that alone tells them.
    """
    if id_name in OPENOOD_GROUPS and group in OPENOOD_GROUPS[id_name]:
        return list(OPENOOD_GROUPS[id_name][group])
    return [
        name
        for name in DATASETS
        if name != id_name and group_of(name, id_name) == group and not (group == "far" and _blown_up(name, id_name))
    ]


def _blown_up(name: str, id_name: str) -> bool:
    shape, id_shape = DATASETS[name].image_shape, DATASETS[id_name].image_shape
    return shape is not None and id_shape is not None and 2 * shape[1] < id_shape[1]
