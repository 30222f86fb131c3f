"""Images in NumPy's npz and npy files, of which planning reads the headers and the labels only."""

from __future__ import annotations

import math
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tokenize import TokenError
from typing import IO, NamedTuple

import numpy as np

from oodbench.data.identity import Facts, file_facts, identity_of
from oodbench.data.imageset import FileSource, Images, ImageSet
from oodbench.errors import OodbenchError
from oodbench.files import is_bomb

Form = tuple[tuple[int, ...], np.dtype]
"""Shape and type of an array."""

# TypeError: np.load gives a bare array, which has no context, for an .npy file. Headers are Python's literals.
DAMAGES = (
    OSError, ValueError, EOFError, TypeError, RuntimeError, OverflowError, SyntaxError, TokenError, KeyError,
    AttributeError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What zipfile and numpy refuse damaged files with."""


class Keys(NamedTuple):
    """What the arrays of a split are called in a file."""

    images: str
    labels: str


_WHOLE = Keys("images", "labels"), Keys("arr_0", "arr_1")
_SPLITS = {
    # MedMNIST, and Keras's data sets.
    "fit": (Keys("train_images", "train_labels"), Keys("x_train", "y_train")),
    "test": (Keys("test_images", "test_labels"), Keys("x_test", "y_test")),
    "val": (Keys("val_images", "val_labels"), Keys("x_val", "y_val")),
}


def splits_of(path: Path) -> dict[str, Keys]:
    """Split (fit, test, val) → its arrays, of an npz file as MedMNIST and Keras have them; empty of any other.

    Raises:
        OodbenchError: the file is missing or damaged.
    """
    if path.suffix == ".npy":
        return {}
    with _opened(path) as file:
        there = set(file)
    if {keys.images for keys in _WHOLE} & there:
        return {}
    return {split: keys for split, known in _SPLITS.items() for keys in known if keys.images in there}


def read_npz(name: str, path: Path, keys: Keys | None = None) -> ImageSet:
    """The images of an npz file, and its labels where it has them; pixels are read and checked when asked for.

    Key `images`: uint8, or float in [0, 1]; N×H×W, N×H×W×3, N×H×W×1, N×1×H×W or N×3×H×W. Key `labels`: N
    integers, −1 where unknown. Instead of them `arr_0` and `arr_1`, as np.savez calls what has no name. Further keys
    are not read. A file that ends in .npy is images alone, of which those that are asked for are read.

    Args:
        keys: what the arrays are called; see `splits_of`.

    Raises:
        OodbenchError: the file is missing or damaged, has no such key, or holds something else.
    """
    if path.suffix == ".npy":
        return _read_npy(name, path)
    with _opened(path) as file:
        facts, there = file_facts(path), list(file)
        keys = keys or next((one for one in _WHOLE if one.images in there), _WHOLE[0])
        form = array_form(file, keys.images) if keys.images in there else None
        labels = _labels_at(path, file, keys.labels) if keys.labels in there and form else None
    if form is None:
        raise OodbenchError(f"{path} has no key 'images', only: {', '.join(there) or 'none'}; save the images under it")
    notes = [*_type_notes(path, form), *_layout_notes(path, form)]
    _check_memory(path, form)
    count = form[0][0]
    source = FileSource(partial(_load, path, form, keys.images), count, (facts,), __name__)
    return ImageSet(
        name, source, str(path), None if labels is None else _labels(path, labels, count), notes=tuple(notes)
    )


@dataclass(frozen=True)
class NpySource:
    """Images of an npy file, of which those that are asked for are read."""

    path: Path
    form: Form
    facts: Facts

    def __len__(self) -> int:
        return self.form[0][0]

    def read(self, indices: Sequence[int]) -> Images:
        with _mapped(self.path) as mapped:
            if (mapped.shape, mapped.dtype) != self.form or file_facts(self.path)[:3] != self.facts[:3]:
                raise OodbenchError(f"{self.path} has changed since it was opened; start again")
            images = np.array(mapped[np.asarray(indices, dtype=np.int64)])
        return _rearranged(images if images.dtype == np.uint8 else _uint8(self.path, images, indices))

    def identity(self, indices: Sequence[int]) -> str | None:
        return identity_of((self.facts, list(indices)), [__name__])


def _read_npy(name: str, path: Path) -> ImageSet:
    with _mapped(path) as mapped:
        facts, form = file_facts(path), (mapped.shape, mapped.dtype)
    notes = (*_type_notes(path, form), *_layout_notes(path, form))
    return ImageSet(name, NpySource(path, form, facts), str(path), notes=notes)


@contextmanager
def _mapped(path: Path) -> Iterator[np.ndarray]:
    # The header is compared with the file's size by mmap itself, before any memory is taken.
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(mapped, np.ndarray):
            raise ValueError("it holds several arrays")
    except FileNotFoundError:
        raise OodbenchError(f"there is no file {path}; check the path") from None
    except DAMAGES as error:
        raise OodbenchError(f"{path} cannot be read as an npy file ({error}); make or download it again") from error
    yield mapped


@contextmanager
def _opened(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
    try:
        with np.load(path, allow_pickle=False) as file:
            yield file
    except FileNotFoundError:
        raise OodbenchError(f"there is no file {path}; check the path") from None
    except DAMAGES as error:
        raise OodbenchError(f"{path} cannot be read as an npz file ({error}); make or download it again") from error


def array_form(file: np.lib.npyio.NpzFile, key: str) -> Form:
    """Of an array, from its header, which must promise what the archive says that it holds, and no bomb.

    Raises:
        ValueError: it does not.
    """
    assert file.zip is not None  # only of a file that is closed
    member = file.zip.getinfo(f"{key}.npy")
    with file.zip.open(member) as opened:
        shape, dtype = _header(opened)
        start = opened.tell()
    promised = math.prod(shape) * dtype.itemsize
    if promised != member.file_size - start:
        raise ValueError(f"the header of {key} promises {promised:,} bytes, {member.file_size - start:,} are there")
    if is_bomb(promised, member.compress_size):
        raise ValueError(
            f"{key} is {promised:,} bytes packed into {member.compress_size:,}, which images are not; if they are, "
            "save them with np.savez, not packed"
        )
    return shape, dtype


def _header(member: IO[bytes]) -> Form:
    version = np.lib.format.read_magic(member)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read:
        raise ValueError(f"its array is of npy version {version}")
    shape, _, dtype = read[version](member)
    if dtype.hasobject:
        raise ValueError("its images are Python objects")
    if any(size < 0 for size in shape):
        raise ValueError(f"its array has shape {shape}")
    return shape, dtype


def _check_memory(path: Path, form: Form) -> None:
    """Raise OodbenchError for images that cannot fit into this machine's memory, in which they are held."""
    needed = math.prod(form[0]) * (1 if form[1] == np.uint8 else form[1].itemsize + 8 + 1)
    try:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not asked on this system
        return
    if needed > there:
        raise OodbenchError(
            f"{path} needs {needed / 2**30:,.1f} GiB of memory, and this machine has {there / 2**30:,.1f}; save the "
            "images as a uint8 .npy, of which only what is asked for is read, or in a folder"
        )


def _load(path: Path, form: Form, key: str) -> np.ndarray:
    """The images, uint8 N×H×W or N×H×W×3."""
    with _opened(path) as file:
        if key not in file or array_form(file, key) != form:
            raise OodbenchError(f"{path} has changed since it was opened; start again")
        images = file[key]
    return _rearranged(images if images.dtype == np.uint8 else _uint8(path, images, range(len(images))))


def _type_notes(path: Path, form: Form) -> list[str]:
    dtype = form[1]
    if dtype == np.uint8:
        return []
    if dtype.kind != "f":
        raise OodbenchError(f"{path}: images are {dtype}; save them as uint8, or as float in [0, 1]")
    return [f"{dtype} pixels in [0, 1] converted to uint8 (255·x, rounded)"]


def _uint8(path: Path, images: np.ndarray, indices: Sequence[int]) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        outside = ~((images >= 0) & (images <= 1))
    broken = np.flatnonzero(outside.any(axis=tuple(range(1, images.ndim))))
    if len(broken):
        value = images[broken[0]][outside[broken[0]]].flat[0]
        raise OodbenchError(
            f"{path}: image {indices[int(broken[0])]} has the value {value}; float images must lie in [0, 1] (divide "
            f"by 255, or save them as uint8)"
        )
    return np.rint(255 * images.astype(np.float64)).astype(np.uint8)


def _layout_notes(path: Path, form: Form) -> list[str]:
    sizes = form[0]
    shape = "×".join(map(str, sizes))
    if math.prod(sizes) == 0:
        raise OodbenchError(f"{path}: holds no images (shape {shape or 'none'})")
    match sizes:
        case (_, height, 3 | 4 as width) if height != width:
            raise OodbenchError(
                f"{path}: images have shape {shape}, which is one picture in colour; save pictures as N×H×W×3"
            )
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


def _labels_at(path: Path, file: np.lib.npyio.NpzFile, key: str) -> np.ndarray:
    _check_memory(path, array_form(file, key))
    return file[key]


def _labels(path: Path, labels: np.ndarray, count: int) -> np.ndarray:
    # MedMNIST and Keras give N×1.
    column = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if column.dtype.kind not in "iu" or column.shape != (count,):
        shape = "×".join(map(str, labels.shape))
        raise OodbenchError(
            f"{path}: labels are {labels.dtype} of shape {shape or 'none'}; save {count} integers instead"
        )
    if column.dtype.kind == "u" and len(column) and int(column.max()) >= 2**63:
        raise OodbenchError(f"{path}: the label {int(column.max())} is larger than int64 can hold; labels are 0 … K−1")
    return column.astype(np.int64)
