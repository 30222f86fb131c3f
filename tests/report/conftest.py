"""Runs on disk with planted scores: a card and its scores, as the harness leaves them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oodbench.benchmark import Benchmark
from oodbench.card import Card
from oodbench.metrics import evaluate
from oodbench.report.comparison import Leaderboard, compare
from oodbench.run_folder import Result, save_arrays

N_ID, N_OOD = 120, 90
CONTROLS = ("constant", "random")

Scores = Mapping[tuple[str, str], np.ndarray]
"""(detector, set) → scores; the set "shapes" is the ID set."""


def gaussian_scores(gaps: Mapping[str, float], sets: tuple[str, ...] = ("near", "far"), seed: int = 0) -> Scores:
    """Detectors that see one hidden difficulty of each image, ID higher by their gap: alike, as real ones are."""
    draw = np.random.default_rng(seed)
    hidden = {name: draw.normal(0, 1, N_ID if name == "shapes" else N_OOD) for name in ("shapes", *sets)}
    return {
        (detector, name): hidden[name] + 0.3 * draw.normal(0, 1, len(hidden[name])) + gap * (name == "shapes")
        for detector, gap in gaps.items()
        for name in hidden
    }


def write_run(
    folder: Path,
    scores: Scores,
    *,
    model: str = "net",
    content: str = "a1" * 32,
    accuracy: float = 0.9,
    hashes: Mapping[str, str] | None = None,
    groups: Mapping[str, str] | None = None,
    shape: tuple[int, ...] = (1, 8, 8),
    own: Mapping[str, tuple[float, float | None]] | None = None,
    own_content: str = "",
    training: Mapping[str, Any] | None = None,
    **benchmark: Any,
) -> Path:
    """Write a card and its scores into `folder`; whatever is not given is like in any other run. Returns `folder`.

    Args:
        hashes: content hashes of sets, where they are not their names.
        groups: of the OOD sets, where they are not "far".
        own_content: content hash of those classifiers; without it they are others where `content` is another.
        training: how the classifier was trained, if its record says so.
        own: detectors that read a classifier of their own → its accuracy, and the garbage share on every set.
        benchmark: fields of it that differ from the default.
    """
    detectors = list(dict.fromkeys(detector for detector, _ in scores))
    sets = list(dict.fromkeys(name for _, name in scores))
    content_of = {name: f"{name:0<12}" for name in sets} | dict(hashes or {})

    def record(role: str, name: str) -> dict[str, Any]:
        return {
            "name": name,
            "role": role,
            "group": "" if name == "shapes" else (groups or {}).get(name, "far"),
            "classifier": model,
            "count": len(scores[detectors[0], name]),
            "content_hash": content_of[name],
            "labels_hash": "labels" if name == "shapes" else None,
            "origin": "planted",
            "matching": "",
            "notes": [],
        }

    own = own or {}
    rows = [
        {
            "id": "shapes",
            "model": model,
            "detector": detector,
            "ood": name,
            "group": (groups or {}).get(name, "far"),
            "n_id": len(scores[detector, "shapes"]),
            "n_ood": len(scores[detector, name]),
            **evaluate(scores[detector, "shapes"], scores[detector, name]),
            "id_accuracy": own.get(detector, (accuracy, None))[0],
            # Cards of before there was a garbage class lack the key.
            **({"garbage_share": own.get(detector, (accuracy, None))[1]} if own else {}),
        }
        for name in sets
        if name != "shapes"
        for detector in detectors
        if (detector, name) in scores
    ]
    values = Benchmark(id="shapes", ood=("near",), name="planted").as_dict() | benchmark
    card = Card(
        benchmark=values,
        machine={},
        sets=[record("fit", "shapes"), record("ID test", "shapes")]
        + [record("OOD", name) for name in sets if name != "shapes"],
        classifiers=[
            {
                "name": model,
                "content_hash": content,
                "num_classes": 3,
                "image_shape": list(shape),
                "mean": [0.5],
                "std": [0.5],
                "id_accuracy": accuracy,
            }
            | ({"training": dict(training)} if training else {}),
            *(
                {
                    "name": f"{model}+{detector}",
                    "models": [model],
                    "detectors": [detector],
                    "content_hash": own_content or content[::-1],
                    "id_accuracy": right,
                }
                for detector, (right, _) in own.items()
            ),
        ],
        detectors=[
            {
                "label": detector,
                "name": detector,
                "paper": "control" if detector in CONTROLS else "a paper",
                "parameters": {},
                "learned": {},
            }
            for detector in detectors
        ],
        metrics=rows,
        notes=[],
        created="2026-01-01T00:00:00+00:00",
    )
    card.save(folder / "card.json")
    save_arrays({(model, detector, name): values for (detector, name), values in scores.items()}, folder / "scores.npz")
    return folder


@pytest.fixture
def board(tmp_path: Path) -> Callable[..., Leaderboard]:
    """`board(scores, …)`: the leaderboard of one planted run; what `compare` takes goes to it, the rest to the run."""

    def make(scores: Scores, **options: Any) -> Leaderboard:
        asked = {key: options.pop(key) for key in ("intervals", "grouped", "apart") if key in options}
        return compare([Result.load(write_run(tmp_path / "run", scores, **options))], **asked)

    return make
