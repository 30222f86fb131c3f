"""Sets from Python: arrays, tensors, torch data sets and loaders, all with the same pixels."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, SubsetRandomSampler, TensorDataset
from torchvision.transforms.functional import to_tensor

from oodbench import OodbenchError
from oodbench.data.imageset import ArraySource, ImageSet
from oodbench.data.python_sets import as_image_set
from tests.data.forms import pixels

COLOUR, GREY = pixels(8, 6, 5, 3), pixels(8, 6, 5)
LABELS = np.arange(8) % 3


class Pictures(Dataset):
    """Items (form(image), label), as torchvision's data sets have them; what they list may be left out."""

    def __init__(self, images: np.ndarray, form: Any, targets: Any = None, keys: bool = False) -> None:
        self.images, self.form, self.keys, self.asked = images, form, keys, 0
        if targets is not None:
            self.targets = targets

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        if index >= len(self.images):
            raise IndexError(index)
        self.asked += 1
        image, label = self.form(self.images[index]), int(LABELS[index])
        return {"image": image, "label": label} if self.keys else (image, label)


def same(found: ImageSet, images: np.ndarray = COLOUR, labels: np.ndarray | None = LABELS) -> None:
    assert np.array_equal(found.read(0, len(images)), images)
    assert found.content_hash == ImageSet("x", ArraySource(images), "memory").content_hash
    assert (found.labels is None) == (labels is None)
    assert labels is None or (found.labels is not None and found.labels.tolist() == labels.tolist())


FORMS = {
    "pil": Image.fromarray,
    "array": np.asarray,
    "uint8 tensor": lambda image: torch.from_numpy(image if image.ndim == 2 else image.transpose(2, 0, 1)),
    "float tensor": lambda image: to_tensor(image),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("images", [COLOUR, GREY], ids=["colour", "grey"])
@pytest.mark.parametrize("keys", [False, True])
def test_torch_data_sets(form: str, images: np.ndarray, keys: bool) -> None:
    same(as_image_set("mine", Pictures(images, FORMS[form], keys=keys)), images)


def test_labels_are_listed_or_asked_for() -> None:
    listed = Pictures(COLOUR, FORMS["pil"], list(LABELS))
    images = as_image_set("mine", listed)
    assert listed.asked <= 9  # three are tried, three times
    same(images)
    asked = as_image_set("mine", Pictures(COLOUR, FORMS["pil"], list(LABELS + 1)))  # a target_transform
    assert asked.labels is not None and asked.labels.tolist() == LABELS.tolist()
    tensor = as_image_set("mine", Pictures(COLOUR, FORMS["pil"], torch.from_numpy(LABELS)))
    assert tensor.labels is not None and tensor.labels.tolist() == LABELS.tolist()


def test_parts_of_data_sets() -> None:
    chosen = [5, 2, 7]
    part = Subset(Pictures(COLOUR, FORMS["pil"], list(LABELS)), chosen)
    same(as_image_set("mine", part), COLOUR[chosen], LABELS[chosen])
    tensors = TensorDataset(torch.from_numpy(COLOUR.transpose(0, 3, 1, 2)), torch.from_numpy(LABELS))
    same(as_image_set("mine", tensors))


def test_loaders_give_their_data_set() -> None:
    data = Pictures(COLOUR, FORMS["float tensor"])
    for shuffle in (False, True):
        same(as_image_set("mine", DataLoader(data, batch_size=3, shuffle=shuffle)))
    part = DataLoader(data, batch_size=3, sampler=SubsetRandomSampler([4, 1, 6]))
    same(as_image_set("mine", part), COLOUR[[1, 4, 6]], LABELS[[1, 4, 6]])


def test_arrays_tensors_and_image_sets() -> None:
    first = torch.from_numpy(COLOUR.transpose(0, 3, 1, 2))
    for given in (COLOUR, COLOUR / 255, first, first / 255, COLOUR.transpose(0, 3, 1, 2)):
        same(as_image_set("mine", given), labels=None)
        same(as_image_set("mine", (given, LABELS)))
        same(as_image_set("mine", (given, torch.from_numpy(LABELS))))
    same(as_image_set("mine", GREY), GREY, None)
    same(as_image_set("mine", GREY[..., None]), GREY, None)
    mine = as_image_set("mine", ImageSet("theirs", ArraySource(GREY), "memory", LABELS))
    same(mine, GREY)
    assert mine.name == "mine"


def test_a_set_of_a_data_set_goes_to_other_processes() -> None:
    some = as_image_set("mine", TensorDataset(torch.from_numpy(COLOUR.transpose(0, 3, 1, 2)), torch.from_numpy(LABELS)))
    assert pickle.loads(pickle.dumps(some)).content_hash == some.content_hash


class Stream(IterableDataset):
    def __iter__(self) -> Any:
        return iter(COLOUR)


normalised = to_tensor(COLOUR[0]).sub(0.5).div(0.2)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Stream(), "is a Stream; give a torch Dataset with __getitem__"),
        (DataLoader(Stream()), "is a Stream"),
        (3, "is a int; give a torch Dataset"),
        ([], "holds no images"),
        (Pictures(COLOUR, lambda image: normalised), "image 0 of mine has values from .* leave normalisation to the"),
        (Pictures(COLOUR, lambda image: np.random.default_rng().random((5, 5))), "gives another image each time"),
        (Pictures(COLOUR, lambda image: "cat"), "image 0 of mine is a str"),
        (Pictures(COLOUR, lambda image: torch.zeros(5, 4, 4)), "images have shape 1×5×4×4"),
        (COLOUR[0], "mine: images have shape 6×5×3"),
        (to_tensor(COLOUR[0]), "mine: images have shape 3×6×5"),
        (COLOUR.astype(np.int64), "images are int64; give uint8"),
        ((COLOUR, LABELS[:5]), "8 images but 5 labels"),
        ((COLOUR, LABELS / 2), "labels of float64"),
    ],
)
def test_what_cannot_be_taken(given: Any, words: str) -> None:
    with pytest.raises(OodbenchError, match=words):
        as_image_set("mine", given)
