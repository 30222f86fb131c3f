"""The loader: one order, whatever the batch size and the workers."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from oodbench import OodbenchError
from oodbench.data.folder import read_folder
from oodbench.data.imageset import ArraySource, GeneratedSource, ImageSet
from oodbench.data.loader import batches
from oodbench.data.seeding import image_generator
from tests.data.forms import pixels, write_pngs


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


def test_loading_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    collected(ImageSet("some", ArraySource(pixels(5, 4, 4)), "memory"), 2, 0)
    assert torch.equal(before, torch.random.get_rng_state())


def test_what_a_spawned_worker_gets_by_pickle_is_the_same(tmp_path: Path) -> None:
    for images in sets(tmp_path):
        sent = pickle.loads(pickle.dumps(images))
        assert torch.equal(collected(images, 10, 0)[0], collected(sent, 10, 0)[0])
