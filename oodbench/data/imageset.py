"""ImageSet: a named, ordered, re-iterable set of images that knows its content hash and its origin."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np

from oodbench.data.seeding import set_generator
from oodbench.errors import OodbenchError

Images = np.ndarray | list[np.ndarray]
"""uint8 images as they are stored: an array N×H×W (grey) or N×H×W×3 (RGB), or a list of such single images
where sizes differ."""

CHUNK = 256
"""Images read at a time where a whole set is walked through."""


class Source(Protocol):
    """Where the pixels of a set come from; reads by index, as often as asked, always the same."""

    def __len__(self) -> int: ...

    def read(self, indices: Sequence[int]) -> Images:
        """The images of these indices, in this order."""
        ...


@dataclass(frozen=True, eq=False)
class ArraySource:
    """Images in memory: uint8 N×H×W or N×H×W×3."""

    images: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Sequence[int]) -> Images:
        return self.images[np.asarray(indices, dtype=np.int64)]


@dataclass(frozen=True)
class GeneratedSource:
    """Images made when they are read; image i is `make(i)`, uint8 H×W or H×W×3, and depends on i alone.

    `make` must be picklable: a small frozen dataclass with `__call__`, since workers may be spawned.
    """

    make: Callable[[int], np.ndarray]
    count: int

    def __len__(self) -> int:
        return self.count

    def read(self, indices: Sequence[int]) -> Images:
        return np.stack([self.make(int(index)) for index in indices])


def stacked(images: list[np.ndarray]) -> Images:
    """One array where all images have one shape, else the list."""
    return np.stack(images) if len({image.shape for image in images}) == 1 else images


@dataclass(frozen=True, eq=False)
class ImageSet:
    """A named, ordered, re-iterable set of uint8 images, with or without labels.

    Attributes:
        name: as users and tables call it.
        source: the pixels.
        origin: where they came from, in words for the card (a path, or how they were generated).
        labels: int64 N, −1 where unknown; None for a set without labels.
        group: noise, structured, near, far or other; empty for an ID set.
        notes: what the program decided about these data for the user, in sentences.
        indices: which images of the source, in order; None is all of them.
    """

    name: str
    source: Source
    origin: str
    labels: np.ndarray | None = None
    group: str = ""
    notes: tuple[str, ...] = ()
    indices: np.ndarray | None = None

    def __post_init__(self) -> None:
        if len(self) == 0:
            raise OodbenchError(f"{self.name} ({self.origin}) holds no images")
        if self.labels is not None and len(self.labels) != len(self):
            raise OodbenchError(
                f"{self.name} ({self.origin}) has {len(self)} images but {len(self.labels)} labels; the file is damaged"
            )

    def __len__(self) -> int:
        return len(self.source) if self.indices is None else len(self.indices)

    def read(self, start: int, stop: int) -> Images:
        """The images start … stop−1, as they are stored."""
        chosen = range(start, min(stop, len(self)))
        return self.source.read(chosen if self.indices is None else self.indices[chosen.start : chosen.stop].tolist())

    def chunks(self) -> Iterator[Images]:
        """All images in order, some at a time."""
        for start in range(0, len(self), CHUNK):
            yield self.read(start, start + CHUNK)

    def subset(self, kept: np.ndarray, note: str) -> ImageSet:
        """The images of these indices, in this order; `note` says to the user why."""
        return replace(
            self,
            indices=kept if self.indices is None else self.indices[kept],
            labels=None if self.labels is None else self.labels[kept],
            notes=(*self.notes, note),
        )

    def drawn(self, count: int, seed: int) -> ImageSet:
        """`count` of the images, drawn without replacement by the seed and the set's name, in order.

        Data files are often sorted by class, so the first images would be a sample of one class.
        A set that has no more than `count` images is returned whole.
        """
        if count >= len(self):
            return self
        kept = set_generator(seed, f"draw {self.name}").choice(len(self), size=count, replace=False)
        return self.subset(np.sort(kept), f"{count} of {len(self)} images, drawn with seed {seed}")

    @property
    def content_hash(self) -> str:
        """SHA-256 over the count and each image's shape and uint8 pixels, in order, before any matching.

        It does not depend on the form in which images are kept: a folder and an npz of the same pixels agree.
        """
        return self._hashes[0]

    @property
    def image_hashes(self) -> tuple[bytes, ...]:
        """SHA-256 of each image's shape and pixels, in order."""
        return self._hashes[1]

    @cached_property
    def labels_hash(self) -> str | None:
        """SHA-256 of the labels, or None."""
        if self.labels is None:
            return None
        return hashlib.sha256(np.ascontiguousarray(self.labels, dtype=np.int64).data).hexdigest()

    @cached_property
    def _hashes(self) -> tuple[str, tuple[bytes, ...]]:
        # Both in one walk: reading a folder means decoding every file.
        whole = hashlib.sha256(f"{len(self)} images uint8".encode())
        single = []
        for images in self.chunks():
            for image in images:
                shape, pixels = repr(tuple(image.shape)).encode(), np.ascontiguousarray(image).data
                whole.update(shape)
                whole.update(pixels)
                single.append(hashlib.sha256(shape + bytes(pixels)).digest())
        return whole.hexdigest(), tuple(single)
