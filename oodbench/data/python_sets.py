"""Image sets from what people hold in Python: arrays, tensors, torch data sets and loaders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler, Subset

from oodbench.data.decoding import eight_bit
from oodbench.data.imageset import ArraySource, Images, ImageSet, stacked
from oodbench.errors import OodbenchError

TRIED = 3
"""Images and labels of a data set that are compared, before it is believed that it gives the same each time."""


def image_sets(given: Mapping[str, Any]) -> dict[str, ImageSet]:
    """Name → image set, of what `as_image_set` takes."""
    return {name: as_image_set(name, data) for name, data in given.items()}


def as_image_set(name: str, data: Any) -> ImageSet:
    """An image set of what people hold in Python; nothing of it is changed.

    Args:
        name: of the set.
        data: an ImageSet; images as an array N×H×W or N×H×W×3 or a tensor N×C×H×W, uint8 or float in [0, 1]; a pair of
            such images and N labels; a map-style torch Dataset, or a DataLoader of one, whose items are images or
            begin with an image and a label (or have them under `image` and `label`). Its images are pictures of PIL,
            tensors C×H×W or arrays H×W or H×W×3, and must be the same each time, and not normalised.

    Raises:
        OodbenchError: it is of another form.
    """
    if isinstance(data, ImageSet):
        return replace(data, name=name)
    if isinstance(data, np.ndarray | Tensor):
        return ImageSet(name, ArraySource(stored(name, data)), "given from Python")
    if isinstance(data, tuple) and len(data) == 2 and isinstance(data[0], np.ndarray | Tensor):
        images, labels = data
        return ImageSet(name, ArraySource(stored(name, images)), "given from Python", _whole(name, labels))
    if isinstance(data, DataLoader):
        data = _of_loader(name, data)
    if isinstance(data, IterableDataset) or not (hasattr(data, "__getitem__") and hasattr(data, "__len__")):
        raise OodbenchError(
            f"{name} is a {type(data).__name__}; give a torch Dataset with __getitem__ and __len__, a DataLoader of "
            "one, an array or tensor of images, a pair of images and labels, or an ImageSet"
        )
    if len(data) == 0:
        raise OodbenchError(f"{name} holds no images")
    source = DatasetSource(name, data)
    tried = np.unique(np.linspace(0, len(data) - 1, TRIED).astype(int)).tolist()
    first, again = ([source.one(index) for index in tried] for _ in range(2))
    if any(not np.array_equal(one, other) for one, other in zip(first, again, strict=True)):
        raise OodbenchError(
            f"{name} gives another image each time that it is asked for one; leave out the random transforms"
        )
    origin, labels = f"given from Python: {type(data).__name__}", _dataset_labels(name, data, tried)
    return ImageSet(name, source, origin, labels, classes=_class_names(data))


@dataclass(frozen=True, eq=False)
class DatasetSource:
    """Images of a map-style torch data set, asked for one by one."""

    name: str
    dataset: Any

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, indices: Sequence[int]) -> Images:
        return stacked([self.one(int(index)) for index in indices])

    def one(self, index: int) -> np.ndarray:
        """Image `index`, uint8 H×W or H×W×3."""
        image, where = _parts(self.dataset[index])[0], f"image {index} of {self.name}"
        if isinstance(image, Image.Image):
            try:
                return eight_bit(image)
            except ValueError as error:
                raise OodbenchError(f"{where} cannot be taken: {error}") from error
        if not isinstance(image, np.ndarray | Tensor):
            raise OodbenchError(f"{where} is a {type(image).__name__}; give pictures of PIL, tensors or arrays")
        if isinstance(image, Tensor) and image.ndim == 2:
            image = image[None]
        return stored(where, image[None])[0]

    def identity(self, indices: Sequence[int]) -> None:
        return None


def stored(what: str, images: np.ndarray | Tensor) -> np.ndarray:
    """Images as they are stored, uint8 N×H×W or N×H×W×3, of arrays N×H×W(×C) or tensors N×C×H×W, uint8 or [0, 1].

    Raises:
        OodbenchError: they are of another form; `what` is in its words.
    """
    values = images.detach().cpu().numpy() if isinstance(images, Tensor) else images
    first = values.ndim == 4 and (isinstance(images, Tensor) or values.shape[3] not in (1, 3))
    values = values.transpose(0, 2, 3, 1) if first else values
    if values.ndim == 4:
        known = values.shape[3] in (1, 3)
    else:
        # Not grey images, but one in colour.
        one = values.ndim == 3 and values.shape[2] in (3, 4) and values.shape[1] != values.shape[2]
        known = values.ndim == 3 and not isinstance(images, Tensor) and not one
    if not known:
        raise OodbenchError(
            f"{what}: images have shape {'×'.join(map(str, images.shape))}; give arrays N×H×W or N×H×W×3, or tensors "
            "N×1×H×W or N×3×H×W"
        )
    if values.dtype != np.uint8:
        values = _quantised(what, values)
    return np.ascontiguousarray(values[..., 0] if values.ndim == 4 and values.shape[3] == 1 else values)


def _quantised(what: str, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind != "f":
        raise OodbenchError(f"{what}: images are {values.dtype}; give uint8, or float in [0, 1]")
    if values.size and not ((values >= 0) & (values <= 1)).all():
        raise OodbenchError(
            f"{what} has values from {values.min():.4g} to {values.max():.4g}; float images must lie in [0, 1]: leave "
            "normalisation to the classifier"
        )
    return np.rint(values.astype(np.float64) * 255).astype(np.uint8)


def _parts(item: Any) -> tuple[Any, Any]:
    """(image, label or None) of what a data set gives."""
    if isinstance(item, Mapping):
        names = [next((key for key in keys if key in item), None) for keys in _ITEM_KEYS]
        return tuple(None if name is None else item[name] for name in names)  # type: ignore[return-value]
    if isinstance(item, tuple | list):
        return (item[0], item[1] if len(item) > 1 else None) if len(item) else (None, None)
    return item, None


_ITEM_KEYS = (("image", "img", "pixel_values"), ("label", "labels", "target"))


def _of_loader(name: str, loader: DataLoader) -> Any:
    """The data set of a loader, or what the loader's sampler takes of it."""
    dataset, sampler = loader.dataset, loader.sampler
    if isinstance(dataset, IterableDataset) or isinstance(sampler, RandomSampler | SequentialSampler):
        return dataset
    if not isinstance(sampler, Iterable):
        raise OodbenchError(f"{name} is a loader whose order cannot be told; give its data set")
    return Subset(dataset, sorted({int(index) for index in sampler}))


