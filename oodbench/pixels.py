"""Image sets in memory as a training wants them: in the classifier's form, with labels, altered at random."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from oodbench.data.imageset import ImageSet
from oodbench.data.inputs import AnyForm, as_form
from oodbench.errors import OodbenchError
from oodbench.transfer import sent

CROP_PADDING = 4


@dataclass(frozen=True)
class Pixels:
    """An image set in memory, in the classifier's form: uint8 N×C×H×W, and int64 labels."""

    images: Tensor
    labels: Tensor


def in_memory(images: ImageSet, num_classes: int, form: AnyForm) -> Pixels:
    """A labelled image set in memory, in an input form.

    Raises:
        OodbenchError: there are no images, or labels are missing or are no classes.
    """
    if images.labels is None or len(images) == 0 or (images.labels < 0).any():
        raise OodbenchError(
            f"{images.name} ({images.origin}) has no images with labels, or not all are labelled: "
            f"a classifier is trained and judged on labelled images"
        )
    if images.labels.max() >= num_classes:
        raise OodbenchError(
            f"{images.name} has the label {images.labels.max()}, but the classifier is to have {num_classes} "
            f"classes (0 to {num_classes - 1})"
        )
    matched = torch.cat([as_form(form).pixels(chunk) for chunk in images.chunks()])
    return Pixels(matched, torch.from_numpy(np.asarray(images.labels, dtype=np.int64)))


def to_unit(images: Tensor, device: torch.device | str) -> Tensor:
    """uint8 images as float32 in [0, 1] on a device, in the order of memory that makes convolutions fast."""
    return images.to(device).contiguous(memory_format=torch.channels_last).to(torch.float32).div_(255)


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of uint8 images N×C×H×W, in units of [0, 1]."""
    # From the counts of the 256 values: exact, and without a float copy of all images.
    values = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for channel in images.unbind(dim=1):
        share = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        mean = float(share @ values)
        means.append(mean)
        # A constant channel carries nothing; 1 leaves it as it is.
        deviations.append(float(share @ (values - mean) ** 2) ** 0.5 or 1.0)
    return tuple(means), tuple(deviations)


def augmented(images: Tensor) -> Tensor:
    """Each image N×C×H×W shifted by up to 4 pixels, its margin mirrored, and flipped with probability ½.

    Draws from torch's global generator of random numbers on the CPU, wherever the images are.
    """
    count, _, height, width = images.shape
    rows = _mirrored(torch.arange(height) + _shifts(count, height), height)
    columns = _mirrored(torch.arange(width) + _shifts(count, width), width)
    columns = torch.where(torch.rand(count, 1) < 0.5, columns.flip(1), columns)
    rows, columns = (sent(indices, images.device) for indices in (rows, columns))
    # One gather for crop and flip together, over images whose channels lie side by side.
    pixels = images.permute(0, 2, 3, 1)
    each = torch.arange(count, device=images.device)
    moved = pixels[each[:, None, None], rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)


def _shifts(count: int, size: int) -> Tensor:
    padding = min(CROP_PADDING, size - 1)
    return torch.randint(-padding, padding + 1, (count, 1))


def _mirrored(indices: Tensor, size: int) -> Tensor:
    return (size - 1) - ((size - 1) - indices.abs()).abs()
