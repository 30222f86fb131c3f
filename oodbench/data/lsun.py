"""LSUN scenes from the lmdb files of the publisher (Yu et al. 2015, arXiv 1506.03365)."""

from __future__ import annotations

import importlib.util
import json
import os
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from oodbench.data import lmdb_reader
from oodbench.data.decoding import DECODED_BY, decoded
from oodbench.data.identity import Facts, file_facts, identity_of
from oodbench.data.imageset import Images, ImageSet
from oodbench.errors import OodbenchError

SIDE = 32
"""Pixels of the square images made of the scenes, the size of the sets that they are compared with."""

PATIENCE, SLOWEST = 60.0, 1e6
"""Seconds that reading a file may take, and one more each so many bytes of it."""


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
        for number in sorted({number for number, _ in wanted}):
            path = self.databases[number]
            keys = [key for of, key in wanted if of == number]
            for key, content in zip(keys, _read(path, keys), strict=True):
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
        found = [(number, key) for key in _read(path, None) if key is not None]
        if not found:
            raise OodbenchError(f"{path} holds no images; get it again")
        keys += found
    return ImageSet(
        name,
        LmdbSource(tuple(databases), facts, tuple(keys)),
        ", ".join(map(str, databases)),
        notes=(f"shorter side to {SIDE} (bilinear, antialias), centre crop {SIDE}×{SIDE}",),
    )


def _read(path: Path, keys: Sequence[bytes] | None) -> list[bytes | None]:
    """The contents of keys, or all keys, by a process of its own: see `lmdb_reader`."""
    if importlib.util.find_spec("lmdb") is None:
        raise OodbenchError(f"{path} is an lmdb file, which needs the package lmdb: pip install 'oodbench[lmdb]'")
    asked = json.dumps(None if keys is None else [key.hex() for key in keys])
    data = path / "data.mdb"
    size = data.stat().st_size if data.is_file() else 0
    try:
        ended = subprocess.run(
            [sys.executable, str(Path(lmdb_reader.__file__)), str(path)],
            input=asked.encode(),
            capture_output=True,
            timeout=PATIENCE + size / SLOWEST,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    except subprocess.TimeoutExpired as error:
        raise OodbenchError(f"{path} is damaged: reading it comes to no end; get it again") from error
    if ended.returncode == 1 and ended.stderr and b"Traceback" not in ended.stderr:
        raise OodbenchError(f"{path} {ended.stderr.decode(errors='replace').strip()}; get it again")
    if ended.returncode != 0:
        raise OodbenchError(f"{path} is damaged: it ended the process that read it; get it again")
    return _answers(ended.stdout)


def _answers(said: bytes) -> list[bytes | None]:
    answers: list[bytes | None] = []
    at = 0
    while at < len(said):
        (length,) = struct.unpack_from("<q", said, at)
        at += 8 + max(length, 0)
        answers.append(None if length < 0 else said[at - length : at])
    return answers


def _square(image: np.ndarray) -> np.ndarray:
    # Sizes and offsets are rounded as torchvision's Resize and CenterCrop round them.
    picture = Image.fromarray(image).convert("RGB")
    short = min(picture.size)
    width, height = (SIDE * side // short for side in picture.size)
    # PIL's bilinear filter widens with the scale, which is antialiasing.
    small = picture.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - SIDE) / 2), round((height - SIDE) / 2)
    return np.array(small.crop((left, top, left + SIDE, top + SIDE)))
