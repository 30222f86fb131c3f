"""The tables of the terminal: nothing is cut off, at any width that holds a detector and a set."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from oodbench.report.formats import terminal_tables
from oodbench.run_folder import Result

RESULT = Result.load(Path(__file__).parents[2] / "results/digits")


@pytest.mark.parametrize("width", [*range(26, 100), 200])
def test_every_figure_is_shown_whole(width: int) -> None:
    printed = io.StringIO()
    console = Console(file=printed, width=width, highlight=False)
    for table in terminal_tables(RESULT.leaderboard, width):
        console.print(table)
    shown = printed.getvalue()
    assert "…" not in shown and max(map(len, shown.splitlines())) <= width
    for row in RESULT.card.metrics:
        assert f"{100 * row['auroc']:.1f}/{100 * row['fpr_at_95_id_recall']:>5.1f}" in shown, row["ood"]
