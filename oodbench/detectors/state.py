"""What a detector learned, as a safetensors file: tensors, and plain values as JSON; no pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from oodbench.detectors.base import Detector, State
from oodbench.detectors.spec import build, label
from oodbench.errors import OodbenchError
from oodbench.files import write_whole

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
    write_whole(path, save(tensors, metadata=facts))


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
        with safe_open(path, framework="pt") as stored:
            facts = stored.metadata() or {}
            # Cloned: products of tensors that lie in a mapped file, by no alignment, can differ in their last bit.
            tensors = {name: stored.get_tensor(name).clone() for name in stored.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise OodbenchError(f"{path} cannot be read as a detector's state: {error}") from error
    if facts.get("format") != FORMAT:
        raise OodbenchError(f"{path} holds no detector's state of format {FORMAT}: fit the detector again, and save it")
    return facts, _joined(tensors, json.loads(facts["values"]))


def load_state(path: Path) -> Detector:
    """The fitted detector that `save_state` wrote, on the CPU.

    Raises:
        OodbenchError: as `read_state`, or the catalogue does not have that detector.
    """
    name, state = read_state(path)
    return build(name).with_state(state)
