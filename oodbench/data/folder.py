"""Images in files of their own: a folder, or a tar archive of one."""

from __future__ import annotations

import os
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np

from oodbench.data.decoding import DECODED_BY, SUFFIXES, all_decoded, counts_as_image, header_notes
from oodbench.data.identity import Facts, file_facts, identity_of
from oodbench.data.imageset import Images, ImageSet
from oodbench.data.split_names import SPLITS
from oodbench.errors import OodbenchError
from oodbench.files import ARCHIVE_DAMAGES, is_bomb
from oodbench.progress import so_far

MOST_BYTES = 8 << 30
"""Of an archive's images, which are held in memory as they are."""

_HIDDEN = (".", "__MACOSX")


@dataclass(frozen=True)
class FolderSource:
    """Image files below a folder, read when asked for; each is verified as it is read."""

    decodes: ClassVar[bool] = True

    folder: Path
    files: tuple[PurePosixPath, ...]
    class_folders: tuple[str, ...] = ()
    """By whose order images are labelled."""

    def __len__(self) -> int:
        return len(self.files)

    def read(self, indices: Sequence[int]) -> Images:
        return all_decoded((path, str(path)) for path in (self.folder / self.files[i] for i in indices))

    def identity(self, indices: Sequence[int]) -> str | None:
        try:
            return identity_of([file_facts(self.folder / self.files[i]) for i in indices], *DECODED_BY)
        except OSError:
            return None


@dataclass(frozen=True)
class ArchiveSource:
    """Image files of an archive, held packed as they are; `facts` of it are from before it was read."""

    decodes: ClassVar[bool] = True

    archive: Path
    facts: Facts
    files: tuple[PurePosixPath, ...]
    contents: tuple[bytes, ...]

    def __len__(self) -> int:
        return len(self.files)

    def read(self, indices: Sequence[int]) -> Images:
        return all_decoded((BytesIO(self.contents[i]), f"{self.archive}: {self.files[i]}") for i in indices)

    def identity(self, indices: Sequence[int]) -> str | None:
        return identity_of((self.facts, [str(self.files[i]) for i in indices]), *DECODED_BY)


def read_folder(name: str, folder: Path) -> ImageSet:
    """The images below a folder, sorted by their relative path; two or more class subfolders give labels.

    Links are followed. Class folders that are all numbers are in the order of these, else in that of the alphabet.

    Raises:
        OodbenchError: no such folder, no images in it, a file that is no image, what cannot be listed, or class folders
            that are called like splits.
    """
    if not folder.is_dir():
        raise OodbenchError(f"there is no folder {folder}; check the path")
    walk = Walk(folder)
    files = _sorted(walk.files)
    if not files:
        raise OodbenchError(f"folder {folder} has no images ({', '.join(SUFFIXES)}) in it or below")
    notes = header_notes(((folder / file, str(folder / file)) for file in files), len(files))
    # Empty class folders count: they keep the numbers of the others as they are.
    classes = walk.subfolders if len(walk.subfolders) > 1 and all(len(file.parts) > 1 for file in files) else []
    labels = None
    if classes:
        _refuse_splits(folder, classes, files)
        numbers = all(one.isascii() and one.isdigit() for one in classes)
        classes = sorted(classes, key=lambda one: (int(one), one)) if numbers else sorted(classes)
        number = {one: label for label, one in enumerate(classes)}
        labels = np.array([number[file.parts[0]] for file in files], dtype=np.int64)
        shown = ", ".join(classes[:3]) + (" …" if len(classes) > 3 else "")
        order = "numeric" if numbers else "alphabetical"
        notes.append(f"labels are the {len(classes)} class folders in {order} order ({shown})")
    notes += walk.notes()
    source, names = FolderSource(folder, files, tuple(classes)), tuple(classes)
    return ImageSet(name, source, str(folder), labels, notes=tuple(notes), classes=names)


def read_archive(name: str, archive: Path) -> ImageSet:
    """The images of a tar archive, packed or not, read in place, in the order of its unpacked folder.

    Raises:
        OodbenchError: the archive is damaged, holds more than MOST_BYTES of images, or none.
    """
    contents: dict[PurePosixPath, bytes] = {}
    try:
        facts = file_facts(archive)
        held = 0
        with tarfile.open(archive) as opened:
            for member in opened:
                wanted = member.isreg() and is_image(PurePosixPath(member.name))
                held += member.size if wanted else 0
                if held > MOST_BYTES:
                    raise OodbenchError(
                        f"archive {archive} holds more than {MOST_BYTES >> 30} GiB of images; unpack it, and name the "
                        "folder"
                    )
                if is_bomb(held, archive.stat().st_size):
                    raise OodbenchError(
                        f"archive {archive} unpacks to more than {held:,} bytes, which images do not; unpack it"
                    )
                file = opened.extractfile(member) if wanted else None
                if file is not None:
                    contents[PurePosixPath(member.name)] = file.read()
            # gzip compares its checksum at the very end, where tarfile does not read.
            while opened.fileobj is not None and opened.fileobj.read(1 << 20):
                pass
    except (*ARCHIVE_DAMAGES, OSError, ValueError) as error:
        raise OodbenchError(f"archive {archive} is damaged ({error}); get it again") from error
    files = _sorted(contents)
    if not files:
        raise OodbenchError(f"archive {archive} has no images ({', '.join(SUFFIXES)})")
    notes = header_notes(((BytesIO(contents[file]), f"{archive}: {file}") for file in files), len(files))
    source = ArchiveSource(archive, facts, files, tuple(contents[file] for file in files))
    return ImageSet(name, source, str(archive), notes=tuple(notes))


