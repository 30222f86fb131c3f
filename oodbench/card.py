"""Card: the full record of a run, to and from disk. A leaderboard is made from cards and scores alone."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from oodbench.card_fields import faults
from oodbench.errors import OodbenchError, unknown_name
from oodbench.files import write_whole

FORMAT = 1
LARGEST = 256 << 20
"""Bytes of a card."""

RECORDED_PACKAGES = ("oodbench", "torch", "torchvision", "numpy", "scipy", "scikit-learn", "pillow")


@dataclass(frozen=True)
class Card:
    """What was run, on what, with what, and what came out; plain values only.

    Attributes:
        benchmark: the Benchmark as run.
        machine: device, batch size, workers, processor.
        versions: of Python and of the packages that decide numbers.
        sets: one record a set: name, role, group, count, content hash, labels hash, origin, matching, notes; the first
            of a scored set also what its classes are called, where that is known.
        classifiers: one record a classifier: name, content hash, form, normalisation, how it was trained where that is
            known, accuracy, image counts, timings.
        detectors: one record a detector: label, name, paper, parameters, what each classifier taught it, timings.
        metrics: one row per classifier, detector and OOD set.
        notes: what the program decided for the user.
        created: when the run ended, ISO 8601, UTC.
    """

    benchmark: Mapping[str, Any]
    machine: Mapping[str, Any]
    sets: list[dict[str, Any]]
    classifiers: list[dict[str, Any]]
    detectors: list[dict[str, Any]]
    metrics: list[dict[str, Any]]
    notes: list[str]
    versions: Mapping[str, str] = field(default_factory=lambda: recorded_versions())
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    format: int = FORMAT

    def classifier(self, name: str) -> dict[str, Any]:
        """The record of a classifier.

        Raises:
            OodbenchError: there is none.
        """
        for record in self.classifiers:
            if record["name"] == name:
                return record
        raise unknown_name("classifier on the card", name, (record["name"] for record in self.classifiers))

    def classes(self, name: str) -> list[str]:
        """What the classes of a scored set are called; empty where that is not known."""
        return next((one["classes"] for one in self.sets if one["name"] == name and "classes" in one), [])

    def own_classifiers(self, model: str) -> dict[str, dict[str, Any]]:
        """Detector → record of the classifier that it reads, of those under the model that read one of their own."""
        # Older cards name the one model of each, or, of before there were such detectors, neither model nor detectors.
        models = [(one, one.get("models") or [one.get("model")]) for one in self.classifiers]
        own = [one for one, its in models if one["name"] != model and model in its]
        return {label: one for one in own for label in one["detectors"]}

    def save(self, path: Path) -> Path:
        """Write as JSON, whole or not at all; returns the path."""
        return write_whole(path, json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> Card:
        """Read a card.

        Raises:
            OodbenchError: the file is not a card, or one of another format.
        """
        path = Path(path)
        try:
            if (size := path.stat().st_size) > LARGEST:
                raise ValueError(f"it has {size:,} bytes, and a card at most {LARGEST:,}")
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise OodbenchError(
                f"{path} is not a card that oodbench wrote: {error}; run the benchmark again"
            ) from error
        if isinstance(values, dict) and type(found := values.get("format")) is int and 0 <= found != FORMAT:
            raise OodbenchError(f"{path} is a card of format {found}; this oodbench reads format {FORMAT}")
        if broken := [*faults(values)]:
            more = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
            raise OodbenchError(f"{path} is not a card that oodbench wrote: {broken[0]}{more}; run the benchmark again")
        return cls(**values)


def recorded_versions() -> dict[str, str]:
    """The versions of everything that decides numbers."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in RECORDED_PACKAGES}
