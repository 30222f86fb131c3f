"""Images of a set in its order, read ahead by as many threads as asked: as stored, or in a classifier's form."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

import torch
from torch import Tensor

from oodbench.data.imageset import Images, ImageSet, stacked
from oodbench.data.inputs import AnyForm, brought

Batch = tuple[Tensor, Tensor | None]

AHEAD = 2
"""Reads that wait or are done per thread, beyond the one whose turn it is."""

PIECE = 64
"""Images that a thread reads at a time where they are wanted as stored."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def batches(images: ImageSet, form: AnyForm, batch_size: int, workers: int = 0) -> Iterator[Batch]:
    """Images N×C×H×W in a form, see `brought`, and int64 labels or None; the same whatever the workers.

    Raises:
        OodbenchError: an image cannot be read.
    """
    count = math.ceil(len(images) / batch_size)

    def batch(index: int) -> Batch:
        # Batches of even size: a last one of a few images would be computed by other kernels than the rest.
        start, stop = (number * len(images) // count for number in (index, index + 1))
        labels = None if images.labels is None else torch.from_numpy(images.labels[start:stop])
        return brought(images, images.read(start, stop), form), labels

    return _in_order(batch, range(count), workers)


def read_ahead(images: ImageSet, spans: Iterable[tuple[int, int]], workers: int = 0) -> Iterator[Images]:
    """The images start … stop−1 of each span, as they are stored; the next are read while one is worked on.

    Raises:
        OodbenchError: an image cannot be read.
    """
    pieces = [
        (number, at, min(at + PIECE, stop))
        for number, (start, stop) in enumerate(spans)
        for at in range(start, stop, PIECE)
    ]
    with closing(_in_order(lambda piece: (piece[0], images.read(*piece[1:])), pieces, workers)) as read:
        for _, parts in itertools.groupby(read, key=lambda part: part[0]):
            yield stacked([image for _, part in parts for image in part])


def _in_order(work: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Generator[Result, None, None]:
    """What `map` gives, worked ahead by threads, which stop where the caller does."""
    if workers == 0:
        yield from map(work, items)
        return
    threads = ThreadPoolExecutor(workers, thread_name_prefix="oodbench reads")
    begun: deque[Future[Result]] = deque()
    try:
        for item in items:
            begun.append(threads.submit(work, item))
            if len(begun) > AHEAD * workers:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        threads.shutdown(cancel_futures=True)
