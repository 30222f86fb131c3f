"""Writes the tables of docs/leaderboard.md from the committed runs: `python results/leaderboard.py`.

A run's report.csv is `oodbench report FOLDER --intervals --apart --format csv`.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pandas as pd
from tables import KINDS, filled

from oodbench.card import Card

RESULTS = Path(__file__).parent
PAGE = RESULTS.parent / "docs/leaderboard.md"
NEAR, FAR = ("cifar100", "tinyimagenet"), ("mnist", "textures", "scenes")
SHOWN = {
    "cifar100": ("cifar100",),
    "tinyimagenet": ("tinyimagenet",),
    "photos, scenes": ("photos", "scenes"),
    "textures, structured": ("textures", "structured"),
    "garments": ("fashion-mnist",),
    "digits, letters": ("mnist", "notmnist", "omniglot"),
    "noise": KINDS["noise"],
}
"""The columns of CIFAR-10's table, each a mean over sets."""
SMALL = ("digits-all", "mnist", "fashion-mnist")


def rows_of(run: str) -> pd.DataFrame:
    """The rows of single sets, AUROCs and intervals in percent."""
    rows = pd.read_csv(RESULTS / run / "report.csv")
    rows = rows[rows["ood"].notna()].copy()
    for column in ("auroc", "auroc_low", "auroc_high"):
        rows[column] *= 100
    return rows


def seconds_of(run: str) -> dict[str, float]:
    """Seconds that each detector took beyond the pass whose outputs all share: to fit, and to score all images."""
    kept = RESULTS / run / "seconds.csv"
    if kept.is_file():
        rows = pd.read_csv(kept).set_index("detector")
        return (rows["fit"] + rows["score"]).to_dict()
    (one,) = Card.load(RESULTS / run / "card.json").classifiers
    found = one["seconds"]
    return {name: found.get(f"fit {name}", 0.0) + found.get(f"score {name}", 0.0) for name in one["detectors"]}


def cifar10() -> pd.DataFrame:
    """A line a detector, by average rank over all sets and networks; controls last."""
    rows = rows_of("cifar10").assign(top=lambda rows: rows["standing"].notna())
    cases = rows.pivot_table(index=["model", "ood"], columns="detector", values="auroc")
    above = cases.gt(cases["msp"], axis=0).sum()
    seconds = seconds_of("cifar10")
    table = []
    for detector in _by_rank(rows):
        own = rows[rows["detector"] == detector]
        line = {"detector": detector}
        for column, sets in SHOWN.items():
            of_sets = own[own["ood"].isin(sets)]
            tops = f" ({of_sets['top'].sum()})" if of_sets["top"].any() else ""
            line[column] = f"{of_sets['auroc'].mean():.1f}{tops}"
        control = own["control"].all()
        line["average rank"] = "–" if control else f"{own['rank'].mean():.1f}"
        line["above msp"] = f"{above[detector]} of {len(cases)}"
        line["seconds"] = f"{seconds[detector]:.1f}" if detector in seconds else "–"
        table.append(line)
    return pd.DataFrame(table)


def small() -> pd.DataFrame:
    """A line a detector, by average rank over the sets of three small classifiers: mean AUROC by kind of set."""
    rows = pd.concat([rows_of(run) for run in SMALL], ignore_index=True)
    table = []
    for detector in _by_rank(rows):
        own = rows[rows["detector"] == detector]
        line = {"detector": detector}
        for name in rows["id"].unique():
            for kind, sets in KINDS.items():
                if (rows[rows["id"] == name]["ood"].isin(sets)).any():
                    of_kind = own[(own["id"] == name) & own["ood"].isin(sets)]
                    line[f"{name}: {kind}"] = f"{of_kind['auroc'].mean():.1f}" if len(of_kind) else "–"
        line["average rank"] = "–" if own["control"].all() else f"{own['rank'].mean():.1f}"
        table.append(line)
    return pd.DataFrame(table)


def published() -> pd.DataFrame:
    """Mean AUROCs over the near and the far sets here, and OpenOOD's, of the detectors that have both."""
    with resources.files("oodbench").joinpath("report/literature/openood-cifar10.csv").open(encoding="utf-8") as file:
        theirs = pd.read_csv(file).pivot_table(index="detector", columns="ood", values="auroc") * 100
    near, far = "+".join(NEAR), next(name for name in theirs if "svhn" in name)
    ours = rows_of("cifar10").pivot_table(index="detector", columns="ood", values="auroc")
    table = [
        {
            "detector": detector,
            "near, here": f"{ours.loc[detector, list(NEAR)].mean():.1f}",
            "near, OpenOOD": f"{theirs.loc[detector, near]:.1f}",
            "far, here": f"{ours.loc[detector, list(FAR)].mean():.1f}",
            "far, OpenOOD": f"{theirs.loc[detector, far]:.1f}",
        }
        for detector in theirs.sort_values(near, ascending=False).index
        if detector in ours.index
    ]
    return pd.DataFrame(table)


def imagenet() -> pd.DataFrame:
    """A line a detector, with intervals; bold: the best on a set, ≈: tied with it."""
    rows = rows_of("imagenet")
    seconds = seconds_of("imagenet")
    table = []
    for detector in _by_rank(rows):
        own = rows[rows["detector"] == detector]
        line = {"detector": detector}
        for one in own.to_dict("records"):
            text = f"{one['auroc']:.1f} [{one['auroc_low']:.1f}, {one['auroc_high']:.1f}]"
            line[one["ood"]] = {"best": f"**{text}**", "tied": f"{text} ≈"}.get(one["standing"], text)
        line["average rank"] = "–" if own["control"].all() else f"{own['rank'].mean():.1f}"
        line["seconds"] = f"{seconds[detector]:.1f}"
        table.append(line)
    return pd.DataFrame(table)


def _by_rank(rows: pd.DataFrame) -> list[str]:
    ranks = rows.groupby("detector", sort=False)["rank"].mean()  # that of a control is missing
    return [str(name) for name in ranks.sort_values(kind="stable", na_position="last").index]


TABLES = {one.__name__: one for one in (cifar10, published, small, imagenet)}


def page(text: str) -> str:
    """The page with each table made anew."""
    return filled(text, TABLES)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
