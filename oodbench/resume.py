"""What a training leaves to go on with after a kill: one file, of one training alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from oodbench.errors import OodbenchError
from oodbench.files import atomic_write


def save_resume(path: Path, state: Mapping[str, Any]) -> None:
    """Write plain values and tensors, under `identity` what the training is of, whole or not at all."""
    with atomic_write(path) as temporary:
        torch.save(state, temporary)


def read_resume(path: Path, identity: str) -> dict[str, Any] | None:
    """What an interrupted training left to go on with; None where there is nothing.

    Raises:
        OodbenchError: the file is damaged, or of a training of another identity.
    """
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    # What the reader stumbles on in a damaged file depends on the file's bytes.
    except Exception as error:
        raise OodbenchError(
            f"{path}, which an interrupted training left, cannot be read; delete it to start afresh"
        ) from error
    if state["identity"] != identity:
        raise OodbenchError(
            f"{path} is of an interrupted training with other settings or images; "
            f"delete it to start afresh, or save this training under another name"
        )
    return state
