"""Images in NumPy's npz files."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from oodbench.data.imageset import ArraySource, ImageSet
from oodbench.errors import OodbenchError

# TypeError: np.load gives a bare array, which has no context, for an .npy file.
_DAMAGES = (OSError, ValueError, EOFError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error)


def read_npz(name: str, path: Path) -> ImageSet:
    """The images of an npz file, and its labels where it has them.

    Key `images`: uint8, or float in [0, 1]; N×H×W, N×H×W×3, N×H×W×1, N×1×H×W or N×3×H×W. Key `labels`: N
    integers, −1 where unknown. Further keys are not read.

    Raises:
        OodbenchError: the file is missing or damaged, has no such key, or holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in ("images", "labels") if key in file}
            keys = list(file)
    except FileNotFoundError:
        raise OodbenchError(f"there is no file {path}; check the path") from None
    except _DAMAGES as error:
        raise OodbenchError(f"{path} cannot be read as an npz file ({error}); make or download it again") from error
    if "images" not in arrays:
        raise OodbenchError(f"{path} has no key 'images', only: {', '.join(keys) or 'none'}; save the images under it")
    images, notes = _uint8(path, arrays["images"])
    images, more = _laid_out(path, images)
    labels = _labels(path, arrays["labels"], len(images)) if "labels" in arrays else None
    return ImageSet(name, ArraySource(images), str(path), labels, notes=(*notes, *more))


def _uint8(path: Path, images: np.ndarray) -> tuple[np.ndarray, list[str]]:
    if images.dtype == np.uint8:
        return images, []
    if images.dtype.kind != "f":
        raise OodbenchError(f"{path}: images are {images.dtype}; save them as uint8, or as float in [0, 1]")
    with np.errstate(invalid="ignore"):
        outside = ~((images >= 0) & (images <= 1))
    broken = np.flatnonzero(outside.any(axis=tuple(range(1, images.ndim))))
    if len(broken):
        value = images[broken[0]][outside[broken[0]]].flat[0]
        raise OodbenchError(
            f"{path}: image {broken[0]} has the value {value}; float images must lie in [0, 1] (divide by "
            f"255, or save them as uint8)"
        )
    return np.rint(255 * images.astype(np.float64)).astype(np.uint8), [
        f"{images.dtype} pixels in [0, 1] converted to uint8 (255·x, rounded)"
    ]


def _laid_out(path: Path, images: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """N×H×W or N×H×W×3."""
    shape = "×".join(map(str, images.shape))
    if images.size == 0:
        raise OodbenchError(f"{path}: holds no images (shape {shape or 'none'})")
    if images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3):
        return images, []
    if images.ndim == 4 and images.shape[3] == 1:
        return images[..., 0], [f"images {shape} read as grey"]
    if images.ndim == 4 and images.shape[1] == 1:
        return images[:, 0], [f"images {shape} read as channels first, grey"]
    if images.ndim == 4 and images.shape[1] == 3:
        return np.ascontiguousarray(images.transpose(0, 2, 3, 1)), [f"images {shape} read as channels first, RGB"]
    raise OodbenchError(f"{path}: images have shape {shape or 'none'}; save N×H×W (grey) or N×H×W×3 (RGB)")


def _labels(path: Path, labels: np.ndarray, count: int) -> np.ndarray:
    if labels.dtype.kind not in "iu" or labels.shape != (count,):
        shape = "×".join(map(str, labels.shape))
        raise OodbenchError(
            f"{path}: labels are {labels.dtype} of shape {shape or 'none'}; save {count} integers instead"
        )
    return labels.astype(np.int64)
