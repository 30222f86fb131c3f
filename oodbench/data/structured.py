"""Procedural images, structured but empty: gratings, checkerboards, smooth blobs, 1/f fields, Mondrians."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from oodbench.data.imageset import GeneratedSource, ImageSet
from oodbench.data.noise import quantised, stored_shape
from oodbench.data.seeding import image_generator

SMALLEST_SIDE = 8
SMALLEST_CONTRAST = 0.3
SMALLEST_DEVIATION = 0.03

Size = tuple[int, int]
Paint = Callable[[np.random.Generator, Size, int], np.ndarray]


def gratings(generator: np.random.Generator, size: Size, channels: int) -> np.ndarray:
    """One or two crossed gratings of random orientation, frequency, phase and profile between two colours."""
    waves = [_wave(generator, size) for _ in range(generator.integers(1, 3))]
    return _between(_colours(generator, 2, channels), np.mean(waves, axis=0))


def _wave(generator: np.random.Generator, size: Size) -> np.ndarray:
    period = _log_uniform(generator, 3, max(size))
    along, _ = _turned(generator, size)
    turn = along / period + generator.random()
    match generator.integers(3):
        case 0:
            return 0.5 + 0.5 * np.sin(2 * np.pi * turn)
        case 1:
            return (turn % 1 < generator.uniform(0.3, 0.7)).astype(np.float64)
        case _:
            return turn % 1


def checkerboards(generator: np.random.Generator, size: Size, channels: int) -> np.ndarray:
    """A checkerboard of random orientation, phase, cell width and cell height in two colours."""
    along, across = _turned(generator, size)
    cells = [
        np.floor(distance / _log_uniform(generator, 2, min(size) / 2) + generator.random())
        for distance in (along, across)
    ]
    return _between(_colours(generator, 2, channels), (cells[0] + cells[1]) % 2)


def smooth_blobs(generator: np.random.Generator, size: Size, channels: int) -> np.ndarray:
    """Two to eight soft elliptical spots, each with its own colour, place, width, height and opacity."""
    rows, columns = _positions(size)
    count = int(generator.integers(2, 9))
    ground, *colours = _colours(generator, count + 1, channels)
    image = np.broadcast_to(ground, (*size, channels))
    for colour in colours:
        top, left = generator.random(2) * size
        height, width = generator.uniform(0.06, 0.35, 2) * min(size)
        cover = np.exp(-0.5 * (((rows - top) / height) ** 2 + ((columns - left) / width) ** 2))
        image = image + (generator.uniform(0.6, 1) * cover)[..., None] * (colour - image)
    return image


def fractal_fields(generator: np.random.Generator, size: Size, channels: int) -> np.ndarray:
    """A random field whose amplitude spectrum falls as 1/f^α, α in 0.7 … 2, colours more or less alike."""
    height, width = size
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = np.inf
    spectra = np.fft.rfft2(generator.standard_normal((channels, height, width)))
    fields = np.fft.irfft2(spectra * frequency ** -generator.uniform(0.7, 2), s=size)
    fields /= fields.std(axis=(1, 2), keepdims=True)
    # From all channels alike (a grey field) to each its own (a motley one).
    own = generator.random()
    mixed = (1 - own) * fields[:1] + own * fields
    brightness = generator.uniform(0.3, 0.7, channels)
    contrast = generator.uniform(0.1, 0.3)
    return np.clip(brightness + contrast * np.moveaxis(mixed, 0, 2), 0, 1)


def mondrians(generator: np.random.Generator, size: Size, channels: int) -> np.ndarray:
    """Four to twenty overlapping rectangles in a palette of three to seven colours."""
    palette = _colours(generator, int(generator.integers(3, 8)), channels)
    image = np.empty((*size, channels))
    image[:] = palette[0]
    for _ in range(generator.integers(4, 21)):
        height, width = np.ceil(generator.uniform(0.1, 0.7, 2) * size).astype(int)
        top = generator.integers(1 - height, size[0])
        left = generator.integers(1 - width, size[1])
        colour = palette[generator.integers(len(palette))]
        image[max(top, 0) : top + height, max(left, 0) : left + width] = colour
    return image


KINDS: tuple[Paint, ...] = (gratings, checkerboards, smooth_blobs, fractal_fields, mondrians)


def _positions(size: Size) -> tuple[np.ndarray, np.ndarray]:
    """The row and the column of each pixel, shapes H×1 and 1×W."""
    return np.arange(size[0], dtype=np.float64)[:, None], np.arange(size[1], dtype=np.float64)[None]


def _turned(generator: np.random.Generator, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Two coordinates of each pixel, in pixels, along a random direction and across it."""
    rows, columns = _positions(size)
    angle = generator.uniform(0, np.pi)
    return columns * np.cos(angle) + rows * np.sin(angle), rows * np.cos(angle) - columns * np.sin(angle)


def _log_uniform(generator: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(generator.uniform(np.log(low), np.log(high))))


def _colours(generator: np.random.Generator, count: int, channels: int) -> np.ndarray:
    """count×channels colours in [0, 1], the first two of which can be told apart."""
    while True:
        colours = generator.random((count, channels))
        if np.abs(colours[0] - colours[1]).max() >= SMALLEST_CONTRAST:
            return colours


def _between(colours: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Each pixel's mixture of the first two colours: `share`, H×W in [0, 1], of the second."""
    return colours[0] + share[..., None] * (colours[1] - colours[0])


@dataclass(frozen=True)
class StructuredImage:
    """Makes image `index`: its kind and all its parameters come from its own generator."""

    seed: int
    shape: tuple[int, ...]

    def __call__(self, index: int) -> np.ndarray:
        generator = image_generator(self.seed, "structured", index)
        paint = KINDS[generator.integers(len(KINDS))]
        while True:
            image = paint(generator, (self.shape[0], self.shape[1]), 3 if len(self.shape) == 3 else 1)
            # One rectangle can cover all the others, and like colours can meet: that is no structure.
            if image.std(axis=(0, 1)).max() >= SMALLEST_DEVIATION:
                return quantised(image).reshape(self.shape)


def structured_set(count: int, shape: tuple[int, int, int], seed: int) -> ImageSet:
    """`count` procedural images of the kinds in `KINDS`; image i depends on (seed, i) and the shape alone.

    Args:
        count: how many images; those of a smaller count are the first of a larger one.
        shape: (C, H, W), C = 1 gives grey H×W images and C = 3 RGB H×W×3; sides of at least 8 pixels.
        seed: of the whole run.

    Raises:
        OodbenchError: a form or count that cannot be made.
    """
    make = StructuredImage(seed, stored_shape("structured", count, shape, SMALLEST_SIDE))
    kinds = ", ".join(paint.__name__.replace("_", " ") for paint in KINDS)
    origin = f"generated with seed {seed}: {kinds}"
    return ImageSet("structured", GeneratedSource(make, count), origin, group="structured", prepared=True)
