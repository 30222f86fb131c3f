"""What a detector learned, as a safetensors file: tensors, and plain values as JSON; no pickle."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from oodbench.detectors.base import Detector, State
from oodbench.detectors.spec import build, label
from oodbench.errors import OodbenchError
from oodbench.files import atomic_write

FORMAT = "1"


def save_state(detector: Detector, path: Path) -> None:
    """Write a fitted detector: its label, oodbench's version, and what it learned.

    Raises:
        NotFittedError: nothing was learned yet.
    """
    state = detector.state
    # Cloned: safetensors refuses tensors that share their memory.
    tensors = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in state.items()
        if isinstance(value, Tensor)
    }
    values = {name: value for name, value in state.items() if not isinstance(value, Tensor)}
    facts = {
        "format": FORMAT,
        "oodbench": metadata.version("oodbench"),
        "label": label(detector),
        "values": json.dumps(values, allow_nan=False),
    }
    with atomic_write(path) as temporary:
        save_file(tensors, temporary, metadata=facts)


def read_state(path: Path) -> tuple[str, State]:
    """The label of the detector that was saved, and what it had learned.

    Raises:
        OodbenchError: the file is not there, or is not one that `save_state` wrote.
    """
    try:
        with safe_open(path, framework="pt") as stored:
            facts = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise OodbenchError(f"{path} cannot be read as a detector's state: {error}") from error
    if facts.get("format") != FORMAT:
        raise OodbenchError(f"{path} holds no detector's state of format {FORMAT}: fit the detector again, and save it")
    return facts["label"], tensors | json.loads(facts["values"])


def load_state(path: Path) -> Detector:
    """The fitted detector that `save_state` wrote, on the CPU.

    Raises:
        OodbenchError: as `read_state`, or the catalogue does not have that detector.
    """
    name, state = read_state(path)
    return build(name).load_state(state)
