"""CIFAR and SVHN in the forms that torchvision reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from oodbench import OodbenchError
from oodbench.data.torchvision_sets import read_cifar, read_svhn
from tests.data.forms import write_cifar, write_svhn


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar(root: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    folder = root / ("cifar-10-batches-py" if name == "cifar10" else "cifar-100-python")
    for split, (images, labels) in write_cifar(folder, name, monkeypatch).items():
        read = read_cifar(name, folder, split)
        assert np.array_equal(read.read(0, len(read)), images)
        assert read.labels is not None and read.labels.tolist() == labels.tolist()


def test_a_cifar_file_that_is_missing_or_not_the_published_one_raises(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = root / "cifar-10-batches-py"
    write_cifar(folder, "cifar10", monkeypatch)
    batch = folder / "data_batch_3"
    content = batch.read_bytes()
    for left in (content[:-1], content[:-1] + b"!"):
        batch.write_bytes(left)
        with pytest.raises(OodbenchError, match=r"cifar10 at .*cifar-10-batches-py is incomplete or damaged"):
            read_cifar("cifar10", folder, "test")
    batch.unlink()
    with pytest.raises(OodbenchError, match="incomplete or damaged"):
        read_cifar("cifar10", folder, "fit")


def test_svhn_has_the_label_0_for_the_digit_0(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split, (images, digits) in write_svhn(root, monkeypatch).items():
        file = root / f"{'train' if split == 'fit' else 'test'}_32x32.mat"
        read = read_svhn("svhn", file, split)
        assert np.array_equal(read.read(0, len(read)), images)
        assert read.labels is not None and read.labels.tolist() == digits.tolist()


def test_an_svhn_file_that_is_not_the_published_one_raises(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_svhn(root, monkeypatch)
    file = root / "test_32x32.mat"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(OodbenchError, match=r"svhn at .*test_32x32\.mat is incomplete or damaged"):
        read_svhn("svhn", file, "test")
