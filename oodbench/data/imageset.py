"""ImageSet: a named, ordered, re-iterable set of images that knows its content hash and its origin."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from threading import Lock
from types import FunctionType
from typing import Protocol

import numpy as np

from oodbench.card_fields import NAME
from oodbench.data.damaged import DamagedImages
from oodbench.data.drawing import by_class
from oodbench.data.hashes import Hashes, Hashing, hashes_of, read_hashes, write_hashes
from oodbench.data.identity import Facts, identity_of
from oodbench.data.seeding import set_generator
from oodbench.errors import OodbenchError

Images = np.ndarray | list[np.ndarray]
"""uint8 images as they are stored: an array N×H×W (grey) or N×H×W×3 (RGB), or a list of such single images
where sizes differ."""

CHUNK = 256
"""Images read at a time where a whole set is walked through."""

MOST_CLASSES = 100_000
"""More classes than any classifier has: a larger label is a mistake. ImageNet-21k has 21,841."""

LOOKED_AT = 10_000
"""Further images that are tried where one is damaged, so that all are reported together."""

Tried = Callable[[Callable[[int], dict[str, str]], range], Iterable[dict[str, str]]]

_LOOKING = Lock()
"""Held while further images are tried, so that threads which meet damaged ones do not each try them all."""


class Source(Protocol):
    """Where the pixels of a set come from; reads by index, as often as asked, always the same."""

    def __len__(self) -> int: ...

    def read(self, indices: Sequence[int]) -> Images:
        """The images of these indices, in this order."""
        ...

    def identity(self, indices: Sequence[int]) -> str | None:
        """What changes whenever the pixels of these images could have changed, found without reading a pixel.

        None where nothing does, or where a file is gone (to read it says so).
        """
        ...


@dataclass(frozen=True, eq=False)
class ArraySource:
    """Images in memory: uint8 N×H×W or N×H×W×3."""

    images: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Sequence[int]) -> Images:
        return self.images[np.asarray(indices, dtype=np.int64)]

    def identity(self, indices: Sequence[int]) -> None:
        return None


_LOADING = Lock()
"""Held while a file is loaded, so that threads which read one set do not each load it."""


@dataclass(frozen=True, eq=False)
class FileSource:
    """Images of files that are read as a whole, at the first read.

    Attributes:
        load: gives them all, uint8 N×H×W or N×H×W×3; must be picklable.
        count: N.
        facts: of the files that decide what `load` gives.
        module: whose code does.
    """

    load: Callable[[], np.ndarray]
    count: int
    facts: tuple[Facts, ...]
    module: str

    def __len__(self) -> int:
        return self.count

    def __getstate__(self) -> dict[str, object]:
        # Read anew by whoever gets it, not sent along.
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def images(self) -> np.ndarray:
        """All images."""
        return self.load()

    def read(self, indices: Sequence[int]) -> Images:
        with _LOADING:
            images = self.images
        return images[np.asarray(indices, dtype=np.int64)]

    def identity(self, indices: Sequence[int]) -> str | None:
        return identity_of((self.facts, list(indices)), [self.module])


GENERATORS = tuple(
    f"oodbench.data.{name}"
    for name in ("seeding", "noise", "structured", "photos", "matching", "preprocess", "transform")
)
"""Modules whose code makes images, and the packages that they make them with."""
GENERATED_WITH = ("numpy", "scipy", "scikit-learn", "torch")


@dataclass(frozen=True)
class GeneratedSource:
    """Images made when they are read; image i is `make(i)`, uint8 H×W or H×W×3, and depends on i alone.

    `make` must be picklable: a small frozen dataclass with `__call__`.
    """

    make: Callable[[int], np.ndarray]
    count: int

    def __len__(self) -> int:
        return self.count

    def read(self, indices: Sequence[int]) -> Images:
        return np.stack([self.make(int(index)) for index in indices])

    def identity(self, indices: Sequence[int]) -> str | None:
        if not is_dataclass(self.make):
            return None
        values = [(field.name, getattr(self.make, field.name)) for field in fields(self.make)]
        told = [(name, _told(value)) for name, value in values]
        if any(text is None for _, text in told):
            return None
        modules = {value.__module__ for _, value in values if isinstance(value, FunctionType)}
        modules.add(type(self.make).__module__)
        facts = (type(self.make).__qualname__, told, [int(index) for index in indices])
        return identity_of(facts, (*GENERATORS, *sorted(modules)), GENERATED_WITH)


def _told(value: object) -> str | None:
    """A setting in full, the same in every process; None where its repr does not tell it (an array, a lambda)."""
    if isinstance(value, FunctionType):
        return None if "<" in value.__qualname__ else f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, tuple):
        parts = [_told(one) for one in value]
        return None if None in parts else repr(parts)
    return repr(value) if isinstance(value, str | int | float | None) else None


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
        prepared: whether the images were made in the classifier's input form, so that nothing is done to them.
        classes: what the labels 0, 1, … are called, empty where that is not known.
    """

    name: str
    source: Source
    origin: str
    labels: np.ndarray | None = None
    group: str = ""
    notes: tuple[str, ...] = ()
    indices: np.ndarray | None = None
    prepared: bool = False
    classes: tuple[str, ...] = ()
    _hashes: list[Hashes] = field(default_factory=list, init=False, repr=False)
    _damaged: dict[str, str] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if not NAME.holds(self.name):
            raise OodbenchError(f"a set cannot be called {self.name!a}: give it {NAME.words}, as in CALLED=npz:PATH")
        if len(self) == 0:
            raise OodbenchError(f"{self.name} ({self.origin}) holds no images")
        if self.labels is not None and len(self.labels) != len(self):
            raise OodbenchError(
                f"{self.name} ({self.origin}) has {len(self)} images but {len(self.labels)} labels; the file is damaged"
            )

    def __len__(self) -> int:
        return len(self.source) if self.indices is None else len(self.indices)

    def read(self, start: int, stop: int) -> Images:
        """The images start … stop−1, as they are stored.

        Raises:
            DamagedImages: some cannot be read; all that are found among these and those that follow.
        """
        # Found before any pixel is read: a file that changes meanwhile is not taken for the one that was read.
        _ = self.identity
        try:
            return self._read(start, stop)
        except DamagedImages as error:
            raise self.all_damaged(error.found, stop) from error

    def _read(self, start: int, stop: int) -> Images:
        chosen = range(start, min(stop, len(self)))
        return self.source.read(chosen if self.indices is None else self.indices[chosen.start : chosen.stop].tolist())

    def image(self, index: int) -> np.ndarray:
        """One image, as it is stored.

        Raises:
            DamagedImages: it cannot be read; no other is tried.
        """
        return self._read(index, index + 1)[0]

    def damaged(self, index: int) -> dict[str, str]:
        """An image that cannot be read, and why; empty where it can."""
        try:
            self.image(index)
        except DamagedImages as error:
            return dict(error.found)
        return {}

    def all_damaged(self, found: Mapping[str, str], start: int, tried: Tried = map) -> DamagedImages:
        """The error for damaged images that were found, and for those from `start` on.

        Args:
            tried: `map`, or what does the same in several processes.
        """
        stop = min(len(self), start + LOOKED_AT)
        with _LOOKING:
            if not self._damaged:
                for more in tried(self.damaged, range(start, stop)):
                    self._damaged.update(more)
            together = {**found, **self._damaged}
        return DamagedImages.of(together, "" if stop == len(self) else f" (images from {stop:,} on were not tried)")

    def chunks(self) -> Iterator[Images]:
        """All images in order, some at a time; a walk to the end leaves the set's hashes."""
        hashing = Hashing(len(self)) if self.known_hashes is None else None
        for start in range(0, len(self), CHUNK):
            images = self.read(start, start + CHUNK)
            if hashing is not None:
                hashing.update(start, hashes_of(images))
            yield images
        if hashing is not None and (found := hashing.finished()) is not None:
            self.remember(found)

    def file(self, index: int) -> str | None:
        """The file of an image, as it is called below its folder; None where images have none of their own."""
        number = index if self.indices is None else int(self.indices[index])
        files = getattr(self.source, "files", None)
        return str(files[number]) if files else None

    def place(self, index: int) -> str:
        """Which image that is: its number in the set, and its file where it has one."""
        file = self.file(index)
        return f"image {index} of {self.name}" + (f" ({file})" if file else "")

    def class_name(self, label: int) -> str:
        """What a label is called; its number where that is not known."""
        return (self.classes[label] if 0 <= label < len(self.classes) else "") or str(label)

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

    def drawn_by_class(self, count: int, seed: int) -> ImageSet:
        """`count` of the images, of each class its share, and one at least where that is possible; in order.

        A set without labels is `drawn`; one that has no more than `count` images is returned whole.
        """
        if self.labels is None or count >= len(self):
            return self.drawn(count, seed)
        kept = by_class(self.labels, count, set_generator(seed, f"draw {self.name}"))
        empty = len(np.unique(self.labels)) - len(np.unique(self.labels[kept]))
        left_empty = f"; {empty:,} of {len(np.unique(self.labels)):,} classes are left empty" if empty else ""
        note = f"{count} of {len(self)} images, drawn class by class with seed {seed}{left_empty}"
        return self.subset(kept, note)

    @cached_property
    def identity(self) -> str | None:
        """What changes whenever these pixels could have changed, found without reading one; None: nothing does."""
        return self.source.identity(range(len(self.source)) if self.indices is None else self.indices.tolist())

    @property
    def hashes(self) -> Hashes:
        """The hashes of the set: those known, else those of one walk through it."""
        known = self.known_hashes
        if known is None:
            for _ in self.chunks():
                pass
            known = self._hashes[0]
        return known

    def remember(self, hashes: Hashes) -> None:
        """The hashes of this set, from whoever read all its images; kept on disk too where it has an identity."""
        self._hashes[:] = [hashes]
        if self.identity is not None:
            write_hashes(self.identity, hashes)

    @property
    def known_hashes(self) -> Hashes | None:
        """The hashes, where they are known unread: from whoever read the images in this process or another."""
        if not self._hashes and self.identity is not None:
            kept = read_hashes(self.identity)
            self._hashes[:] = [kept] if kept is not None else []
        return self._hashes[0] if self._hashes else None

    @property
    def content_hash(self) -> str:
        """SHA-256 over the count and the hashes of the images, in order.

        It does not depend on the form in which images are kept: a folder and an npz of the same pixels agree.
        """
        return self.hashes.content_hash

    @property
    def image_hashes(self) -> tuple[bytes, ...]:
        """SHA-256 of each image's shape and uint8 pixels, in order, before any matching."""
        return tuple(map(bytes, self.hashes.image_hashes))

    @cached_property
    def labels_hash(self) -> str | None:
        """SHA-256 of the labels, or None."""
        if self.labels is None:
            return None
        return hashlib.sha256(np.ascontiguousarray(self.labels, dtype=np.int64).data).hexdigest()


def shared_images_note(
    fit: Sequence[bytes] | np.ndarray,
    test: Sequence[bytes] | np.ndarray,
    fit_name: str = "the images to fit on",
    test_name: str = "test images",
) -> str:
    """How many images of one set are also in another, in words, from the hashes of each; empty for none.

    The hashes of single images: `ImageSet.image_hashes`, or uint8 N×32 as in `Hashes`.
    """
    fitted_on = set(map(bytes, fit))
    shared = sum(bytes(image) in fitted_on for image in test)
    return f"{shared:,} of the {len(test):,} {test_name} are also among {fit_name}" if shared else ""
