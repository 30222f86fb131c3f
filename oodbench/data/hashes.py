"""The hashes of image sets: made while the images are read, and kept on disk so that this is done once."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from oodbench.files import atomic_write, cache_folder


class Hashes(NamedTuple):
    """SHA-256 of a set as a whole, in hexadecimal, and of each of its images, uint8 N×32, in order."""

    content_hash: str
    image_hashes: np.ndarray


class Hashing:
    """The hashes of a set of `count` images, which are fed in order, before any matching.

    The set's is over the count and each image's shape and uint8 pixels; an image's over its shape and pixels.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._whole = hashlib.sha256(f"{count} images uint8".encode())
        self._single = bytearray()

    def update(self, images: np.ndarray | list[np.ndarray]) -> None:
        """The next images, uint8, as they are stored."""
        for image in images:
            shape, pixels = repr(tuple(image.shape)).encode(), np.ascontiguousarray(image).data
            self._whole.update(shape)
            self._whole.update(pixels)
            single = hashlib.sha256(shape)
            single.update(pixels)
            self._single += single.digest()

    @property
    def image_hashes(self) -> np.ndarray:
        """uint8 N×32, of the images fed so far."""
        return np.frombuffer(bytes(self._single), np.uint8).reshape(-1, 32)

    def finished(self) -> Hashes:
        """The hashes, once all images were fed; ValueError before."""
        if len(self.image_hashes) != self.count:
            raise ValueError(f"{len(self.image_hashes)} of {self.count} images were hashed")
        return Hashes(self._whole.hexdigest(), self.image_hashes)


def read_hashes(identity: str) -> Hashes | None:
    """What was kept of the set of this identity; None where there is nothing, or what is there is damaged."""
    path = _index_file(identity)
    try:
        with safe_open(path, framework="numpy") as file:
            facts = file.metadata()
            hashes = Hashes(facts["content_hash"], file.get_tensor("image_hashes"))
    except (OSError, SafetensorError, KeyError, TypeError):
        return None
    return hashes if facts.get("checksum") == _checksum(identity, hashes) else None


def write_hashes(identity: str, hashes: Hashes) -> None:
    """Keep a set's hashes for the next time; where the cache cannot be written, that time makes them anew."""
    facts = {"content_hash": hashes.content_hash, "checksum": _checksum(identity, hashes)}
    try:
        with atomic_write(_index_file(identity)) as temporary:
            save_file({"image_hashes": hashes.image_hashes}, temporary, facts)
    except OSError:
        pass


def _index_file(identity: str) -> Path:
    return cache_folder() / "hashes" / f"{hashlib.sha256(identity.encode()).hexdigest()}.safetensors"


def _checksum(identity: str, hashes: Hashes) -> str:
    # The identity is in it: a file that was renamed by hand is of another set.
    images = np.ascontiguousarray(hashes.image_hashes)
    told = repr((identity, hashes.content_hash, images.dtype.str, images.shape)).encode()
    return hashlib.sha256(told + images.tobytes()).hexdigest()
