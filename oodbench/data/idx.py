"""IDX, the binary form of MNIST and its kin (LeCun et al. 1998), plain or gz."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from oodbench.data.imageset import ArraySource, ImageSet
from oodbench.errors import OodbenchError

_PREFIX = {"fit": "train", "test": "t10k"}


def read_idx(name: str, folder: Path, split: str) -> ImageSet:
    """The fit split (train-…) or test split (t10k-…) of a folder of IDX files, torchvision's or Debian's.

    Raises:
        OodbenchError: a file is missing, cut short or of another form.
    """
    images_path = _find(name, folder, f"{_PREFIX[split]}-images", "idx3")
    labels_path = _find(name, folder, f"{_PREFIX[split]}-labels", "idx1")
    images, labels = _read(images_path, 3), _read(labels_path, 1)
    return ImageSet(name, ArraySource(images), str(images_path), labels.astype(np.int64))


def _find(name: str, folder: Path, stem: str, form: str) -> Path:
    # Some mirrors write a dot where the original has a dash.
    names = [f"{stem}{dash}{form}-ubyte{packed}" for dash in "-." for packed in ("", ".gz")]
    for candidate in names:
        if (folder / candidate).is_file():
            return folder / candidate
    raise OodbenchError(f"{name} is incomplete: {folder} has no {names[0]} (nor {names[1]}); get the set again")


def _read(path: Path, dimensions: int) -> np.ndarray:
    """Magic number 0, 0, 8 (unsigned byte), number of dimensions; the sizes, big-endian; the values."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise OodbenchError(f"{path} cannot be unpacked ({error}); get it again") from error
    if content[:4] != bytes((0, 0, 8, dimensions)):
        raise OodbenchError(f"{path} is no IDX file of {dimensions}-dimensional unsigned bytes; get it again")
    start = 4 + 4 * dimensions
    sizes = tuple(int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4))
    if len(content) != start + np.prod(sizes, dtype=np.int64):
        announced = "×".join(map(str, sizes))
        raise OodbenchError(
            f"{path} is damaged: {len(content) - start} bytes after its header instead of {announced}; get it again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(sizes)
