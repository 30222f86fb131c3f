"""The families that recipes are compared by: what they show, in any form, and no image of a benchmark's noise."""

from __future__ import annotations

import math

import pytest
import torch

from oodbench.data.noise import noise_set
from oodbench.recipes.holdout import matched
from oodbench.recipes.selection import _arcs, _glyphs, _gratings, selection_families

NAMES = {"uniform", "blobs", "gratings", "glyphs", "arcs", "white glyphs", "white arcs"}


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 40, 24), (3, 224, 224)])
def test_every_family_in_any_form(shape: tuple[int, int, int]) -> None:
    families = selection_families(shape, seed=0, count=6)
    assert set(families) == NAMES
    for name, images in families.items():
        assert images.shape == (6, *shape) and images.dtype == torch.uint8
        assert len({image.numpy().tobytes() for image in images}) == 6, name
    again = selection_families(shape, seed=0, count=6)
    assert all(torch.equal(images, again[name]) for name, images in families.items())
    assert not torch.equal(families["arcs"], selection_families(shape, seed=1, count=6)["arcs"])


def test_no_image_of_noise_is_one_of_a_benchmark() -> None:
    families = selection_families((1, 8, 8), seed=0, count=50)
    scored = matched(noise_set("uniform", 50, (1, 8, 8), 0), (1, 8, 8))
    assert not {image.numpy().tobytes() for image in families["uniform"]} & {
        image.numpy().tobytes() for image in scored
    }


def test_the_white_ones_are_white_on_black() -> None:
    families = selection_families((3, 28, 28), seed=0, count=200)
    for name in ("white glyphs", "white arcs"):
        images = families[name]
        assert (images[:, 0] == images[:, 2]).all()
        bright = (images[:, 0] > 200).float().mean()
        assert 0.02 < float(bright) < 0.4 and float((images[:, 0] < 20).float().mean()) > 0.5


def axes(side: int) -> tuple[torch.Tensor, torch.Tensor]:
    down, across = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    return across, down


def test_gratings_are_one_wave() -> None:
    """Their strongest frequencies hold most of the power, and it lies between 1 and 10 periods."""
    waves = _gratings(200, *axes(64), torch.Generator().manual_seed(0))
    assert waves.min() >= 0 and waves.max() <= 1
    power = torch.fft.fft2(waves - waves.mean(dim=(1, 2), keepdim=True)).abs().square().flatten(1)
    top = power.topk(8, dim=1)
    assert float((top.values.sum(dim=1) / power.sum(dim=1)).median()) > 0.7
    row = torch.fft.fftfreq(64, 1 / 64)
    radius = torch.hypot(row[:, None], row[None]).flatten()[top.indices[:, 0]]
    assert radius.min() >= 0.9 and radius.max() <= 11
    square = ((waves == 0) | (waves == 1)).flatten(1).float().mean(dim=1) > 0.9
    assert 0.4 < float(square.float().mean()) < 0.6


def test_glyphs_lie_on_the_lattice() -> None:
    glyphs = _glyphs(300, *axes(65), torch.Generator().manual_seed(0))
    # No bar comes nearer than a lattice point and half a bar's width to the image's edge.
    assert glyphs[:, :6].max() < 0.01 and glyphs[:, :, :6].max() < 0.01
    points = glyphs[:, 16:49:16, 16:49:16].flatten(1)
    assert ((points > 0.9).sum(dim=1) >= 1).all()


def test_arcs_go_round_a_middle() -> None:
    """There is a point near the middle from which their pixels are about equally far, and which they leave free."""
    arcs = _arcs(100, *axes(40), torch.Generator().manual_seed(0))
    across, down = axes(40)
    for arc in arcs:
        drawn = arc > 0.5
        assert int(drawn.sum()) > 10
        middles = torch.cartesian_prod(torch.linspace(0.35, 0.65, 13), torch.linspace(0.35, 0.65, 13))
        away = torch.hypot(across[drawn] - middles[:, :1], down[drawn] - middles[:, 1:])
        least, which = away.std(dim=1).min(dim=0)
        # Within half a width, 0.06, and half the climb of a spiral, 0.03 · 2π; as a spread that is half as much.
        assert least < (0.06 + 0.03 * math.pi) / 2 + 0.02
        assert away[which].min() > 0.12 - 0.03 * math.pi - 0.06
