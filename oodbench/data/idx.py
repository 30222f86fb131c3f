"""IDX, the binary form of MNIST and its kin (LeCun et al. 1998), plain or gz."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from oodbench.data.identity import file_facts
from oodbench.data.imageset import FileSource, ImageSet
from oodbench.errors import OodbenchError
from oodbench.files import is_bomb

_PREFIX = {"fit": "train", "test": "t10k"}


def read_idx(name: str, folder: Path, split: str) -> ImageSet:
    """The fit split (train-…) or test split (t10k-…) of a folder of IDX files, torchvision's or Debian's.

    Raises:
        OodbenchError: a file is missing, cut short or of another form.
    """
    images_path = _find(name, folder, f"{_PREFIX[split]}-images", "idx3")
    labels_path = _find(name, folder, f"{_PREFIX[split]}-labels", "idx1")
    facts = file_facts(images_path)
    sizes, labels = _sizes(images_path, 3), _values(labels_path, 1)
    source = FileSource(partial(_values, images_path, 3), sizes[0], (facts,), __name__)
    return ImageSet(name, source, str(images_path), labels.astype(np.int64))


def _find(name: str, folder: Path, stem: str, form: str) -> Path:
    # Some mirrors write a dot where the original has a dash.
    names = [f"{stem}{dash}{form}-ubyte{packed}" for dash in "-." for packed in ("", ".gz")]
    for candidate in names:
        if (folder / candidate).is_file():
            return folder / candidate
    raise OodbenchError(f"{name} is incomplete: {folder} has no {names[0]} (nor {names[1]}); get the set again")


def _sizes(path: Path, dimensions: int) -> tuple[int, ...]:
    """From the header: magic number 0, 0, 8 (unsigned byte), number of dimensions; the sizes, big-endian."""
    with _opened(path) as file:
        header = file.read(4 + 4 * dimensions)
    if header[:4] != bytes((0, 0, 8, dimensions)) or len(header) < 4 + 4 * dimensions:
        raise OodbenchError(f"{path} is no IDX file of {dimensions}-dimensional unsigned bytes; get it again")
    sizes = tuple(int.from_bytes(header[at : at + 4], "big") for at in range(4, len(header), 4))
    # The values of a packed file are counted when they are read.
    if path.suffix != ".gz":
        _check_length(path, path.stat().st_size - len(header), sizes)
    return sizes


def _values(path: Path, dimensions: int) -> np.ndarray:
    sizes = _sizes(path, dimensions)
    promised = math.prod(sizes)
    if is_bomb(promised, path.stat().st_size):
        raise OodbenchError(f"{path} promises {promised:,} bytes, which cannot be packed into it; get it again")
    with _opened(path) as file:
        # No more than one that is too many.
        content = file.read(4 + 4 * dimensions + promised + 1)
    start = 4 + 4 * dimensions
    _check_length(path, len(content) - start, sizes)
    return np.frombuffer(content, np.uint8, offset=start).reshape(sizes)


def _check_length(path: Path, length: int, sizes: tuple[int, ...]) -> None:
    if length != math.prod(sizes):
        announced = "×".join(map(str, sizes))
        raise OodbenchError(f"{path} is damaged: {length} bytes after its header instead of {announced}; get it again")


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO | gzip.GzipFile]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            yield file
    except (OSError, EOFError, zlib.error) as error:
        raise OodbenchError(f"{path} cannot be unpacked ({error}); get it again") from error
