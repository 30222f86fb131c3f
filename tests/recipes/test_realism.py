"""What passes for an ID image: images like the real ones, and no noise, flat grey or turn of no class."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from oodbench.recipes.holdout import matched
from oodbench.recipes.realism import Realism
from tests.recipes.conftest import turned_ramps


def ramps(count: int, seed: int) -> Tensor:
    return matched(turned_ramps(count, seed), (1, 8, 8))


@pytest.fixture
def realism() -> Realism:
    return Realism(ramps(300, 0), ramps(200, 1))


def test_real_images_pass_and_others_do_not(realism: Realism) -> None:
    assert 0.88 <= float(realism.passes(ramps(400, 2)).float().mean()) <= 0.99
    noise = torch.randint(0, 256, (50, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    no_class = ramps(30, 3)[1::3].flip(2, 3)
    assert not realism.passes(noise).any()
    assert not realism.passes(torch.full((3, 1, 8, 8), 127, dtype=torch.uint8)).any()
    assert not realism.passes(no_class).any()


def test_brightness_and_contrast_do_not_matter(realism: Realism) -> None:
    images = ramps(60, 4) // 4 * 2
    assert realism.passes(images).any()
    assert torch.equal(realism.passes(images), realism.passes(images + 40))
    assert torch.equal(realism.passes(images), realism.passes(images // 2))
