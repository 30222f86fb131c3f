"""Noise image sets: four made from nothing, four made from the images of another set (METHODS section 2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from oodbench.data.identity import identity_of
from oodbench.data.imageset import GENERATED_WITH, GENERATORS, GeneratedSource, Images, ImageSet, stacked
from oodbench.data.inputs import AnyForm, Form, as_form
from oodbench.data.reading import RecentSource
from oodbench.data.seeding import image_generator
from oodbench.errors import OodbenchError, unknown_name

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
Derive = Callable[[np.random.Generator, np.ndarray], np.ndarray]


def stored_shape(name: str, count: int, shape: tuple[int, int, int], smallest_side: int = 1) -> tuple[int, ...]:
    """The array shape H×W or H×W×3 of one generated image of the form (C, H, W); OodbenchError where `count`
    images of that form cannot be made."""
    channels, height, width = shape
    if channels not in (1, 3):
        raise OodbenchError(f"{name} cannot be made with {channels} channels; ask for 1 (grey) or 3 (RGB)")
    if min(height, width) < smallest_side:
        raise OodbenchError(f"{name} cannot be made {height}×{width}; ask for sides of at least {smallest_side} pixels")
    if count < 1:
        raise OodbenchError(f"{name} cannot be made with {count} images; ask for at least 1")
    return (height, width) if channels == 1 else (height, width, 3)


def quantised(values: np.ndarray) -> np.ndarray:
    """uint8 of values in [0, 1], rounded to the nearest of 0, 1/255 … 1, as in any image file."""
    return np.rint(255 * values).astype(np.uint8)


def gaussian(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Values i.i.d. N(0.5, 1) clipped to [0, 1] (Liang et al. 2017, arXiv 1706.02690, and their code)."""
    return quantised(np.clip(0.5 + generator.standard_normal(shape), 0, 1))


