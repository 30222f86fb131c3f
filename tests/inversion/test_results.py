"""What results/inversion says is what its tables hold."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from oodbench.inversion.ablation import VARIANTS

FOLDER = Path(__file__).parents[2] / "results/inversion"


def test_the_means_in_the_readme_are_those_of_the_ablation() -> None:
    table = pd.read_csv(FOLDER / "ablation.csv")
    assert list(table["variant"].unique()) == list(VARIANTS) and table.groupby("variant")["seed"].nunique().min() >= 3
    means = (
        table.groupby("variant", sort=False).agg(lambda runs: runs.mean(skipna=False)).drop(columns=["seed", "epochs"])
    )
    shown = means.reset_index().to_markdown(index=False, floatfmt=".3f")
    assert shown in (FOLDER / "README.md").read_text(encoding="utf-8")
