"""A classifier's input form, whatever says it: a shape, a record or a callable; and images brought into it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from oodbench.data.imageset import Images, ImageSet
from oodbench.data.matching import ImageShape, match
from oodbench.data.preprocess import Preprocess, stretched
from oodbench.data.transform import Transform
from oodbench.errors import OodbenchError

Form = Preprocess | Transform
"""How stored images become input."""

AnyForm = ImageShape | Form
"""The same; (C, H, W) stands for the default, `stretched`."""


def as_form(form: AnyForm) -> Form:
    """The form that is meant, without normalisation."""
    return stretched(form) if isinstance(form, tuple) else form.form


def key_of(form: AnyForm) -> object:
    """A form without normalisation in values that JSON can hold; the shape alone of the default."""
    form = as_form(form)
    return [form.shape, form.told] if form.told else form.shape


def brought(images: ImageSet, pixels: Images, form: AnyForm) -> Tensor:
    """Pixels of a set in a form, N×C×H×W, uint8 or float; what was made in that form stays as it is."""
    form = as_form(form)
    return match(pixels, form.shape) if images.prepared else form(pixels)


def as_pictures(given: Tensor, form: AnyForm) -> Tensor:
    """What `brought` gave as uint8, to be looked at; where it is no pixels, with its range stretched to 0 … 255."""
    if given.dtype == torch.uint8:
        return given
    low, high = (0.0, 1.0) if as_form(form).has_pixels else (float(given.min()), float(given.max()))
    return ((given - low) / max(high - low, 1e-12) * 255).round().clamp(0, 255).to(torch.uint8)


def describe(images: ImageSet, image: np.ndarray, form: AnyForm) -> str:
    """What `brought` does to an image of a set, in words; empty where it does nothing."""
    return "" if images.prepared else as_form(form).describe(image)


def from_facts(facts: Mapping[str, Any]) -> Preprocess:
    """The preprocess that `Classifier.facts` tells.

    Raises:
        OodbenchError: it is a callable, which cannot be kept, or something else.
    """
    told = facts.get("preprocess") or {}
    if "transform" in told:
        raise OodbenchError(
            f"{facts.get('name', 'the classifier')} takes images by a function of yours, {told['transform']}, which "
            f"cannot be kept: give Classifier(network, ..., transform=FUNCTION) instead of the network"
        )
    shape: ImageShape = tuple(facts["image_shape"])
    if not told:
        return stretched(shape, facts["mean"], facts["std"])
    try:
        return Preprocess(**told, mean=tuple(facts["mean"]), std=tuple(facts["std"]), channels=shape[0])
    except TypeError as error:
        raise OodbenchError(
            f"{dict(told)} is no preprocess that oodbench wrote ({error}); make its file again"
        ) from error
