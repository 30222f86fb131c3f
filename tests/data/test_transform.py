"""Callables of the user's: what they give, where normalisation goes, what tells one from another."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torchvision import transforms as v1
from torchvision.transforms import v2

from oodbench.data.preprocess import Preprocess
from oodbench.data.transform import Transform, form_of
from oodbench.errors import OodbenchError
from tests.data.forms import pixels

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGES = [pixels(40, 70, 3), pixels(90, 50, 3), pixels(33, 33)]

COMPOSED: dict[str, Callable[[], Any]] = {
    "v1": lambda: v1.Compose([v1.Resize(32), v1.CenterCrop(28), v1.ToTensor(), v1.Normalize(MEAN, STD)]),
    "v2": lambda: v2.Compose(
        [
            v2.Resize(32),
            v2.CenterCrop(28),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    ),
    "v2 on tensors": lambda: v2.Compose(
        [
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Resize(32),
            v2.CenterCrop(28),
            v2.Normalize(MEAN, STD),
        ]
    ),
}


def normalised(form: Transform | Preprocess, images: list[np.ndarray]) -> torch.Tensor:
    """What the network gets."""
    given = form(images)
    given = given / 255 if given.dtype == torch.uint8 else given
    return (given - torch.tensor(form.mean).view(-1, 1, 1)) / torch.tensor(form.std).view(-1, 1, 1)


@pytest.mark.parametrize("name", COMPOSED)
def test_normalisation_is_split_off_and_the_network_gets_the_same(name: str) -> None:
    transform = COMPOSED[name]()
    form = form_of(transform)
    assert isinstance(form, Transform) and form.has_pixels and form.shape == (3, 28, 28)
    assert form.mean == pytest.approx(MEAN) and form.std == pytest.approx(STD)
    expected = torch.stack([transform(Image.fromarray(image).convert("RGB")) for image in IMAGES])
    torch.testing.assert_close(normalised(form, IMAGES), expected, rtol=0, atol=1e-6)
    given = form(IMAGES)
    assert given.dtype == (torch.float32 if name == "v2 on tensors" else torch.uint8)
    torch.testing.assert_close(form.pixels(IMAGES) / 255, given / 255 if given.dtype == torch.uint8 else given,
                               rtol=0, atol=0.5001 / 255)  # fmt: skip
    assert torch.equal(given, torch.cat([form([image]) for image in IMAGES]))


def test_a_published_preset_becomes_its_record() -> None:
    transform = torchvision.models.ResNet50_Weights.IMAGENET1K_V2.transforms()
    form = form_of(transform)
    assert form == Preprocess(232, 224, "bilinear", mean=MEAN, std=STD)
    expected = torch.stack([transform(Image.fromarray(image).convert("RGB")) for image in IMAGES])
    torch.testing.assert_close(normalised(form, IMAGES), expected, rtol=0, atol=1e-6)


def test_any_other_output_is_taken_as_it_comes_and_that_is_said() -> None:
    form = form_of(lambda picture: v1.functional.to_tensor(picture.resize((8, 8))) * 4 - 4)
    assert isinstance(form, Transform) and not form.has_pixels and form.mean == (0, 0, 0) and form.std == (1, 1, 1)
    assert "taken as it comes" in form.describe(IMAGES[0])
    assert form(IMAGES).min() < -1 and form(IMAGES).dtype == torch.float32
    assert form.pixels(IMAGES).dtype == torch.uint8


def test_arrays_and_grey_pictures_are_taken_too() -> None:
    def flipped(picture: Image.Image) -> np.ndarray:
        return np.asarray(picture.resize((9, 7)))[::-1]

    form = form_of(flipped)
    assert form.shape == (3, 7, 9) and form([IMAGES[0]]).dtype == torch.uint8
    expected = np.asarray(Image.fromarray(IMAGES[0]).resize((9, 7)))[::-1].transpose(2, 0, 1).copy()
    assert torch.equal(form([IMAGES[0]])[0], torch.from_numpy(expected))
    modes = []

    def noted(picture: Image.Image) -> torch.Tensor:
        modes.append(picture.mode)
        return v1.functional.to_tensor(picture.resize((9, 7)))

    assert form_of(noted, (1, 7, 9)).shape == (1, 7, 9) and set(modes) == {"L"}


@pytest.mark.parametrize(
    ("transform", "given", "words"),
    [
        (lambda picture: 1 / 0, {}, "failed on a PIL image .*division by zero"),
        (lambda picture: "picture", {}, "returned a str"),
        (lambda picture: torch.zeros(5, 8, 8), {}, r"a tensor \(5, 8, 8\)"),
        (lambda picture: torch.rand(3, 8, 8), {}, "other values each time"),
        (v1.Compose([v1.RandomHorizontalFlip(), v1.ToTensor()]), {}, "other values each time"),
        (v1.ToTensor(), {"image_shape": (3, 8, 8)}, "not \\(3, 8, 8\\)"),
        (COMPOSED["v1"](), {"mean": 0.5}, "ends in a normalisation already"),
    ],
)
def test_what_cannot_be_used_is_said(transform: Any, given: dict[str, Any], words: str) -> None:
    with pytest.raises(OodbenchError, match=words):
        form_of(transform, **given)


def test_images_that_come_out_in_another_size_are_refused() -> None:
    form = form_of(v1.ToTensor())
    with pytest.raises(OodbenchError, match=r"3×40×70.*end it with a crop"):
        form([IMAGES[0]])


def scaled(factor: float) -> Callable[[Image.Image], torch.Tensor]:
    return lambda picture: v1.functional.to_tensor(picture.resize((8, 8))) * factor


def small(picture: Image.Image, size: int = 8) -> torch.Tensor:
    return v1.functional.to_tensor(picture.resize((size, size)))


class Own:
    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, picture: Image.Image) -> torch.Tensor:
        return small(picture, self.size)


DIFFERENT: list[Any] = [
    scaled(0.5),
    scaled(0.25),
    small,
    partial(small, size=8),
    partial(small, size=9),
    Own(8),
    Own(9),
    v1.Compose([v1.Resize((8, 8)), v1.ToTensor()]),
    v1.Compose([v1.Resize((8, 8), v1.InterpolationMode.BICUBIC), v1.ToTensor()]),
    v2.Compose([v2.Resize((8, 8)), v2.ToImage()]),
]


def test_each_is_told_from_the_others_and_its_code_can_be_read() -> None:
    forms = [form_of(one) for one in DIFFERENT]
    assert len({form.told for form in forms}) == len(DIFFERENT)
    assert all(isinstance(form, Transform) and form.code() for form in forms)
    again = form_of(v1.Compose([v1.Resize((8, 8)), v1.ToTensor()]))
    assert again.told == forms[7].told and again.facts() == forms[7].facts()
    assert again != forms[7] and forms[7].form == forms[7].form and len({forms[7].form, forms[7].form}) == 1


def test_it_is_told_alike_in_another_process() -> None:
    code = (
        "from torchvision.transforms import v2; from oodbench.data.transform import form_of; "
        "print(form_of(v2.Compose([v2.Resize((8, 8)), v2.ToImage()])).facts()['sha256'])"
    )
    folder = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    assert done.stdout.strip() == form_of(DIFFERENT[-1]).facts()["sha256"]


def test_code_that_cannot_be_read_is_not_taken_for_known() -> None:
    space: dict[str, Any] = {"small": small}
    exec("def unseen(picture): return small(picture)", space)
    form = form_of(space["unseen"])
    assert isinstance(form, Transform) and form.code() is None and form.told
