"""From image files to pixels: which formats are opened, how large they may be, what becomes of their modes."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path, PurePath

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from oodbench.data.damaged import DamagedImages
from oodbench.data.imageset import Images, stacked
from oodbench.errors import OodbenchError
from oodbench.progress import so_far

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Files that count as images, the list of torchvision's ImageFolder."""

FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP")
"""What may be in such a file. Pillow knows others, of which some start programs (Ghostscript, for EPS)."""

DECODED_BY = (("oodbench.data.decoding",), ("pillow",))
"""The modules and packages that decide which pixels an image file has."""

MOST_PIXELS = 89_000_000
"""Of one image; a file of some kilobytes can promise more than fits into memory."""

MOST_HEADERS = 10_000
"""Files whose headers are read before the first pass; beyond, a file is opened when its image is asked for."""

_DAMAGES = (OSError, EOFError, SyntaxError, ValueError, zlib.error, Image.DecompressionBombError)

_CONVERTED = {
    "1": "black and white to grey",
    "LA": "alpha dropped, grey kept",
    "PA": "palette to RGB, alpha dropped",
    "P": "palette to RGB",
    "RGBA": "alpha dropped, RGB kept",
    "CMYK": "CMYK to RGB",
    "YCbCr": "YCbCr to RGB",
    "I;16": "16-bit grey to 8-bit (v/257, rounded)",
    "I;16B": "16-bit grey to 8-bit (v/257, rounded)",
    "I": "16-bit grey to 8-bit (v/257, rounded)",
}


def counts_as_image(file: PurePath) -> bool:
    """Whether a file is called like an image."""
    return file.suffix.lower() in SUFFIXES


def decoded(file: Path | BytesIO, where: str) -> np.ndarray:
    """One image file as uint8 H×W or H×W×3; `where` names it in errors.

    Raises:
        OodbenchError: the file is cut short, damaged, too large, or of a form without a meaning as 8-bit grey or RGB.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise OodbenchError(
            "PIL's ImageFile.LOAD_TRUNCATED_IMAGES is on, so damaged images would be scored half grey; "
            "set it to False (some library or your own code has set it)"
        )
    try:
        with _opened(file) as image:
            image.load()
            return eight_bit(image)
    except _DAMAGES as error:
        raise DamagedImages.of({where: _reason(error)}) from error


def all_decoded(files: Iterable[tuple[Path | BytesIO, str]]) -> Images:
    """Image files, each with what names it in errors, as `decoded` gives them; what is damaged is reported together.

    Raises:
        DamagedImages: some of them are.
    """
    images: list[np.ndarray] = []
    found: dict[str, str] = {}
    for file, where in files:
        try:
            images.append(decoded(file, where))
        except DamagedImages as error:
            found |= error.found
    if found:
        raise DamagedImages.of(found)
    return stacked(images)


def eight_bit(image: Image.Image) -> np.ndarray:
    """A picture as uint8 H×W or H×W×3; ValueError where its mode has no meaning as such."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("its values do not fit in 16 bits")
        return np.rint(values / 257).astype(np.uint8)
    if image.mode in ("1", "L", "LA"):
        return np.array(image.convert("L"))
    if image.mode == "RGB" or image.mode in _CONVERTED:
        return np.array(image.convert("RGB"))
    raise ValueError(f"its mode {image.mode} is neither grey nor RGB")


def header_notes(files: Iterable[tuple[Path | BytesIO, str]], count: int) -> list[str]:
    """What will be converted. Opens every file's header, to find what is no image before the first pass.

    Args:
        count: of the files; more than MOST_HEADERS are not opened, and nothing is said.

    Raises:
        DamagedImages: some are no images.
    """
    if count > MOST_HEADERS:
        return []
    modes: Counter[str] = Counter()
    sizes: set[tuple[int, int]] = set()
    found: dict[str, str] = {}
    for number, (file, where) in enumerate(files):
        if number % 100 == 0:
            so_far("headers of image files", number, count)
        try:
            with _opened(file) as image:
                modes[image.mode] += 1
                sizes.add((image.height, image.width))
        except _DAMAGES as error:
            found[where] = _reason(error)
    if found:
        raise DamagedImages.of(found)
    notes = [f"{modes[mode]} image(s): {what}" for mode, what in _CONVERTED.items() if modes[mode]]
    if len(sizes) > 1:
        smallest, largest = ("×".join(map(str, choose(sizes))) for choose in (min, max))
        notes.append(f"images of {len(sizes)} sizes, from {smallest} to {largest}")
    return notes


@contextmanager
def _opened(file: Path | BytesIO) -> Iterator[Image.Image]:
    """A file of FORMATS; Pillow has read its header, and that promises no more than MOST_PIXELS."""
    with Image.open(file, formats=FORMATS) as image:
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(
                f"its header promises {image.width:,}×{image.height:,} pixels, more than {MOST_PIXELS:,} are not read"
            )
        yield image


def _reason(error: BaseException) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"it is none of {', '.join(FORMATS)}"
    if isinstance(error, Image.DecompressionBombError):
        return f"its header promises more than {MOST_PIXELS:,} pixels"
    return str(error)