def uniform(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Values i.i.d. U[0, 1] (Liang et al. 2017, arXiv 1706.02690)."""
    return quantised(generator.random(shape))


def rademacher(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Values i.i.d. 0 or 255, each with probability 1/2 (Hendrycks et al. 2018, arXiv 1812.04606)."""
    return generator.integers(0, 2, shape, dtype=np.uint8) * np.uint8(255)


def blobs(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Bernoulli(0.7) noise, Gaussian-blurred, black where it is below 0.75 (Hendrycks et al. 2018, arXiv
    1812.04606).

    As in the authors' code σ = 1.5, and the blur runs over the colour axis too.
    Images smaller than 28×28, which the paper has none of, get a σ in proportion to their side, at least
    0.75: with 1.5, one grey 8×8 image in 140 would be black all over, and so equal to others.
    """
    # Imported here because the names of the sets are listed without SciPy.
    from scipy.ndimage import gaussian_filter

    sigma = min(1.5, max(0.75, 1.5 * min(shape[:2]) / 28))
    blurred = gaussian_filter((generator.random(shape) < 0.7).astype(np.float64), sigma, mode="nearest")
    return quantised(np.where(blurred < 0.75, 0, blurred))


NOISE: dict[str, tuple[Draw, str]] = {
    "gaussian": (gaussian, "each value i.i.d. N(0.5, 1) clipped to [0, 1]"),
    "uniform": (uniform, "each value i.i.d. uniform on [0, 1]"),
    "rademacher": (rademacher, "each value i.i.d. 0 or 1"),
    "blobs": (blobs, "Bernoulli(0.7) noise, Gaussian-blurred, black below 0.75"),
}


@dataclass(frozen=True)
class DrawnImage:
    """Makes image `index` of a generated set from that image's own generator."""

    draw: Draw
    name: str
    seed: int
    shape: tuple[int, ...]

    def __call__(self, index: int) -> np.ndarray:
        return self.draw(image_generator(self.seed, self.name, index), self.shape)


def noise_set(name: str, count: int, shape: tuple[int, int, int], seed: int) -> ImageSet:
    """`count` images of the noise called `name`; image i depends on (seed, name, i) and the shape alone.

    Args:
        name: a key of `NOISE`.
        count: how many images; those of a smaller count are the first of a larger one.
        shape: (C, H, W), C = 1 gives grey H×W images and C = 3 RGB H×W×3.
        seed: of the whole run.

    Raises:
        OodbenchError: no such noise, or a form or count that cannot be made.
    """
    if name not in NOISE:
        raise unknown_name("noise set", name, NOISE)
    draw, what = NOISE[name]
    make = DrawnImage(draw, name, seed, stored_shape(name, count, shape))
    return ImageSet(
        name, GeneratedSource(make, count), f"generated with seed {seed}: {what}", group="noise", prepared=True
    )


def pixel_shuffled(generator: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """The image's pixels at other positions; the colours of a pixel stay together."""
    pixels = image.reshape(image.shape[0] * image.shape[1], -1)
    return pixels[_permutation(generator, len(pixels))].reshape(image.shape)


def patch_shuffled(generator: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """The image's 4×4-pixel patches at other positions, as `patches_shuffled` does."""
    return patches_shuffled(generator, image, 4)


def patch_shuffled_8(generator: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """The image's 8×8-pixel patches at other positions, as `patches_shuffled` does."""
    return patches_shuffled(generator, image, 8)


def patches_shuffled(generator: np.random.Generator, image: np.ndarray, side: int) -> np.ndarray:
    """The image's square patches at other positions, at least one of them moved.

    A patch is `side` pixels wide, or half the image's shorter side where that is smaller, so that there is
    something to shuffle. Where the patches do not fill the image they lie in its middle and the margin stays.
    """
    side = min(side, min(image.shape[:2]) // 2)
    if side == 0:
        raise OodbenchError(f"an image of {image.shape[0]}×{image.shape[1]} pixels has no patches to shuffle")
    rows, columns = image.shape[0] // side, image.shape[1] // side
    top, left = (image.shape[0] - rows * side) // 2, (image.shape[1] - columns * side) // 2
    middle = (slice(top, top + rows * side), slice(left, left + columns * side))
    grid = image[middle].reshape(rows, side, columns, side, -1).swapaxes(1, 2)
    moved = grid.reshape(rows * columns, -1)[_permutation(generator, rows * columns)].reshape(grid.shape)
    shuffled = image.copy()
    shuffled[middle] = moved.swapaxes(1, 2).reshape(shuffled[middle].shape)
    return shuffled


def _permutation(generator: np.random.Generator, count: int) -> np.ndarray:
    """A uniformly drawn permutation, never the identity where there is another."""
    while True:
        order = generator.permutation(count)
        if count < 2 or (order != np.arange(count)).any():
            return order


def fourier_phase_scrambled(generator: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """The image with random phases, clipped to 0 … 255 and rounded."""
    return np.rint(np.clip(phase_scrambled(generator, image), 0, 255)).astype(np.uint8)


def phase_scrambled(generator: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """float64 image with the amplitude spectrum and mean of `image`, before clipping.

    One random phase field is added to the phases of all channels, so that their cross-spectra, and with them
    the colours, are kept too (random phase noise: Galerne et al. 2011, IEEE Trans. Image Processing 20(1)).
    """
    height, width = image.shape[:2]
    # The phases of real white noise have the symmetry that makes the result real.
    phases = np.angle(np.fft.rfft2(generator.standard_normal((height, width))))
    phases[0, 0] = 0
    turns = np.exp(1j * phases).reshape(phases.shape + (1,) * (image.ndim - 2))
    return np.fft.irfft2(np.fft.rfft2(image, axes=(0, 1)) * turns, s=(height, width), axes=(0, 1))


PATCH_RULE = "patches are at most half the image's shorter side; a margin that they do not fill stays as it is"

DERIVED: dict[str, tuple[Derive, str, tuple[str, ...]]] = {
    "pixel-shuffled": (pixel_shuffled, "pixel positions shuffled", ()),
    "patch-shuffled": (patch_shuffled, "4×4-pixel patches shuffled", (PATCH_RULE,)),
    "patch-shuffled-8": (patch_shuffled_8, "8×8-pixel patches shuffled", (PATCH_RULE,)),
    "fourier-phase-scrambled": (
        fourier_phase_scrambled,
        "Fourier phases random, amplitudes kept",
        (),
    ),
}


@dataclass(frozen=True)
class DerivedSource:
    """The images of another set, in a classifier's input form where one is given, each changed with its own generator.

    What is changed before it is resized would lose its contrast: pixels that lie side by side by chance are averaged.
    """

    derive: Derive
    name: str
    seed: int
    base: ImageSet
    form: Form | None = None

    def __len__(self) -> int:
        return len(self.base)

    def read(self, indices: Sequence[int]) -> Images:
        numbers = self._numbers(indices)
        images = self._formed(numbers)
        changed = [
            self.derive(image_generator(self.seed, self.name, number), image)
            for number, image in zip(numbers, images, strict=True)
        ]
        return stacked(changed)

    def identity(self, indices: Sequence[int]) -> str | None:
        numbers = self._numbers(indices)
        base = self.base.source.identity(numbers)
        code = "" if self.form is None else self.form.code()
        if base is None or code is None:
            return None
        form = () if self.form is None else (self.form.shape, self.form.told, code)
        return identity_of((self.name, self.seed, numbers, base, form), GENERATORS, GENERATED_WITH)

    def _formed(self, numbers: Sequence[int]) -> Images:
        source = self.base.source
        if self.form is None:
            return source.read(numbers)
        if isinstance(source, RecentSource):
            made = source.pixels(numbers, self.form)
        else:
            made = self.form.pixels(source.read(numbers))
        pixels = made.permute(0, 2, 3, 1).numpy()
        return pixels[..., 0] if self.form.shape[0] == 1 else pixels

    def _numbers(self, indices: Sequence[int]) -> list[int]:
        # An image's number in the base's source, not in a drawn part of it, chooses the generator: a limit on
        # the base changes which images there are and not what they look like.
        drawn = self.base.indices
        return [int(index) if drawn is None else int(drawn[index]) for index in indices]


def derived_set(name: str, base: ImageSet, seed: int, form: AnyForm | None = None) -> ImageSet:
    """A set as long as `base`: image i is made from base image i and the generator of (seed, name, i) alone.

    Args:
        name: a key of `DERIVED`.
        base: grey or RGB images, of one size or of many.
        seed: of the whole run.
        form: of the classifier's input, into which images are brought before they are changed; by default they are
            changed as they are stored. So are they where that input is no pixels.

    Raises:
        OodbenchError: no such derived set; when read, an image too small to be shuffled.
    """
    if name not in DERIVED:
        raise unknown_name("derived noise set", name, DERIVED)
    derive, what, notes = DERIVED[name]
    wanted = None if form is None else as_form(form)
    if wanted is not None and not wanted.has_pixels:
        wanted = None
    return ImageSet(
        name,
        DerivedSource(derive, name, seed, base, wanted),
        f"{base.name} ({base.origin}), {f'{wanted.words}, ' if wanted else ''}{what}, seed {seed}",
        group="noise",
        notes=(*base.notes, *notes),
        prepared=wanted is not None,
    )
