"""Batches of an image set in a classifier's form, in the set's order, by as many workers as asked."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from oodbench.data.imageset import ImageSet
from oodbench.data.matching import ImageShape, match
from oodbench.errors import OodbenchError

Batch = tuple[Tensor, Tensor | None]


class _Batches(Dataset[Batch | OodbenchError]):
    """Item b is the b-th batch, or the error that reading it met."""

    def __init__(self, images: ImageSet, shape: ImageShape, batch_size: int) -> None:
        self.images, self.shape, self.batch_size = images, shape, batch_size

    def __len__(self) -> int:
        return math.ceil(len(self.images) / self.batch_size)

    def __getitem__(self, index: int) -> Batch | OodbenchError:
        # Batches of even size: a last one of a few images would be computed by other kernels than the rest.
        start, stop = (number * len(self.images) // len(self) for number in (index, index + 1))
        labels = self.images.labels
        try:
            matched = match(self.images.read(start, stop), self.shape)
        except OodbenchError as error:
            # Raised in a worker it would reach the user as that worker's traceback.
            return error
        return matched, None if labels is None else torch.from_numpy(labels[start:stop])


def batches(images: ImageSet, shape: ImageShape, batch_size: int, workers: int = 0) -> Iterator[Batch]:
    """uint8 images N×C×H×W of the form (C, H, W), and int64 labels or None; the same whatever the workers.

    Raises:
        OodbenchError: an image cannot be read.
    """
    # batch_size=None: the data set makes the batches itself, so that a whole batch is resized in one call.
    # A generator of its own: without one, DataLoader draws from torch's global one.
    loader = DataLoader(
        _Batches(images, shape, batch_size), batch_size=None, num_workers=workers, generator=torch.Generator()
    )
    for batch in loader:
        if isinstance(batch, OodbenchError):
            raise batch
        yield batch
