"""What a detector learned, as a file of tensors, with plain values as JSON beside them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oodbench.detectors.base import Detector, State
from oodbench.detectors.spec import build, label
from oodbench.errors import OodbenchError
from oodbench.files import write_whole
from oodbench.tensor_file import read_sealed, sealed

FORMAT = "1"


def save_state(detector: Detector, path: Path, more: Mapping[str, str] | None = None) -> None:
    """Write a fitted detector: its label, oodbench's version, what it learned, and what else is to be known.

    Raises:
        NotFittedError: nothing was learned yet.
    """
    tensors, values = _parted(detector.state)
    facts = {
        "format": FORMAT,
        "oodbench": metadata.version("oodbench"),
        "label": label(detector),
        "values": json.dumps(values, allow_nan=False),
        **(more or {}),
    }
    write_whole(path, sealed(tensors, facts))


def _parted(state: State, prefix: str = "") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a state, by their path joined by /, and the rest of it."""
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    for name, value in state.items():
        if "/" in name:
            raise OodbenchError(f"a detector's state cannot have the name '{name}': a / parts names inside it")
        if isinstance(value, Tensor):
            # Cloned: safetensors refuses tensors that share their memory, or lie in it with gaps.
            tensors[prefix + name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        elif isinstance(value, Mapping):
            inner, values[name] = _parted(value, f"{prefix}{name}/")
            tensors |= inner
        else:
            values[name] = value
    return tensors, values


def _joined(tensors: Mapping[str, Tensor], values: dict[str, Any]) -> State:
    for path, tensor in tensors.items():
        *outer, name = path.split("/")
        place = values
        for one in outer:
            place = place[one]
        place[name] = tensor
    return values


def state_hash(detector: Detector) -> str:
    """SHA-256 of what a detector learned."""
    tensors, values = _parted(detector.state)
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def read_state(path: Path) -> tuple[str, State]:
    """The label of the detector that was saved, and what it had learned.

    Raises:
        OodbenchError: see `read_file`.
    """
    facts, state = read_file(path)
    return facts["label"], state


def read_file(path: Path) -> tuple[dict[str, str], State]:
    """What was written beside the state, `label` among it, and what the detector had learned.

    Raises:
        OodbenchError: the file is not there, or is not one that `save_state` wrote.
    """
    try:
        tensors, facts = read_sealed(path)
        if facts.get("format") != FORMAT or "label" not in facts:
            raise ValueError(f"it is no state of format {FORMAT}")
        return facts, _joined(tensors, json.loads(facts["values"]))
    # Whatever stands there instead of what was written.
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise OodbenchError(
            f"{path} cannot be read as a detector's state ({error}); fit the detector again, and save it"
        ) from error


def load_state(path: Path) -> Detector:
    """The fitted detector that `save_state` wrote, on the CPU.

    Raises:
        OodbenchError: as `read_state`, or the catalogue does not have that detector.
    """
    name, state = read_state(path)
    return build(name).with_state(state)
