"""How a checkpoint's images become its input: what the file, the published weights or the user say of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from oodbench.data.inputs import Form
from oodbench.data.matching import ImageShape
from oodbench.data.preprocess import Preprocess, stretched
from oodbench.errors import OodbenchError
from oodbench.models.normalisation import parse_normalisation

LARGEST_OWN_SIZE = 64
"""Sides of ID images, in pixels, up to which a network of any size was, it is taken, trained on them as they are."""


@dataclass(frozen=True)
class Said:
    """What the user says of a checkpoint's input; None where he does not.

    Attributes:
        mean, std: see `parse_normalisation`.
        resize: `256`, the shorter side, or `224x224`, height and width.
        crop: `224`, a square in the middle, or `224x192`.
        interpolation: see `Preprocess`.
        preprocess: the name of published weights that it is like: `ResNet50_Weights.IMAGENET1K_V2`, `timm:NAME`.
    """

    mean: str | None = None
    std: str | None = None
    resize: str | int | None = None
    crop: str | int | None = None
    interpolation: str | None = None
    preprocess: str | None = None

    @property
    def changes(self) -> dict[str, Any]:
        """What is said of size and kernel, by the names of `Preprocess`."""
        sizes = {"resize": _size("--resize", self.resize), "crop": _size("--crop", self.crop)}
        given: dict[str, Any] = {name: value for name, value in sizes.items() if value is not None}
        if isinstance(given.get("resize"), tuple):
            given.setdefault("crop", None)
        return given | ({"interpolation": self.interpolation} if self.interpolation is not None else {})


def preprocess_of(said: Said, known: Form | None, shape: ImageShape | None, where: str, channels: int) -> Form:
    """What is known, changed by what the user says.

    Args:
        known: what the file says of itself, or its publisher.
        shape: (C, H, W) of images, where nobody says another; None where they have no size of their own.
        where: the file, for messages.

    Raises:
        OodbenchError: normalisation or size are missing, or contradict what is known.
    """
    named = published(said.preprocess) if said.preprocess is not None else None
    normalisation = parse_normalisation(said.mean, said.std, channels)
    for source, given in ((where, known), (f"--preprocess {said.preprocess}", named)):
        if given is not None and normalisation not in (None, (given.mean, given.std)):
            raise OodbenchError(
                f"{source} says that it was trained with mean {given.mean} and std {given.std}; leave out --mean and "
                f"--std"
            )
    base = named or known
    changes = said.changes
    if base is not None and not changes:
        return base
    if base is None and normalisation is None:
        raise OodbenchError(
            f"{where} does not say how its input was normalised in training: give --mean and "
            f"--std, in numbers (--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225) or by name (cifar10); "
            f"--mean none if it was trained on pixels in [0, 1]"
        )
    mean, std = normalisation or (base.mean, base.std)  # type: ignore[union-attr]
    if isinstance(base, Preprocess) and not base.is_stretched:
        return replace(base, **changes, origin="as you say")
    if not changes:
        if shape is None:
            raise OodbenchError(
                f"{where} does not say what size its images had in training, and the ID images are photographs: give "
                f"--resize and --crop (--resize 256 --crop 224), or --preprocess ResNet50_Weights.IMAGENET1K_V1"
            )
        return stretched(shape, mean, std)
    if not {"resize", "crop"} & changes.keys() and shape is not None:
        changes["resize"] = shape[1:]
    return Preprocess(**changes, mean=mean, std=std, channels=channels, origin="as you say")


def published(name: str) -> Form:
    """The preprocess of published weights.

    Raises:
        OodbenchError: there are none of that name, or they are not of a classifier.
    """
    if name.startswith("timm:"):
        from oodbench.models.from_timm import timm_preprocess

        return timm_preprocess(name.removeprefix("timm:"))
    from oodbench.models.from_torchvision import named_preprocess

    return named_preprocess(name)


def own_size(image_shape: ImageShape) -> bool:
    """Whether ID images of that form have a size of their own, and are no photographs of many sizes."""
    return image_shape[1] == image_shape[2] or max(image_shape[1:]) <= LARGEST_OWN_SIZE


def _size(option: str, text: str | int | None) -> int | tuple[int, int] | None:
    if text is None:
        return None
    parts = str(text).replace("×", "x").split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise OodbenchError(f"{option} {text} is no size: write 224, or height and width as 224x192")
    return int(parts[0]) if len(parts) == 1 else (int(parts[0]), int(parts[1]))
