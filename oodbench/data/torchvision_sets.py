"""Sets in the binary forms that torchvision reads: CIFAR-10, CIFAR-100 and SVHN."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from oodbench.data.identity import Facts, file_facts
from oodbench.data.imageset import FileSource, ImageSet
from oodbench.errors import OodbenchError


def read_cifar(name: str, folder: Path, split: str) -> ImageSet:
    """cifar10 or cifar100 from the unpacked Python archive, `cifar-10-batches-py` or `cifar-100-python`.

    The archive's files are pickles; torchvision unpickles only those whose MD5 sums are the published ones.

    Raises:
        OodbenchError: a file is missing or is not the published one.
    """
    from torchvision.datasets import CIFAR10, CIFAR100

    dataset = {"cifar10": CIFAR10, "cifar100": CIFAR100}[name]
    try:
        facts = tuple(file_facts(file) for file in sorted(folder.iterdir()))
        read = dataset(folder.parent, train=split == "fit", download=False)
    except RuntimeError as error:
        raise _damaged(name, folder, error) from error
    labels, classes = np.array(read.targets, dtype=np.int64), tuple(read.classes)
    return ImageSet(name, _loaded(read.data, facts), str(folder), labels, classes=classes)


def read_svhn(name: str, file: Path, split: str) -> ImageSet:
    """SVHN's cropped digits from `train_32x32.mat` or `test_32x32.mat`; the digit 0 has the label 0.

    Raises:
        OodbenchError: the file is not the published one.
    """
    from torchvision.datasets import SVHN

    try:
        facts = (file_facts(file),)
        read = SVHN(file.parent, split="train" if split == "fit" else "test", download=False)
    except RuntimeError as error:
        raise _damaged(name, file, error) from error
    images = np.ascontiguousarray(read.data.transpose(0, 2, 3, 1))
    return ImageSet(name, _loaded(images, facts), str(file), read.labels.astype(np.int64))


def _loaded(images: np.ndarray, facts: tuple[Facts, ...]) -> FileSource:
    # Labels and pixels come out of one pickle or are checked by one sum, so here nothing is read later.
    return FileSource(partial(np.asarray, images), len(images), facts, __name__)


def _damaged(name: str, path: Path, error: RuntimeError) -> OodbenchError:
    reason = str(error).split(". ")[0]
    return OodbenchError(f"{name} at {path} is incomplete or damaged (torchvision: {reason}); unpack or get it again")
