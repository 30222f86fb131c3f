"""A callable of the user's that turns a picture into network input: what it gives, and what tells it from others."""

from __future__ import annotations

import hashlib
import inspect
import re
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache, cached_property, partial
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from oodbench.data.identity import identity_of
from oodbench.data.imageset import Images
from oodbench.data.matching import ImageShape, channels_first, in_channels, match
from oodbench.data.preprocess import Preprocess, per_channel
from oodbench.errors import OodbenchError

TRIES = 8
"""How often a transform is tried on one picture, to see whether it always gives the same."""

ROUNDING, OVERSHOOT = 1e-6, 0.3
"""By how much pixels leave [0, 1], or 8 bits: where a black picture stays black; and where bicubic meets edges."""

PACKAGES = ("pillow", "torchvision", "torch")
"""Whose version decides what most transforms give."""


@dataclass(frozen=True, eq=False)
class Transform:
    """A function from a PIL image, RGB or L, to a tensor C×H×W or an array H×W×C, always the same.

    Attributes:
        function: without the normalisation at its end, where it has one that is known.
        shape: (C, H, W) of what it gives.
        mean, std: what is applied after it, on the device.
        has_pixels: whether it gives pixels in [0, 1] (or uint8), as black and white pictures show.
    """

    function: Callable[[Image.Image], Any]
    shape: ImageShape
    mean: tuple[float, ...]
    std: tuple[float, ...]
    has_pixels: bool

    def __eq__(self, other: object) -> bool:
        # By the very object: some functions are equal to others by rules of their own, or have no hash.
        return isinstance(other, Transform) and self._parts == other._parts

    def __hash__(self) -> int:
        return hash(self._parts)

    @property
    def _parts(self) -> tuple[object, ...]:
        return id(self.function), self.shape, self.mean, self.std

    def __call__(self, images: Images) -> Tensor:
        """Stored images, uint8, as N×C×H×W: uint8 where that holds what the function gives, else float32.

        Raises:
            OodbenchError: the function fails, or gives another form.
        """
        given = torch.stack([self._one(image) for image in images])
        if self.has_pixels and given.is_floating_point():
            rounded = (given * 255).round()
            is_eight_bit = bool(((rounded.div(255) - given).abs() <= ROUNDING).all())
            return rounded.clamp(0, 255).to(torch.uint8) if is_eight_bit else given
        return given

    def _one(self, image: np.ndarray) -> Tensor:
        given = output(self.function, image, self.shape[0])
        if tuple(given.shape) != self.shape:
            raise OodbenchError(
                f"the transform {self.name} made {'×'.join(map(str, given.shape))} of an image of "
                f"{image.shape[0]}×{image.shape[1]}, and the classifier takes {'×'.join(map(str, self.shape))}; "
                f"end it with a crop, or resize to one size"
            )
        return given

    @property
    def form(self) -> Transform:
        """The same without normalisation: what decides the pixels."""
        return replace(self, mean=(0.0,) * self.shape[0], std=(1.0,) * self.shape[0])

    def pixels(self, images: Images) -> Tensor:
        """What it gives, as uint8 N×C×H×W; where that is no pixels, the images stretched to its size."""
        if not self.has_pixels:
            return match(images, self.shape)
        given = self(images)
        return (given * 255).round().clamp(0, 255).to(torch.uint8) if given.is_floating_point() else given

    def describe(self, image: np.ndarray) -> str:
        """What it does to an image like this one, in words."""
        return f"{self.words}: {image.shape[0]}×{image.shape[1]} → {self.shape[1]}×{self.shape[2]}"

    @property
    def words(self) -> str:
        """What it does to any image, in words."""
        as_it_comes = "" if self.has_pixels else ", whose output is no pixels in [0, 1] and is taken as it comes"
        return f"the transform {self.name}{as_it_comes}"

    @cached_property
    def name(self) -> str:
        """What it calls itself, in one line."""
        plain = isinstance(self.function, FunctionType | MethodType)
        text = getattr(self.function, "__qualname__", "") if plain else repr(self.function)
        return " ".join(re.sub(r" at 0x[0-9a-f]+", "", text).split())

    def facts(self) -> dict[str, Any]:
        """Its name and a hash of what it is, in plain values; the function itself cannot be kept."""
        return {"transform": self.name, "sha256": hashlib.sha256(self.told.encode()).hexdigest()}

    @cached_property
    def told(self) -> str:
        """What tells it from others: its settings and the code of functions, as far as they can be read; its name."""
        return f"{self.name} {_Walk().tell(self.function)}"

    def code(self) -> str | None:
        """What else decides what it gives; None where something cannot be read, so that nothing may be kept."""
        walk = _Walk()
        walk.tell(self.function)
        return None if walk.unreadable else identity_of(None, sorted(walk.modules), PACKAGES)


