"""Makes garbage.csv of the runs in this folder: `python results/inversion/garbage.py`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).parent
COLUMNS = ["id", "ood", "id_accuracy", "garbage_share", "auroc", "fpr_at_95_id_recall", "n_ood", "seed"]


def garbage_table() -> pd.DataFrame:
    """One row per ID set, OOD set and seed of the detector `inversion`; shares and accuracies as fractions."""
    tables = [pd.read_csv(path) for path in sorted(FOLDER.glob("*/leaderboard.csv"))]
    rows = pd.concat(tables, ignore_index=True)
    seeds = rows["detector"].str.extract(r"seed=(\d+)", expand=False).fillna("0").astype(int)
    return rows.assign(seed=seeds)[COLUMNS].round(6)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Per ID and OOD set the garbage shares and AUROCs, in percent, from the lowest seed's to the highest's."""
    by_set = table.groupby(["id", "ood"], sort=False)
    shown = {
        name: by_set[column].agg(lambda values: f"{100 * values.min():.1f}–{100 * values.max():.1f}")
        for name, column in (("garbage share", "garbage_share"), ("AUROC", "auroc"))
    }
    return pd.DataFrame({"n": by_set["n_ood"].first(), "seeds": by_set.size(), **shown}).reset_index()


if __name__ == "__main__":
    garbage_table().to_csv(FOLDER / "garbage.csv", index=False)
