"""Preprocess: the bytes of PIL and torchvision, image by image; what it says; what tells one from another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.functional import InterpolationMode

from oodbench.data.inputs import from_facts
from oodbench.data.matching import match
from oodbench.data.preprocess import INTERPOLATIONS, ON_TENSORS, Preprocess, stretched
from oodbench.errors import OodbenchError
from tests.data.forms import pixels

sides = st.integers(1, 90)


def as_array(picture: Image.Image) -> torch.Tensor:
    array = np.asarray(picture)
    return torch.from_numpy(np.array(array[None] if array.ndim == 2 else array.transpose(2, 0, 1)))


@settings(max_examples=150, deadline=None)
@given(
    stored=st.tuples(sides, sides),
    resize=st.one_of(st.none(), st.integers(1, 60), st.tuples(st.integers(1, 60), st.integers(1, 60))),
    crop=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    interpolation=st.sampled_from(sorted(INTERPOLATIONS)),
    colour=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_the_pil_kernel_gives_the_bytes_of_torchvision_on_pil_images(
    stored: tuple[int, int],
    resize: int | tuple[int, int] | None,
    crop: tuple[int, int],
    interpolation: str,
    colour: bool,
    seed: int,
) -> None:
    images = pixels(1, *stored, 3, seed=seed) if colour else pixels(1, *stored, seed=seed)
    ours = Preprocess(resize, crop, interpolation, channels=3 if colour else 1)(images)
    size = [resize] if isinstance(resize, int) else resize
    steps = [] if size is None else [v2.Resize(list(size), InterpolationMode(interpolation))]
    theirs = v2.Compose([*steps, v2.CenterCrop(list(crop))])(Image.fromarray(images[0]))
    assert ours.dtype == torch.uint8 and torch.equal(ours[0], as_array(theirs))


def test_a_plain_loop_of_pil_gives_the_same_bytes() -> None:
    image = pixels(1, 300, 451, 3)[0]
    picture = Image.fromarray(image).resize((int(256 * 451 / 300), 256), Image.Resampling.BICUBIC)
    left, top = round((picture.width - 224) / 2), round((picture.height - 224) / 2)
    expected = picture.crop((left, top, left + 224, top + 224))
    assert torch.equal(Preprocess(256, 224, "bicubic")(image[None])[0], as_array(expected))


@pytest.mark.parametrize("interpolation", ON_TENSORS)
@pytest.mark.parametrize("kernel", ["tensor", "unfiltered"])
def test_the_kernels_on_tensors_are_those_of_torchvision(interpolation: str, kernel: str) -> None:
    images = pixels(1, 90, 131, 3)
    ours = Preprocess(40, (32, 36), interpolation, kernel)(images)
    tensor = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).double()
    resized = v2.functional.resize(tensor, [40], InterpolationMode(interpolation), antialias=kernel == "tensor")
    theirs = v2.functional.center_crop(resized, [32, 36]).round().clamp(0, 255).to(torch.uint8)
    assert torch.equal(ours, theirs)
    if interpolation != "nearest":
        other = Preprocess(40, (32, 36), interpolation, "pil")(images)
        assert torch.equal(ours, other) is False


@given(st.lists(st.tuples(sides, sides, st.booleans()), min_size=1, max_size=5), st.sampled_from([1, 3]))
def test_a_batch_of_many_sizes_is_one_by_one(forms: list[tuple[int, int, bool]], channels: int) -> None:
    images = [pixels(*form[:2], *([3] if form[2] else [])) for form in forms]
    preprocess = Preprocess(20, 16, "bicubic", channels=channels)
    together = preprocess(images)
    assert together.shape == (len(images), channels, 16, 16)
    assert torch.equal(together, torch.cat([preprocess([image]) for image in images]))


@pytest.mark.parametrize("kernel", ["pil", "tensor", "unfiltered"])
def test_what_fits_is_left_as_it_is_and_nothing_is_said(kernel: str) -> None:
    images = pixels(3, 32, 32, 3)
    for preprocess in (Preprocess(32, 32, kernel=kernel), Preprocess((32, 32), kernel=kernel), Preprocess(crop=32)):
        assert torch.equal(preprocess(images), torch.from_numpy(images).permute(0, 3, 1, 2))
        assert preprocess.describe(images[0]) == ""


def test_the_default_is_match() -> None:
    images = [pixels(9, 30, 3), pixels(31, 8)]
    for shape in ((3, 16, 20), (1, 7, 8)):
        assert torch.equal(stretched(shape)(images), match(images, shape))
        assert stretched(shape).shape == shape and stretched(shape).facts() == {} and stretched(shape).told == ""


def test_it_says_what_it_does() -> None:
    preprocess = Preprocess(256, 224, "bicubic", origin="as published")
    words = "resized 300×400 → 256×341 (bicubic, as PIL does it), cropped to the middle 224×224 (as published)"
    assert preprocess.describe(pixels(300, 400, 3)) == words
    assert "padded" in Preprocess(crop=224).describe(pixels(100, 400, 3))
    assert Preprocess(256, 224).describe(pixels(256, 256)).endswith("grey repeated to RGB")


CHANGES = [
    {"resize": 255},
    {"resize": (256, 256)},
    {"crop": 223},
    {"crop": (224, 223)},
    {"interpolation": "bilinear"},
    {"kernel": "tensor"},
    {"kernel": "unfiltered"},
    {"mean": 0.5},
    {"std": 0.5},
]


def test_facts_go_through_plain_values_and_back() -> None:
    for change in CHANGES:
        one = Preprocess(**{"resize": 256, "crop": 224, "interpolation": "bicubic"} | change)
        facts = {"image_shape": list(one.shape), "mean": list(one.mean), "std": list(one.std)}
        assert from_facts(facts | {"preprocess": one.facts()}) == one
    default = stretched((1, 8, 9), 0.5, 0.25)
    assert from_facts({"image_shape": [1, 8, 9], "mean": [0.5], "std": [0.25]}) == default


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"resize": 256}, "give a crop"),
        ({}, "give a crop"),
        ({"crop": 0}, "from 1 up"),
        ({"crop": 8, "resize": (1, 2, 3)}, "one number of pixels or two"),
        ({"crop": 8, "interpolation": "bicubik"}, "did you mean bicubic"),
        ({"crop": 8, "kernel": "tensr"}, "did you mean tensor"),
        ({"crop": 8, "kernel": "tensor", "interpolation": "lanczos"}, "no lanczos on tensors"),
        ({"crop": 8, "mean": (0.5, 0.5)}, "2 values for images of 3"),
        ({"crop": 8, "std": 0.0}, "must be positive"),
    ],
)
def test_what_cannot_be_is_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(OodbenchError, match=words):
        Preprocess(**values)  # type: ignore[arg-type]
