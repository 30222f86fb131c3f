"""Hashes: made in one walk, kept on disk, never read from a damaged file."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oodbench.data import decoding
from oodbench.data.folder import read_folder
from oodbench.data.hashes import Hashes, Hashing, _index_file, hashes_of, read_hashes, write_hashes
from oodbench.data.imageset import ArraySource, ImageSet
from oodbench.data.noise import noise_set
from oodbench.training import in_memory
from tests.data.forms import pixels, save_png, write_pngs


@pytest.fixture(autouse=True)
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the index, empty before each test."""
    monkeypatch.setenv("OODBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "hashes"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Which image files are decoded."""
    names: list[str] = []
    decode = decoding.decoded

    def counted(file: Path, where: str) -> np.ndarray:
        names.append(Path(where).name)
        return decode(file, where)

    monkeypatch.setattr(decoding, "decoded", counted)
    yield names


def by_hand(images: list[np.ndarray]) -> Hashes:
    digests = [hashlib.sha256(str(image.shape).encode() + image.tobytes()).digest() for image in images]
    whole = hashlib.sha256(f"{len(images)} images by SHA-256".encode() + b"".join(digests)).hexdigest()
    return Hashes(whole, np.array([list(digest) for digest in digests], np.uint8))


def same(one: Hashes | None, other: Hashes | None) -> bool:
    assert one is not None and other is not None
    return one.content_hash == other.content_hash and np.array_equal(one.image_hashes, other.image_hashes)


IMAGES = [pixels(4, 5), pixels(6, 7, 3), pixels(4, 5, seed=1)]


@given(cuts=st.lists(st.integers(0, 20), max_size=5), colour=st.booleans(), order=st.randoms())
def test_they_are_those_of_the_definition_however_the_images_come(
    cuts: list[int], colour: bool, order: random.Random
) -> None:
    images = pixels(20, 3, 4, 3) if colour else pixels(20, 3, 4)
    hashing, expected = Hashing(20), by_hand(list(images))
    spans = [*zip([0, *sorted(cuts)], [*sorted(cuts), 20], strict=True)]
    order.shuffle(spans)
    for number, (start, stop) in enumerate(spans):
        hashing.update(start, hashes_of(images[start:stop]))
        known = hashing.part(start, stop)
        assert known is not None and np.array_equal(known, expected.image_hashes[start:stop])
        assert (hashing.finished() is None) == any(first < last for first, last in spans[number + 1 :])
    assert same(hashing.finished(), expected)
    assert same(ImageSet("own", ArraySource(images), "memory").hashes, expected)


def test_they_know_images_of_different_sizes_and_any_layout_in_memory() -> None:
    assert same(Hashes.of(hashes_of(IMAGES)), by_hand(IMAGES))
    turned = pixels(5, 4, 2).transpose(2, 1, 0)
    assert same(Hashes.of(hashes_of(turned)), by_hand(list(turned)))


def test_they_are_finished_when_all_images_were_fed_and_not_before() -> None:
    hashing = Hashing(4)
    hashing.update(0, hashes_of(IMAGES))
    assert hashing.finished() is None and hashing.part(2, 4) is None and hashing.part(1, 3) is not None


def test_the_second_set_of_the_same_files_decodes_nothing(tmp_path: Path, decoded: list[str]) -> None:
    write_pngs(tmp_path / "own", pixels(7, 6, 6))
    first = read_folder("own", tmp_path / "own")
    expected = first.hashes
    assert len(decoded) == 7
    assert first.content_hash and first.image_hashes and first.labels_hash is None and len(decoded) == 7
    second = read_folder("another name", tmp_path / "own")
    assert same(second.hashes, expected) and len(decoded) == 7
    assert second.image_hashes == tuple(row.tobytes() for row in expected.image_hashes)
    # Of a draw, only what is drawn; and that once too.
    drawn = second.drawn(3, 0)
    assert drawn.content_hash == read_folder("another name", tmp_path / "own").drawn(3, 0).content_hash
    assert len(decoded) == 10
    time.sleep(0.03)  # file systems count time in steps of some milliseconds
    save_png(tmp_path / "own" / "0003.png", pixels(6, 6, seed=9))
    changed = read_folder("own", tmp_path / "own")
    assert changed.content_hash != expected.content_hash and len(decoded) == 17
    assert (changed.hashes.image_hashes != expected.image_hashes).any(axis=1).tolist() == [i == 3 for i in range(7)]


def test_whoever_walks_to_the_end_leaves_the_hashes(tmp_path: Path, decoded: list[str]) -> None:
    for index in range(6):
        save_png(tmp_path / "own" / "ab"[index % 2] / f"{index}.png", pixels(6, 6, seed=index))
    images = read_folder("own", tmp_path / "own")
    assert len(in_memory(images, 2, (1, 6, 6)).labels) == len(decoded) == 6
    assert images.content_hash and read_folder("own", tmp_path / "own").content_hash and len(decoded) == 6


def test_a_walk_that_stops_early_leaves_none(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oodbench.data.imageset.CHUNK", 2)
    images = noise_set("uniform", 5, (1, 4, 4), 0)
    next(images.chunks())
    assert not index.exists()
    assert same(images.hashes, by_hand(list(np.asarray(images.read(0, 5)))))
    assert len(list(index.iterdir())) == 1


def test_whoever_read_the_images_himself_can_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    images, again = (noise_set("uniform", 5, (1, 4, 4), 0) for _ in range(2))
    found = Hashes.of(hashes_of(images.read(0, 5)))
    images.remember(found)
    in_process = ImageSet("memory", ArraySource(pixels(5, 4, 4)), "memory")
    in_process.remember(found)
    monkeypatch.setattr(ImageSet, "read", lambda *_: pytest.fail("read again"))
    assert images.content_hash == again.content_hash == in_process.content_hash == found.content_hash


def test_what_is_kept_is_read_as_it_was_and_only_under_its_identity(index: Path) -> None:
    hashes = by_hand(IMAGES)
    assert read_hashes("one") is None
    write_hashes("one", hashes)
    assert same(read_hashes("one"), hashes) and read_hashes("other") is None
    write_hashes("other", by_hand(IMAGES[:1]))
    one, other = (index / f"{hashlib.sha256(name.encode()).hexdigest()}.safetensors" for name in ("one", "other"))
    one.replace(other)
    assert read_hashes("other") is None
    assert [path.name for path in index.iterdir()] == [other.name]


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
def test_a_damaged_file_is_ignored(place: float, bit: int, cut: bool) -> None:
    identity = f"{place} {bit} {cut}"
    hashes = by_hand(IMAGES)
    write_hashes(identity, hashes)
    path = _index_file(identity)
    content = bytearray(path.read_bytes())
    if cut:
        del content[int(place * len(content)) :]
    else:
        content[int(place * len(content))] ^= 1 << bit
    path.write_bytes(content)
    found = read_hashes(identity)
    assert found is None or same(found, hashes)


def test_a_damaged_file_is_made_anew(tmp_path: Path, index: Path, decoded: list[str]) -> None:
    write_pngs(tmp_path / "own", pixels(3, 6, 6))
    expected = read_folder("own", tmp_path / "own").hashes
    (path,) = index.iterdir()
    whole = path.read_bytes()
    for damaged in (b"", whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1])):
        path.write_bytes(damaged)
        assert same(read_folder("own", tmp_path / "own").hashes, expected)
        assert same(read_hashes(read_folder("own", tmp_path / "own").identity or ""), expected)
    assert len(decoded) == 12


def test_a_cache_that_cannot_be_written_costs_time_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("OODBENCH_CACHE", str(tmp_path / "file"))
    images = noise_set("uniform", 5, (1, 4, 4), 0)
    assert same(images.hashes, by_hand(list(np.asarray(images.read(0, 5)))))