def form_of(
    function: Callable[[Image.Image], Any],
    image_shape: ImageShape | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
) -> Preprocess | Transform:
    """What a user's callable does, with the normalisation at its end apart, so that detectors perturb pixels.

    The presets that torchvision publishes with its weights become the record that they are.

    Args:
        image_shape: (C, H, W) of what it gives; by default as it is found.
        mean, std: of the input, where the function does not normalise.

    Raises:
        OodbenchError: it fails, gives no image, gives other values each time, or normalises twice.
    """
    preset = of_preset(function)
    function, found = _without_normalisation(function)
    known = (preset.mean, preset.std) if preset else found
    if known and not (mean is None and std is None):
        raise OodbenchError("the transform ends in a normalisation already: leave out mean and std")
    if preset is not None:
        if image_shape not in (None, preset.shape):
            raise OodbenchError(f"the transform gives images of {preset.shape}, not {image_shape}; leave that out")
        return preset
    # Of no colour, like neither side, so that a flip or a turn shows.
    generator = np.random.Generator(np.random.PCG64(0))
    picture = np.repeat(generator.integers(0, 256, (320, 352, 1), dtype=np.uint8), 3, axis=2)
    channels = image_shape[0] if image_shape else 3
    tries = [output(function, picture, channels) for _ in range(TRIES)]
    if not all(one.shape == tries[0].shape and torch.equal(one, tries[0]) for one in tries):
        raise OodbenchError(
            "the transform gives other values each time; give that of evaluation, without random crops, flips or noise"
        )
    shape: ImageShape = tuple(tries[0].shape)  # type: ignore[assignment]
    ends = [output(function, np.full_like(picture, value), channels) for value in (0, 255)]
    unit = all(_within(one, ROUNDING) for one in ends) and _within(tries[0], OVERSHOOT)
    if image_shape is not None and shape != image_shape:
        raise OodbenchError(f"the transform gives images of {shape}, not {image_shape}; leave out image_shape")
    means, deviations = known or (0.0 if mean is None else mean, 1.0 if std is None else std)
    return Transform(
        function, shape, per_channel(means, shape[0], "mean"), per_channel(deviations, shape[0], "std"), unit
    )


def output(function: Callable[[Image.Image], Any], image: np.ndarray, channels: int) -> Tensor:
    """What a function makes of a stored image: C×H×W, uint8 or float32."""
    pixels = in_channels(channels_first(image[None]), channels)[0]
    picture = Image.fromarray((pixels[0] if channels == 1 else pixels.permute(1, 2, 0)).contiguous().numpy())
    try:
        given = function(picture)
    except Exception as error:
        raise OodbenchError(
            f"the transform failed on a PIL image ({picture.mode}, {image.shape[0]}×{image.shape[1]}): {error}; it "
            f"gets one PIL image and returns a tensor"
        ) from error
    if isinstance(given, Image.Image | np.ndarray):
        array = np.asarray(given)
        given = torch.from_numpy(np.array(array[None] if array.ndim == 2 else array.transpose(2, 0, 1)))
    if not isinstance(given, Tensor) or given.dim() != 3 or len(given) not in (1, 3):
        what = f"a tensor {tuple(given.shape)}" if isinstance(given, Tensor) else f"a {type(given).__name__}"
        raise OodbenchError(f"the transform returned {what}; it must return a tensor C×H×W of 1 or 3 channels")
    given = given.detach().cpu().as_subclass(Tensor)
    return given if given.dtype == torch.uint8 else given.to(torch.float32)


def of_preset(transform: object) -> Preprocess | None:
    """The record of a preset of torchvision's weights (`weights.transforms()`); None for anything else."""
    if type(transform).__module__ != "torchvision.transforms._presets" or not hasattr(transform, "crop_size"):
        return None
    preset: Any = transform
    (resize,), (crop,) = preset.resize_size, preset.crop_size
    interpolation = preset.interpolation.value
    return Preprocess(resize, crop, interpolation, mean=tuple(preset.mean), std=tuple(preset.std))


