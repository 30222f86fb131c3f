"""Images in files of their own: a folder, or a tar archive of one."""

from __future__ import annotations

import tarfile
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageFile

from oodbench.data.identity import Facts, file_facts, identity_of
from oodbench.data.imageset import Images, ImageSet, stacked
from oodbench.errors import OodbenchError

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Files that count as images, the list of torchvision's ImageFolder."""

DECODED_BY = (("oodbench.data.folder",), ("pillow",))
"""The modules and packages that decide which pixels an image file has."""

_HIDDEN = (".", "__MACOSX")

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


@dataclass(frozen=True)
class FolderSource:
    """Image files below a folder, read when asked for; each is verified as it is read."""

    folder: Path
    files: tuple[PurePosixPath, ...]
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.files)

    def read(self, indices: Sequence[int]) -> Images:
        return stacked([decoded(path, str(path)) for path in (self.folder / self.files[i] for i in indices)])

    def identity(self, indices: Sequence[int]) -> str | None:
        try:
            return identity_of([file_facts(self.folder / self.files[i]) for i in indices], *DECODED_BY)
        except OSError:
            return None


@dataclass(frozen=True)
class ArchiveSource:
    """Image files of an archive, held packed as they are; `facts` of it are from before it was read."""

    archive: Path
    facts: Facts
    files: tuple[PurePosixPath, ...]
    contents: tuple[bytes, ...]

    def __len__(self) -> int:
        return len(self.files)

    def read(self, indices: Sequence[int]) -> Images:
        return stacked([decoded(BytesIO(self.contents[i]), f"{self.archive}: {self.files[i]}") for i in indices])

    def identity(self, indices: Sequence[int]) -> str | None:
        return identity_of((self.facts, [str(self.files[i]) for i in indices]), *DECODED_BY)


def read_folder(name: str, folder: Path) -> ImageSet:
    """The images below a folder, sorted by their relative path; two or more class subfolders give labels.

    Raises:
        OodbenchError: no such folder, no images in it, or a file that is no image.
    """
    if not folder.is_dir():
        raise OodbenchError(f"there is no folder {folder}; check the path")
    relative = (PurePosixPath(path.relative_to(folder).as_posix()) for path in folder.rglob("*") if path.is_file())
    files = _images(relative)
    if not files:
        raise OodbenchError(f"folder {folder} has no images ({', '.join(SUFFIXES)}) in it or below")
    notes = _header_notes((folder / file, str(folder / file)) for file in files)
    # Empty class folders count: they keep the numbers of the others as they are.
    subfolders = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(_HIDDEN))
    classes = tuple(subfolders) if len(subfolders) > 1 and all(len(file.parts) > 1 for file in files) else ()
    labels = None
    if classes:
        number = {name: label for label, name in enumerate(classes)}
        labels = np.array([number[file.parts[0]] for file in files], dtype=np.int64)
        shown = ", ".join(classes[:3]) + (" …" if len(classes) > 3 else "")
        notes.append(f"labels are the {len(classes)} class folders in alphabetical order ({shown})")
    return ImageSet(name, FolderSource(folder, files, classes), str(folder), labels, notes=tuple(notes))


def read_archive(name: str, archive: Path) -> ImageSet:
    """The images of a tar archive, packed or not, read in place, in the order of its unpacked folder.

    Raises:
        OodbenchError: the archive is damaged or has no images.
    """
    contents: dict[PurePosixPath, bytes] = {}
    try:
        facts = file_facts(archive)
        with tarfile.open(archive) as opened:
            for member in opened:
                file = opened.extractfile(member) if _images([PurePosixPath(member.name)]) else None
                if file is not None:
                    contents[PurePosixPath(member.name)] = file.read()
            # gzip compares its checksum at the very end, where tarfile does not read.
            while opened.fileobj is not None and opened.fileobj.read(1 << 20):
                pass
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise OodbenchError(f"archive {archive} is damaged ({error}); get it again") from error
    files = _images(contents)
    if not files:
        raise OodbenchError(f"archive {archive} has no images ({', '.join(SUFFIXES)})")
    notes = _header_notes((BytesIO(contents[file]), f"{archive}: {file}") for file in files)
    source = ArchiveSource(archive, facts, files, tuple(contents[file] for file in files))
    return ImageSet(name, source, str(archive), notes=tuple(notes))


def decoded(file: Path | BytesIO, where: str) -> np.ndarray:
    """One image file as uint8 H×W or H×W×3; `where` names it in errors.

    Raises:
        OodbenchError: the file is cut short, damaged, or of a form without a meaning as 8-bit grey or RGB.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise OodbenchError(
            "PIL's ImageFile.LOAD_TRUNCATED_IMAGES is on, so damaged images would be scored half grey; "
            "set it to False (some library or your own code has set it)"
        )
    try:
        with Image.open(file) as image:
            image.load()
            return _eight_bit(image)
    except _DAMAGES as error:
        raise _damaged(where, error) from error


def _eight_bit(image: Image.Image) -> np.ndarray:
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


def _images(files: Iterable[PurePosixPath]) -> tuple[PurePosixPath, ...]:
    """Those that count as images, sorted folder by folder; hidden files are not data (macOS leaves some)."""
    wanted = (
        file
        for file in files
        if file.suffix.lower() in SUFFIXES and not any(part.startswith(_HIDDEN) for part in file.parts)
    )
    return tuple(sorted(wanted, key=lambda file: file.parts))


def _header_notes(files: Iterable[tuple[Path | BytesIO, str]]) -> list[str]:
    """What will be converted. Opens every file's header, to find what is no image before the first pass."""
    modes: Counter[str] = Counter()
    sizes: set[tuple[int, int]] = set()
    for file, where in files:
        try:
            with Image.open(file) as image:
                modes[image.mode] += 1
                sizes.add((image.height, image.width))
        except _DAMAGES as error:
            raise _damaged(where, error) from error
    notes = [f"{modes[mode]} image(s): {what}" for mode, what in _CONVERTED.items() if modes[mode]]
    if len(sizes) > 1:
        smallest, largest = ("×".join(map(str, choose(sizes))) for choose in (min, max))
        notes.append(f"images of {len(sizes)} sizes, from {smallest} to {largest}")
    return notes


def _damaged(where: str, error: Exception) -> OodbenchError:
    return OodbenchError(f"{where} cannot be read as an image ({error}); get it again, or take it out on purpose")
