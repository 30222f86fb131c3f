"""Synthetic families that no training here sees: what recipes are compared by, instead of OOD sets."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from oodbench.data.matching import ImageShape
from oodbench.data.noise import noise_set
from oodbench.inversion.compositions import draw_colours
from oodbench.inversion.conditioning import seeded
from oodbench.recipes.holdout import matched

IMAGES = 300
"""Of each family."""

NOISE_SEED = 1_000_000_007
"""Added to the seed, so that no image of noise here is one of a benchmark, whose seeds are small."""

BARS = 4
"""Of a glyph, at most."""


def selection_families(image_shape: ImageShape, seed: int, count: int = IMAGES) -> dict[str, Tensor]:
    """By name, uint8 N×C×H×W: uniform noise, blobs, gratings, and glyphs and arcs, in colours and white on black."""
    random = seeded(seed, "selection families")
    channels, height, width = image_shape
    down, across = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    masks = {
        "gratings": _gratings(count, across, down, random),
        "glyphs": _glyphs(count, across, down, random),
        "arcs": _arcs(count, across, down, random),
    }
    families = {
        kind: matched(noise_set(kind, count, image_shape, seed + NOISE_SEED), image_shape)
        for kind in ("uniform", "blobs")
    }
    for name, mask in masks.items():
        ground = draw_colours(count, channels, random)
        colour = draw_colours(count, channels, random, other_than=ground)
        families[name] = _pixels(ground + mask[:, None] * (colour - ground))
    for name in ("glyphs", "arcs"):
        families[f"white {name}"] = _pixels(masks[name][:, None].expand(-1, channels, -1, -1))
    return families


def _pixels(images: Tensor) -> Tensor:
    return images.mul(255).round().to(torch.uint8)


def _uniform(count: int, low: float, high: float, random: torch.Generator) -> Tensor:
    """N×1×1."""
    return low + (high - low) * torch.rand(count, 1, 1, generator=random)


def _gratings(count: int, across: Tensor, down: Tensor, random: torch.Generator) -> Tensor:
    """N×H×W in [0, 1]: waves of 1 to 10 periods, half of them square."""
    angle, phase = _uniform(count, 0, math.pi, random), _uniform(count, 0, 2 * math.pi, random)
    periods = _uniform(count, 1, 10, random)
    wave = torch.sin(2 * math.pi * periods * (across * angle.cos() + down * angle.sin()) + phase)
    return torch.where(_uniform(count, 0, 1, random) < 0.5, wave.sign(), wave) / 2 + 0.5


def _glyphs(count: int, across: Tensor, down: Tensor, random: torch.Generator) -> Tensor:
    """N×H×W in [0, 1]: two to four straight bars between the points of a 3×3 lattice."""
    mask = torch.zeros(count, *across.shape)
    for number in range(BARS):
        from_x, from_y, to_x, to_y = (torch.randint(1, 4, (4, count, 1, 1), generator=random) / 4).unbind()
        x, y = to_x - from_x, to_y - from_y
        along = ((across - from_x) * x + (down - from_y) * y) / (x.square() + y.square() + 1e-6)
        along = along.clamp(0, 1)
        distance = torch.hypot(across - from_x - along * x, down - from_y - along * y)
        drawn = (_uniform(count, 0, 1, random) < 0.6) | torch.tensor(number < 2)
        mask = torch.maximum(mask, drawn * _soft(_uniform(count, 0.03, 0.08, random) - distance))
    return mask


def _arcs(count: int, across: Tensor, down: Tensor, random: torch.Generator) -> Tensor:
    """N×H×W in [0, 1]: parts of rings and spirals."""
    x, y = (axis - _uniform(count, 0.35, 0.65, random) for axis in (across, down))
    angle = torch.atan2(y, x)
    radius = _uniform(count, 0.12, 0.4, random) + _uniform(count, -0.03, 0.03, random) * angle
    turned = (angle + _uniform(count, 0, 2 * math.pi, random)) % (2 * math.pi)
    drawn = turned < _uniform(count, 2, 2 * math.pi, random)
    return drawn * _soft(_uniform(count, 0.02, 0.06, random) - (torch.hypot(x, y) - radius).abs())


def _soft(inside: Tensor) -> Tensor:
    """1 where a distance, in image sides, is well above 0, 0 where it is below, over about a pixel."""
    return torch.sigmoid(2 * max(inside.shape[1:]) * inside)
