"""Input normalisation as users write it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oodbench.errors import OodbenchError
from oodbench.models.normalisation import NORMALISATIONS, parse_normalisation
from tests.conftest import SHARED


def test_nothing_given_is_nothing() -> None:
    assert parse_normalisation(None, None, 3) is None


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 10, exclude_min=True)), min_size=3, max_size=3))
def test_numbers_are_read_as_they_are_written(pairs: list[tuple[float, float]]) -> None:
    means, deviations = zip(*pairs, strict=True)
    mean, std = ",".join(map(repr, means)), " , ".join(map(repr, deviations))
    assert parse_normalisation(mean, std, 3) == (means, deviations)


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_a_name_stands_for_both(name: str) -> None:
    channels = len(NORMALISATIONS[name][0])
    both = parse_normalisation(name, name, channels)
    assert both == NORMALISATIONS[name]
    assert parse_normalisation(name, None, channels) == parse_normalisation(None, name, channels) == both


def test_one_value_serves_all_channels_and_names_mix_with_numbers() -> None:
    assert parse_normalisation("0.5", "0.25", 3) == ((0.5,) * 3, (0.25,) * 3)
    assert parse_normalisation("mnist", None, 3) == ((0.1307,) * 3, (0.3081,) * 3)
    assert parse_normalisation("none", None, 1) == ((0.0,), (1.0,))
    assert parse_normalisation("cifar10", "1,2,3", 3) == ((0.4914, 0.4822, 0.4465), (1.0, 2.0, 3.0))


@pytest.mark.parametrize(
    ("mean", "std", "channels", "words"),
    [
        ("0.5", None, 3, "--std is missing"),
        (None, "0.5", 3, "--mean is missing"),
        ("0.5,0.5", "0.5", 3, "--mean 0.5,0.5 has 2 values"),
        ("imagenet", None, 1, "has 3 values, but the classifier takes images of 1"),
        ("0.5", "0", 3, "must be positive"),
        (
            "123.675,116.28,103.53",
            "58.395,57.12,57.375",
            3,
            "0 … 255.*--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225",
        ),
        ("0", "255", 1, "--mean 0 --std 1"),
        ("0.5", "0.5,-1,0.5", 3, "must be positive"),
        ("0.5,x,0.5", "0.5", 3, "'x' is not a number"),
        ("0.5,nan,0.5", "0.5", 3, "'nan' is not a number"),
        ("0.5,,0.5", "0.5", 3, "'' is not a number"),
        ("imagnet", None, 3, "no normalisation \\(--mean\\) 'imagnet'; did you mean imagenet"),
        ("0.5", "cifar11", 3, "no normalisation \\(--std\\) 'cifar11'; did you mean cifar10"),
    ],
)
def test_what_cannot_be_read_is_said(mean: str | None, std: str | None, channels: int, words: str) -> None:
    with pytest.raises(OodbenchError, match=words):
        parse_normalisation(mean, std, channels)


@pytest.mark.skipif(not (SHARED / "data").exists(), reason="needs the shared data")
@pytest.mark.parametrize(("name", "file"), [("mnist", "mnist_train"), ("cifar10", "cifar10_train")])
def test_named_statistics_are_those_of_the_images(name: str, file: str) -> None:
    images = np.load(SHARED / "data" / f"{file}.npz")["images"]
    pixels = images.reshape(-1, images.shape[3] if images.ndim == 4 else 1)
    # Half of the training images are here, so that the last digit may differ.
    counts = np.stack([np.bincount(channel, minlength=256) for channel in pixels.T]) / len(pixels)
    values = np.arange(256) / 255
    mean = counts @ values
    std = np.sqrt(counts @ values**2 - mean**2)
    np.testing.assert_allclose(NORMALISATIONS[name], [mean, std], atol=1.5e-3)
