"""Matching: by hand, against PIL, and the same whatever the batch."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tvf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from oodbench.data import matching
from oodbench.data.matching import describe_match, match
from tests.data.forms import pixels

SIZES = [
    ((28, 28), (32, 32)),
    ((64, 64), (32, 32)),
    ((37, 51), (32, 32)),
    ((8, 8), (28, 28)),
    ((300, 200), (32, 32)),
]


def test_what_fits_is_left_as_it_is() -> None:
    colour, grey = pixels(3, 5, 7, 3), pixels(3, 5, 7)
    assert torch.equal(match(colour, (3, 5, 7)), torch.from_numpy(colour).permute(0, 3, 1, 2))
    assert torch.equal(match(grey, (1, 5, 7)), torch.from_numpy(grey)[:, None])


def test_grey_is_repeated() -> None:
    grey = pixels(3, 5, 7)
    assert torch.equal(match(grey, (3, 5, 7)), torch.from_numpy(np.stack([grey] * 3, axis=1)))


def test_halving_averages_because_of_the_antialias() -> None:
    # By hand: at scale 2 the triangle filter weighs pixels around an output pixel 1 : 3 : 3 : 1; at a
    # border those that there are: (3·10 + 3·30 + 1·50)/7 = 24.29 and (1·30 + 3·50 + 3·50)/7 = 47.14.
    assert match(np.array([[[10, 30, 50, 50]]], np.uint8), (1, 1, 2)).flatten().tolist() == [24, 47]
    assert match(np.array([[[0, 100], [100, 200]]], np.uint8), (1, 1, 1)).item() == 100


@pytest.mark.parametrize(("stored", "wanted"), SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_resizing_agrees_with_pil_to_one_step(stored: tuple[int, int], wanted: tuple[int, int], channels: int) -> None:
    images = pixels(4, *stored) if channels == 1 else pixels(4, *stored, 3)
    pil = np.stack([np.array(Image.fromarray(i).resize(wanted[::-1], Image.Resampling.BILINEAR)) for i in images])
    ours = match(images, (channels, *wanted)).numpy()
    expected = pil[:, None] if channels == 1 else pil.transpose(0, 3, 1, 2)
    assert ours.dtype == np.uint8 and ours.shape == (4, channels, *wanted)
    difference = np.abs(ours.astype(int) - expected.astype(int))
    assert difference.max() <= 1


@settings(max_examples=150)
@given(
    stored=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    # Torch itself resizes wrongly to a width of 1.
    wanted=st.tuples(st.integers(1, 90), st.integers(2, 90)),
    count=st.integers(1, 3),
    colour=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_resizing_gives_the_bytes_of_torchvision(
    stored: tuple[int, int], wanted: tuple[int, int], count: int, colour: bool, seed: int
) -> None:
    images = pixels(count, *stored, 3, seed=seed) if colour else pixels(count, *stored, seed=seed)
    tensor = torch.from_numpy(images.transpose(0, 3, 1, 2).copy() if colour else images[:, None])
    theirs = tvf.resize(tensor.double(), list(wanted), antialias=True).round().clamp(0, 255).to(torch.uint8)
    assert torch.equal(match(images, (tensor.shape[1], *wanted)), theirs)


@pytest.mark.parametrize("limit", [1, 8 * (37 * 51 + 32 * 32) * 3 * 4])
def test_a_large_batch_is_resized_in_slices_and_the_same(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    images, counts = pixels(9, 37, 51, 3), []
    whole = match(images, (3, 32, 32))

    def counted(part: torch.Tensor, *rest: object, **options: object) -> torch.Tensor:
        counts.append(len(part))
        return interpolate(part, *rest, **options)  # type: ignore[arg-type]

    interpolate = matching.interpolate
    monkeypatch.setattr(matching, "interpolate", counted)
    monkeypatch.setattr(matching, "MOST_BYTES", limit)
    assert torch.equal(match(images, (3, 32, 32)), whole)
    assert counts == ([1] * 9 if limit == 1 else [4, 4, 1])


def test_what_a_run_imports_does_not_wait_for_torchvision() -> None:
    modules = "oodbench.data.load, oodbench.data.loader, oodbench.data.matching, oodbench.outputs"
    told = f"import sys, {modules}; print(sorted(name for name in sys.modules if name.startswith('torchvision')))"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_colour_becomes_luminance_as_in_pil_to_one_step() -> None:
    images = pixels(50, 8, 8, 3)
    ours = match(images, (1, 8, 8))[:, 0].numpy().astype(int)
    pil = np.stack([np.array(Image.fromarray(image).convert("L")) for image in images]).astype(int)
    assert np.abs(ours - pil).max() <= 1
    primaries = np.diag([255, 255, 255]).astype(np.uint8).reshape(3, 1, 1, 3)
    assert match(primaries, (1, 1, 1)).flatten().tolist() == [76, 150, 29]


def test_grey_in_three_channels_comes_back_as_that_grey() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    assert torch.equal(match(np.stack([ramp] * 3, axis=-1), (1, 16, 16)), torch.from_numpy(ramp)[:, None])


@given(
    count=st.integers(1, 9),
    stored=st.sampled_from([(28, 28), (37, 51), (8, 8), (64, 64)]),
    colour=st.booleans(),
)
def test_an_image_is_matched_alike_in_every_batch(count: int, stored: tuple[int, int], colour: bool) -> None:
    images = pixels(count, *stored, 3) if colour else pixels(count, *stored)
    for channels in (1, 3):
        together = match(images, (channels, 32, 32))
        assert torch.equal(together, torch.cat([match(image[None], (channels, 32, 32)) for image in images]))
        assert torch.equal(together, match(list(images), (channels, 32, 32)))


def test_a_list_may_mix_sizes_and_channels() -> None:
    images = [pixels(5, 9), pixels(12, 4, 3), pixels(6, 6)]
    for channels in (1, 3):
        assert match(images, (channels, 6, 6)).shape == (3, channels, 6, 6)


@pytest.mark.parametrize(
    ("image", "shape", "words"),
    [
        (pixels(28, 28), (3, 32, 32), "resized 28×28 → 32×32 (bilinear, antialias), grey repeated to RGB"),
        (pixels(32, 32, 3), (1, 32, 32), "RGB reduced to luminance (ITU-R 601)"),
        (pixels(32, 32, 3), (3, 32, 32), ""),
    ],
)
def test_it_says_what_it_does(image: np.ndarray, shape: tuple[int, int, int], words: str) -> None:
    assert describe_match(image, shape) == words
    assert (words == "") == np.array_equal(
        match(image[None], shape).numpy()[0], np.atleast_3d(image).transpose(2, 0, 1)
    )


def test_pictures_that_may_not_be_written_to_are_read_in_silence(recwarn: pytest.WarningsRecorder) -> None:
    """As Pillow hands them out, and files that are mapped."""
    image = np.arange(64, dtype=np.uint8).reshape(1, 8, 8)
    image.flags.writeable = False
    assert match(image, (1, 8, 8)).flatten().tolist() == list(range(64)) and not recwarn
