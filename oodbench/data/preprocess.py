"""How a stored image becomes a classifier's input: a record of size, kernel and crop, or a callable of the user's.

The callable is in `transform`; both have the same attributes, and nothing else is asked for (see `inputs`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

from oodbench.data.identity import identity_of
from oodbench.data.imageset import Images
from oodbench.data.matching import (
    ImageShape,
    channels_first,
    describe_channels,
    describe_match,
    in_channels,
    match,
    resized,
)
from oodbench.errors import OodbenchError, unknown_name

Size = tuple[int, int]

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
}

KERNELS = {
    "pil": "as PIL does it",
    "tensor": "on tensors, with antialias",
    "unfiltered": "on tensors, without antialias",
}
"""What resizes; those on tensors compute in float64 and round, so that bytes do not depend on the processor."""

LARGEST_MEAN, LARGEST_STD = 1.0, 10.0
"""Of a normalisation of pixels in [0, 1]: no mean is larger; a larger std would leave no contrast at all."""

ON_TENSORS = ("nearest", "bilinear", "bicubic")


@dataclass(frozen=True)
class Preprocess:
    """How a stored image becomes a classifier's input.

    Attributes:
        resize: the shorter side to so many pixels, or exactly (H, W); None leaves the size.
        crop: the middle, (H, W) or a square's side; where an image is smaller it is padded with black, as torchvision
            does. None crops nothing, and then `resize` must be (H, W).
        interpolation: a key of `INTERPOLATIONS`.
        kernel: a key of `KERNELS`.
        mean, std: of the input per channel, in units of [0, 1] pixels, applied on the device; one serves all channels.
        channels: 1 or 3.
        origin: who says so, in words; decides nothing.

    Raises:
        OodbenchError: it tells no size, or a value is impossible.
    """

    resize: int | Size | None = None
    crop: int | Size | None = None
    interpolation: str = "bilinear"
    kernel: str = "pil"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    channels: int = 3
    origin: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.crop, int):
            object.__setattr__(self, "crop", (self.crop, self.crop))
        for name in ("resize", "crop"):
            value = getattr(self, name)
            if isinstance(value, Sequence):
                object.__setattr__(self, name, tuple(value))
            sides = (value,) if isinstance(value, int) else value if value is not None else ()
            if len(sides) > 2 or not all(isinstance(side, int) and side > 0 for side in sides):
                raise OodbenchError(f"{name} is one number of pixels or two, from 1 up, not {value!r}")
        if self.crop is None and not isinstance(self.resize, tuple):
            raise OodbenchError(
                "images of different sizes do not fit into one batch: give a crop, or a size H×W to resize to"
            )
        if self.interpolation not in INTERPOLATIONS:
            raise unknown_name("interpolation", self.interpolation, INTERPOLATIONS)
        if self.kernel not in KERNELS:
            raise unknown_name("kernel of resizing", self.kernel, KERNELS)
        if self.kernel != "pil" and self.interpolation not in ON_TENSORS:
            raise OodbenchError(f"there is no {self.interpolation} on tensors: {', '.join(ON_TENSORS)}, or kernel pil")
        for name in ("mean", "std"):
            object.__setattr__(self, name, per_channel(getattr(self, name), self.channels, name))
        if not all(value > 0 for value in self.std):
            raise OodbenchError(f"the standard deviations of the input normalisation must be positive: {self.std}")
        refuse_bytes(self.mean, self.std)

    def __call__(self, images: Images) -> Tensor:
        """Stored images, uint8, as uint8 N×C×H×W, image by image: the same in every batch."""
        if self.is_stretched:
            return match(images, self.shape)
        return torch.cat([self._one(image) for image in images])

    def _one(self, image: np.ndarray) -> Tensor:
        tensor = channels_first(image[None])
        # What is reduced to grey is so before it is resized, as PIL users do it; what is repeated is cheaper after.
        tensor = in_channels(tensor, min(self.channels, tensor.shape[1]))
        size = self._size((tensor.shape[2], tensor.shape[3]))
        if size != tuple(tensor.shape[2:]):
            tensor = self._resized(tensor, size)
        return in_channels(_cropped(tensor, self.crop) if isinstance(self.crop, tuple) else tensor, self.channels)

    def _size(self, stored: Size) -> Size:
        """To which an image is resized; the longer side is cut to whole pixels, as in torchvision."""
        if not isinstance(self.resize, int):
            return self.resize or stored
        long = int(self.resize * max(stored) / min(stored))
        return (self.resize, long) if stored[0] <= stored[1] else (long, self.resize)

    def _resized(self, tensor: Tensor, size: Size) -> Tensor:
        if self.kernel == "pil":
            array = (tensor[0, 0] if tensor.shape[1] == 1 else tensor[0].permute(1, 2, 0)).contiguous().numpy()
            picture = Image.fromarray(array).resize(size[::-1], INTERPOLATIONS[self.interpolation])
            return channels_first(np.asarray(picture)[None].copy())
        filtered = self.kernel == "tensor" and self.interpolation != "nearest"
        return resized(tensor, size, self.interpolation, filtered)

    @property
    def shape(self) -> ImageShape:
        """(C, H, W) of what it gives."""
        size = self.crop or self.resize
        assert isinstance(size, tuple)
        return (self.channels, *size)

    @property
    def is_stretched(self) -> bool:
        """Whether it is the default for networks that were trained on small images, see `stretched`."""
        return (self.crop, self.interpolation, self.kernel) == (None, "bilinear", "tensor")

    @property
    def form(self) -> Preprocess:
        """The same without normalisation: what decides the pixels."""
        return replace(self, mean=(0.0,), std=(1.0,))

    @property
    def has_pixels(self) -> bool:
        """Whether its output is pixels in [0, 1], so that images can be made in its form."""
        return True

    def pixels(self, images: Images) -> Tensor:
        """What it gives, as uint8 N×C×H×W."""
        return self(images)

    def describe(self, image: np.ndarray) -> str:
        """What it does to an image like this one, in words; empty where it does nothing."""
        if self.is_stretched:
            return describe_match(image, self.shape)
        stored: Size = (image.shape[0], image.shape[1])
        size, done = self._size(stored), []
        if size != stored:
            how = f"{self.interpolation}, {KERNELS[self.kernel]}"
            done.append(f"resized {stored[0]}×{stored[1]} → {size[0]}×{size[1]} ({how})")
        if isinstance(self.crop, tuple) and size != self.crop:
            smaller = any(side < wanted for side, wanted in zip(size, self.crop, strict=True))
            done.append(f"{'padded and ' if smaller else ''}cropped to the middle {self.crop[0]}×{self.crop[1]}")
        done += describe_channels(image, self.channels)
        return ", ".join(done) + (f" ({self.origin})" if self.origin and done else "")

    @property
    def words(self) -> str:
        """What it does to any image, in words."""
        how = f"{self.interpolation}, {KERNELS[self.kernel]}"
        done = []
        if self.resize is not None:
            to = f"the shorter side {self.resize}" if isinstance(self.resize, int) else "×".join(map(str, self.resize))
            done.append(f"resized to {to} ({how})")
        if isinstance(self.crop, tuple):
            done.append(f"cropped to the middle {self.crop[0]}×{self.crop[1]}")
        return ", ".join(done)

    def facts(self) -> dict[str, Any]:
        """All but normalisation and channels in plain values; empty for the default."""
        if self.is_stretched:
            return {}
        sizes = {name: _plain(getattr(self, name)) for name in ("resize", "crop")}
        return {**sizes, "interpolation": self.interpolation, "kernel": self.kernel}

    @property
    def told(self) -> str:
        """What tells it from others, beside shape and normalisation; empty for the default."""
        facts = self.facts()
        return repr(sorted(facts.items())) if facts else ""

    def code(self) -> str | None:
        """What else decides the bytes: what resizes."""
        return identity_of(None, (), ("pillow",)) if self.kernel == "pil" else ""


def stretched(shape: ImageShape, mean: float | Sequence[float] = 0.0, std: float | Sequence[float] = 1.0) -> Preprocess:
    """The default for networks trained on small images: stretched to H×W by `match`."""
    channels, height, width = shape
    means, deviations = per_channel(mean, channels, "mean"), per_channel(std, channels, "std")
    return Preprocess((height, width), kernel="tensor", channels=channels, mean=means, std=deviations)


def per_channel(value: float | Sequence[float], channels: int, what: str) -> tuple[float, ...]:
    """One value a channel.

    Raises:
        OodbenchError: their number is another.
    """
    values = (float(value),) * channels if isinstance(value, int | float) else tuple(map(float, value))
    if len(values) == 1:
        values *= channels
    if len(values) != channels:
        raise OodbenchError(
            f"the input normalisation's {what} has {len(values)} values for images of {channels} channel(s); "
            f"give one value, or one per channel"
        )
    return values


def refuse_bytes(mean: Sequence[float], std: Sequence[float], option: str = "") -> None:
    """Raise OodbenchError where a normalisation is of pixels in 0 … 255.

    Args:
        option: what stands before the names in the message.
    """
    if all(value <= LARGEST_MEAN for value in mean) and all(value <= LARGEST_STD for value in std):
        return
    written = {"mean": mean, "std": std}
    divided = [f"{option}{name} {','.join(f'{one / 255:.4g}' for one in values)}" for name, values in written.items()]
    raise OodbenchError(
        f"{option}mean {','.join(f'{value:g}' for value in mean)} with {option}std "
        f"{','.join(f'{value:g}' for value in std)} is of pixels in 0 … 255, and these are in [0, 1]: divide by 255, "
        f"{' '.join(divided)}"
    )


def _cropped(tensor: Tensor, size: Size) -> Tensor:
    """The middle of N×C×H×W, as torchvision's `center_crop` takes it."""
    missing = [max(wanted - side, 0) for wanted, side in zip(size, tensor.shape[2:], strict=True)]
    if any(missing):
        tensor = pad(tensor, [part for lacks in reversed(missing) for part in (lacks // 2, (lacks + 1) // 2)])
    top, left = (round((side - wanted) / 2) for side, wanted in zip(tensor.shape[2:], size, strict=True))
    return tensor[:, :, top : top + size[0], left : left + size[1]]


def _plain(value: int | Size | None) -> int | list[int] | None:
    return list(value) if isinstance(value, tuple) else value
