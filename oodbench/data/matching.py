"""Bringing stored images into a form by stretching: size and channels, by one rule (METHODS section 4)."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from oodbench.data.imageset import Images

ImageShape = tuple[int, int, int]

# ITU-R 601 luminance, in thousandths.
LUMINANCE = (299, 587, 114)

MOST_BYTES = 64 << 20
"""Of float64 images that are resized at a time, before and after together."""


def match(images: Images, shape: ImageShape) -> Tensor:
    """uint8 N×C×H×W in the form (C, H, W): resized bilinear with antialias and rounded; grey repeated to RGB,
    RGB reduced to luminance."""
    if isinstance(images, list):
        return torch.cat([match(image[None], shape) for image in images])
    tensor = channels_first(images)
    if tensor.shape[2:] != shape[1:]:
        tensor = resized(tensor, shape[1:])
    return in_channels(tensor, shape[0])


def channels_first(images: np.ndarray) -> Tensor:
    """Stored images, N×H×W or N×H×W×3, as N×C×H×W."""
    tensor = torch.from_numpy(np.require(images, requirements=("C", "W")))
    return tensor[:, None] if tensor.dim() == 3 else tensor.permute(0, 3, 1, 2)


def in_channels(tensor: Tensor, channels: int) -> Tensor:
    """uint8 N×C×H×W with so many channels, 1 or 3."""
    if tensor.shape[1] == 1 and channels == 3:
        return tensor.repeat(1, 3, 1, 1)
    if tensor.shape[1] == 3 and channels == 1:
        weights = torch.tensor(LUMINANCE, dtype=torch.int32).view(1, 3, 1, 1)
        # In whole numbers, with halves rounded up: the same on every processor.
        return ((tensor * weights).sum(dim=1, keepdim=True) + 500).div(1000, rounding_mode="floor").to(torch.uint8)
    return tensor.contiguous()


def resized(images: Tensor, size: tuple[int, int], mode: str = "bilinear", antialias: bool = True) -> Tensor:
    """uint8 N×C×H×W of another H×W, slice by slice, so that large photographs do not fill the memory."""
    pixels = math.prod(images.shape[1:]) + images.shape[1] * math.prod(size)
    at_a_time = max(1, MOST_BYTES // (torch.float64.itemsize * pixels))
    # In float64 and rounded here: torch's own uint8 resize rounds differently from processor to processor.
    slices = [
        interpolate(part.to(torch.float64), size, mode=mode, antialias=antialias).round().clamp(0, 255).to(torch.uint8)
        for part in images.split(at_a_time)
    ]
    return torch.cat(slices)


def describe_match(image: np.ndarray, shape: ImageShape) -> str:
    """What `match` does to an image like this one, in words; empty where it does nothing."""
    done = []
    if image.shape[:2] != shape[1:]:
        done.append(f"resized {image.shape[0]}×{image.shape[1]} → {shape[1]}×{shape[2]} (bilinear, antialias)")
    return ", ".join([*done, *describe_channels(image, shape[0])])


def describe_channels(image: np.ndarray, wanted: int) -> list[str]:
    """What `in_channels` does to an image like this one, in words; empty where it does nothing."""
    channels = 1 if image.ndim == 2 else image.shape[2]
    if channels == 1 and wanted == 3:
        return ["grey repeated to RGB"]
    return ["RGB reduced to luminance (ITU-R 601)"] if channels == 3 and wanted == 1 else []
