"""The conditional generator G(u, c): noise and a conditioning in, images in [0, 1] out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from oodbench.errors import OodbenchError
from oodbench.files import atomic_write
from oodbench.inversion.conditioning import (
    HAS_MATRIX,
    HAS_VECTOR,
    Conditions,
)
from oodbench.inversion.settings import Conditioning, check_conditioning
from oodbench.tensor_file import read_tensors

ImageShape = tuple[int, int, int]
Side = tuple[int, int]

VECTOR_WIDTH = 100
"""What the conditioning vector is mapped to before it joins the noise (METHODS 1.1)."""

SMALLEST = 8


class Generator(nn.Module):
    """(u ‖ Linear(K→100)(c)) → a small map, doubled by transposed convolutions up to the image's size.

    28×28: 1 → 7 → 14 → 28; 32×32: 1 → 8 → 16 → 32; 8×8: 1 → 4 → 8; odd sizes are halved upwards, and so on
    for any height and width from 8 pixels. Every up-convolution has batch normalisation, ReLU and channel
    dropout; a 3×3 convolution and a sigmoid end in images in [0, 1], which the classifier normalises as it
    does any image. The matrix joins as a channel at the smallest map below the image's size that holds K rows
    and columns; where there is none, at the smallest map, in blocks (see `matrix_on_map`).

    Args:
        num_classes: K, the outputs of the classifier to be inverted.
        image_shape: (C, H, W).
        conditioning: one of `settings.CONDITIONINGS`.
        noise_size: length of u ~ N(0, I).
        width: channels of the largest map; a map has twice the channels of the next.
        dropout: share of the channels that are dropped in the up-convolutions while training, in [0, 1).

    Raises:
        OodbenchError: an argument is out of its range.
    """

    def __init__(
        self,
        num_classes: int,
        image_shape: ImageShape,
        conditioning: Conditioning = "vector-matrix",
        noise_size: int = 100,
        width: int = 16,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_conditioning(conditioning)
        if min(image_shape[1:]) < SMALLEST:
            raise OodbenchError(
                f"the generator makes images from {SMALLEST}×{SMALLEST} pixels, "
                f"not {image_shape[1]}×{image_shape[2]}; there is no inversion of smaller ones"
            )
        if not (num_classes >= 1 and noise_size >= 1 and width >= 1 and 0 <= dropout < 1):
            raise OodbenchError(
                "a generator needs at least 1 class, 1 noise value and 1 channel, and a dropout in [0, 1); "
                f"given were {num_classes}, {noise_size}, {width} and {dropout}"
            )
        self.num_classes = num_classes
        self.image_shape = tuple(image_shape)
        self.conditioning: Conditioning = conditioning
        self.noise_size = noise_size
        self.width = width
        self.dropout = dropout
        sides = _map_sides(image_shape[1:])
        self.joined_at = _join(sides, num_classes) if conditioning in HAS_MATRIX else None
        self.embed = nn.Linear(num_classes, VECTOR_WIDTH) if conditioning in HAS_VECTOR else None
        channels = noise_size + (VECTOR_WIDTH if self.embed else 0)
        self.up = nn.ModuleList()
        before = (1, 1)
        for number, side in enumerate(sides):
            out = width * 2 ** (len(sides) - 1 - number)
            self.up.append(_up_convolution(channels, out, before, side, dropout))
            channels = out + (matrix_channels(num_classes, side) if number == self.joined_at else 0)
            before = side
        self.to_image = nn.Conv2d(channels, image_shape[0], 3, padding=1)

    def forward(self, conditions: Conditions, noise: Tensor) -> Tensor:
        """Images, N×C×H×W in [0, 1], for N conditions and noise N×noise_size."""
        parts = [noise] if self.embed is None else [noise, self.embed(conditions.vector)]
        maps = torch.cat(parts, dim=1)[:, :, None, None]
        for number, step in enumerate(self.up):
            maps = step(maps)
            if number == self.joined_at:
                assert conditions.matrix is not None
                maps = torch.cat([maps, matrix_on_map(conditions.matrix, maps.shape[-2:])], dim=1)
        return self.to_image(maps).sigmoid()

    def settings(self) -> dict[str, Any]:
        """The arguments that build an equal generator."""
        return {
            "num_classes": self.num_classes,
            "image_shape": self.image_shape,
            "conditioning": self.conditioning,
            "noise_size": self.noise_size,
            "width": self.width,
            "dropout": self.dropout,
        }

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.parameters()).device


def save_generator(generator: Generator, path: Path) -> None:
    """Write a generator as safetensors, with what builds it as JSON in the metadata."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in generator.state_dict().items()}
    with atomic_write(path) as temporary:
        save_file(weights, temporary, metadata={"generator": json.dumps(generator.settings())})


