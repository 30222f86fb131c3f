"""Walking through image sets, shard by shard: every image is read once at most, and hashed on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from threading import Lock

import numpy as np
from torch import Tensor

from oodbench.data.hashes import Hashing
from oodbench.data.imageset import Images, ImageSet, Source, stacked
from oodbench.data.loader import read_ahead
from oodbench.data.matching import ImageShape, match


@dataclass(frozen=True, eq=False)
class RecentSource:
    """A source that has the `count` images which it read last at hand: sets derived from them read no file again."""

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
            for oldest in list(self.recent)[: -self.count]:
                del self.recent[oldest]
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
    """Images start … stop−1 of a set; read when their pixels are asked for, or, where it is not known, their hash."""

    images: ImageSet
    start: int
    stop: int
    workers: int = 0
    hashing: Hashing | None = None
    _pixels: Images | None = None
    _matched: dict[ImageShape, Tensor] = field(default_factory=dict)
    _digest: str = ""

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def is_read(self) -> bool:
        """Whether the pixels are at hand."""
        return self._pixels is not None

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
                self.hashing.update(self.pixels)
                hashes = self.hashing.image_hashes[self.start : self.stop]
            elif (known := self.images.known_hashes) is not None:
                hashes = known.image_hashes[self.start : self.stop]
            else:
                alone = Hashing(len(self))
                alone.update(self.pixels)
                hashes = alone.image_hashes
            self._digest = hashlib.sha256(hashes.tobytes()).hexdigest()
        return self._digest

    def matched(self, shape: ImageShape) -> Tensor:
        """The images in the form (C, H, W), uint8 N×C×H×W."""
        if shape not in self._matched:
            self._matched[shape] = match(self.pixels, shape)
        return self._matched[shape]


def shards(images: ImageSet, size: int, workers: int = 0) -> Iterator[Shard]:
    """The shards of a set in order; whoever asks each of them for its digest leaves the set's hashes known."""
    hashing = None if images.known_hashes else Hashing(len(images))
    for start in range(0, len(images), size):
        shard = Shard(images, start, min(start + size, len(images)), workers, hashing)
        yield shard
    if hashing is not None and len(hashing.image_hashes) == len(images):
        images.remember(hashing.finished())


def side_by_side(sets: Sequence[ImageSet], size: int, workers: int = 0) -> Iterator[Shard]:
    """The shards of several sets, the first of each, the second of each, and so on: for sets derived from another."""
    for row in zip_longest(*(shards(one, size, workers) for one in sets)):
        yield from (shard for shard in row if shard is not None)
