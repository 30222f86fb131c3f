"""Fault 45: noise that differs at every look, repeats itself across workers, or is not what it says it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm

from oodbench.data.imageset import ArraySource, ImageSet
from oodbench.data.loader import batches
from oodbench.data.noise import DERIVED, NOISE, derived_set, noise_set
from oodbench.data.photos import photos_set
from oodbench.data.structured import structured_set

SHAPE = (3, 16, 16)
COUNT = 70
NAMES = (*NOISE, *DERIVED, "structured", "photos")


def made(name: str, count: int = COUNT) -> ImageSet:
    if name in NOISE:
        return noise_set(name, count, SHAPE, seed=123)
    if name in DERIVED:
        pixels = np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3)).astype(np.uint8)
        return derived_set(name, ImageSet("base", ArraySource(pixels), "a test"), seed=123)
    return {"structured": structured_set, "photos": photos_set}[name](count, SHAPE, 123)


def loaded(images: ImageSet, batch_size: int, workers: int) -> torch.Tensor:
    return torch.cat([batch for batch, _ in batches(images, SHAPE, batch_size, workers)])


@pytest.mark.parametrize("name", NAMES)
def test_the_same_image_at_every_look(name: str) -> None:
    images = made(name)
    first = images.read(0, 1)[0]
    images.read(5, 9)
    assert np.array_equal(images.read(0, 1)[0], first)
    assert np.array_equal(made(name, 8).read(0, 1)[0], first)


@pytest.mark.parametrize("name", NAMES)
def test_workers_batches_and_epochs_change_nothing(name: str) -> None:
    images = made(name)
    epoch = loaded(images, batch_size=16, workers=0)
    assert len(epoch) == COUNT
    assert torch.equal(loaded(images, batch_size=16, workers=0), epoch)
    assert torch.equal(loaded(images, batch_size=16, workers=2), epoch)
    assert torch.equal(loaded(images, batch_size=9, workers=2), epoch)


@pytest.mark.parametrize("name", NAMES)
def test_no_image_comes_twice(name: str) -> None:
    images = made(name)
    assert len(set(images.image_hashes)) == COUNT
    assert len({image.numpy().tobytes() for image in loaded(images, batch_size=16, workers=2)}) == COUNT


@pytest.mark.parametrize("name", NOISE)
def test_ten_thousand_small_images_are_ten_thousand(name: str) -> None:
    assert len(set(noise_set(name, 10_000, (1, 8, 8), seed=0).image_hashes)) == 10_000


def test_uniform_reaches_both_ends() -> None:
    values = loaded(noise_set("uniform", 200, SHAPE, seed=0), batch_size=50, workers=0)
    assert (int(values.min()), int(values.max())) == (0, 255)


def test_gaussian_has_the_standard_deviation_that_it_says() -> None:
    values = loaded(noise_set("gaussian", 400, SHAPE, seed=0), batch_size=100, workers=0).double() / 255
    # The middle of N(0.5, 1) is not touched by the clipping: its share gives σ.
    share = float(((values > 0.25) & (values < 0.75)).double().mean())
    assert 0.25 / norm.ppf(0.5 + share / 2) == pytest.approx(1, abs=0.02)
    assert float((values == 0).double().mean()) == pytest.approx(norm.cdf(-0.5), abs=0.005)
