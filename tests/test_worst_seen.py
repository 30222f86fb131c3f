"""The images that detectors get most wrong, caught shard by shard, are those of the whole score arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oodbench.data.imageset import ArraySource, ImageSet
from oodbench.data.reading import shards
from oodbench.report.worst import WORST
from oodbench.worst_seen import WorstSeen
from tests.report.kept import indices_to_keep

SHAPE = (1, 8, 8)


def numbered(name: str, count: int) -> ImageSet:
    """Images each of which is as bright as its number."""
    images = np.arange(count, dtype=np.uint8)[:, None, None].repeat(8, 1).repeat(8, 2)
    return ImageSet(name, ArraySource(images), "made by a test")


@given(st.data(), st.integers(2, 40), st.integers(2, 40), st.integers(1, 3), st.integers(1, 11))
def test_they_are_those_of_the_whole_arrays(data: st.DataObject, n_id: int, n_ood: int, labels: int, size: int) -> None:
    """With many ties, in shards smaller than what is kept; whether the images were read for a pass or not."""
    sets = {"id": numbered("id", n_id), "ood": numbered("ood", n_ood)}
    values = st.integers(-2, 2).map(float)
    scores = {
        name: {
            str(number): np.array(data.draw(st.lists(values, min_size=len(one), max_size=len(one))))
            for number in range(labels)
        }
        for name, one in sets.items()
    }
    seen = WorstSeen()
    for name, one in sets.items():
        for shard in shards(one, size):
            if data.draw(st.booleans()):
                _ = shard.pixels
            parts = {label: all[shard.start : shard.stop] for label, all in scores[name].items()}
            seen.see("model", shard, SHAPE, parts, lowest=name == "id")
    expected = indices_to_keep([(scores["id"][label], scores["ood"][label]) for label in scores["id"]])
    found = seen.pictures()
    for name, indices in zip(("id", "ood"), expected, strict=True):
        kept = found["model", name]
        assert kept.indices.tolist() == indices.tolist()
        np.testing.assert_array_equal(kept.pixels, indices[:, None, None, None] * np.ones((8, 8, 1)))


def test_models_are_told_apart() -> None:
    seen, images = WorstSeen(), numbered("a", 30)
    (shard,) = shards(images, 30)
    rising = np.arange(30.0)
    seen.see("one", shard, SHAPE, {"x": rising}, lowest=True)
    seen.see("two", shard, SHAPE, {"x": rising}, lowest=False)
    found = seen.pictures()
    assert found["one", "a"].indices.tolist() == [*range(WORST)]
    assert found["two", "a"].indices.tolist() == [*range(30 - WORST, 30)]


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_as_the_classifier_takes_them(channels: int) -> None:
    seen = WorstSeen()
    (shard,) = shards(numbered("a", 5), 5)
    seen.see("one", shard, (channels, 4, 4), {"x": np.arange(5.0)}, lowest=True)
    pixels = seen.pictures()["one", "a"].pixels
    assert pixels.shape == (5, 4, 4, channels)
    np.testing.assert_array_equal(pixels, np.arange(5)[:, None, None, None] * np.ones((4, 4, channels)))
