"""Drawn compositions: a figure on a constant ground, made of latents that an inversion moves; for any image size.

What is drawn decides what an image is like (sparse or full, saturated or soft, grey or coloured, on which ground);
the latents decide what it shows. Images are differentiable in the latents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from oodbench.inversion.settings import LatentSettings

ImageShape = tuple[int, int, int]

KINDS = ("free", "two", "line", "object")
"""A texture all over; a figure of one colour; the same, drawn in lines; a textured figure."""

FIGURE_CELLS = (4, 7, 10, 14)
"""Latents along a side that a figure is made of; fewer where the image has fewer pixels."""

TEXTURE_CELLS = (4, 7, 14, None)
"""The same of a texture; None is one a pixel."""

APART = 0.25
"""Figure and ground differ by so much in one channel at least."""

NOISE_CONTRAST = 4.0
"""At which independent latents look like Gaussian noise clipped to [0, 1]."""


class Latents(NamedTuple):
    """What an inversion moves: figure, N×1×h×w, and texture, N×c×h×w, where c is 1 or the image's channels."""

    figure: Tensor
    texture: Tensor


@dataclass(frozen=True)
class Compositions:
    """What is drawn, and then stays, of N images of one kind; made by `draw_compositions`.

    Attributes:
        kind: one of KINDS.
        image_shape: (C, H, W).
        figure_side, texture_side: (height, width) of the latents.
        texture_channels: 1 or C.
        ground, colour: of the ground and of the figure, N×C×1×1 in [0, 1].
        area: N, the share of the pixels that the figure covers before its envelope.
        sharpness: N×1×1×1, of the figure's edge.
        envelope: N×1×H×W in [0, 1], where a figure may be.
        contrast, offset: N×1×1×1, of the texture.
    """

    kind: str
    image_shape: ImageShape
    figure_side: tuple[int, int]
    texture_side: tuple[int, int]
    texture_channels: int
    ground: Tensor
    colour: Tensor
    area: Tensor
    sharpness: Tensor
    envelope: Tensor
    contrast: Tensor
    offset: Tensor

    def __len__(self) -> int:
        return len(self.area)

    def first(self, count: int) -> Compositions:
        """Those of the first `count` images."""
        return replace(self, **{name: tensor[:count] for name, tensor in self._tensors().items()})

    def to(self, device: torch.device | str) -> Compositions:
        """The same on a device."""
        return replace(self, **{name: tensor.to(device) for name, tensor in self._tensors().items()})

    def latents(self, random: torch.Generator) -> Latents:
        """Latents to start from, N(0, 1), on the device of what is drawn."""
        sizes = ((1, *self.figure_side), (self.texture_channels, *self.texture_side))
        return Latents(*(torch.randn(len(self), *size, generator=random).to(self.area.device) for size in sizes))

    def render(self, latents: Latents) -> Tensor:
        """Images, N×C×H×W in [0, 1]."""
        if self.kind == "free":
            return self._texture(latents.texture).expand(-1, self.image_shape[0], -1, -1)
        mask = self.mask(latents.figure)
        inside = self._texture(latents.texture) if self.kind == "object" else self.colour
        return self.ground + mask * (inside - self.ground)

    def mask(self, figure: Tensor) -> Tensor:
        """How much of each pixel is figure, N×1×H×W in [0, 1]; at the edge of its share of the pixels ½."""
        field = self._enlarged(figure)
        field = field - field.mean(dim=(2, 3), keepdim=True)
        field = field / field.std(dim=(2, 3), keepdim=True).clamp_min(1e-3)
        if self.kind == "line":
            field = -field.abs()
        # Where the edge is, is no matter of gradients: it keeps the area while the latents move.
        ordered = field.detach().flatten(1).sort(dim=1).values
        pixels = ordered.shape[1]
        below = ((1 - self.area) * pixels).long().clamp(1, pixels)
        edge = ordered.gather(1, below[:, None] - 1)[:, :, None, None]
        return torch.sigmoid(self.sharpness * (field - edge)) * self.envelope

    def _texture(self, texture: Tensor) -> Tensor:
        return torch.sigmoid(self.contrast * self._enlarged(texture) + self.offset)

    def _enlarged(self, latents: Tensor) -> Tensor:
        side = self.image_shape[1:]
        if latents.shape[2:] == side:
            return latents
        return F.interpolate(latents, side, mode="bicubic", align_corners=False)

    def _tensors(self) -> dict[str, Any]:
        values = {declared.name: getattr(self, declared.name) for declared in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def draw_compositions(
    count: int,
    known: Tensor,
    settings: LatentSettings,
    random: torch.Generator,
    device: torch.device | str = "cpu",
) -> list[Compositions]:
    """Compositions of `count` images in all: for each of KINDS grey ones and ones in colour, in equal parts.

    With `settings.start` "noise" there is one group, of independent pixels.

    Args:
        known: ID images, uint8 N×C×H×W, whose border pixels are the colours of some grounds, and whose form images get.
        random: everything is drawn on the CPU, so that a seed means the same on every device.
    """
    if settings.start == "noise":
        drawn = _draw("free", count, known, settings, random, grey=False)
        ones = torch.ones_like(drawn.contrast)
        noise = replace(drawn, texture_side=drawn.image_shape[1:], contrast=NOISE_CONTRAST * ones, offset=0 * ones)
        return [noise.to(device)]
    groups = [(kind, grey) for kind in KINDS for grey in (True, False)]
    sizes = [(count + number) // len(groups) for number in range(len(groups))]
    return [
        _draw(kind, size, known, settings, random, grey).to(device)
        for (kind, grey), size in zip(groups, sizes, strict=True)
        if size
    ]


def _draw(
    kind: str, count: int, known: Tensor, settings: LatentSettings, random: torch.Generator, grey: bool
) -> Compositions:
    channels, height, width = known.shape[1:]

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, 1, 1, generator=random)

    def chance(share: float) -> Tensor:
        return torch.rand(count, 1, 1, 1, generator=random) < share

    def side(cells: Sequence[int | None]) -> tuple[int, int]:
        chosen = cells[int(torch.randint(len(cells), (1,), generator=random))]
        return (height, width) if chosen is None else (min(chosen, height), min(chosen, width))

    plain = draw_colours(count, channels, random, grey)
    ground = torch.where(chance(settings.border), _border_pixels(count, known, grey, random), plain)
    return Compositions(
        kind,
        (channels, height, width),
        side(FIGURE_CELLS),
        side(TEXTURE_CELLS),
        1 if grey else channels,
        ground,
        draw_colours(count, channels, random, grey, ground),
        area=uniform(0.04, 0.35 if kind == "line" else 0.5).flatten(),
        sharpness=uniform(0.7, 2.7).exp(),
        envelope=torch.where(chance(settings.envelope), _ellipses(height, width, uniform), torch.ones(())),
        contrast=uniform(-1.5, 2).exp(),
        offset=uniform(-3, 3),
    )


def draw_colours(
    count: int, channels: int, random: torch.Generator, grey: bool = False, other_than: Tensor | None = None
) -> Tensor:
    """N×C×1×1 in [0, 1]: black, white, a grey or any colour, a quarter each; where `grey`, none with a hue.

    Args:
        other_than: N×C×1×1, colours from which they are to be APART.
    """
    kind = torch.randint(4, (count, 1), generator=random)
    hue = torch.rand(count, channels, generator=random)
    light = torch.rand(count, 1, generator=random)
    shade = light.expand_as(hue) if grey else torch.where(kind == 2, light, hue)
    colours = torch.where(kind < 2, kind.float(), shade)[:, :, None, None]
    if other_than is not None:
        # Black or white is apart from any colour, so that this ends.
        while (near := (colours - other_than).abs().amax(dim=1, keepdim=True) < APART).any():
            colours = torch.where(near, draw_colours(count, channels, random, grey), colours)
    return colours


def _border_pixels(count: int, known: Tensor, grey: bool, random: torch.Generator) -> Tensor:
    """N×C×1×1: a pixel at the border of an ID image."""
    height, width = known.shape[2:]

    def draw(size: int) -> Tensor:
        return torch.randint(size, (count,), generator=random)

    which, side, row, column = draw(len(known)), draw(4), draw(height), draw(width)
    row = torch.where(side == 0, 0, torch.where(side == 1, height - 1, row))
    column = torch.where(side == 2, 0, torch.where(side == 3, width - 1, column))
    pixels = known[which, :, row, column].float()[:, :, None, None] / 255
    return pixels.mean(dim=1, keepdim=True).expand_as(pixels) if grey else pixels


def _ellipses(height: int, width: int, uniform: Callable[[float, float], Tensor]) -> Tensor:
    """N×1×H×W: 1 inside an ellipse near the middle, 0 outside, softly."""
    across, down = torch.linspace(0, 1, width), torch.linspace(0, 1, height)[:, None]
    x = (across - uniform(0.35, 0.65)) / uniform(0.15, 0.5)
    y = (down - uniform(0.35, 0.65)) / uniform(0.2, 0.5)
    return torch.sigmoid(8 * (1 - x.square() - y.square()))
