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
    answers = {("model", name): np.arange(len(one)) % 3 for name, one in sets.items()}
    found = seen.pictures(answers)
    for name, indices in zip(("id", "ood"), expected, strict=True):
        kept = found["model", name]
        assert kept.indices.tolist() == indices.tolist()
        np.testing.assert_array_equal(kept.pixels, indices[:, None, None, None] * np.ones((8, 8, 1)))
        assert kept.answers is not None and kept.answers.tolist() == (indices % 3).tolist()
        assert kept.labels is not None and set(kept.labels.tolist()) == {-1}


def test_models_are_told_apart() -> None:
    seen, images = WorstSeen(), numbered("a", 30)
    (shard,) = shards(images, 30)
    rising = np.arange(30.0)
    seen.see("one", shard, SHAPE, {"x": rising}, lowest=True)
    seen.see("two", shard, SHAPE, {"x": rising}, lowest=False)
    found = seen.pictures({("one", "a"): np.arange(30), ("two", "a"): -np.arange(30)})
    assert found["two", "a"].answers is not None and found["two", "a"].answers[0] == WORST - 30
    assert found["one", "a"].indices.tolist() == [*range(WORST)]
    assert found["two", "a"].indices.tolist() == [*range(30 - WORST, 30)]


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_as_the_classifier_takes_them(channels: int) -> None:
    seen = WorstSeen()
    (shard,) = shards(numbered("a", 5), 5)
    seen.see("one", shard, (channels, 4, 4), {"x": np.arange(5.0)}, lowest=True)
    pixels = seen.pictures({("one", "a"): np.zeros(5, int)})["one", "a"].pixels
    assert pixels.shape == (5, 4, 4, channels)
    np.testing.assert_array_equal(pixels, np.arange(5)[:, None, None, None] * np.ones((4, 4, channels)))


def test_what_is_known_of_each_image_is_kept() -> None:
    """Labels, answers and files are those of the images themselves, in a set that was drawn from another."""
    source = ArraySource(np.zeros((9, 4, 4), np.uint8))
    object.__setattr__(source, "files", tuple(f"{number}.png" for number in range(9)))
    whole = ImageSet("a", source, "made by a test", np.arange(9) % 4)
    images = whole.subset(np.array([8, 3, 5]), "")
    seen = WorstSeen()
    (shard,) = shards(images, 3)
    seen.see("one", shard, (1, 4, 4), {"x": np.arange(3.0)}, lowest=True)
    kept = seen.pictures({("one", "a"): np.array([7, 6, 5])})["one", "a"]
    assert kept.files is not None and kept.labels is not None and kept.answers is not None
    assert kept.files.tolist() == ["8.png", "3.png", "5.png"]
    assert kept.labels.tolist() == [0, 3, 1] and kept.answers.tolist() == [7, 6, 5]