def is_image(file: PurePosixPath) -> bool:
    """Whether a file counts as an image; hidden files are not data (macOS leaves some)."""
    return counts_as_image(file) and not any(part.startswith(_HIDDEN) for part in file.parts)


@dataclass
class Walk:
    """A folder, listed with all below it, links followed: its image files, its own subfolders, what was left out.

    Args:
        takes: which files are meant, instead of images.

    Raises:
        OodbenchError: a folder cannot be listed, a link leads nowhere, or a name is not UTF-8.
    """

    folder: Path
    takes: Callable[[PurePosixPath], bool] = counts_as_image
    files: list[PurePosixPath] = field(default_factory=list)
    subfolders: list[str] = field(default_factory=list)
    hidden: int = 0
    others: Counter[str] = field(default_factory=Counter)
    loops: int = 0

    def __post_init__(self) -> None:
        self._list(self.folder, PurePosixPath(), frozenset())

    def notes(self) -> list[str]:
        """What was left out, with its number."""
        endings = ", ".join(sorted(self.others)[:5]) + (" …" if len(self.others) > 5 else "")
        left_out = [
            f"{self.others.total():,} file(s) that are no images ({endings})" if self.others else "",
            f"{self.hidden:,} hidden" if self.hidden else "",
            f"{self.loops:,} link(s) to a folder above" if self.loops else "",
        ]
        return [f"left out: {', '.join(filter(None, left_out))}"] if any(left_out) else []

    def _list(self, folder: Path, relative: PurePosixPath, above: frozenset[tuple[int, int]]) -> None:
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in above:
                self.loops += 1
                return
            with os.scandir(folder) as scan:
                entries = list(scan)
        except OSError as error:
            raise OodbenchError(
                f"folder {folder} cannot be listed ({error.strerror}); make it readable, or take it out on purpose"
            ) from error
        so_far(f"listing {self.folder}", len(self.files))
        for entry in entries:
            self._take(entry, relative, above | {(status.st_dev, status.st_ino)})

    def _take(self, entry: os.DirEntry[str], relative: PurePosixPath, above: frozenset[tuple[int, int]]) -> None:
        check_utf8(entry.path)
        file = relative / entry.name
        if entry.name.startswith(_HIDDEN):
            self.hidden += 1
        elif entry.is_dir():
            if not relative.parts:
                self.subfolders.append(entry.name)
            self._list(Path(entry.path), file, above)
        elif not self.takes(file):
            self.others[file.suffix.lower() or "no ending"] += 1
        elif entry.is_file():
            self.files.append(file)
        else:
            raise OodbenchError(f"{entry.path} leads to no file; mend the link, or take it out on purpose")


def check_utf8(path: str) -> None:
    """Raise OodbenchError for a path whose name is not UTF-8, which no card or table can name."""
    try:
        path.encode()
    except UnicodeEncodeError as error:
        shown = path.encode(errors="surrogateescape").decode(errors="backslashreplace")
        raise OodbenchError(f"the name of {shown} is not UTF-8; rename it") from error


def _refuse_splits(folder: Path, classes: Sequence[str], files: Iterable[PurePosixPath]) -> None:
    """Raise OodbenchError where class folders are splits: by name, and by what they are like.

    A set of many classes may have one that is called so: CIFAR-100 has trains.
    """
    named = [one for one in classes if one.casefold() in SPLITS]
    deep = {file.parts[0] for file in files if len(file.parts) > 2}
    if len(named) > 1 or (named and len(classes) == 2) or deep & set(named):
        raise OodbenchError(
            f"folder {folder} has folders called like splits ({', '.join(sorted(named))}) among its class folders; "
            f"name the one that is meant, as in folder:{folder / named[0]}, or have both train/ and test/ there"
        )


def _sorted(files: Iterable[PurePosixPath]) -> tuple[PurePosixPath, ...]:
    """Folder by folder."""
    return tuple(sorted(files, key=lambda file: file.parts))
