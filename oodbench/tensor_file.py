"""Safetensors files: tensors, texts beside them, and a checksum of both; no pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

ALIGNED = 8
"""Bytes of the number that says how long the header is, and of which its length is a multiple."""

Read = tuple[dict[str, Tensor], dict[str, str]]
"""The tensors of a file by name, and the texts beside them."""


def read_tensors(path: Path) -> Read:
    """What a safetensors file holds, on the CPU.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is no such file, or damaged.
    """
    # All of it at once: a mapped file may be removed or replaced while it is read.
    content = path.read_bytes()
    try:
        # Cloned: what is computed of tensors by no alignment can differ in a bit.
        tensors = {name: tensor.clone() for name, tensor in sorted(load(content).items())}
    except (RuntimeError, SafetensorError, KeyError, ValueError) as error:
        raise ValueError(str(error)) from error
    header, _ = _parted(content)
    return tensors, dict(header.get("__metadata__") or {})


def sealed(tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> bytes:
    """The content of a file that `read_sealed` reads."""
    content = save(dict(tensors), {**facts, "checksum": checksum(tensors, facts)})
    # The library writes the texts in an order that differs from process to process; equal files are to be equal bytes.
    header, rest = _parted(content)
    ordered = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    ordered += b" " * (-len(ordered) % ALIGNED)
    return len(ordered).to_bytes(ALIGNED, "little") + ordered + rest


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


def _parted(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header of a file, and its tensors."""
    start = ALIGNED + int.from_bytes(content[:ALIGNED], "little")
    return json.loads(content[ALIGNED:start]), content[start:]
