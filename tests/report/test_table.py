"""The tables of the terminal: nothing is cut off, at any width that holds a detector and a set."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from oodbench.card import Card
from oodbench.report.table import leaderboard, terminal_tables

CARD = Path(__file__).parents[2] / "results/digits/card.json"


@pytest.mark.parametrize("width", [*range(26, 100), 200])
def test_every_figure_is_shown_whole(width: int) -> None:
    card = Card.load(CARD)
    printed = io.StringIO()
    console = Console(file=printed, width=width, highlight=False)
    for table in terminal_tables(card, width):
        console.print(table)
    rows = leaderboard(card)
    shown = printed.getvalue()
    assert "…" not in shown
    for name, of_set in rows.groupby("ood"):
        for row in of_set.itertuples():
            assert f"{100 * row.auroc:.1f}/{100 * row.fpr_at_95_id_recall:>5.1f}" in shown, name
