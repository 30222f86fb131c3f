"""What all sets of drawn images share: their form, and that an image depends on seed and number alone."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import pytest

from oodbench.data.imageset import ImageSet
from oodbench.data.noise import NOISE, noise_set
from oodbench.data.photos import photos_set
from oodbench.data.structured import structured_set
from oodbench.errors import OodbenchError

SETS: Mapping[str, Callable[..., ImageSet]] = {
    **{name: partial(noise_set, name) for name in NOISE},
    "photos": photos_set,
    "structured": structured_set,
}

pytestmark = pytest.mark.parametrize("name", SETS)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (3, 8, 12), (1, 28, 28), (3, 32, 32), (3, 40, 17)])
def test_form(name: str, shape: tuple[int, int, int]) -> None:
    made = SETS[name](5, shape, seed=0)
    stored = np.concatenate(list(made.chunks()))
    assert stored.dtype == np.uint8
    assert stored.shape == (5, *shape[1:], *([3] if shape[0] == 3 else []))
    assert (made.name, made.labels, len(made)) == (name, None, 5)
    assert made.group == ("noise" if name in NOISE else "structured")
    assert "seed 0" in made.origin


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_an_image_does_not_depend_on_count_batch_or_order(name: str, shape: tuple[int, int, int]) -> None:
    few, many = SETS[name](10, shape, seed=4), SETS[name](1000, shape, seed=4)
    assert np.array_equal(few.read(0, 10), many.read(0, 10))
    assert np.array_equal(many.source.read([900, 3, 3]), np.asarray(many.source.read([3, 900]))[[1, 0, 0]])
    one_by_one = [few.read(index, index + 1)[0] for index in reversed(range(10))]
    assert np.array_equal(one_by_one[::-1], few.read(0, 10))


def test_seeds_give_other_images(name: str) -> None:
    one, other = (SETS[name](30, (1, 8, 8), seed).image_hashes for seed in (0, 1))
    assert not set(one) & set(other)


def test_two_channels_are_refused(name: str) -> None:
    with pytest.raises(OodbenchError, match="2 channels"):
        SETS[name](3, (2, 32, 32), seed=0)


def test_the_source_can_be_sent_to_workers(name: str) -> None:
    made = SETS[name](5, (3, 8, 8), seed=0)
    sent = pickle.dumps(made)
    assert len(sent) < 2000, "what images are made of should be read anew, not sent along"
    assert np.array_equal(pickle.loads(sent).read(0, 5), made.read(0, 5))
