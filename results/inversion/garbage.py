"""Makes garbage.csv of the runs in this folder: `python results/inversion/garbage.py`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).parent
TUNED = ("cifar10-resnet20", "cifar10-resnet32", "cifar10-resnet44", "cifar10-cnn32")
"""Runs of a network that was there before, beside detectors of that network."""
RUNS = ("mnist", "fashion-mnist", *TUNED)
COLUMNS = [
    "run", "reading", "ood", "id_accuracy", "garbage_share", "auroc", "fpr_at_95_id_recall", "n_ood", "seed",
]  # fmt: skip
DEFAULT = "margin_logit"


def garbage_table() -> pd.DataFrame:
    """One row per run, reading, OOD set and seed of the detector `inversion`; shares and accuracies as fractions."""
    rows = pd.concat([pd.read_csv(FOLDER / run / "leaderboard.csv").assign(run=run) for run in RUNS], ignore_index=True)
    rows = rows[rows["detector"].str.startswith("inversion")]
    seeds = rows["detector"].str.extract(r"seed=(\d+)", expand=False).fillna("0").astype(int)
    readings = rows["detector"].str.extract(r"reading=(\w+)", expand=False).fillna(DEFAULT)
    return rows.assign(seed=seeds, reading=readings)[COLUMNS].round(6).reset_index(drop=True)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Per run and OOD set shares and metrics in percent; of several seeds, from the lowest to the highest."""
    by_set = table[table["reading"] == DEFAULT].groupby(["run", "ood"], sort=False)

    def spread(column: str) -> pd.Series:
        return by_set[column].agg(
            lambda values: "–".join(dict.fromkeys(f"{100 * v:.2f}" for v in (values.min(), values.max())))
        )

    shown = {"garbage share": spread("garbage_share"), "AUROC": spread("auroc")}
    recall = {"FPR at 95 % ID recall": spread("fpr_at_95_id_recall")}
    return pd.DataFrame({"n": by_set["n_ood"].first(), "seeds": by_set.size(), **shown, **recall}).reset_index()


def readings(table: pd.DataFrame) -> pd.DataFrame:
    """Mean AUROC over the OOD sets, in percent, of each reading of seed 0."""
    means = table[table["seed"] == 0].pivot_table(index="reading", columns="run", values="auroc", sort=False)
    return (100 * means).round(2).reset_index()


def tuned(run: str) -> pd.DataFrame:
    """AUROC by detector and OOD set, in percent, of the fine-tuned network beside the network before."""
    rows = pd.read_csv(FOLDER / run / "leaderboard.csv")
    table = rows.pivot_table(index="detector", columns="ood", values="auroc", sort=False)
    natural = [name for name in table.columns if name not in ("gaussian", "uniform", "rademacher", "blobs")]
    table = table[natural].assign(mean=table[natural].mean(axis=1))
    return (100 * table).round(2).reset_index()


def ablation(id_set: str, column: str, path: Path = FOLDER / "garbage_ablation.csv") -> pd.DataFrame:
    """By variant and OOD set a column of garbage_ablation.csv in percent, the mean over so many seeds."""
    rows = pd.read_csv(path)
    rows = rows[rows["id"] == id_set]
    table = rows.pivot_table(index="variant", columns="ood", values=column, sort=False)
    seeds = rows.groupby("variant", sort=False)["seed"].nunique()
    families = rows.groupby("variant", sort=False)["selection_share"].mean()
    return (100 * table.assign(families=families)).round(1).assign(seeds=seeds).reset_index()


if __name__ == "__main__":
    garbage_table().to_csv(FOLDER / "garbage.csv", index=False)
