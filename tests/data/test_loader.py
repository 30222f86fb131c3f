"""The loader: one order, whatever the batch size and the workers."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oodbench import OodbenchError
from oodbench.data import loader, npz
from oodbench.data.folder import read_folder
from oodbench.data.imageset import ArraySource, GeneratedSource, ImageSet
from oodbench.data.loader import batches, read_ahead
from oodbench.data.matching import match
from oodbench.data.seeding import image_generator
from tests.data.forms import pixels, save_png, write_pngs


@dataclass(frozen=True)
class Noise:
    def __call__(self, index: int) -> np.ndarray:
        return image_generator(0, "noise", index).integers(0, 256, (6, 6), dtype=np.uint8)


def sets(folder: Path) -> list[ImageSet]:
    write_pngs(folder / "pngs", pixels(23, 6, 6, 3))
    labelled = ImageSet("labelled", ArraySource(pixels(23, 6, 6)), "memory", np.arange(23))
    return [
        labelled,
        labelled.drawn(15, 0),
        read_folder("pngs", folder / "pngs"),
        ImageSet("noise", GeneratedSource(Noise(), 23), "generated"),
    ]


def collected(images: ImageSet, batch_size: int, workers: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    read = list(batches(images, (3, 8, 8), batch_size, workers))
    labels = [label for _, label in read if label is not None]
    return torch.cat([pixel for pixel, _ in read]), torch.cat(labels) if labels else None


def test_batches_are_the_same_whatever_their_size_and_the_workers(tmp_path: Path) -> None:
    for images in sets(tmp_path):
        whole, labels = collected(images, 100, 0)
        assert whole.shape == (len(images), 3, 8, 8) and whole.dtype == torch.uint8
        assert labels is None if images.labels is None else labels.tolist() == images.labels.tolist()
        for batch_size, workers in ((1, 0), (7, 0), (7, 2)):
            again, labels_again = collected(images, batch_size, workers)
            assert torch.equal(whole, again)
            assert labels is None if labels_again is None else torch.equal(labels, labels_again)


def test_an_unreadable_image_is_named_in_words_also_from_a_worker(tmp_path: Path) -> None:
    write_pngs(tmp_path, pixels(9, 6, 6))
    images = read_folder("pngs", tmp_path)
    damaged = tmp_path / "0005.png"
    damaged.write_bytes(damaged.read_bytes()[:40])
    for workers in (0, 1):
        with pytest.raises(OodbenchError, match=r"^\S*0005\.png cannot be read as an image") as raised:
            collected(images, 4, workers)
        assert "Traceback" not in str(raised.value)


def test_images_as_stored_are_read_ahead_in_spans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "PIECE", 4)
    for index, side in enumerate((6, 6, 6, 5, 6, 6, 6, 6, 6)):
        save_png(tmp_path / "mixed" / f"{index}.png", pixels(side, 6, seed=index))
    for images in (*sets(tmp_path), read_folder("mixed", tmp_path / "mixed")):
        spans = [(0, 3), (3, 9), (5, 6), (8, 9), (0, len(images))]
        for workers in (0, 1, 3):
            found = list(read_ahead(images, spans, workers))
            assert len(found) == len(spans)
            for (start, stop), part in zip(spans, found, strict=True):
                expected = images.read(start, stop)
                assert type(part) is type(expected) and len(part) == stop - start
                assert all(np.array_equal(one, other) for one, other in zip(part, expected, strict=True))


@dataclass(frozen=True)
class Watched:
    """Images that say in the log when their reading begins; the first is slow, image `bad` cannot be read."""

    log: list[int]
    bad: int = -1

    def __len__(self) -> int:
        return 50

    def read(self, indices: Sequence[int]) -> np.ndarray:
        self.log.extend(indices)
        if 0 in indices:
            time.sleep(0.1)
        if self.bad in indices:
            raise OodbenchError(f"image {self.bad} cannot be read")
        return np.full((len(indices), 2, 2), indices[0], np.uint8)

    def identity(self, indices: Sequence[int]) -> None:
        return None


def reading_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("oodbench reads")]


def test_threads_read_ahead_but_a_few_batches_and_in_order() -> None:
    log: list[int] = []
    read = batches(ImageSet("some", Watched(log), "memory"), (1, 2, 2), 1, 2)
    assert int(next(read)[0].max()) == 0
    time.sleep(0.1)
    assert 1 < len(log) <= 1 + 2 * loader.AHEAD + 2
    assert [int(batch.max()) for batch, _ in read] == list(range(1, 50))
    assert sorted(log) == list(range(50)) and reading_threads() == []


@pytest.mark.parametrize("spans", [None, [(0, 50)]])
def test_whoever_stops_early_stops_the_threads(spans: list[tuple[int, int]] | None) -> None:
    log: list[int] = []
    images = ImageSet("some", Watched(log), "memory")
    read: Iterator[object] = batches(images, (1, 2, 2), 1, 2)
    if spans is not None:
        read = read_ahead(images, [(at, at + 1) for at in range(50)], 2)
    next(read)
    assert reading_threads() != []
    read.close()  # type: ignore[attr-defined]
    assert reading_threads() == [] and len(log) < 10


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_an_error_comes_when_its_turn_comes_and_ends_the_reading(workers: int) -> None:
    log: list[int] = []
    seen = []
    with pytest.raises(OodbenchError, match="image 7 cannot be read"):
        for batch, _ in batches(ImageSet("some", Watched(log, bad=7), "memory"), (1, 2, 2), 1, workers):
            seen.append(int(batch.max()))
    assert seen == list(range(7)) and len(log) < 20 and reading_threads() == []


def test_a_file_that_is_loaded_whole_is_loaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "some.npz", images=pixels(40, 6, 6))
    loads: list[Path] = []

    def slow(path: Path, *more: Any) -> np.ndarray:
        loads.append(path)
        time.sleep(0.05)
        return load(path, *more)

    load = npz._load
    monkeypatch.setattr(npz, "_load", slow)
    images = npz.read_npz("some", tmp_path / "some.npz")
    assert torch.equal(collected(images, 2, 4)[0][:, 0], match(pixels(40, 6, 6), (3, 8, 8))[:, 0])
    assert len(loads) == 1


def test_loading_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    collected(ImageSet("some", ArraySource(pixels(5, 4, 4)), "memory"), 2, 0)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_set_that_went_through_pickle_is_the_same(tmp_path: Path) -> None:
    for images in sets(tmp_path):
        sent = pickle.loads(pickle.dumps(images))
        assert torch.equal(collected(images, 10, 0)[0], collected(sent, 10, 0)[0])
