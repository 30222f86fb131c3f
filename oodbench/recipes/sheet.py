"""The picture that a training leaves beside its checkpoint."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from oodbench.models.checkpoint import load_checkpoint


@dataclass(frozen=True)
class Sheet:
    """A picture that a training left: what it is of, in a word; what it shows, in a sentence; and the PNG."""

    name: str
    caption: str
    png: bytes


def sheet_file(checkpoint: Path) -> Path:
    """Where a training leaves it."""
    return Path(f"{checkpoint}.png")


def kept_sheet(checkpoint: Path) -> Sheet | None:
    """The images that the network of a checkpoint was inverted to; None where the picture is not beside it."""
    path = sheet_file(checkpoint)
    if not path.is_file():
        return None
    png = path.read_bytes()
    # It may be of another training that was begun under the same name.
    if hashlib.sha256(png).hexdigest() != load_checkpoint(checkpoint).record.get("sheet_sha256"):
        return None
    return Sheet("inversions", "images that the network itself was inverted to, one row a class", png)
