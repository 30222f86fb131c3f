"""Walking through sets shard by shard: what is read, how often, and what is known of it afterwards."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from oodbench import Benchmark, Classifier, run
from oodbench.data import decoding, imageset
from oodbench.data.imageset import ImageSet
from oodbench.data.noise import derived_set
from oodbench.data.reading import remembering, shards, side_by_side
from tests.small_runs import linear

Paths = Counter[str]


@dataclass(frozen=True, eq=False)
class CountedSource:
    """Images in memory, which note each time that one of them is read."""

    images: np.ndarray
    read_indices: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Sequence[int]) -> np.ndarray:
        self.read_indices.extend(map(int, indices))
        return self.images[list(indices)]

    def identity(self, indices: Sequence[int]) -> None:
        return None


def counted(count: int) -> tuple[ImageSet, CountedSource]:
    source = CountedSource(np.random.default_rng(count).integers(0, 256, (count, 6, 6)).astype(np.uint8))
    return ImageSet("counted", source, "made by a test"), source


@pytest.mark.parametrize("workers", [0, 3])
def test_a_walk_reads_every_image_once_and_leaves_the_hashes(workers: int) -> None:
    images, source = counted(333)
    pixels, digests = [], []
    for shard in shards(images, 100, workers):
        pixels.append(shard.pixels)
        digests.append(shard.digest)
    assert [*map(len, pixels)] == [100, 100, 100, 33]
    np.testing.assert_array_equal(np.concatenate(pixels), source.images)
    assert sorted(source.read_indices) == [*range(333)]
    known, (again, _) = images.known_hashes, counted(333)
    assert known is not None and known.content_hash == again.content_hash
    np.testing.assert_array_equal(known.image_hashes, again.hashes.image_hashes)
    parts = [b"".join(again.image_hashes[start:stop]) for start, stop in pairwise([0, 100, 200, 300, 333])]
    assert digests == [hashlib.sha256(part).hexdigest() for part in parts]
    # What is known is not read for its hash; the shards' are the same.
    source.read_indices.clear()
    assert [shard.digest for shard in shards(images, 100)] == digests and not source.read_indices


def test_a_walk_that_ends_early_leaves_no_hashes() -> None:
    images, _ = counted(333)
    for shard in shards(images, 100):
        _ = shard.digest
        if shard.start == 200:
            break
    assert images.known_hashes is None


@pytest.mark.parametrize("workers", [0, 4])
def test_sets_that_are_derived_from_another_read_no_file_again(workers: int) -> None:
    images, source = counted(333)
    shared = remembering(images.drawn(300, seed=1), 100)
    derived = [derived_set(name, shared, seed=0) for name in ("pixel-shuffled", "patch-shuffled")]
    seen = []
    for shard in side_by_side([shared, *derived], 100, workers):
        assert shard.digest
        seen.append((shard.images.name, shard.start))
    names = ("counted", "pixel-shuffled", "patch-shuffled")
    assert seen == [(name, start) for start in (0, 100, 200) for name in names]
    assert shared.indices is not None
    assert sorted(source.read_indices) == shared.indices.tolist()
    alone, _ = counted(333)
    for one in derived:
        again = derived_set(one.name, alone.drawn(300, seed=1), seed=0)
        assert one.content_hash == again.content_hash


@given(st.lists(st.lists(st.integers(0, 29), min_size=1, max_size=40), max_size=8), st.integers(1, 20))
def test_what_is_remembered_is_what_was_read(asked: list[list[int]], size: int) -> None:
    """In any order, twice, and where more is asked for at once than is remembered."""
    images, source = counted(30)
    shared = remembering(images, size)
    for indices in asked:
        np.testing.assert_array_equal(shared.source.read(indices), source.images[indices])
        source.read_indices.clear()
        again = indices[-size:]
        np.testing.assert_array_equal(shared.source.read(again), source.images[again])
        assert not source.read_indices or len(set(indices)) > size


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Paths:
    """How often each image file was decoded."""
    counts: Paths = Counter()
    honest = decoding.decoded

    def counting(file: Path, where: str) -> np.ndarray:
        counts[where] += 1
        return honest(file, where)

    monkeypatch.setattr(decoding, "decoded", counting)
    return counts


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """An ID set as a folder: train and test, three classes each; and a folder of OOD images."""
    draw = np.random.default_rng(0)
    counts = {f"id/{split}/{name}": count for split, count in (("train", 70), ("test", 60)) for name in "abc"}
    for place, count in (counts | {"ood": 90}).items():
        (tmp_path / place).mkdir(parents=True)
        for number in range(count):
            pixels = draw.integers(0, 256, (8, 8)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / place / f"{number:03}.png")
    return tmp_path


def of_folder(pictures: Path, **changes: Any) -> Benchmark:
    sets = {"id": f"folder:{pictures / 'id'}", "ood": (f"folder:{pictures / 'ood'}", "pixel-shuffled")}
    return Benchmark(**sets | {"detectors": ("lc", "oodl", "energy"), "limit": 130, "fit_limit": 150} | changes)


def test_only_drawn_images_are_decoded_and_each_once(
    pictures: Path, decoded: Paths, small_classifier: Classifier
) -> None:
    """For two classifiers, the proxies of the fit images, a set derived from the test images, and the pictures."""
    result = run(of_folder(pictures, seed=4), [small_classifier, linear(3)])
    # Whatever is drawn, the form of the ID images is looked up at the first.
    first = str(pictures / "id" / "test" / "a" / "000.png")
    decoded.subtract([first])
    assert set((+decoded).values()) == {1} and decoded[first] in (0, 1)
    of_part = Counter(Path(where).relative_to(pictures).parts[:2] for where in +decoded)
    assert {part[:2]: count for part, count in of_part.items() if part[0] == "id"} == {
        ("id", "train"): 150,
        ("id", "test"): 130,
    }
    assert sum(decoded.values()) == 150 + 130 + 90
    roles = Counter(record["role"] for record in result.card.sets if record["classifier"] == "small")
    assert roles == {"fit": 1, "proxy": 2, "ID test": 1, "OOD": 2}
    assert {key[1] for key in result.pictures} == {"id", "ood", "pixel-shuffled"}


def test_a_run_that_learns_nothing_decodes_no_training_image(
    pictures: Path, decoded: Paths, small_classifier: Classifier
) -> None:
    run(of_folder(pictures, detectors=("energy", "msp", "odin")), [small_classifier])
    assert decoded and not any("train" in Path(where).parts for where in decoded)


def test_a_second_run_decodes_the_worst_pictures_alone(
    pictures: Path, decoded: Paths, small_classifier: Classifier
) -> None:
    first = run(of_folder(pictures), [small_classifier])
    decoded.clear()
    second = run(of_folder(pictures), [small_classifier])
    shown = sum(len(one.indices) for (_, name), one in second.pictures.items() if name in ("id", "ood"))
    assert 0 < len(decoded) <= shown + len(second.pictures["small", "pixel-shuffled"].indices)
    assert not any("train" in Path(where).parts for where in decoded)
    for key, one in first.pictures.items():
        np.testing.assert_array_equal(one.indices, second.pictures[key].indices)
        np.testing.assert_array_equal(one.pixels, second.pictures[key].pixels)


def test_generated_images_are_made_once_a_run(
    image_files: dict[str, str], small_classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: Counter[tuple[str, int]] = Counter()
    honest = imageset.GeneratedSource.read

    def counting(source: imageset.GeneratedSource, indices: Sequence[int]) -> Any:
        made.update((repr(source.make), int(index)) for index in indices)
        return honest(source, indices)

    monkeypatch.setattr(imageset.GeneratedSource, "read", counting)
    work = Benchmark(id=image_files["id"], ood=("gaussian", "set:structured"), detectors=("energy", "odin", "oodl"))
    run(work, [small_classifier, linear(3)])
    assert len(made) == 2 * 41 and set(made.values()) == {1}
