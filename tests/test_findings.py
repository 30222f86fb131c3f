"""docs/findings.md, leaderboard.md and tune.md show figures of committed runs, and no others."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from oodbench.card import Card
from oodbench.metrics import evaluate
from oodbench.report.formats import COLUMNS
from tests.scripts import ROOT, script

FINDINGS, LEADERBOARD, TUNING = (script(f"results/{name}.py") for name in ("findings", "leaderboard", "tuning"))


@pytest.mark.parametrize("made", [FINDINGS, LEADERBOARD, TUNING], ids=lambda made: made.PAGE.stem)
def test_the_tables_are_those_of_the_committed_runs(made: ModuleType) -> None:
    text = made.PAGE.read_text(encoding="utf-8")
    assert made.page(text) == text
    assert all(text.count(f"<!-- {name} -->\n|") == 1 for name in made.TABLES)
    assert text.count("\n|--") + text.count("\n|:-") == len(made.TABLES), "a table that no script makes"


@pytest.mark.parametrize("run", [*FINDINGS.RUNS, "digits-all", "imagenet"])
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


def test_leaderboard_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two networks, one set: knn is best on both, msp is tied on the second; the control has no rank and comes last."""
    measured = {
        "random": ((50, None, None), (50, None, None)),
        "msp": ((80, 2, None), (90, 2, "tied")),
        "knn": ((88, 1, "best"), (92, 1, "best")),
    }
    rows = [
        {
            "model": model,
            "ood": "mnist",
            "detector": detector,
            "auroc": values[number][0],
            "rank": values[number][1],
            "standing": values[number][2],
            "control": detector == "random",
        }
        for number, model in enumerate(("a", "b"))
        for detector, values in measured.items()
    ]
    monkeypatch.setattr(LEADERBOARD, "rows_of", lambda run: pd.DataFrame(rows))
    monkeypatch.setattr(LEADERBOARD, "seconds_of", lambda run: dict.fromkeys(measured, 1.26))
    first, second, control = LEADERBOARD.cifar10().to_dict("records")
    assert first["detector"] == "knn" and first["digits, letters"] == "90.0 (2)" and first["average rank"] == "1.0"
    assert second["detector"] == "msp" and second["digits, letters"] == "85.0 (1)" and second["above msp"] == "0 of 2"
    assert control["detector"] == "random" and control["average rank"] == "–" and first["seconds"] == "1.3"


def test_gain_of_tuning_by_hand() -> None:
    """The difference of mean AUROCs, with the interval that a bootstrap of the images finds too."""
    random = np.random.default_rng(0)
    scores = {("m", label, "cifar10"): random.normal(shift, 1, 200) for label, shift in (("a", 1), ("b", 2))}
    scores |= {("m", label, ood): random.normal(0, 1, 100) for label in "ab" for ood in TUNING.SCORED}
    found = TUNING.gain(scores, "m", "a", "b")
    of = {
        label: [evaluate(scores["m", label, "cifar10"], scores["m", label, ood])["auroc"] for ood in TUNING.SCORED]
        for label in "ab"
    }
    assert found["auroc"] == pytest.approx(np.mean(of["b"])) and found["gain"] == pytest.approx(
        np.mean(of["b"]) - np.mean(of["a"])
    )
    drawn = []
    for _ in range(400):
        ids = random.integers(0, 200, 200)
        differences = []
        for ood in TUNING.SCORED:
            oods = random.integers(0, 100, 100)
            b, a = (evaluate(scores["m", one, "cifar10"][ids], scores["m", one, ood][oods])["auroc"] for one in "ba")
            differences.append(b - a)
        drawn.append(np.mean(differences))
    low, high = np.percentile(drawn, [2.5, 97.5])
    assert found["gain_low"] == pytest.approx(low, abs=0.01) and found["gain_high"] == pytest.approx(high, abs=0.01)
