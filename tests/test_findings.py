"""docs/findings.md shows figures of committed runs, and no others."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from oodbench.card import Card
from oodbench.report.table import leaderboard

ROOT = Path(__file__).parents[1]


def test_the_table_is_that_of_the_committed_run() -> None:
    folder = ROOT / "results/cifar10-resnet20"
    measured = leaderboard(Card.load(folder / "card.json"))
    written = pd.read_csv(folder / "leaderboard.csv")
    pd.testing.assert_frame_equal(measured[list(written.columns)], written)
    auroc = measured.pivot(index="detector", columns="ood", values="auroc")
    lines = [line for line in (ROOT / "docs/findings.md").read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    header, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    assert len(rows) == 9
    for detector, *cells in rows:
        assert cells == [f"{100 * auroc.loc[detector, name]:.1f}" for name in header[1:]]
