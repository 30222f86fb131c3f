"""Procedural images: each kind is what its name says, and images differ."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from oodbench.data.seeding import image_generator
from oodbench.data.structured import (
    KINDS,
    Paint,
    checkerboards,
    fractal_fields,
    gratings,
    mondrians,
    smooth_blobs,
    structured_set,
)
from oodbench.errors import OodbenchError


def painted(paint: Paint, count: int = 200, size: tuple[int, int] = (32, 32), channels: int = 3) -> list[np.ndarray]:
    return [paint(image_generator(1, paint.__name__, index), size, channels) for index in range(count)]


def colours_of(image: np.ndarray) -> int:
    return len(np.unique(image.reshape(-1, image.shape[2]), axis=0))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32)])
def test_images_differ_and_none_is_flat(shape: tuple[int, int, int]) -> None:
    made = structured_set(2000, shape, seed=0)
    assert len(set(made.image_hashes)) == 2000
    contrasts = [image.std(axis=(0, 1)).max() for images in made.chunks() for image in images]
    # 0.03 of 255, less what rounding may take.
    assert min(contrasts) > 7


def test_all_kinds_come_about_equally_often() -> None:
    # A kind is known by its colours: two, at most seven, or many.
    counted = np.array([colours_of(image) for image in structured_set(600, (3, 32, 32), 0).read(0, 600)])
    assert 90 < np.sum(counted == 2) < 250
    assert 60 < np.sum((counted > 2) & (counted <= 7)) < 250
    assert 250 < np.sum(counted > 7) < 420


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("paint", KINDS)
@pytest.mark.parametrize("size", [(8, 8), (28, 28), (40, 17)])
def test_values_lie_in_the_unit_interval(paint: Paint, channels: int, size: tuple[int, int]) -> None:
    for image in painted(paint, 50, size, channels):
        assert image.shape == (*size, channels)
        assert image.min() >= -1e-9
        assert image.max() <= 1 + 1e-9


def test_gratings_run_between_two_colours() -> None:
    for image in painted(gratings):
        pixels = image.reshape(-1, 3)
        assert np.linalg.matrix_rank(pixels - pixels.mean(axis=0), tol=1e-8) == 1


def test_checkerboards_have_two_colours_and_change_them_often() -> None:
    for image in painted(checkerboards):
        assert colours_of(image) == 2
        down, right = (np.any(np.diff(image, axis=axis) != 0, axis=2) for axis in (0, 1))
        changes = down.mean() + right.mean()
        # The largest cell is half the image, the smallest two pixels.
        assert 1 / 32 <= changes <= 1.5


def test_smooth_blobs_are_smooth() -> None:
    for image in painted(smooth_blobs):
        # The narrowest spot has a standard deviation of 0.06·32 pixels: its steepest step is e^(−1/2)/1.92.
        assert np.abs(np.diff(image, axis=0)).max() < 0.65
        assert np.abs(np.diff(image, axis=0)).mean() < 0.1


def test_fractal_fields_have_falling_spectra() -> None:
    frequency = np.hypot(np.fft.fftfreq(32)[:, None], np.fft.fftfreq(32)[None]).ravel()
    inside = (frequency > 0) & (frequency <= 0.5)
    slopes = []
    for image in painted(fractal_fields, channels=1):
        power = np.abs(np.fft.fft2(image[..., 0])).ravel() ** 2
        slopes.append(np.polyfit(np.log(frequency[inside]), np.log(power[inside]), 1)[0])
    # Power falls as 1/f^(2α), α uniform on 0.7 … 2; clipping flattens the steepest a little.
    assert np.mean(slopes) == pytest.approx(-2.7, abs=0.5)
    assert np.percentile(slopes, 5) > -4.5
    assert np.percentile(slopes, 95) < -1


def test_fractal_fields_range_from_grey_to_motley() -> None:
    alike = []
    for image in painted(fractal_fields):
        alike.append(np.corrcoef(image[..., 0].ravel(), image[..., 1].ravel())[0, 1])
    assert np.max(alike) > 0.95
    assert np.min(alike) < 0.3


def test_mondrians_are_rectangles_of_few_colours() -> None:
    for image in painted(mondrians):
        assert colours_of(image) <= 7
        # A row differs from the one above only at the edges of rectangles, of which there are two each.
        assert sum(np.any(below != above) for below, above in itertools.pairwise(image)) <= 2 * 20


@pytest.mark.parametrize("shape", [(1, 7, 7), (3, 8, 7)])
def test_too_small(shape: tuple[int, int, int]) -> None:
    with pytest.raises(OodbenchError, match="at least 8 pixels"):
        structured_set(3, shape, seed=0)
