"""Walking through image sets, shard by shard: every image is read once at most, and hashed on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from oodbench.data.hashes import Hashing
from oodbench.data.imageset import Images, ImageSet, Source, stacked
from oodbench.data.inputs import AnyForm, Form, as_form, brought, describe
from oodbench.data.loader import PIECE, read_ahead

KEPT_BYTES = 1 << 30
"""Of stored images that are at hand at a time, of a source's recent ones and of a shard each."""


@dataclass(frozen=True, eq=False)
class RecentSource:
    """A source that has the `count` images which it read last at hand, or as many as `KEPT_BYTES` hold: sets derived
    from them read no file again."""

    source: Source
    count: int
    recent: dict[int, np.ndarray] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    def __len__(self) -> int:
        return len(self.source)

    def read(self, indices: Sequence[int]) -> Images:
        wanted = [int(index) for index in indices]
        with self.lock:
            found = {index: self.recent[index] for index in wanted if index in self.recent}
        missing = [index for index in wanted if index not in found]
        if missing:
            found |= dict(zip(missing, self.source.read(missing), strict=True))
        with self.lock:
            for index, image in found.items():
                self.recent.pop(index, None)
                self.recent[index] = image
            size = sum(image.nbytes for image in self.recent.values())
            while self.recent and (len(self.recent) > self.count or size > KEPT_BYTES):
                size -= self.recent.pop(next(iter(self.recent))).nbytes
        return stacked([found[index] for index in wanted])

    @property
    def files(self) -> Sequence[object] | None:
        """The files of the images, where they have such."""
        return getattr(self.source, "files", None)

    def identity(self, indices: Sequence[int]) -> str | None:
        """See `Source.identity`."""
        return self.source.identity(indices)


def remembering(images: ImageSet, count: int) -> ImageSet:
    """The set, with the `count` images that were read last at hand."""
    return replace(images, source=RecentSource(images.source, count))


@dataclass(eq=False)
class Shard:
    """Images start … stop−1 of a set; read when their pixels are asked for, or, where it is not known, their hash.

    Attributes:
        forms: those in which the images will be asked for. Where the stored ones are too large to be kept, what is made
            of them is kept instead.
    """

    images: ImageSet
    start: int
    stop: int
    workers: int = 0
    hashing: Hashing | None = None
    forms: tuple[Form, ...] = ()
    _pixels: Images | None = None
    _first: np.ndarray | None = None
    _matched: dict[Form, Tensor] = field(default_factory=dict)
    _digest: str = ""

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def is_read(self) -> bool:
        """Whether the images are at hand."""
        return self._pixels is not None or bool(self._matched)

    @property
    def pixels(self) -> Images:
        """The images as they are stored."""
        if self._pixels is None:
            (self._pixels,) = read_ahead(self.images, [(self.start, self.stop)], self.workers)
        return self._pixels

    @property
    def digest(self) -> str:
        """SHA-256 over the hashes of these images."""
        if not self._digest:
            if self.hashing is not None:
                self._read(self.hashing)
                hashes = self.hashing.image_hashes[self.start : self.stop]
            elif (known := self.images.known_hashes) is not None:
                hashes = known.image_hashes[self.start : self.stop]
            else:
                alone = Hashing(len(self))
                self._read(alone)
                hashes = alone.image_hashes
            self._digest = hashlib.sha256(hashes.tobytes()).hexdigest()
        return self._digest

    def matched(self, form: AnyForm) -> Tensor:
        """The images in a form, N×C×H×W, see `brought`."""
        form = as_form(form)
        if form not in self._matched:
            self.forms = tuple({*self.forms, form})
            self._read()
        if form not in self._matched:
            self._matched[form] = brought(self.images, self.pixels, form)
        return self._matched[form]

    def matching(self, form: AnyForm) -> str:
        """What is done to the first of these images, in words; the images are read."""
        first = self._first if self._first is not None else self.pixels[0]
        return describe(self.images, first, form)

    def _read(self, hashing: Hashing | None = None) -> None:
        """Have the images at hand as they are stored, or, where that is too much, in the forms alone."""
        if self._pixels is not None:
            if hashing is not None:
                hashing.update(self._pixels)
            return
        spans = [(at, min(at + PIECE, self.stop)) for at in range(self.start, self.stop, PIECE)]
        kept: list[np.ndarray] = []
        made: dict[Form, list[Tensor]] = {form: [] for form in self.forms}
        size, too_much = 0, False
        for part in read_ahead(self.images, spans, self.workers):
            if hashing is not None:
                hashing.update(part)
            self._first = part[0] if self._first is None else self._first
            kept.extend(part)
            size += sum(image.nbytes for image in part)
            too_much = too_much or size > KEPT_BYTES
            if too_much:
                for form, parts in made.items():
                    parts.append(brought(self.images, stacked(kept), form))
                kept = []
        if not too_much:
            self._pixels = stacked(kept)
            return
        # A part may be floating point where another is not, see `Transform`.
        self._matched |= {form: torch.cat(_alike(parts)) for form, parts in made.items()}


def _alike(parts: list[Tensor]) -> list[Tensor]:
    """Parts of uint8 images as those in [0, 1] that they are, where others are such."""
    if all(part.dtype == torch.uint8 for part in parts):
        return parts
    return [part.div(255) if part.dtype == torch.uint8 else part for part in parts]


def shards(images: ImageSet, size: int, workers: int = 0, forms: Sequence[Form] = ()) -> Iterator[Shard]:
    """The shards of a set in order; whoever asks each of them for its digest leaves the set's hashes known."""
    hashing = None if images.known_hashes else Hashing(len(images))
    for start in range(0, len(images), size):
        shard = Shard(images, start, min(start + size, len(images)), workers, hashing, tuple(forms))
        yield shard
    if hashing is not None and len(hashing.image_hashes) == len(images):
        images.remember(hashing.finished())


def side_by_side(sets: Sequence[ImageSet], size: int, workers: int = 0, forms: Sequence[Form] = ()) -> Iterator[Shard]:
    """The shards of several sets, the first of each, the second of each, and so on: for sets derived from another."""
    for row in zip_longest(*(shards(one, size, workers, forms) for one in sets)):
        yield from (shard for shard in row if shard is not None)
