"""Pictures that trainings of classifiers left: PNG files beside the card, which names them and says what they show."""

from __future__ import annotations

from oodbench.files import safe_name

SHEETS_FOLDER = "pictures"


def sheet_file(name: str, classifier: str, content_hash: str) -> str:
    """Where it lies beside the card: `pictures/inversions-cnn8+inversion-7bb57d.png`, with the head of the hash."""
    return f"{SHEETS_FOLDER}/{name}-{safe_name(classifier)}-{content_hash[:6]}.png"
