"""Noise sets: their distributions, what the derived ones keep of their base, and what an image of those depends on."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d
from scipy.stats import norm

from oodbench.data.imageset import ArraySource, ImageSet
from oodbench.data.noise import (
    DERIVED,
    NOISE,
    blobs,
    derived_set,
    noise_set,
    patches_shuffled,
    phase_scrambled,
    pixel_shuffled,
    quantised,
)
from oodbench.data.seeding import image_generator
from oodbench.errors import OodbenchError


def everything(images: ImageSet) -> np.ndarray:
    return np.concatenate(list(images.chunks()))


def image_base(shape: tuple[int, ...], count: int = 20) -> ImageSet:
    pixels = np.random.default_rng(7).integers(0, 256, (count, *shape)).astype(np.uint8)
    return ImageSet("base", ArraySource(pixels), "a test")


@st.composite
def pictures(draw: st.DrawFn, smallest: int = 2) -> np.ndarray:
    height, width = draw(st.integers(smallest, 37)), draw(st.integers(smallest, 37))
    shape = (height, width) if draw(st.booleans()) else (height, width, 3)
    return np.random.default_rng(draw(st.integers(0, 2**32))).integers(0, 256, shape).astype(np.uint8)


class ListSource:
    """Images of different sizes."""

    def __init__(self, images: list[np.ndarray]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Sequence[int]) -> list[np.ndarray]:
        return [self.images[index] for index in indices]

    def identity(self, indices: Sequence[int]) -> None:
        return None


# Drawn sets


def test_gaussian_is_n_one_half_one_clipped() -> None:
    values = everything(noise_set("gaussian", 400, (3, 32, 32), seed=1))
    # What rounds to 0 is below 1/510, what rounds to k lies within half a step of k/255.
    edges = (np.arange(255) + 0.5) / 255
    shares = np.diff(norm.cdf(edges, 0.5, 1), prepend=0, append=1)
    assert shares[0] == pytest.approx(norm.cdf(-0.5), abs=1e-3)
    assert shares[255] == pytest.approx(norm.cdf(-0.5), abs=1e-3)
    counted = np.bincount(values.ravel(), minlength=256) / values.size
    # Six standard errors of a share.
    assert np.all(np.abs(counted - shares) < 6 * np.sqrt(shares / values.size))


def test_uniform_is_uniform_and_reaches_both_ends() -> None:
    values = everything(noise_set("uniform", 400, (3, 32, 32), seed=1))
    counted = np.bincount(values.ravel(), minlength=256) / values.size
    # Rounding gives the ends half the width of the others.
    shares = np.full(256, 1 / 255)
    shares[[0, 255]] = 1 / 510
    assert np.all(np.abs(counted - shares) < 6 * np.sqrt(shares / values.size))


def test_rademacher_is_fair() -> None:
    values = everything(noise_set("rademacher", 200, (3, 32, 32), seed=1))
    assert set(np.unique(values)) == {0, 255}
    assert np.mean(values == 255) == pytest.approx(0.5, abs=6 * 0.5 / values.size**0.5)


@pytest.mark.parametrize("name", ["gaussian", "uniform", "rademacher"])
def test_neighbours_colours_and_images_are_uncorrelated(name: str) -> None:
    values = everything(noise_set(name, 300, (3, 16, 16), seed=3)).astype(float)
    values = (values - values.mean()) / values.std()
    pairs = {
        "rows": (values[:, 1:], values[:, :-1]),
        "columns": (values[:, :, 1:], values[:, :, :-1]),
        "colours": (values[..., 1:], values[..., :-1]),
        "images": (values[1:], values[:-1]),
    }
    for where, (one, other) in pairs.items():
        assert abs(np.mean(one * other)) < 6 / one.size**0.5, where


@pytest.mark.parametrize("shape", [(32, 32, 3), (28, 28)])
def test_blobs_are_those_of_outlier_exposure(shape: tuple[int, ...]) -> None:
    expected = (np.random.default_rng(5).random(shape) < 0.7).astype(float)
    for axis in range(len(shape)):
        expected = gaussian_filter1d(expected, 1.5, axis=axis, mode="nearest", truncate=4.0)
    expected[expected < 0.75] = 0.0
    assert np.array_equal(blobs(np.random.default_rng(5), shape), quantised(expected))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (1, 28, 28), (3, 64, 64)])
def test_blobs_are_black_or_bright_and_never_all_black(shape: tuple[int, int, int]) -> None:
    values = everything(noise_set("blobs", 300, shape, seed=0))
    assert not np.any((values > 0) & (values < 191))
    assert values.reshape(300, -1).max(axis=1).min() >= 191
    assert values.reshape(300, -1).min(axis=1).max() == 0


def test_quantised_rounds_to_the_nearest() -> None:
    assert quantised(np.array([0, 1 / 520, 1 / 500, 0.5 - 1e-9, 1])).tolist() == [0, 0, 1, 127, 255]


@pytest.mark.parametrize(
    ("name", "count", "shape", "reason"),
    [
        ("gausian", 5, (1, 8, 8), "did you mean gaussian"),
        ("gaussian", 0, (1, 8, 8), "at least 1"),
        ("gaussian", 5, (1, 0, 8), "sides of at least 1"),
    ],
)
def test_what_cannot_be_made_is_refused(name: str, count: int, shape: tuple[int, int, int], reason: str) -> None:
    with pytest.raises(OodbenchError, match=reason):
        noise_set(name, count, shape, seed=0)


def test_these_images_for_ever() -> None:
    """A change of a stream would silently make every published figure on noise another one."""
    generator = image_generator(0, "uniform", 3)
    image = noise_set("uniform", 4, (1, 2, 2), 0).read(3, 4)[0]
    assert np.array_equal(image, quantised(generator.random((2, 2))))
    hashes = {name: noise_set(name, 4, (3, 8, 8), 0).content_hash[:12] for name in NOISE if name != "blobs"}
    assert hashes == {"gaussian": "050aea1b8ff4", "uniform": "ec34fac5a48e", "rademacher": "2db915df5077"}


# Derived sets


@settings(max_examples=60, deadline=None)
@given(image=pictures(), seed=st.integers(0, 1000))
def test_pixel_shuffled_keeps_the_pixels_whole(image: np.ndarray, seed: int) -> None:
    shuffled = pixel_shuffled(np.random.default_rng(seed), image)
    assert shuffled.shape == image.shape

    def pixels(of: np.ndarray) -> Counter[bytes]:
        return Counter(pixel.tobytes() for pixel in of.reshape(image.shape[0] * image.shape[1], -1))

    assert pixels(shuffled) == pixels(image)


@settings(max_examples=80, deadline=None)
@given(image=pictures(), side=st.sampled_from([4, 8]), seed=st.integers(0, 1000))
def test_patches_shuffled_keeps_the_patches_and_the_margin(image: np.ndarray, side: int, seed: int) -> None:
    shuffled = patches_shuffled(np.random.default_rng(seed), image, side)
    side = min(side, min(image.shape[:2]) // 2)
    height, width = (size // side * side for size in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2

    def patches(of: np.ndarray) -> list[bytes]:
        return [
            of[row : row + side, column : column + side].tobytes()
            for row in range(top, top + height, side)
            for column in range(left, left + width, side)
        ]

    assert Counter(patches(shuffled)) == Counter(patches(image))
    if len(set(patches(image))) == len(patches(image)):
        assert patches(shuffled) != patches(image)
    margin = np.ones(image.shape[:2], bool)
    margin[top : top + height, left : left + width] = False
    assert np.array_equal(shuffled[margin], image[margin])


def test_patches_of_a_hand_made_image() -> None:
    image = np.kron(np.arange(4, dtype=np.uint8).reshape(2, 2), np.ones((4, 4), np.uint8))
    seen: Counter[tuple[int, ...]] = Counter()
    for seed in range(460):
        shuffled = patches_shuffled(np.random.default_rng(seed), image, 4)
        corners = shuffled[::4, ::4]
        assert np.array_equal(shuffled, np.kron(corners, np.ones((4, 4), np.uint8)))
        seen[tuple(corners.ravel().tolist())] += 1
    # All the permutations of four patches but the identity, about equally often: 20 times each.
    assert len(seen) == 23
    assert (0, 1, 2, 3) not in seen
    assert max(seen.values()) < 45


def test_patch_8_of_a_small_image_is_half_its_side() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    eight, four = (patches_shuffled(np.random.default_rng(1), image, side) for side in (8, 4))
    assert np.array_equal(eight, four)


@settings(max_examples=60, deadline=None)
@given(image=pictures(smallest=1), seed=st.integers(0, 1000))
def test_phase_scrambled_keeps_amplitudes_mean_and_cross_spectra(image: np.ndarray, seed: int) -> None:
    scrambled = phase_scrambled(np.random.default_rng(seed), image)
    assert scrambled.shape == image.shape
    before, after = (np.fft.fft2(of.astype(float), axes=(0, 1)) for of in (image, scrambled))
    tolerance = 1e-9 * max(1, np.abs(before).max())
    assert np.allclose(np.abs(after), np.abs(before), atol=tolerance, rtol=0)
    assert np.allclose(scrambled.mean(axis=(0, 1)), image.mean(axis=(0, 1)))
    if image.ndim == 3:
        crossed, kept = (of[..., 0] * of[..., 1].conj() for of in (after, before))
        assert np.allclose(crossed, kept, atol=1e-9 * max(1, np.abs(before).max()) ** 2, rtol=0)


def test_phase_scrambled_leaves_nothing_where_it_was() -> None:
    image = np.zeros((32, 32), np.uint8)
    image[10:14, 10:14] = 200
    scrambled = phase_scrambled(np.random.default_rng(0), image)
    assert abs(np.corrcoef(scrambled.ravel(), image.ravel())[0, 1]) < 0.3


@pytest.mark.parametrize("shape", [(28, 28), (32, 32, 3), (9, 14, 3)])
@pytest.mark.parametrize("name", DERIVED)
def test_derived_form(name: str, shape: tuple[int, ...]) -> None:
    base = image_base(shape)
    made = derived_set(name, base, seed=0)
    assert everything(made).dtype == np.uint8
    assert everything(made).shape == (20, *shape)
    assert (made.name, made.group, made.labels) == (name, "noise", None)
    assert "base" in made.origin
    pairs = zip(everything(made), everything(base), strict=True)
    assert not any(np.array_equal(one, two) for one, two in pairs)


@pytest.mark.parametrize("name", DERIVED)
def test_derived_does_not_depend_on_batch_or_order_and_changes_with_the_seed(name: str) -> None:
    base = image_base((24, 24, 3))
    made = derived_set(name, base, seed=0)
    whole = everything(made)
    assert np.array_equal(np.concatenate([made.read(at, at + 3) for at in range(0, 20, 3)]), whole)
    assert np.array_equal(made.source.read([7, 2]), whole[[7, 2]])
    pairs = zip(everything(derived_set(name, base, seed=1)), whole, strict=True)
    assert not any(np.array_equal(one, two) for one, two in pairs)


@pytest.mark.parametrize("name", DERIVED)
def test_a_limit_on_the_base_changes_no_image(name: str) -> None:
    base = image_base((12, 12, 3))
    part = base.drawn(6, seed=3)
    assert part.indices is not None
    of_part = everything(derived_set(name, part, seed=0))
    assert np.array_equal(of_part, everything(derived_set(name, base, seed=0))[part.indices])
    again = derived_set(name, part, seed=0).drawn(2, seed=1)
    assert again.indices is not None
    assert np.array_equal(everything(again), of_part[again.indices])


@pytest.mark.parametrize("name", DERIVED)
def test_images_of_different_sizes(name: str) -> None:
    draw = np.random.default_rng(0)
    images = [draw.integers(0, 256, size).astype(np.uint8) for size in [(9, 12), (8, 8, 3), (20, 31, 3)]]
    made = derived_set(name, ImageSet("mixed", ListSource(images), "a test"), seed=0)
    together = made.read(0, 3)
    assert [image.shape for image in together] == [image.shape for image in images]
    for index in range(3):
        assert np.array_equal(made.read(index, index + 1)[0], together[index])


def test_equal_images_are_shuffled_differently() -> None:
    ramp = np.arange(144, dtype=np.uint8).reshape(12, 12)
    made = derived_set("pixel-shuffled", ImageSet("ramps", ArraySource(np.stack([ramp] * 5)), "a test"), seed=0)
    assert len({image.tobytes() for image in everything(made)}) == 5


@pytest.mark.parametrize("name", ["patch-shuffled", "patch-shuffled-8"])
def test_an_image_of_one_row_has_no_patches(name: str) -> None:
    with pytest.raises(OodbenchError, match="no patches"):
        derived_set(name, image_base((1, 8)), seed=0).read(0, 1)


def test_unknown_derived_set() -> None:
    with pytest.raises(OodbenchError, match="did you mean pixel-shuffled"):
        derived_set("pixel-shufled", image_base((8, 8)), seed=0)


@pytest.mark.parametrize("name", DERIVED)
def test_derived_sets_can_be_sent_to_workers(name: str) -> None:
    made = derived_set(name, image_base((8, 8, 3)), 0)
    sent: ImageSet = pickle.loads(pickle.dumps(made))
    assert np.array_equal(sent.read(0, 3), made.read(0, 3))
