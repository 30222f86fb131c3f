"""The generator: any size, class count and conditioning; the matrix loses no class; files round-trip."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from oodbench.errors import OodbenchError
from oodbench.inversion.conditioning import cross, draw, seeded
from oodbench.inversion.generator import (
    Generator,
    ImageShape,
    load_generator,
    matrix_channels,
    matrix_on_map,
    save_generator,
)
from oodbench.inversion.settings import CONDITIONINGS, Conditioning


def images_of(generator: Generator, count: int, seed: int = 0, targets: Tensor | None = None) -> Tensor:
    random = seeded(seed, "test")
    conditions = draw(generator.conditioning, count, generator.num_classes, random, targets=targets)
    images: Tensor = generator(conditions, torch.randn(count, generator.noise_size, generator=random))
    return images


@settings(max_examples=20)
@given(
    sides=st.sampled_from([(8, 8), (28, 28), (32, 32), (9, 9), (8, 13), (33, 20), (40, 40)]),
    channels=st.sampled_from([1, 3]),
    num_classes=st.sampled_from([2, 10, 11, 40]),
    conditioning=st.sampled_from(CONDITIONINGS),
)
def test_any_size_class_count_and_conditioning(
    sides: tuple[int, int], channels: int, num_classes: int, conditioning: Conditioning
) -> None:
    generator = Generator(num_classes, (channels, *sides), conditioning, noise_size=5, width=2)
    images = images_of(generator, 3)
    assert images.shape == (3, channels, *sides)
    assert images.min() >= 0 and images.max() <= 1
    images.sum().backward()
    without = [name for name, parameter in generator.named_parameters() if parameter.grad is None]
    assert not without


@pytest.mark.parametrize("side", [4, 7, 8, 14])
@pytest.mark.parametrize("num_classes", [2, 7, 10, 11, 40, 100])
def test_the_matrix_keeps_every_class_apart_on_every_map(num_classes: int, side: int) -> None:
    maps = matrix_on_map(cross(torch.arange(num_classes), num_classes), (side, side + 1))
    assert maps.shape == (num_classes, matrix_channels(num_classes, (side, side + 1)), side, side + 1)
    assert len(maps.flatten(1).unique(dim=0)) == num_classes
    assert set(maps.unique().tolist()) <= {0.0, 1.0}


def test_a_map_of_k_by_k_takes_the_matrix_as_it_is_and_a_larger_one_nearest() -> None:
    matrix = cross(torch.tensor([0, 2]), 3)
    assert torch.equal(matrix_on_map(matrix, (3, 3)), matrix[:, None])
    twice = matrix.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    assert torch.equal(matrix_on_map(matrix, (6, 6)), twice[:, None])


def test_planted_fault_resizing_to_a_smaller_map_by_nearest_loses_classes() -> None:
    """Ten classes on the 7×7 map of a 28×28 generator: three of them would not be in the matrix at all."""
    small = nn.functional.interpolate(cross(torch.arange(10), 10)[:, None], size=(7, 7), mode="nearest")
    assert (small.flatten(1).sum(dim=1) == 0).sum() == 3


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32)])
def test_the_class_alone_changes_the_image(conditioning: Conditioning, shape: ImageShape) -> None:
    generator = Generator(11, shape, conditioning, width=4).eval()
    images = torch.cat([images_of(generator, 1, targets=torch.tensor([target])) for target in range(11)])
    assert len(images.flatten(1).unique(dim=0)) == 11


def test_noise_alone_changes_the_image() -> None:
    generator = Generator(3, (1, 8, 8), "one-hot", width=4).eval()
    images = images_of(generator, 4, targets=torch.zeros(4, dtype=torch.int64))
    assert len(images.flatten(1).unique(dim=0)) == 4


def test_in_eval_mode_an_image_does_not_depend_on_its_batch() -> None:
    generator = Generator(3, (1, 8, 8), width=4, dropout=0.5)
    images_of(generator.train(), 32)
    generator.eval()
    random = seeded(0, "test")
    conditions, noise = draw("vector-matrix", 6, 3, random), torch.randn(6, 100, generator=random)
    assert conditions.vector is not None and conditions.matrix is not None
    whole = generator(conditions, noise)
    first = type(conditions)(conditions.targets[:2], conditions.vector[:2], conditions.matrix[:2])
    torch.testing.assert_close(generator(first, noise[:2]), whole[:2])
    assert torch.equal(generator(conditions, noise), whole)


def test_dropout_acts_while_training_only() -> None:
    generator = Generator(3, (1, 8, 8), width=8, dropout=0.5)
    dropped = [module for module in generator.modules() if isinstance(module, nn.Dropout2d)]
    assert len(dropped) == len(generator.up) and all(module.p == 0.5 for module in dropped)
    assert not torch.equal(images_of(generator, 4), images_of(generator, 4))
    generator.eval()
    assert torch.equal(images_of(generator, 4), images_of(generator, 4))


def test_a_file_round_trips(tmp_path: Path) -> None:
    generator = Generator(11, (3, 9, 12), "vector", noise_size=7, width=3, dropout=0.25)
    images_of(generator, 16)
    path = tmp_path / "generator.safetensors"
    save_generator(generator, path)
    loaded = load_generator(path)
    assert loaded.settings() == generator.settings()
    assert torch.equal(images_of(loaded.eval(), 5), images_of(generator.eval(), 5))
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["generator"])["conditioning"] == "vector"


def test_files_that_hold_no_generator_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OodbenchError, match="there is no generator"):
        load_generator(tmp_path / "none.safetensors")
    other = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, other)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not a safetensors file")
    mixed = tmp_path / "mixed.safetensors"
    settings = json.dumps(Generator(3, (1, 8, 8)).settings())
    save_file({"weight": torch.zeros(2)}, mixed, metadata={"generator": settings})
    for path in (other, broken, mixed):
        with pytest.raises(OodbenchError, match="does not hold a generator"):
            load_generator(path)


@pytest.mark.parametrize(
    "arguments",
    [
        {"image_shape": (1, 7, 28)},
        {"num_classes": 0},
        {"noise_size": 0},
        {"width": 0},
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"conditioning": "label"},
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(OodbenchError):
        Generator(**({"num_classes": 3, "image_shape": (1, 8, 8)} | arguments))  # type: ignore[arg-type]
