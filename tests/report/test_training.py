"""A training's record as text to be read."""

from __future__ import annotations

from typing import Any

from oodbench.report.training import facts, tables

RECORD: dict[str, Any] = {
    "recipe": "garbage",
    "accuracy": 0.123456,
    "accuracies": [0.5, 1.0],
    "fit": {"images": 12, "sha256": "ab" * 32, "notes": []},
    "settings": {"rounds": 2, "training": {"batch_size": 64, "augment": False}},
    "rounds": [{"round": 1, "shares": {"uniform": 0.25}}, {"round": 2, "shares": {"blobs": 1.0}, "note": "last"}],
}


def test_every_value_is_there_under_its_name() -> None:
    assert list(facts(RECORD)) == [
        ("recipe", "garbage"),
        ("accuracy", "0.1235"),
        ("accuracies", "0.5, 1"),
        ("fit", "images 12, sha256 abababababab"),
        ("settings", "rounds 2"),
        ("settings, training", "batch size 64, augment no"),
    ]


def test_several_records_are_a_table() -> None:
    (grid,) = tables(RECORD)
    assert (grid.title, grid.header) == ("rounds", ["round", "shares: uniform", "shares: blobs", "note"])
    assert [[cell.text for cell in line] for line in grid.lines] == [["1", "0.25", "", ""], ["2", "", "1", "last"]]