def _dataset_labels(name: str, data: Any, tried: Sequence[int]) -> np.ndarray | None:
    """The labels of a data set: those it lists, if its items have the same, else those of its items, one by one."""
    own = [_parts(data[index])[1] for index in tried]
    if any(label is None for label in own):
        return None
    listed = _listed(data)
    if listed is not None and len(listed) == len(data):
        labels = _whole(name, listed)
        if all(int(labels[index]) == int(label) for index, label in zip(tried, own, strict=True)):
            return labels
    return _whole(name, [int(_parts(data[index])[1]) for index in range(len(data))])


def _listed(data: Any) -> Any:
    if isinstance(data, Subset):
        inner = _listed(data.dataset)
        return None if inner is None else np.asarray(inner)[np.asarray(data.indices, dtype=np.int64)]
    return next((getattr(data, name) for name in ("targets", "labels") if hasattr(data, name)), None)


def _class_names(data: Any) -> tuple[str, ...]:
    """What torchvision's data sets call their classes."""
    names = _class_names(data.dataset) if isinstance(data, Subset) else getattr(data, "classes", ())
    named = isinstance(names, list | tuple) and all(isinstance(one, str) for one in names)
    return tuple(names) if named else ()


def _whole(name: str, labels: Any) -> np.ndarray:
    values = np.asarray(labels.cpu() if isinstance(labels, Tensor) else labels)
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise OodbenchError(f"{name} has labels of {values.dtype} and shape {values.shape}; give N whole numbers")
    return values.astype(np.int64)
