"""Walking through image sets, shard by shard: every image is read once at most, and hashed on the way."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from math import prod
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from oodbench.data.damaged import DamagedImages
from oodbench.data.hashes import Hashing, hashes_of
from oodbench.data.imageset import Images, ImageSet, Source, stacked
from oodbench.data.inputs import AnyForm, Form, as_form, brought, describe
from oodbench.data.loader import PIECE, read_ahead
from oodbench.data.preprocess import Preprocess
from oodbench.data.workers import PIECE as SENT
from oodbench.data.workers import Piece, Work, Workers, alike, decodes, may_fork, workers_for
from oodbench.progress import counted

KEPT_BYTES = 1 << 30
"""Of stored images that are at hand at a time, of a source's recent ones and of a shard each."""


AHEAD_BYTES = 1 << 28
"""Of what processes have made of images before it was asked for."""


@dataclass(frozen=True, eq=False)
class RecentSource:
    """A source that has the `count` images which it read last at hand, or as many as `KEPT_BYTES` hold: sets derived
    from them read no file again."""

    source: Source
    count: int
    recent: dict[int, np.ndarray] = field(default_factory=dict)
    formed: dict[Form, tuple[dict[int, int], Tensor]] = field(default_factory=dict)
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

    def keep(self, indices: Sequence[int], formed: Mapping[Form, Tensor]) -> None:
        """What was made of these images, instead of what was made before."""
        rows = {int(index): row for row, index in enumerate(indices)}
        with self.lock:
            self.formed.clear()
            self.formed.update({form: (rows, made) for form, made in formed.items()})

    def pixels(self, indices: Sequence[int], form: Form) -> Tensor:
        """The images in a form as `Form.pixels` gives them; made anew where they are not at hand."""
        with self.lock:
            rows, made = self.formed.get(form, ({}, torch.empty(0)))
        if not all(int(index) in rows for index in indices):
            return form.pixels(self.read(indices))
        chosen = made[[rows[int(index)] for index in indices]]
        return (chosen * 255).round().clamp(0, 255).to(torch.uint8) if chosen.is_floating_point() else chosen

    @property
    def decodes(self) -> bool:
        """See `workers.decodes`."""
        return getattr(self.source, "decodes", False)

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
class Walk:
    """A way through a set, shard by shard: who reads, in which forms, and which hashes were found on it.

    Sets that are decoded are so image by image, where forms are wanted, and nothing is kept of an image but these: by
    processes, where that pays. Once something was asked for they go on with what follows, one shard at most.

    Attributes:
        size: images of a shard.
        workers: processes that decode, threads that read what is not decoded; None is as many as pay.
        forms: those in which the images will be asked for.
        stop: where the walk ends; None is with the set.
    """

    images: ImageSet
    size: int
    workers: int | None = None
    forms: tuple[Form, ...] = ()
    stop: int | None = None
    hashing: Hashing = field(init=False)
    _readers: Workers | None = None
    _begun: deque[tuple[int, Future[Piece]]] = field(default_factory=deque)
    _next: int = 0

    def __post_init__(self) -> None:
        self.hashing = Hashing(len(self.images))
        self.stop = len(self.images) if self.stop is None else self.stop

    @property
    def threads(self) -> int:
        """Those that read what is not decoded."""
        return workers_for(self.images, self.workers)

    @property
    def in_pieces(self) -> bool:
        """Whether the images come in the forms alone."""
        return decodes(self.images) and bool(self.forms) and (may_fork() or not self.threads)

    def shard(self, start: int) -> Shard:
        """The shard that begins there."""
        return Shard(self, start, min(start + self.size, len(self.images)))

    def pieces(self, start: int, stop: int) -> Iterator[tuple[int, tuple[int, Piece]]]:
        """The images start … stop−1 of a shard, piece by piece: how many, and where they begin and what they are.

        Raises:
            DamagedImages: some cannot be read; all that are found among these and those that follow.
        """
        for at in range(start, stop, SENT):
            end = min(at + SENT, stop)
            try:
                yield end - at, (at, self._piece(at, end))
            except DamagedImages as error:
                tried = self._readers.damaged if self._readers else map
                raise self.images.all_damaged(error.found, end, tried) from error

    def close(self) -> None:
        """End the processes."""
        self._begun.clear()
        if self._readers is not None:
            self._readers.close()
            self._readers = None

    def _piece(self, start: int, stop: int) -> Piece:
        if not self.threads:
            return self._work.piece(start, stop)
        if self._readers is None:
            self._readers = Workers(self._work, self.threads)
        if not self._begun or self._begun[0][0] != start:
            for _, one in self._begun:
                one.cancel()
            self._begun.clear()
            self._next = start
        assert self.stop is not None
        while self._next < max(self.stop, stop) and self._next < start + self._ahead:
            end = min(self._next + SENT, (self._next // self.size + 1) * self.size, len(self.images))
            self._begun.append((self._next, self._readers.begin(self._next, end)))
            self._next = end
        return self._readers.result(self._begun.popleft()[1])

    @property
    def _ahead(self) -> int:
        """Images that are made at a time: enough for a shard to be there when the network is done with the last one."""
        of_one = sum(prod(form.shape) * (1 if isinstance(form, Preprocess) else 4) for form in self.forms)
        return max(2 * self.threads * SENT, min(self.size, AHEAD_BYTES // of_one))

    @property
    def _work(self) -> Work:
        images, source = self.images, self.images.source
        # Sets derived from these are made of what `RecentSource.keep` is given, but for those of stored images.
        if isinstance(source, RecentSource) and (self.threads or all(form.has_pixels for form in self.forms)):
            images = replace(images, source=source.source)
        return Work(images, self.forms, self.images.known_hashes is None)


@dataclass(eq=False)
class Shard:
    """Images start … stop−1 of a set; read when their pixels are asked for, or, where it is not known, their hash."""

    walk: Walk
    start: int
    stop: int
    _pixels: Images | None = None
    _shape: tuple[int, ...] = ()
    _matched: dict[Form, Tensor] = field(default_factory=dict)
    _digest: str = ""

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def images(self) -> ImageSet:
        """The set."""
        return self.walk.images

    @property
    def is_read(self) -> bool:
        """Whether the images are at hand."""
        return self._pixels is not None or bool(self._matched)

    @property
    def pixels(self) -> Images:
        """The images as they are stored."""
        if self._pixels is None:
            (self._pixels,) = read_ahead(self.images, [(self.start, self.stop)], self.walk.threads)
        return self._pixels

    @property
    def digest(self) -> str:
        """SHA-256 over the hashes of these images."""
        if not self._digest:
            self._digest = hashlib.sha256(self.hashes.tobytes()).hexdigest()
        return self._digest

    @property
    def hashes(self) -> np.ndarray:
        """Those of these images, uint8 N×32."""
        if (known := self.images.known_hashes) is not None:
            return known.image_hashes[self.start : self.stop]
        if (found := self.walk.hashing.part(self.start, self.stop)) is None:
            self._read()
            found = self.walk.hashing.part(self.start, self.stop)
        assert found is not None
        return found

    def matched(self, form: AnyForm) -> Tensor:
        """The images in a form, N×C×H×W, see `brought`."""
        form = as_form(form)
        if form not in self._matched and (form in self.walk.forms or not self.walk.in_pieces):
            self._read(form)
        if form not in self._matched:
            self._matched[form] = brought(self.images, self.pixels, form)
        return self._matched[form]

    def matching(self, form: AnyForm) -> str:
        """What is done to the first of these images, in words; the images are read."""
        shape = self._shape or self.pixels[0].shape
        return describe(self.images, np.broadcast_to(np.uint8(0), shape), form)

    def _read(self, *more: Form) -> None:
        """Have the images at hand, in the forms alone or, where they are not decoded and small, as they are stored."""
        if self.walk.in_pieces:
            self._read_pieces()
        elif self._pixels is None:
            self._read_stored(tuple({*self.walk.forms, *more}))
        else:
            self._hash(self.start, self._pixels)

    def _hash(self, start: int, images: Images) -> None:
        if self.images.known_hashes is None:
            self.walk.hashing.update(start, hashes_of(images))

    def _read_pieces(self) -> None:
        parts: list[list[Tensor]] = [[] for _ in self.walk.forms]
        what = f"reading {self.images.name}"
        for at, piece in counted(self.walk.pieces(self.start, self.stop), what, len(self.images), self.start):
            self._shape = self._shape or piece.shape
            if len(piece.hashes):
                self.walk.hashing.update(at, piece.hashes)
            for of_form, made in zip(parts, piece.formed, strict=True):
                of_form.append(torch.from_numpy(made))
        self._matched = {form: torch.cat(alike(made)) for form, made in zip(self.walk.forms, parts, strict=True)}
        source, indices = self.images.source, self.images.indices
        if isinstance(source, RecentSource):
            chosen = range(self.start, self.stop) if indices is None else indices[self.start : self.stop].tolist()
            source.keep(chosen, self._matched)

    def _read_stored(self, forms: tuple[Form, ...]) -> None:
        spans = [(at, min(at + PIECE, self.stop)) for at in range(self.start, self.stop, PIECE)]
        kept: list[np.ndarray] = []
        made: dict[Form, list[Tensor]] = {form: [] for form in forms}
        size, at, too_much = 0, self.start, False
        for part in read_ahead(self.images, spans, self.walk.threads):
            self._hash(at, part)
            at += len(part)
            self._shape = self._shape or part[0].shape
            kept.extend(part)
            size += sum(image.nbytes for image in part)
            too_much = too_much or size > KEPT_BYTES
            if too_much:
                for form, parts in made.items():
                    parts.append(brought(self.images, stacked(kept), form))
                kept = []
        if too_much:
            self._matched |= {form: torch.cat(alike(parts)) for form, parts in made.items()}
        else:
            self._pixels = stacked(kept)


def shards(
    images: ImageSet, size: int, workers: int | None = None, forms: Sequence[Form] = ()
) -> Generator[Shard, None, None]:
    """The shards of a set in order; whoever asks each of them for its digest leaves the set's hashes known."""
    with closing(Walk(images, size, workers, tuple(forms))) as walk:
        for start in range(0, len(images), size):
            yield walk.shard(start)
        if (found := walk.hashing.finished()) is not None:
            images.remember(found)


def side_by_side(
    sets: Sequence[ImageSet], size: int, workers: int | None = None, forms: Sequence[Form] = ()
) -> Generator[Shard, None, None]:
    """The shards of several sets, the first of each, the second of each, and so on: for sets derived from another."""
    with ExitStack() as stack:
        walks = [stack.enter_context(closing(shards(one, size, workers, forms))) for one in sets]
        for row in zip_longest(*walks):
            yield from (shard for shard in row if shard is not None)
