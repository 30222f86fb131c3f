"""Images in tar files that stay packed: WebDataset's shards, read by offset."""

from __future__ import annotations

import glob
import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import BinaryIO, ClassVar, NamedTuple

import numpy as np

from oodbench.data.decoding import DECODED_BY, all_decoded
from oodbench.data.folder import Walk, is_image
from oodbench.data.identity import Facts, file_facts, identity_of
from oodbench.data.imageset import Images, ImageSet
from oodbench.errors import OodbenchError
from oodbench.files import ARCHIVE_DAMAGES

MOST_BYTES = 256 << 20
"""Of one file in a tar file that is read into memory."""

LABEL_KEYS = ("label", "cls", "class_id", "target")
"""What a label is called in the .json of an image."""


class Member(NamedTuple):
    """A file in a tar file: in which one, its name, and where its bytes are."""

    shard: int
    name: str
    offset: int
    size: int


@dataclass(frozen=True)
class TarSource:
    """Image files inside of tar files, read where they are; `facts` of these are from before they were listed."""

    decodes: ClassVar[bool] = True

    shards: tuple[Path, ...]
    facts: tuple[Facts, ...]
    members: tuple[Member, ...]

    def __len__(self) -> int:
        return len(self.members)

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the images in their tar files."""
        return tuple(member.name for member in self.members)

    def read(self, indices: Sequence[int]) -> Images:
        return all_decoded(_contents(self.shards, [self.members[i] for i in indices]))

    def identity(self, indices: Sequence[int]) -> str | None:
        chosen = [tuple(self.members[i]) for i in indices]
        modules, packages = DECODED_BY
        return identity_of((self.facts, chosen), (__name__, *modules), packages)


def tar_files(path: Path) -> list[Path]:
    """The tar files that are meant, sorted: one, those below a folder, or those of a glob pattern.

    Raises:
        OodbenchError: there is none, or one is compressed.
    """
    if path.is_dir():
        found = sorted(path / one for one in Walk(path, _is_tar).files)
    else:
        found = [path] if path.is_file() else sorted(map(Path, glob.glob(str(path))))
    if not found:
        raise OodbenchError(f"there is no tar file {path}; name one, a folder of them, or a pattern such as a-*.tar")
    for one in found:
        if one.suffix != ".tar":
            raise OodbenchError(f"{one} is compressed, so that no image can be read without the rest; unpack it")
    return found


def _is_tar(file: PurePosixPath) -> bool:
    return ".tar" in file.suffixes or file.suffix == ".tgz"


def read_tar(name: str, shards: Sequence[Path]) -> ImageSet:
    """The images of tar files, in their order; labels are those of the .cls or .json beside an image.

    Files belong together, as WebDataset has it, whose names are the same up to the first point.

    Raises:
        OodbenchError: a file is missing or damaged, an image is too large, or a label is no whole number.
    """
    facts = []
    images: list[Member] = []
    keys: dict[str, int] = {}
    told: dict[str, int] = {}
    for number, shard in enumerate(shards):
        try:
            facts.append(file_facts(shard))
            for member in _listed(number, shard):
                _take(shard, member, images, keys, told)
        except (*ARCHIVE_DAMAGES, OSError, ValueError) as error:
            raise OodbenchError(f"{shard} is damaged, or no tar file ({error}); get it again") from error
    if not images:
        raise OodbenchError(f"{', '.join(map(str, shards[:3]))} hold(s) no images")
    source = TarSource(tuple(shards), tuple(facts), tuple(images))
    notes: list[str] = []
    labels = None
    if told:
        labels = np.full(len(images), -1, dtype=np.int64)
        for key, image in keys.items():
            labels[image] = told.get(key, -1)
        if unknown := int((labels == -1).sum()):
            notes.append(f"{unknown:,} of {len(images):,} images have no label")
    where = str(shards[0]) if len(shards) == 1 else f"{shards[0]} … {shards[-1].name} ({len(shards)} files)"
    return ImageSet(name, source, where, labels, notes=tuple(notes))


def _listed(number: int, shard: Path) -> Iterator[Member]:
    size = shard.stat().st_size
    with tarfile.open(shard, "r:") as opened:
        for member in opened:
            if not member.isreg() or not 0 <= member.offset_data <= member.offset_data + member.size <= size:
                if member.isreg():
                    raise ValueError(f"{member.name} reaches beyond its end")
                continue
            member.name.encode()
            yield Member(number, member.name, member.offset_data, member.size)


def _take(shard: Path, member: Member, images: list[Member], keys: dict[str, int], told: dict[str, int]) -> None:
    """Put an image, or the label of one, among those found before."""
    path = PurePosixPath(member.name)
    stem, _, ending = path.name.partition(".")
    key = f"{member.shard}/{path.parent / stem}"
    if is_image(PurePosixPath(f"x.{ending}")) and "." not in ending and not path.name.startswith("."):
        if member.size > MOST_BYTES:
            raise OodbenchError(f"{shard}: {member.name} has {member.size:,} bytes, which no image has")
        if key in keys:
            raise OodbenchError(f"{shard} has two images of the key {path.parent / stem}; give each a name of its own")
        keys[key] = len(images)
        images.append(member)
    elif ending in ("cls", "json") and member.size <= MOST_BYTES:
        label = _label(shard, member, ending)
        if label is not None:
            told[key] = label


def _label(shard: Path, member: Member, ending: str) -> int | None:
    with open(shard, "rb") as file:
        file.seek(member.offset)
        content = file.read(member.size)
    if ending == "cls":
        try:
            return int(content.decode().strip())
        except ValueError as error:
            raise OodbenchError(f"{shard}: {member.name} holds '{content[:40]!r}', no whole number") from error
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise OodbenchError(f"{shard}: {member.name} is not JSON ({error})") from error
    found = next((values[key] for key in LABEL_KEYS if key in values), None) if isinstance(values, dict) else values
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def _contents(shards: Sequence[Path], members: Iterable[Member]) -> Iterator[tuple[BytesIO, str]]:
    """Each member's bytes and what it is called; a tar file is opened again only where another one follows."""
    file, opened = None, -1
    try:
        for member in members:
            if member.shard != opened:
                if file is not None:
                    file.close()
                file, opened = _open(shards[member.shard]), member.shard
            assert file is not None
            file.seek(member.offset)
            yield BytesIO(file.read(member.size)), f"{shards[member.shard]}: {member.name}"
    finally:
        if file is not None:
            file.close()


def _open(shard: Path) -> BinaryIO:
    try:
        return open(shard, "rb")
    except OSError as error:
        raise OodbenchError(f"{shard} cannot be opened any more ({error.strerror})") from error
