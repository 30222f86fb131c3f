"""Processes that decode the images of a set, hash them, and bring them into the forms in which they are wanted."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from oodbench.data.damaged import DamagedImages
from oodbench.data.hashes import image_hash
from oodbench.data.imageset import ImageSet
from oodbench.data.inputs import Form, brought
from oodbench.errors import OodbenchError

MOST = 8
"""Processes where nobody says how many; who has more cores, and a GPU that waits for them, says so."""

SMALL = 256
"""Images of the smallest set for which processes are started where nobody says so."""

PIECE = 8
"""Images that a process reads at a time."""

FORKS = sys.platform == "linux"
"""Whether processes are forked, as those of a torch DataLoader are: they know a user's function or data set of a
notebook, a script without a main guard is not run again, and they are there at once. Elsewhere threads read."""


class Piece(NamedTuple):
    """Some images of a set, one after another.

    Attributes:
        hashes: uint8 N×32; empty where they were known.
        formed: N×C×H×W in each form, as a NumPy array.
        shape: of the first image as it is stored.
    """

    hashes: np.ndarray
    formed: tuple[np.ndarray, ...]
    shape: tuple[int, ...]


class Work(NamedTuple):
    """What is to be made of the images of a set: their hashes, where they are not known, and forms."""

    images: ImageSet
    forms: tuple[Form, ...]
    hashed: bool

    def piece(self, start: int, stop: int) -> Piece:
        """The images start … stop−1, one at a time: photographs are large, and what is made of them is small.

        Raises:
            DamagedImages: some cannot be read; all of these that cannot.
        """
        hashes: list[bytes] = []
        formed: list[list[Tensor]] = [[] for _ in self.forms]
        shape: tuple[int, ...] = ()
        found: dict[str, str] = {}
        for index in range(start, stop):
            try:
                image = self.images.image(index)
            except DamagedImages as error:
                found |= error.found
                continue
            shape = shape or image.shape
            if self.hashed:
                hashes.append(image_hash(image))
            for form, made in zip(self.forms, formed, strict=True):
                made.append(brought(self.images, image[None], form))
        if found:
            raise DamagedImages.of(found)
        arrays = tuple(torch.cat(alike(made)).numpy() for made in formed)
        return Piece(np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 32), arrays, shape)


def alike(parts: list[Tensor]) -> list[Tensor]:
    """Parts of uint8 images as those in [0, 1] that they are, where others are such (see `Transform`)."""
    if all(part.dtype == torch.uint8 for part in parts):
        return parts
    return [part.div(255) if part.dtype == torch.uint8 else part for part in parts]


def default_workers() -> int:
    """Processes that decode images where nobody says how many: as the cores of this one, 8 at most."""
    cores = len(os.sched_getaffinity(0)) if FORKS else os.cpu_count() or 1
    share = cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(share, MOST) if share > 1 else 0


def workers_for(images: ImageSet, asked: int | None) -> int:
    """How many processes, or threads where there are none, read a set.

    Args:
        asked: by the user; None is as many as pay, for sets that are decoded and are not small.
    """
    if asked is not None:
        return asked
    return default_workers() if decodes(images) and len(images) >= SMALL else 0


def decodes(images: ImageSet) -> bool:
    """Whether images of the set are decoded, so that reading one takes longer than to send it."""
    return getattr(images.source, "decodes", False)


def may_fork() -> bool:
    """Whether this process can have others that read for it; one of a multiprocessing pool can not."""
    return FORKS and not multiprocessing.current_process().daemon


class Workers:
    """Processes at some work; they end when it is closed, or when this process does."""

    def __init__(self, work: Work, count: int) -> None:
        # Found before any pixel is read: a file that changes meanwhile is not taken for the one that was read.
        _ = work.images.identity
        self.name = work.images.name
        context = multiprocessing.get_context("fork")
        self._pool = ProcessPoolExecutor(count, context, _begin, (work, os.getpid()))

    def begin(self, start: int, stop: int) -> Future[Piece]:
        """Have the images start … stop−1 read."""
        with warnings.catch_warnings(), self._alive():
            # Of a fork beside threads: these processes decode, and take no lock of this one's.
            warnings.simplefilter("ignore", DeprecationWarning)
            return self._pool.submit(_piece, start, stop)

    def result(self, begun: Future[Piece]) -> Piece:
        """What came of it.

        Raises:
            DamagedImages: some cannot be read.
            OodbenchError: a process has ended.
        """
        with self._alive():
            return begun.result()

    def damaged(self, tried: Callable[[int], dict[str, str]], indices: Iterable[int]) -> Iterator[dict[str, str]]:
        """What `map(tried, indices)` gives; `tried` is `ImageSet.damaged` of the images."""
        with self._alive():
            yield from self._pool.map(_damaged, indices, chunksize=PIECE)

    def close(self) -> None:
        """End them, when each is done with the piece that it is at."""
        self._pool.shutdown(cancel_futures=True)

    @contextmanager
    def _alive(self) -> Iterator[None]:
        try:
            yield
        except BrokenProcessPool as error:
            raise OodbenchError(
                f"a process that read images of {self.name} has ended: it was killed, or memory ran out; have fewer "
                f"of them, --workers 1, or none, --workers 0. What was done is in the store"
            ) from error


_WORK: list[Work] = []
"""In a worker, what it was forked for."""


def _begin(work: Work, parent: int) -> None:
    _WORK[:] = [work]
    # Ctrl-C is for the parent, which ends the others; how it takes SIGTERM is its own.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when its parent was killed, which could not tell it."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _piece(start: int, stop: int) -> Piece:
    return _WORK[0].piece(start, stop)


def _damaged(index: int) -> dict[str, str]:
    return _WORK[0].images.damaged(index)
