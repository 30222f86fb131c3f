"""ImageSet: reading, seeded draws, content hashes."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oodbench import OodbenchError
from oodbench.data.folder import read_folder
from oodbench.data.imageset import CHUNK, ArraySource, ImageSet
from oodbench.data.npz import read_npz
from tests.data.forms import pixels, save_png, write_pngs


def a_set(images: np.ndarray, labels: np.ndarray | None = None, name: str = "some") -> ImageSet:
    return ImageSet(name, ArraySource(images), "memory", labels)


def sorted_by_class(classes: int = 10, per_class: int = 100) -> ImageSet:
    labels = np.repeat(np.arange(classes), per_class)
    return a_set(pixels(len(labels), 4, 4), labels)


def test_reading_in_parts_gives_the_images_in_order() -> None:
    images = pixels(2 * CHUNK + 3, 2, 2)
    some = a_set(images)
    assert np.array_equal(np.concatenate([np.asarray(part) for part in some.chunks()]), images)
    assert np.array_equal(some.read(5, 9), images[5:9])
    assert np.array_equal(some.read(len(images) - 2, len(images) + 50), images[-2:])


@given(count=st.integers(1, 1000), seed=st.integers(0, 2**32))
def test_a_draw_is_without_repetition_in_order_and_the_same_each_time(count: int, seed: int) -> None:
    whole = sorted_by_class()
    drawn = whole.drawn(count, seed)
    assert len(drawn) == count
    assert np.array_equal(whole.drawn(count, seed).read(0, count), drawn.read(0, count))
    if count < len(whole):
        assert drawn.indices is not None and (np.diff(drawn.indices) > 0).all()
        assert whole.labels is not None and np.array_equal(drawn.labels, whole.labels[drawn.indices])
        assert np.array_equal(drawn.read(0, count), np.asarray(whole.read(0, 1000))[drawn.indices])


def test_a_draw_from_a_file_sorted_by_class_has_every_class() -> None:
    drawn = sorted_by_class(classes=10, per_class=500).drawn(200, seed=0)
    assert drawn.labels is not None
    assert (np.bincount(drawn.labels, minlength=10) > 5).all()
    assert "200 of 5000 images, drawn with seed 0" in drawn.notes


def test_draws_differ_between_seeds_and_between_names() -> None:
    images = pixels(500, 2, 2)
    hashes = {a_set(images, name=name).drawn(50, seed).content_hash for name in "ab" for seed in (0, 1)}
    assert len(hashes) == 4


def test_a_draw_of_a_draw_is_a_draw_of_the_source() -> None:
    whole = sorted_by_class()
    twice = whole.drawn(100, 0).drawn(10, 1)
    assert whole.labels is not None and twice.indices is not None
    assert np.array_equal(twice.labels, whole.labels[twice.indices])
    assert len(twice.notes) == 2


def test_the_hash_is_that_of_the_pixels_not_of_their_form(tmp_path: Path) -> None:
    for images in (pixels(7, 5, 6), pixels(7, 5, 6, 3)):
        form = tmp_path / f"{images.ndim}"
        write_pngs(form / "png", images)
        np.savez(form / "file.npz", images=images)
        grey = images[..., None] if images.ndim == 3 else images
        np.savez_compressed(form / "first.npz", images=grey.transpose(0, 3, 1, 2))
        hashes = {
            read_folder("a", form / "png").content_hash,
            read_npz("b", form / "file.npz").content_hash,
            read_npz("c", form / "first.npz").content_hash,
            a_set(images).content_hash,
        }
        assert len(hashes) == 1


def test_the_hash_knows_a_pixel_the_order_the_count_and_the_shape() -> None:
    images = pixels(6, 4, 8)
    changed = images.copy()
    changed[3, 2, 1] ^= 1
    variants = (images, changed, images[::-1], images[:5], images.reshape(6, 8, 4), pixels(6, 4, 8, 3))
    assert len({a_set(variant).content_hash for variant in variants}) == len(variants)


def test_the_labels_have_a_hash_of_their_own() -> None:
    images = pixels(4, 2, 2)
    one, other = a_set(images, np.array([0, 1, 0, 1])), a_set(images, np.array([0, 1, 1, 1]))
    assert one.content_hash == other.content_hash == a_set(images).content_hash
    assert one.labels_hash != other.labels_hash and a_set(images).labels_hash is None
    assert one.labels_hash == a_set(images, np.array([0, 1, 0, 1], dtype=np.int32)).labels_hash


def test_image_hashes_find_equal_images() -> None:
    images = pixels(5, 3, 3)
    images[4] = images[1]
    hashes = a_set(images).image_hashes
    assert hashes[4] == hashes[1] and len(set(hashes)) == 4


def test_images_of_different_sizes_are_a_list(tmp_path: Path) -> None:
    save_png(tmp_path / "a.png", pixels(4, 5))
    save_png(tmp_path / "b.png", pixels(6, 7, 3))
    read = read_folder("mixed", tmp_path).read(0, 2)
    assert isinstance(read, list) and [image.shape for image in read] == [(4, 5), (6, 7, 3)]


def test_a_set_survives_pickling() -> None:
    some = sorted_by_class().drawn(10, 0)
    assert pickle.loads(pickle.dumps(some)).content_hash == some.content_hash


def test_a_wrong_number_of_labels_and_no_images_are_errors() -> None:
    with pytest.raises(OodbenchError, match="3 images but 2 labels"):
        a_set(pixels(3, 2, 2), np.zeros(2, dtype=np.int64))
    with pytest.raises(OodbenchError, match="no images"):
        a_set(pixels(0, 2, 2))


@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=12),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_a_draw_by_class_gives_each_its_share(sizes: list[int], share: float, seed: int) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    count = max(1, round(share * len(labels)))
    drawn = a_set(np.zeros((len(labels), 1, 1), np.uint8), labels).drawn_by_class(count, seed)
    assert drawn.labels is not None and len(drawn) == count
    taken = np.bincount(drawn.labels, minlength=len(sizes))
    exact = np.array(sizes) * count / len(labels)
    assert (taken <= sizes).all()
    if count >= len(sizes):
        assert (taken >= 1).all()
        # Only classes that were due less than one, and so got it from the others, may move a share by one or more.
        assert exact.min() < 1 or (np.abs(taken - exact) < 1).all()
    else:
        assert (np.abs(taken - exact) < 1).all()
    if drawn.indices is not None:
        assert (np.diff(drawn.indices) > 0).all() and np.array_equal(labels[drawn.indices], drawn.labels)


def test_shares_by_largest_remainders_by_hand() -> None:
    # 10 of 100: 4.6, 3.3, 2.1 → 4, 3, 2 and one more for the largest remainder; 0.9 and 9.1 of 10 → 1 and 9.
    for sizes, expected in (([46, 33, 21], [5, 3, 2]), ([9, 91], [1, 9]), ([97, 2, 1], [8, 1, 1])):
        drawn = a_set(np.zeros((100, 1, 1), np.uint8), np.repeat(np.arange(len(sizes)), sizes)).drawn_by_class(10, 0)
        assert drawn.labels is not None and np.bincount(drawn.labels).tolist() == expected


def test_a_draw_from_a_thousand_classes_leaves_none_empty() -> None:
    many = a_set(np.zeros((1000 * 1281, 1, 1), np.uint8), np.repeat(np.arange(1000), 1281))
    for count, each in ((5000, 5), (1000, 1)):
        drawn = many.drawn_by_class(count, 0)
        assert drawn.labels is not None and set(np.bincount(drawn.labels)) == {each}
        assert drawn.notes == (f"{count} of 1281000 images, drawn class by class with seed 0",)
    assert many.drawn_by_class(400, 0).notes[0].endswith("; 600 of 1,000 classes are left empty")


def test_draws_by_class_depend_on_the_seed_and_need_labels() -> None:
    whole = sorted_by_class()
    draws = [whole.drawn_by_class(50, seed) for seed in (0, 0, 1)]
    assert np.array_equal(draws[0].indices, draws[1].indices) and not np.array_equal(draws[0].indices, draws[2].indices)
    bare = a_set(pixels(100, 4, 4))
    assert bare.drawn_by_class(10, 0).content_hash == bare.drawn(10, 0).content_hash
    assert whole.drawn_by_class(1000, 0) is whole
