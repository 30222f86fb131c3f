"""LSUN scenes from the lmdb files of the publisher (Yu et al. 2015, arXiv 1506.03365)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from oodbench.data.decoding import DECODED_BY, decoded
from oodbench.data.identity import Facts, file_facts, identity_of
from oodbench.data.imageset import Images, ImageSet
from oodbench.errors import OodbenchError

if TYPE_CHECKING:
    import lmdb

SIDE = 32
"""Pixels of the square images made of the scenes, the size of the sets that they are compared with."""

_OPENING = Lock()


@dataclass(frozen=True)
class LmdbSource:
    """Encoded images of one or more lmdb files, brought to SIDE×SIDE; (which file, which key) per image.

    `facts` of the files are from before they were first opened.
    """

    databases: tuple[Path, ...]
    facts: tuple[Facts, ...]
    keys: tuple[tuple[int, bytes], ...]

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, indices: Sequence[int]) -> Images:
        wanted = [self.keys[i] for i in indices]
        contents: dict[tuple[int, bytes], bytes] = {}
        # Opened anew each time, so that the source can be pickled; by one thread, since lmdb refuses to have a
        # file open twice in a process.
        with _OPENING:
            for number in sorted({number for number, _ in wanted}):
                path = self.databases[number]
                with _open(path) as database, database.begin() as transaction:
                    for key in (key for of, key in wanted if of == number):
                        content = transaction.get(key)
                        if content is None:
                            raise OodbenchError(f"{path} has lost the key {key!r} since it was opened; get it again")
                        contents[number, key] = content
        return np.stack([self._image(one, contents[one]) for one in wanted])

    def _image(self, key: tuple[int, bytes], content: bytes) -> np.ndarray:
        return _square(decoded(BytesIO(content), f"{self.databases[key[0]]}: {key[1]!r}"))

    def identity(self, indices: Sequence[int]) -> str | None:
        modules, packages = DECODED_BY
        return identity_of((self.facts, [self.keys[i] for i in indices]), (__name__, *modules), packages)


def read_lmdb(name: str, databases: Sequence[Path]) -> ImageSet:
    """All images of LSUN's lmdb files, file after file, each in its key order.

    The shorter side is brought to 32 pixels (bilinear, antialias) and the centre 32×32 cut out, so that
    shapes stay as they are. (Of the ODIN archives lsun-crop is random crops, and lsun-resize is squeezed
    without antialias.)

    Raises:
        OodbenchError: a file is missing, cut short or empty.
    """
    keys: list[tuple[int, bytes]] = []
    facts = tuple(file_facts(path / "data.mdb") for path in databases if (path / "data.mdb").exists())
    for number, path in enumerate(databases):
        with _OPENING, _open(path) as database, database.begin() as transaction:
            found = [(number, bytes(key)) for key in transaction.cursor().iternext(values=False)]
        if not found:
            raise OodbenchError(f"{path} holds no images; get it again")
        keys += found
    return ImageSet(
        name,
        LmdbSource(tuple(databases), facts, tuple(keys)),
        ", ".join(map(str, databases)),
        notes=(f"shorter side to {SIDE} (bilinear, antialias), centre crop {SIDE}×{SIDE}",),
    )


def _open(path: Path) -> lmdb.Environment:
    try:
        import lmdb
    except ImportError as error:
        raise OodbenchError(
            f"{path} is an lmdb file, which needs the package lmdb: pip install 'oodbench[lmdb]'"
        ) from error
    try:
        database = lmdb.open(str(path), readonly=True, lock=False, create=False, readahead=False)
    except lmdb.Error as error:
        raise OodbenchError(f"{path} cannot be read as an lmdb file ({error}); get it again") from error
    # lmdb maps the file into memory: a read behind the end of one that is cut short would kill the process.
    announced = (database.info()["last_pgno"] + 1) * database.stat()["psize"]
    actual = (path / "data.mdb").stat().st_size
    if actual < announced:
        database.close()
        raise OodbenchError(f"{path} is cut short: {actual:,} of {announced:,} bytes; get it again")
    return database


def _square(image: np.ndarray) -> np.ndarray:
    # Sizes and offsets are rounded as torchvision's Resize and CenterCrop round them.
    picture = Image.fromarray(image).convert("RGB")
    short = min(picture.size)
    width, height = (SIDE * side // short for side in picture.size)
    # PIL's bilinear filter widens with the scale, which is antialiasing.
    small = picture.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - SIDE) / 2), round((height - SIDE) / 2)
    return np.array(small.crop((left, top, left + SIDE, top + SIDE)))
