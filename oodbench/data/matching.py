"""Bringing stored images into a classifier's form: size and channels, by one rule (METHODS section 4)."""

from __future__ import annotations

import numpy as np
import torch
import torchvision.transforms.v2.functional as tvf
from torch import Tensor

from oodbench.data.imageset import Images

ImageShape = tuple[int, int, int]

# ITU-R 601 luminance, in thousandths.
LUMINANCE = (299, 587, 114)


def match(images: Images, shape: ImageShape) -> Tensor:
    """uint8 N×C×H×W in the form (C, H, W): resized bilinear with antialias and rounded; grey repeated to RGB,
    RGB reduced to luminance."""
    if isinstance(images, list):
        return torch.cat([match(image[None], shape) for image in images])
    tensor = torch.from_numpy(np.ascontiguousarray(images))
    tensor = tensor[:, None] if tensor.dim() == 3 else tensor.permute(0, 3, 1, 2)
    if tensor.shape[2:] != shape[1:]:
        # In float64 and rounded here: torch's own uint8 resize rounds differently from processor to processor.
        resized = tvf.resize(tensor.to(torch.float64), list(shape[1:]), antialias=True)
        tensor = resized.round().clamp(0, 255).to(torch.uint8)
    if tensor.shape[1] == 1 and shape[0] == 3:
        return tensor.repeat(1, 3, 1, 1)
    if tensor.shape[1] == 3 and shape[0] == 1:
        weights = torch.tensor(LUMINANCE, dtype=torch.int32).view(1, 3, 1, 1)
        # In whole numbers, with halves rounded up: the same on every processor.
        return ((tensor * weights).sum(dim=1, keepdim=True) + 500).div(1000, rounding_mode="floor").to(torch.uint8)
    return tensor.contiguous()


def describe_match(image: np.ndarray, shape: ImageShape) -> str:
    """What `match` does to an image like this one, in words; empty where it does nothing."""
    channels = 1 if image.ndim == 2 else image.shape[2]
    done = []
    if image.shape[:2] != shape[1:]:
        done.append(f"resized {image.shape[0]}×{image.shape[1]} → {shape[1]}×{shape[2]} (bilinear, antialias)")
    if channels == 1 and shape[0] == 3:
        done.append("grey repeated to RGB")
    if channels == 3 and shape[0] == 1:
        done.append("RGB reduced to luminance (ITU-R 601)")
    return ", ".join(done)
