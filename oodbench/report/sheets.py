"""Pictures that trainings of classifiers left: PNG files beside the card, which names them and says what they show."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oodbench.files import atomic_write

SHEETS_FOLDER = "pictures"


def sheet_file(name: str, classifier: str, content_hash: str) -> str:
    """Where it lies beside the card: `pictures/inversions-cnn8+inversion-7bb57d.png`, with the head of the hash."""
    return f"{SHEETS_FOLDER}/{name}-{re.sub(r'[^A-Za-z0-9_.+=,()-]+', '-', classifier)}-{content_hash[:6]}.png"


def save_sheets(sheets: Mapping[str, bytes], folder: Path) -> list[Path]:
    """Write file → PNG into a run's folder, each whole or not at all; returns the paths."""
    paths = [folder / file for file in sheets]
    for path, png in zip(paths, sheets.values(), strict=True):
        with atomic_write(path) as temporary:
            temporary.write_bytes(png)
    return paths


def load_sheet(record: Mapping[str, Any], card: Path) -> bytes | None:
    """The PNG that the record of a classifier on a card names; None where it is not beside the card."""
    # Nowhere else, whatever the card of somebody else names.
    path = card.with_name(SHEETS_FOLDER) / Path(record["sheet"]["file"]).name
    return path.read_bytes() if path.is_file() else None
