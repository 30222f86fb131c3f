"""docs/findings.md shows figures of committed runs, and no others."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from oodbench.card import Card
from oodbench.report.formats import COLUMNS
from tests.scripts import ROOT, script

FINDINGS = script("results/findings.py")


def test_the_tables_are_those_of_the_committed_runs() -> None:
    text = (ROOT / "docs/findings.md").read_text(encoding="utf-8")
    assert FINDINGS.page(text) == text
    assert all(text.count(f"<!-- {name} -->") == 1 for name in FINDINGS.TABLES)
    assert text.count("\n|--") + text.count("\n|:-") == len(FINDINGS.TABLES), "a table that no script makes"


@pytest.mark.parametrize("run", FINDINGS.RUNS)
def test_leaderboards_and_reports_are_those_of_the_cards(run: str) -> None:
    folder = ROOT / "results" / run
    measured = pd.DataFrame(Card.load(folder / "card.json").metrics, columns=list(COLUMNS)).astype(
        {"garbage_share": float}
    )
    pd.testing.assert_frame_equal(measured, pd.read_csv(folder / "leaderboard.csv")[list(measured.columns)])
    keys = ["id", "detector", "ood"]
    report = pd.read_csv(folder / "report.csv")
    of_sets = report[report["ood"].isin(measured["ood"])].assign(model=lambda rows: rows["model"].str[:8])
    both = measured.assign(model=measured["model"].str[:8]).merge(of_sets, on=[*keys, "model"], suffixes=("", "_shown"))
    assert len(both) == len(measured) == len(of_sets)
    assert np.allclose(both["auroc"], both["auroc_shown"], rtol=0, atol=1e-12)
    inside = (both["auroc_low"] <= both["auroc"]) & (both["auroc"] <= both["auroc_high"])
    assert inside.all() and (both["auroc_high"] - both["auroc_low"]).gt(0).all()


def test_best_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """One set, two classifiers: oodl is best on both, odin's interval reaches it on the second, lc's on none."""
    scores = {"msp": (60, 60), "lc": (70, 70), "odin": (80, 88), "oodl": (90, 90)}
    rows = [
        {"classifier": name, "ood": "uniform", "detector": detector, "auroc": values[number]}
        for number, name in enumerate(("a", "b"))
        for detector, values in scores.items()
    ]
    table = pd.DataFrame(rows)
    table = table.assign(auroc_low=table["auroc"] - 2, auroc_high=table["auroc"] + 2)
    monkeypatch.setattr(FINDINGS, "reports", lambda: table)
    (row,) = FINDINGS.where_best().to_dict("records")
    assert row["oodl"] == "2 of 2 (90.0)" and row["odin"] == "1 of 2 (80.0–88.0)"
    assert row["lc"] == "0 of 2 (70.0)" and row["msp"] == "0 of 2 (60.0)"
