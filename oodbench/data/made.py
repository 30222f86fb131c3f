"""Sets that are made and not read: noise, structured images, photographs that come with packages, and derived ones."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from oodbench.data.catalogue import DATASETS
from oodbench.data.imageset import ImageSet

if TYPE_CHECKING:
    # `oodbench list` reads this module and must not wait for torch.
    from oodbench.data.inputs import AnyForm
    from oodbench.data.matching import ImageShape

MOST_GENERATED = 10_000
"""Generated sets have as many images as the ID test set, but no more than these."""


def is_made(reference: str) -> bool:
    """Whether the images of a set are made, in the form that they are asked for in."""
    name = reference.rpartition("set:")[2]
    return name in DATASETS and DATASETS[name].kind in ("generated", "derived")


def make_proxy(name: str, fit: ImageSet, seed: int, form: AnyForm) -> ImageSet:
    """The proxy OOD set `name` made from ID fit images in the classifier's form: a derived set (METHODS section 2).

    Raises:
        OodbenchError: no such derived set.
    """
    from oodbench.data.noise import derived_set

    return derived_set(name, fit, seed, form)


def made_set(name: str, id_test: ImageSet, form: AnyForm, seed: int) -> ImageSet | None:
    """The generated or derived set of this name; None for sets that are read."""
    if DATASETS[name].kind == "derived":
        return make_proxy(name, id_test.drawn(MOST_GENERATED, seed), seed, form)
    if DATASETS[name].kind != "generated":
        return None
    from oodbench.data.inputs import as_form

    form = as_form(form)
    images = _generated(name, min(len(id_test), MOST_GENERATED), form.shape, seed)
    # What takes images by a function whose output is no pixels takes these by it too.
    return images if form.has_pixels else replace(images, prepared=False)


def _generated(name: str, count: int, shape: ImageShape, seed: int) -> ImageSet:
    if name == "structured":
        from oodbench.data.structured import structured_set

        return structured_set(count, shape, seed)
    if name == "photos":
        from oodbench.data.photos import photos_set

        return photos_set(count, shape, seed)
    from oodbench.data.noise import noise_set

    return noise_set(name, count, shape, seed)
