"""What a training leaves to go on with after a kill: one file, of one training alone, with its checksum."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from oodbench.errors import OodbenchError
from oodbench.files import write_whole

_HEAD = b"oodbench resume 1\n"


def save_resume(path: Path, state: Mapping[str, Any]) -> None:
    """Write plain values and tensors, under `identity` what the training is of, whole or not at all."""
    content = io.BytesIO()
    torch.save(state, content)
    saved = content.getvalue()
    write_whole(path, _HEAD + hashlib.sha256(saved).digest() + saved)


def is_damaged(path: Path) -> bool:
    """Whether there is a file that is not, bit by bit, what `save_resume` wrote."""
    return path.exists() and _content(path) is None


def read_resume(path: Path, identity: str) -> dict[str, Any] | None:
    """What an interrupted training left to go on with; None where there is nothing.

    Raises:
        OodbenchError: the file is damaged, or of a training of another identity.
    """
    if not path.exists():
        return None
    content = _content(path)
    if content is None:
        raise OodbenchError(
            f"{path}, which an interrupted training left, is damaged or of another oodbench; delete it to start afresh"
        )
    state: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    if state["identity"] != identity:
        raise OodbenchError(
            f"{path} is of an interrupted training with other settings or images; "
            f"delete it to start afresh, or save this training under another name"
        )
    return state


def _content(path: Path) -> bytes | None:
    """What `torch.save` wrote; None where it is not that any more."""
    try:
        with open(path, "rb") as file:
            if file.read(len(_HEAD)) != _HEAD:
                return None
            digest, content = file.read(32), file.read()
    except OSError:
        return None
    return content if hashlib.sha256(content).digest() == digest else None
