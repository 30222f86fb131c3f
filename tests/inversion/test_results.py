"""What results/inversion says is what its tables hold."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from oodbench.card import Card
from oodbench.inversion.ablation import DOCUMENT_SETTINGS, VARIANTS
from oodbench.report.formats import COLUMNS
from tests.scripts import script

FOLDER = Path(__file__).parents[2] / "results/inversion"


def test_the_means_in_the_readme_are_those_of_the_ablation() -> None:
    table = pd.read_csv(FOLDER / "ablation.csv")
    assert list(table["variant"].unique()) == list(VARIANTS) and table.groupby("variant")["seed"].nunique().min() >= 3
    means = (
        table.groupby("variant", sort=False).agg(lambda runs: runs.mean(skipna=False)).drop(columns=["seed", "epochs"])
    )
    shown = means.reset_index().to_markdown(index=False, floatfmt=".3f")
    assert shown in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_the_means_in_the_readme_are_those_of_the_sweep() -> None:
    table = pd.read_csv(FOLDER / "sweep.csv")
    for parameter, values in DOCUMENT_SETTINGS.items():
        assert set(values) <= set(table.loc[table["parameter"] == parameter, "value"].astype(float))
    columns = ["max_inversion_accuracy", "epochs_to_0.8", "feature_cosine", "coverage", "within_class_cosine"]
    runs = table.groupby(["parameter", "value"], sort=False)
    assert runs["seed"].nunique().min() >= 3
    shown = runs[columns].agg(lambda runs: runs.mean(skipna=False)).reset_index()
    assert shown.to_markdown(index=False, floatfmt=".3f") in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_the_garbage_tables_are_those_of_the_cards() -> None:
    garbage = script("results/inversion/garbage.py")
    for name in garbage.RUNS:
        measured = pd.DataFrame(Card.load(FOLDER / name / "card.json").metrics, columns=list(COLUMNS))
        shown = pd.read_csv(FOLDER / name / "leaderboard.csv")[list(measured.columns)]
        # A leaderboard has near sets before far ones, a card the benchmark's order.
        measured, shown = (
            one.sort_values(["model", "detector", "ood"], ignore_index=True) for one in (measured, shown)
        )
        pd.testing.assert_frame_equal(measured, shown)
    table = pd.read_csv(FOLDER / "garbage.csv")
    pd.testing.assert_frame_equal(table, garbage.garbage_table())
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    for shown in (
        garbage.summary(table),
        garbage.readings(table),
        *map(garbage.tuned, garbage.TUNED),
        *(garbage.ablation(one, what) for one in ("fashion-mnist", "cifar10") for what in ("garbage_share", "auroc")),
    ):
        assert shown.to_markdown(index=False, disable_numparse=True) in text


def test_the_tables_of_pictures_in_the_readme_are_those_measured() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    tables = {path.stem: pd.read_csv(path) for path in (FOLDER / "pictures").glob("*.csv")}
    assert {"measures", "trials"} <= set(tables)
    for table in tables.values():
        assert table.drop(columns="command", errors="ignore").to_markdown(index=False, floatfmt=".3f") in text
        for picture in table.get("picture", []):
            assert (FOLDER / f"pictures/{picture}.png").is_file() and f"(pictures/{picture}.png)" in text
        assert all(command in text for command in table.get("command", []))
