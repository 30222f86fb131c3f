"""Drawn compositions: what is rendered, by hand; areas, colours, grounds; gradients; any size."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from oodbench.inversion.compositions import (
    APART,
    KINDS,
    Compositions,
    Latents,
    draw_colours,
    draw_compositions,
)
from oodbench.inversion.conditioning import seeded
from oodbench.inversion.settings import LatentSettings

BARE = LatentSettings(envelope=0, border=0)


def known(channels: int, height: int, width: int, count: int = 20) -> Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8, generator=random)


def draw(count: int, shape: tuple[int, int, int], settings: LatentSettings = BARE, seed: int = 0) -> list[Compositions]:
    return draw_compositions(count, known(*shape), settings, seeded(seed, "test"))


def images_of(drawn: list[Compositions], seed: int = 0) -> Tensor:
    random = seeded(seed, "test latents")
    return torch.cat([one.render(one.latents(random)) for one in drawn])


def by_hand(kind: str, **changes: object) -> Compositions:
    """Two images of 2×2 pixels: black ground, white figure, texture of contrast 1."""
    one = torch.ones(2, 1, 1, 1)
    values: dict[str, object] = {
        "ground": 0 * one,
        "colour": one,
        "area": torch.tensor([0.25, 0.5]),
        "sharpness": 1000 * one,
        "envelope": torch.ones(2, 1, 2, 2),
        "contrast": one,
        "offset": 0 * one,
    }
    return Compositions(kind, (1, 2, 2), (2, 2), (2, 2), 1, **values | changes)  # type: ignore[arg-type]


FIGURE = torch.tensor([[[[0.0, 1.0], [2.0, 4.0]]], [[[0.0, -1.0], [-2.0, -4.0]]]])
TEXTURE = torch.tensor([[[[0.0, 2.0], [0.0, -2.0]]], [[[0.0, 0.0], [0.0, 2.0]]]])


def test_a_figure_by_hand() -> None:
    # One pixel of four, then two: those above the third, the second, smallest value, which itself is at the edge, ½.
    expected = torch.tensor([[[[0.0, 0.0], [0.5, 1.0]]], [[[1.0, 1.0], [0.5, 0.0]]]])
    torch.testing.assert_close(by_hand("two").render(Latents(FIGURE, TEXTURE)), expected)
    torch.testing.assert_close(by_hand("two").mask(FIGURE), expected)


def test_a_line_follows_where_the_field_crosses_its_mean() -> None:
    field = torch.tensor([[[[-3.0, -1.0], [0.2, 3.8]]]])
    drawn = by_hand("line").first(1)
    # Mean 0: the values nearest to it are 0.2 and −1, and a quarter of the pixels is figure.
    torch.testing.assert_close(drawn.mask(field), torch.tensor([[[[0.0, 0.5], [1.0, 0.0]]]]))


def test_a_texture_and_a_textured_figure_by_hand() -> None:
    shown = torch.sigmoid(3 * TEXTURE - 1)
    drawn = by_hand("free", contrast=3 * torch.ones(2, 1, 1, 1), offset=-torch.ones(2, 1, 1, 1))
    torch.testing.assert_close(drawn.render(Latents(FIGURE, TEXTURE)), shown)
    textured = replace(drawn, kind="object", ground=torch.full((2, 1, 1, 1), 0.3))
    mask = by_hand("two").mask(FIGURE)
    torch.testing.assert_close(textured.render(Latents(FIGURE, TEXTURE)), mask * shown + (1 - mask) * 0.3)


def test_an_envelope_bounds_the_figure() -> None:
    envelope = torch.tensor([[[[1.0, 1.0], [1.0, 0.0]]]]).expand(2, -1, -1, -1)
    bounded = by_hand("two", envelope=envelope).render(Latents(FIGURE, TEXTURE))
    assert float(bounded[0, 0, 1, 1]) == 0 and float(bounded[0, 0, 1, 0]) == pytest.approx(0.5)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 9, 20)])
def test_figures_cover_their_area(shape: tuple[int, int, int]) -> None:
    pixels = shape[1] * shape[2]
    for one in draw(400, shape):
        sharp = replace(one, sharpness=torch.full_like(one.sharpness, 1e6))
        covered = (sharp.mask(one.latents(seeded(0, "field")).figure) > 0.5).flatten(1).float().mean(dim=1)
        assert (covered - one.area).abs().max() <= 1.01 / pixels
        assert one.area.min() >= 0.04 and one.area.max() <= (0.35 if one.kind == "line" else 0.5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("border", [0.0, 1.0])
def test_figure_and_ground_are_apart(channels: int, border: float) -> None:
    for one in draw(800, (channels, 8, 8), replace(BARE, border=border)):
        assert (one.ground - one.colour).abs().amax(dim=1).min() >= APART
        assert one.ground.min() >= 0 and one.ground.max() <= 1 and one.colour.min() >= 0 and one.colour.max() <= 1


def test_grounds_are_border_pixels_as_often_as_asked() -> None:
    """Of images whose border is 51 and whose middle is 200, a colour that is not drawn otherwise."""
    images = torch.full((5, 1, 10, 10), 200, dtype=torch.uint8)
    images[:, :, [0, -1]], images[:, :, :, [0, -1]] = 51, 51
    for border, low, high in ((0.0, 0.0, 0.0), (0.5, 0.45, 0.55), (1.0, 1.0, 1.0)):
        drawn = draw_compositions(1600, images, replace(BARE, border=border), seeded(0, "test"))
        share = float((torch.cat([one.ground for one in drawn]) == 51 / 255).float().mean())
        assert low <= share <= high


def test_every_border_pixel_of_every_image_is_drawn() -> None:
    images = torch.arange(2 * 9, dtype=torch.uint8).view(2, 1, 3, 3) * 10
    drawn = draw_compositions(4000, images, LatentSettings(border=1), seeded(0, "test"))
    found = set(torch.cat([one.ground for one in drawn]).mul(255).round().int().flatten().tolist())
    assert found == set(range(0, 180, 10)) - {40, 130}


def test_grey_groups_have_no_hue_and_others_have() -> None:
    drawn = draw(400, (3, 32, 32), replace(BARE, border=0.5))
    assert [one.kind for one in drawn] == [kind for kind in KINDS for _ in range(2)]
    random = seeded(1, "latents")
    for number, one in enumerate(drawn):
        images = one.render(one.latents(random))
        hues = (images.amax(dim=1) - images.amin(dim=1)).amax(dim=(1, 2)) > 1e-5
        assert bool(hues.any()) == bool(number % 2)


def test_colours_are_black_white_grey_or_any_a_quarter_each() -> None:
    colours = draw_colours(4000, 3, seeded(0, "colours")).flatten(1)
    black, white = (colours == 0).all(dim=1), (colours == 1).all(dim=1)
    grey = (colours == colours[:, :1]).all(dim=1) & ~black & ~white
    for share in (black, white, grey, ~(black | white | grey)):
        assert 0.22 < float(share.float().mean()) < 0.28


@pytest.mark.parametrize(
    "shape", [(1, 8, 8), (3, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 48), (1, 13, 31), (3, 224, 224)]
)
def test_any_size_and_colour(shape: tuple[int, int, int]) -> None:
    drawn = draw(19, shape, LatentSettings())
    images = images_of(drawn)
    assert images.shape == (19, *shape) and images.isfinite().all()
    assert images.min() >= 0 and images.max() <= 1 + 1e-6
    for one in drawn:
        assert max(one.figure_side) <= 14 and one.figure_side[0] <= shape[1] and one.figure_side[1] <= shape[2]


@pytest.mark.parametrize("count", [1, 7, 8, 9, 100])
def test_so_many_as_asked(count: int) -> None:
    assert sum(map(len, draw(count, (1, 8, 8)))) == count


def test_gradients_reach_the_latents_that_are_shown() -> None:
    for one in draw(80, (3, 16, 16)):
        latents = Latents(*(part.requires_grad_() for part in one.latents(seeded(0, "latents"))))
        # Some pixels only: the mean of all would not see a figure move.
        loss = one.render(latents)[:, :, ::3, ::2].square().sum()
        figure, texture = torch.autograd.grad(loss, latents, materialize_grads=True)
        assert bool(figure.any()) == (one.kind != "free")
        assert bool(texture.any()) == (one.kind in ("free", "object"))


def test_a_seed_decides_everything() -> None:
    settings = LatentSettings()
    first, again, other = (images_of(draw(40, (3, 12, 12), settings, seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_the_first_are_the_first() -> None:
    for one in draw(80, (3, 12, 12), LatentSettings()):
        latents = one.latents(seeded(0, "latents"))
        part = one.first(4).render(Latents(latents.figure[:4], latents.texture[:4]))
        torch.testing.assert_close(part, one.render(latents)[:4])


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 20, 12)])
def test_noise_is_of_independent_pixels(shape: tuple[int, int, int]) -> None:
    drawn = draw(300, shape, LatentSettings(start="noise"))
    assert len(drawn) == 1
    images = images_of(drawn)
    assert images.shape == (300, *shape) and abs(float(images.mean()) - 0.5) < 0.01
    centred = images - images.mean(dim=0)
    for other in (centred[:, :, 1:] * centred[:, :, :-1], centred[..., 1:] * centred[..., :-1]):
        assert abs(float(other.mean() / centred.square().mean())) < 0.02
    # As far from grey as Gaussian noise clipped to [0, 1], about.
    clipped = (0.5 + torch.randn(100_000, generator=seeded(0, "noise"))).clamp(0, 1)
    assert float(images.std()) == pytest.approx(float(clipped.std()), rel=0.1)