def _within(given: Tensor, beyond: float) -> bool:
    return given.dtype == torch.uint8 or bool(((given >= -beyond) & (given <= 1 + beyond)).all())


def _without_normalisation(function: Any) -> tuple[Any, tuple[Sequence[float], Sequence[float]] | None]:
    """A Compose of torchvision, version 1 or 2, without the Normalize that is its last step."""
    steps = getattr(function, "transforms", None)
    if not (_is_of_torchvision(function, "Compose") and steps and _is_of_torchvision(steps[-1], "Normalize")):
        return function, None
    mean, std = (np.ravel(getattr(steps[-1], name)).tolist() for name in ("mean", "std"))
    return type(function)(list(steps[:-1])), (mean, std)


def _is_of_torchvision(one: object, name: str) -> bool:
    return type(one).__name__ == name and type(one).__module__.startswith("torchvision.transforms")


class _Walk:
    """Through a callable and all that it is made of.

    Attributes:
        modules: of installed packages, that decide what it does.
        unreadable: whether something decides that cannot be read.
    """

    def __init__(self) -> None:
        self.modules: set[str] = set()
        self.unreadable = False
        self._seen: list[object] = []

    def tell(self, value: Any) -> object:
        """What decides what a value does, the same in every process: plain values, names, the user's own code."""
        if value is None or isinstance(value, bool | int | float | complex | str | bytes):
            return str(value) if isinstance(value, Enum) else value
        if any(value is one for one in self._seen):
            return "…"
        self._seen.append(value)
        if isinstance(value, Mapping):
            return [(str(key), self.tell(one)) for key, one in value.items()]
        if isinstance(value, list | tuple):
            return [self.tell(one) for one in value]
        if isinstance(value, set | frozenset):
            return sorted(repr(self.tell(one)) for one in value)
        if isinstance(value, Tensor):
            value = value.detach().cpu().numpy()
        if isinstance(value, np.ndarray):
            return [value.dtype.str, value.shape, hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()]
        if isinstance(value, Enum | np.generic | torch.dtype | torch.device):
            return repr(value)
        return list(self._object(value))

    def _object(self, value: Any) -> Iterator[object]:
        if isinstance(value, MethodType):
            yield from map(self.tell, (value.__func__, value.__self__))
        elif isinstance(value, partial):
            yield from map(self.tell, (value.func, value.args, value.keywords))
        elif isinstance(value, FunctionType):
            yield from self._code(value)
            if not _is_installed(value.__module__):
                yield from map(self.tell, _used(value))
        elif isinstance(value, type):
            yield from self._code(value)
        elif isinstance(value, BuiltinFunctionType):
            yield f"{value.__module__}.{value.__qualname__}"
        else:
            for kind in type(value).__mro__[:-1]:
                yield from self._code(kind)
            if hasattr(value, "__dict__"):
                yield self.tell(dict(sorted(vars(value).items())))
            else:
                self.unreadable = True

    def _code(self, one: FunctionType | type) -> Iterator[str]:
        """The name of a function or class, and its source where it is the user's own: a package's may be renewed."""
        yield f"{one.__module__}.{one.__qualname__}"
        if _is_installed(one.__module__):
            if one.__module__.partition(".")[0] not in COMPILED:
                self.modules.add(one.__module__)
            return
        try:
            yield inspect.getsource(one)
        except (OSError, TypeError):
            self.unreadable = True
            if isinstance(one, FunctionType):
                yield one.__code__.co_code.hex()


COMPILED = ("torch", "torchvision", "PIL", "numpy", "builtins")
"""Packages whose code is not read: their version tells it."""


@cache
def _is_installed(module: str | None) -> bool:
    """Whether a module is of Python or of an installed package, and not the user's own."""
    if module is None:
        return False
    if module.partition(".")[0] in COMPILED:
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    places = {sysconfig.get_path(name) for name in ("stdlib", "platlib", "purelib")}
    return file is not None and any(Path(file).is_relative_to(place) for place in places)


def _used(function: FunctionType) -> list[object]:
    """What a function captured, and what it reads by name: plain values and functions of its file."""
    captured = [cell.cell_contents for cell in function.__closure__ or ()]
    used = [function.__globals__[name] for name in function.__code__.co_names if name in function.__globals__]
    plain = (FunctionType, type, int, float, str, tuple, list, dict, partial)
    theirs = [one for one in used if isinstance(one, plain)]
    return [captured, function.__defaults__, function.__kwdefaults__, theirs]
