"""Small files in the forms that people have, written without the package."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
import scipy.io
from PIL import Image


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save_png(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def png_bytes(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def write_pngs(folder: Path, images: np.ndarray) -> None:
    """0000.png, 0001.png …"""
    for index, image in enumerate(images):
        save_png(folder / f"{index:04d}.png", image)


def write_tar(archive: Path, folder_name: str, images: np.ndarray) -> None:
    """A tar.gz of folder_name/0000.png …, last file first, with a text and a hidden file among them."""
    members = [(f"{folder_name}/{index:04d}.png", png_bytes(image)) for index, image in enumerate(images)]
    members += [(f"{folder_name}/._0000.png", b"resource fork"), (f"{folder_name}/readme.txt", b"hello")]
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:gz") as opened:
        for name, content in reversed(members):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            opened.addfile(member, io.BytesIO(content))


def idx_bytes(values: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


def write_idx(folder: Path, packed: bool = False, dash: str = "-") -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """A fit split of 40 and a test split of 20 images 28×28; returns them."""
    folder.mkdir(parents=True, exist_ok=True)
    splits = {}
    for split, prefix, count in (("fit", "train", 40), ("test", "t10k", 20)):
        images, labels = pixels(count, 28, 28, seed=count), np.arange(count, dtype=np.uint8) % 10
        splits[split] = images, labels
        for values, kind in ((images, "images-idx3"), (labels, "labels-idx1")):
            name = f"{prefix}-{kind.replace('-', dash)}-ubyte"
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(idx_bytes(values)))
            else:
                (folder / name).write_bytes(idx_bytes(values))
    return splits


def class_folders(folder: Path, names: Sequence[str], per_class: int = 2, seed: int = 0) -> None:
    """A folder a class, of 6×6 colour images."""
    images = iter(pixels(per_class * len(names), 6, 6, 3, seed=seed))
    for name in names:
        for index in range(per_class):
            save_png(folder / name / f"{index}.png", next(images))


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def write_cifar(folder: Path, name: str, patch: pytest.MonkeyPatch) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """cifar10 or cifar100 in the layout of the published archive, its MD5 sums made known to torchvision."""
    from torchvision.datasets import CIFAR10, CIFAR100

    dataset: Any = CIFAR10 if name == "cifar10" else CIFAR100
    key, classes = ("labels", 10) if name == "cifar10" else ("fine_labels", 100)
    folder.mkdir(parents=True, exist_ok=True)
    splits: dict[str, tuple[list[np.ndarray], list[int]]] = {"fit": ([], []), "test": ([], [])}
    for split, attribute in (("fit", "train_list"), ("test", "test_list")):
        listed = []
        for number, (file, _) in enumerate(getattr(dataset, attribute)):
            images = pixels(20, 32, 32, 3, seed=100 + number + (split == "test"))
            labels = [index % classes for index in range(20)]
            rows = images.transpose(0, 3, 1, 2).reshape(20, -1)
            (folder / file).write_bytes(pickle.dumps({"data": rows, key: labels}, protocol=2))
            listed.append([file, _md5(folder / file)])
            splits[split][0].append(images)
            splits[split][1].extend(labels)
        patch.setattr(dataset, attribute, listed)
    meta = folder / dataset.meta["filename"]
    meta.write_bytes(pickle.dumps({dataset.meta["key"]: [str(k) for k in range(classes)]}, protocol=2))
    patch.setattr(dataset, "meta", {**dataset.meta, "md5": _md5(meta)})
    return {split: (np.concatenate(images), np.array(labels)) for split, (images, labels) in splits.items()}


def write_svhn(folder: Path, patch: pytest.MonkeyPatch) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """train_32x32.mat and test_32x32.mat, digit 0 labelled 10 as published."""
    from torchvision.datasets import SVHN

    folder.mkdir(parents=True, exist_ok=True)
    splits, listed = {}, dict(SVHN.split_list)
    for split, name, count in (("fit", "train", 30), ("test", "test", 20)):
        images, digits = pixels(count, 32, 32, 3, seed=count), np.arange(count) % 10
        path = folder / f"{name}_32x32.mat"
        published = np.where(digits == 0, 10, digits).astype(np.uint8)[:, None]
        scipy.io.savemat(path, {"X": images.transpose(1, 2, 3, 0), "y": published})
        url, file, _ = listed[name]
        listed[name] = [url, file, _md5(path)]
        splits[split] = images, digits
    patch.setattr(SVHN, "split_list", listed)
    return splits


def write_lmdb(path: Path, images: dict[str, np.ndarray]) -> None:
    """key → webp without loss."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with lmdb.open(str(path), map_size=2**24) as database, database.begin(write=True) as transaction:
        for key, image in images.items():
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "WEBP", lossless=True)
            transaction.put(key.encode(), buffer.getvalue())