def load_generator(path: Path, device: torch.device | str = "cpu") -> Generator:
    """Read what `save_generator` wrote.

    Raises:
        OodbenchError: there is no such file, or it does not hold a generator.
    """
    if not Path(path).is_file():
        raise OodbenchError(f"there is no generator at {path}; make one with: oodbench invert")
    try:
        weights, facts = read_tensors(path)
        settings = json.loads(facts["generator"])
        settings["image_shape"] = tuple(settings["image_shape"])
        # Without memory of its own, whatever sizes stand there: its weights are those of the file or none.
        with torch.device("meta"):
            generator = Generator(**settings)
        generator.load_state_dict(weights, assign=True)
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise OodbenchError(f"{path} does not hold a generator of this version: {error}; make it anew") from error
    return generator.to(device)


def matrix_on_map(matrix: Tensor, side: Sequence[int]) -> Tensor:
    """A K×K matrix per image as channels of a map, N×K×K → N×c×height×width, with every row and column in it.

    A map at least as large takes it resized (nearest), as one channel. On a smaller map nearest would leave
    out rows, and with them whole classes, so there each pixel gets its block of the zero-padded matrix as
    channels.
    """
    height, width = side
    size = matrix.shape[-1]
    if size <= min(height, width):
        return F.interpolate(matrix[:, None], size=(height, width), mode="nearest")
    block = _block(size, side)
    padded = F.pad(matrix[:, None], (0, block * width - size, 0, block * height - size))
    return F.pixel_unshuffle(padded, block)


def matrix_channels(num_classes: int, side: Sequence[int]) -> int:
    """How many channels `matrix_on_map` makes."""
    return _block(num_classes, side) ** 2


def _block(num_classes: int, side: Sequence[int]) -> int:
    return -(-num_classes // min(side))


def _join(sides: list[Side], num_classes: int) -> int:
    # Not at the image's own size: a class must still be able to change more than single pixels.
    return next((number for number, side in enumerate(sides[:-1]) if min(side) >= num_classes), 0)


def _map_sides(side: Side) -> list[Side]:
    """(height, width) of the maps up to the image: halved, rounding up, once at least, until both are ≤ 8."""
    made = [side]
    while len(made) == 1 or max(made[0]) > SMALLEST:
        made.insert(0, (-(-made[0][0] // 2), -(-made[0][1] // 2)))
    return made


def _up_convolution(channels: int, out: int, before: Side, after: Side, dropout: float) -> nn.Sequential:
    if before == (1, 1):
        up = nn.ConvTranspose2d(channels, out, after, bias=False)
    else:
        # With stride 2 and padding 1, a kernel of 4 gives 2n pixels and one of 3 gives 2n − 1.
        kernel = (4 - after[0] % 2, 4 - after[1] % 2)
        up = nn.ConvTranspose2d(channels, out, kernel, stride=2, padding=1, bias=False)
    return nn.Sequential(up, nn.BatchNorm2d(out), nn.ReLU(), nn.Dropout2d(dropout))
