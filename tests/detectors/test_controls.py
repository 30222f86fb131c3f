"""Controls: each depends on the seed and the pixels alone, and is what its name says."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from oodbench.detectors.controls import Constant, Intensity, JpegSize, Random, Smoothness
from oodbench.metrics import evaluate
from oodbench.outputs import Needs, Outputs


def images(count: int, seed: int) -> torch.Tensor:
    drawn = torch.randint(0, 256, (count, 1, 3, 3), generator=torch.Generator().manual_seed(seed))
    return drawn.to(torch.float32) / 255


def test_constant_is_chance() -> None:
    scores = Constant().score(Outputs({"logits": torch.randn(10, 3)}))
    found = evaluate(scores, scores)
    assert found["auroc"] == 0.5 and found["fpr_at_95_id_recall"] == found["fpr_at_95_ood_recall"] == 1
    assert Constant().control and Random().control


def test_random_is_the_same_number_for_the_same_pixels_alone() -> None:
    pixels = images(50, 0)
    scores = Random().score(Outputs({"images": pixels}))
    for index in (0, 13, 49):
        assert Random().score(Outputs({"images": pixels[index : index + 1]})).item() == scores[index].item()
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    assert torch.equal(Random().score(Outputs({"images": pixels[order]})), scores[order])
    # As float64, or with the rounding of a device that divides otherwise, the pixels are the same 8-bit values.
    assert torch.equal(Random().score(Outputs({"images": pixels.double() + 1e-4})), scores)
    assert Random().needs == Needs("images")


def test_random_changes_with_a_pixel_and_with_the_seed() -> None:
    pixels = images(50, 0)
    scores = Random().score(Outputs({"images": pixels}))
    changed = pixels.clone()
    changed[:, 0, 2, 2] = 1 - changed[:, 0, 2, 2]
    assert not (Random().score(Outputs({"images": changed})) == scores).any()
    assert not (Random(seed=1).score(Outputs({"images": pixels})) == scores).any()
    assert len(set(scores.tolist())) == 50


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1])
def test_random_is_uniform(seed: int) -> None:
    scores = Random(seed=seed).score(Outputs({"images": images(5000, 3)})).numpy()
    assert scores.min() >= 0 and scores.max() < 1
    assert stats.kstest(scores, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(scores[:-1], scores[1:])[0, 1]) < 0.06


def test_random_is_this_number_on_every_machine() -> None:
    # blake2b of four zero bytes under a key of eight, 53 of its first 64 bits.
    assert Random(seed=0).score(Outputs({"images": torch.zeros(1, 1, 2, 2)})).item() == 0.3300509157074383


def test_smoothness_and_intensity_by_hand() -> None:
    # Rows 0 1 and 1 1: one step down and one across, of 4 pixels; flat images are the smoothest.
    pixels = torch.tensor([[[[0.0, 1.0], [1.0, 1.0]]], [[[0.5, 0.5], [0.5, 0.5]]]])
    assert Smoothness().score(Outputs({"images": pixels})).tolist() == [-0.5, 0]
    assert Intensity().score(Outputs({"images": pixels})).tolist() == [0.75, 0.5]
    assert all(control.control and control.needs == Needs("images") for control in (Smoothness(), Intensity()))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_jpeg_is_the_size_of_the_file(channels: int) -> None:
    pixels = torch.randint(0, 256, (2, channels, 16, 16), generator=torch.Generator().manual_seed(0)).float() / 255
    pixels[1] = 0.5
    stored = (pixels * 255).round().to(torch.uint8)

    def size(array: np.ndarray) -> int:
        Image.fromarray(array).save(file := BytesIO(), "jpeg", quality=75)
        return len(file.getvalue())

    if channels == 3:
        expected = [-size(one.permute(1, 2, 0).numpy()) for one in stored]
    else:
        expected = [-sum(size(channel.numpy()) for channel in one) for one in stored]
    found = JpegSize().score(Outputs({"images": pixels})).tolist()
    assert found == expected and found[1] > found[0]
    assert JpegSize(quality=25).score(Outputs({"images": pixels}))[0] > found[0] and JpegSize().control
