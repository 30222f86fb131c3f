"""Checkpoints: ours, which know architecture and normalisation, and those of others as far as they tell."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from oodbench.classifier import Classifier
from oodbench.data.inputs import from_facts
from oodbench.data.preprocess import Preprocess
from oodbench.errors import OodbenchError
from oodbench.files import write_whole
from oodbench.models.catalogue import ImageShape
from oodbench.models.foreign import plain_state, read_torch_file
from oodbench.tensor_file import checksum, read_tensors

FORMAT = 1
"""Version of our checkpoints' metadata; raised when older readers would misread it."""

MOST_CLASSES, LONGEST_SIDE = 10**6, 10**5
"""What a checkpoint can say of its outputs and of the sides of its images."""

_KEY = "oodbench"

# Of a record, if they are there.
_TEXTS = ("recipe", "id", "sheet_sha256")


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds; None where it does not say.

    Attributes:
        path: the file.
        state: the weights and buffers by their names in the network.
        record: how it was trained, with "id", the ID set's name, and "accuracy" on the held-out images in
            [0, 1]; empty where it is not ours.
        notes: what was decided in reading it, in sentences.
        verified: whether it is, bit by bit, what was saved; of others, and of our older ones, nobody knows.
    """

    path: Path
    state: Mapping[str, Tensor]
    architecture: str | None = None
    num_classes: int | None = None
    image_shape: ImageShape | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    preprocess: Preprocess | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    verified: bool = False


def save_checkpoint(classifier: Classifier, architecture: str, path: Path, record: Mapping[str, Any]) -> None:
    """Write weights, architecture, form and normalisation to a safetensors file, atomically.

    Args:
        architecture: the name in the catalogue that rebuilds the module.
        record: how it was trained, in values that JSON can hold; see `Checkpoint`.
    """
    facts = {
        "format": FORMAT,
        "oodbench": _version(),
        "architecture": architecture,
        **classifier.facts(),
        "record": dict(record),
    }
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in classifier.module.state_dict().items()}
    write_whole(path, save(state, metadata={_KEY: json.dumps(facts | {"checksum": checksum(state, facts)})}))


def load_checkpoint(path: Path) -> Checkpoint:
    """What a checkpoint file holds: one of ours, a safetensors file, or one that torch.save wrote.

    Of the files of others it takes the state dict, plain or under one of the usual names, or under KEY of PATH#KEY,
    without the prefix that data-parallel training or PyTorch Lightning leaves. Files are never unpickled.

    Raises:
        OodbenchError: the file is missing, is no checkpoint, needs pickle, or is damaged or of a newer oodbench.
    """
    path, key = _path_and_key(path)
    if not path.is_file():
        raise OodbenchError(f"there is no checkpoint file {path}; write PATH or ARCHITECTURE=PATH")
    if path.suffix != ".safetensors":
        found, notes = read_torch_file(path, key)
        return Checkpoint(path, found, notes=tuple(notes))
    try:
        state, metadata = read_tensors(path)
    except (OSError, ValueError) as error:
        raise OodbenchError(
            f"{path} is not a safetensors file, or cannot be read ({error}); fetch or save it again"
        ) from error
    if _KEY not in metadata or key is not None:
        found, notes = plain_state(state, path, key)
        return Checkpoint(path, found, notes=tuple(notes))
    try:
        return _ours(path, state, json.loads(metadata[_KEY]))
    # Whatever stands there instead of what was written.
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise OodbenchError(
            f"{path} is damaged: what it says of itself is not what oodbench writes ({type(error).__name__}: {error}); "
            f"train it again, or copy it again"
        ) from error


def _ours(path: Path, state: Mapping[str, Tensor], facts: dict[str, Any]) -> Checkpoint:
    """A checkpoint that `save_checkpoint` wrote; ValueError and the like where it did not write those facts."""
    _expect(isinstance(facts, dict) and isinstance(facts["format"], int), "format")
    if facts["format"] > FORMAT:
        raise OodbenchError(
            f"{path} was written by a newer oodbench ({facts['oodbench']}): its format is {facts['format']}, "
            f"this one reads up to {FORMAT}; update oodbench"
        )
    saved = facts.pop("checksum", None)
    if saved is not None and saved != checksum(state, facts):
        raise OodbenchError(f"{path} is damaged: it is not what was saved, bit by bit; train it again or copy it again")
    shape, classes, record = facts["image_shape"], facts["num_classes"], facts["record"]
    _expect(isinstance(facts["architecture"], str), "architecture")
    _expect(type(classes) is int and 0 < classes <= MOST_CLASSES, "num_classes")
    _expect(isinstance(shape, list) and len(shape) == 3, "image_shape")
    _expect(all(type(side) is int and 0 < side <= LONGEST_SIDE for side in shape), "image_shape")
    _expect(isinstance(record, dict) and all(isinstance(record.get(key, ""), str) for key in _TEXTS), "record")
    return Checkpoint(
        path,
        state,
        architecture=facts["architecture"],
        num_classes=classes,
        image_shape=(shape[0], shape[1], shape[2]),
        mean=tuple(facts["mean"]),
        std=tuple(facts["std"]),
        preprocess=from_facts(facts),
        record=record,
        verified=saved is not None,
    )


def _expect(holds: bool, name: str) -> None:
    if not holds:
        raise ValueError(f"its {name} is no {name}")


def _path_and_key(path: Path) -> tuple[Path, str | None]:
    """PATH and KEY of PATH#KEY; a path may have a # in it."""
    before, mark, key = str(path).rpartition("#")
    return (path, None) if path.is_file() or not mark else (Path(before), key)


def _version() -> str:
    try:
        return version("oodbench")
    except PackageNotFoundError:
        return "run from its sources, not installed"
