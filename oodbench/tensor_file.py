"""Safetensors files: tensors, texts beside them, and a checksum of both; no pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

Read = tuple[dict[str, Tensor], dict[str, str]]
"""The tensors of a file by name, and the texts beside them."""


def read_tensors(path: Path) -> Read:
    """What a safetensors file holds, on the CPU.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is no such file, or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            # Cloned: what is computed of tensors that lie in a mapped file, by no alignment, can differ in a bit.
            tensors = {name: file.get_tensor(name).clone() for name in sorted(file.keys())}
            return tensors, dict(file.metadata() or {})
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(str(error)) from error


def sealed(tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> bytes:
    """The content of a file that `read_sealed` reads."""
    return save(dict(tensors), {**facts, "checksum": checksum(tensors, facts)})


def read_sealed(path: Path) -> Read:
    """What `sealed` was given, bit by bit.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it holds something else.
    """
    tensors, facts = read_tensors(path)
    if facts.pop("checksum", None) != checksum(tensors, facts):
        raise ValueError("it is not, bit by bit, what was saved")
    return tensors, facts


def checksum(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> str:
    """SHA-256 of tensors on the CPU and of facts that JSON can hold."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
