"""Images in NumPy's npz files, of which planning reads the headers and the labels only."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from oodbench.data.identity import file_facts
from oodbench.data.imageset import FileSource, ImageSet
from oodbench.errors import OodbenchError

Form = tuple[tuple[int, ...], np.dtype]
"""Shape and type of an array."""

# TypeError: np.load gives a bare array, which has no context, for an .npy file.
_DAMAGES = (OSError, ValueError, EOFError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error)


def read_npz(name: str, path: Path) -> ImageSet:
    """The images of an npz file, and its labels where it has them; pixels are read and checked when asked for.

    Key `images`: uint8, or float in [0, 1]; N×H×W, N×H×W×3, N×H×W×1, N×1×H×W or N×3×H×W. Key `labels`: N
    integers, −1 where unknown. Further keys are not read.

    Raises:
        OodbenchError: the file is missing or damaged, has no such key, or holds something else.
    """
    with _opened(path) as file:
        facts, keys = file_facts(path), list(file)
        form = _form(file) if "images" in keys else None
        labels = file["labels"] if "labels" in keys else None
    if form is None:
        raise OodbenchError(f"{path} has no key 'images', only: {', '.join(keys) or 'none'}; save the images under it")
    notes = [*_type_notes(path, form), *_layout_notes(path, form)]
    count = form[0][0]
    source = FileSource(partial(_load, path, form), count, (facts,), __name__)
    return ImageSet(
        name, source, str(path), None if labels is None else _labels(path, labels, count), notes=tuple(notes)
    )


@contextmanager
def _opened(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
    try:
        with np.load(path, allow_pickle=False) as file:
            yield file
    except FileNotFoundError:
        raise OodbenchError(f"there is no file {path}; check the path") from None
    except _DAMAGES as error:
        raise OodbenchError(f"{path} cannot be read as an npz file ({error}); make or download it again") from error


def _form(file: np.lib.npyio.NpzFile) -> Form:
    """Of the array `images`, from its header."""
    assert file.zip is not None  # only of a file that is closed
    with file.zip.open("images.npy") as member:
        version = np.lib.format.read_magic(member)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in read:
            raise ValueError(f"its array is of npy version {version}")
        shape, _, dtype = read[version](member)
    if dtype.hasobject:
        raise ValueError("its images are Python objects")
    return shape, dtype


def _load(path: Path, form: Form) -> np.ndarray:
    """The images, uint8 N×H×W or N×H×W×3."""
    with _opened(path) as file:
        images = file["images"]
    if (images.shape, images.dtype) != form:
        raise OodbenchError(f"{path} has changed since it was opened; start again")
    return _rearranged(images if images.dtype == np.uint8 else _uint8(path, images))


def _type_notes(path: Path, form: Form) -> list[str]:
    dtype = form[1]
    if dtype == np.uint8:
        return []
    if dtype.kind != "f":
        raise OodbenchError(f"{path}: images are {dtype}; save them as uint8, or as float in [0, 1]")
    return [f"{dtype} pixels in [0, 1] converted to uint8 (255·x, rounded)"]


def _uint8(path: Path, images: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        outside = ~((images >= 0) & (images <= 1))
    broken = np.flatnonzero(outside.any(axis=tuple(range(1, images.ndim))))
    if len(broken):
        value = images[broken[0]][outside[broken[0]]].flat[0]
        raise OodbenchError(
            f"{path}: image {broken[0]} has the value {value}; float images must lie in [0, 1] (divide by "
            f"255, or save them as uint8)"
        )
    return np.rint(255 * images.astype(np.float64)).astype(np.uint8)


def _layout_notes(path: Path, form: Form) -> list[str]:
    sizes = form[0]
    shape = "×".join(map(str, sizes))
    if math.prod(sizes) == 0:
        raise OodbenchError(f"{path}: holds no images (shape {shape or 'none'})")
    match sizes:
        case (_, _, _) | (_, _, _, 3):
            return []
        case (_, _, _, 1):
            return [f"images {shape} read as grey"]
        case (_, 1, _, _):
            return [f"images {shape} read as channels first, grey"]
        case (_, 3, _, _):
            return [f"images {shape} read as channels first, RGB"]
    raise OodbenchError(f"{path}: images have shape {shape or 'none'}; save N×H×W (grey) or N×H×W×3 (RGB)")


def _rearranged(images: np.ndarray) -> np.ndarray:
    """From the layouts of `_layout_notes` to N×H×W or N×H×W×3."""
    match images.shape:
        case (_, _, _, 1):
            return images[..., 0]
        case (_, _, _, 3) | (_, _, _):
            return images
        case (_, 1, _, _):
            return images[:, 0]
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1))


def _labels(path: Path, labels: np.ndarray, count: int) -> np.ndarray:
    if labels.dtype.kind not in "iu" or labels.shape != (count,):
        shape = "×".join(map(str, labels.shape))
        raise OodbenchError(
            f"{path}: labels are {labels.dtype} of shape {shape or 'none'}; save {count} integers instead"
        )
    return labels.astype(np.int64)
