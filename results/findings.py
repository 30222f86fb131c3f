"""Writes the tables of docs/findings.md from the committed runs: `python results/findings.py`.

A run's report.csv is `oodbench report FOLDER --intervals --apart --format csv`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
from tables import KINDS, filled

from oodbench.card import Card

RESULTS = Path(__file__).parent
PAGE = RESULTS.parent / "docs/findings.md"
RUNS = ("digits", "mnist", "fashion-mnist", "cifar10")
FOUR = ("msp", "lc", "odin", "oodl")
NORMS = {"L2": "odin(norm=l2)", "L1": "odin(norm=l1)", "ε = 0": "odin(epsilon=0)"}
OWN = ("inversion", "msp", "lc", "odin", "oodl")
TUNED = tuple(f"inversion/cifar10-resnet{layers}" for layers in (20, 32, 44))
"""The runs on CIFAR-10 that have `inversion`: of fine-tuned networks, tested on the half that calibrated none."""
SEARCHED = ("digits", "mnist", "fashion-mnist", *TUNED)
"""Runs in which nothing was kept before, so that what was passed is on their cards."""
ORDER = [name for names in KINDS.values() for name in names]


def reports() -> pd.DataFrame:
    """The rows of single sets of all runs, AUROCs and intervals in percent; `classifier` is ID set and model."""
    rows = pd.concat([pd.read_csv(RESULTS / run / "report.csv") for run in RUNS], ignore_index=True)
    rows = rows[rows["ood"].isin(ORDER)].copy()
    rows["classifier"] = rows["id"] + " " + rows["model"].str.replace(r"-[0-9a-f]{6}$", "", regex=True)
    for column in ("auroc", "auroc_low", "auroc_high"):
        rows[column] *= 100
    return rows


def where_best() -> pd.DataFrame:
    """Per set and detector of the four: for how many classifiers it is best or its interval reaches the best one's."""
    rows = reports()
    rows = rows[rows["detector"].isin(FOUR)]
    cases = rows.groupby(["classifier", "ood"])
    least = rows.loc[cases["auroc"].idxmax()].set_index(["classifier", "ood"])["auroc_low"]
    reached = (
        rows["auroc_high"].to_numpy() >= least.loc[list(zip(rows["classifier"], rows["ood"], strict=True))].to_numpy()
    )
    return _by_set(rows.assign(reached=reached), FOUR, _best_cell)


def _best_cell(rows: pd.DataFrame) -> str:
    return f"{rows['reached'].sum()} of {len(rows)} ({_range(rows['auroc'])})"


def lc_readings() -> pd.DataFrame:
    """Per set, the AUROCs of three readings of "LC": from the lowest classifier's to the highest's."""
    return _by_set(reports(), ("lc", "lc(mode=boundary)", "confidence"), lambda rows: _range(rows["auroc"]))


def norms() -> pd.DataFrame:
    """Per set, AUROC of each norm, and of no step, less that of L∞, in points: from one classifier to the other."""
    rows = reports().pivot_table(index=["classifier", "ood"], columns="detector", values="auroc")
    less = pd.DataFrame({name: rows[detector] - rows["odin"] for name, detector in NORMS.items()})
    long = less.rename_axis(columns="detector").stack().rename("auroc").reset_index()
    return _by_set(long, tuple(NORMS), lambda part: _range(part["auroc"], signed=True))


def inversion() -> pd.DataFrame:
    """Per ID set and OOD set, AUROCs of inversion, its garbage share, and the four's AUROCs: means over classifiers."""
    tuned = pd.concat([pd.read_csv(RESULTS / run / "leaderboard.csv") for run in TUNED])
    tuned = tuned[tuned["ood"].isin(ORDER)]
    tuned = tuned.assign(id="cifar10", auroc=100 * tuned["auroc"])
    rows = reports()
    rows = pd.concat([rows[rows["id"] != "cifar10"], tuned], ignore_index=True)
    auroc = rows.pivot_table(index=["id", "ood"], columns="detector", values="auroc")[list(OWN)]
    share = rows[rows["detector"] == "inversion"].groupby(["id", "ood"])["garbage_share"].mean()
    auroc.insert(1, "garbage share", 100 * share)
    order = [(one, name) for one in RUNS for name in ORDER if (one, name) in auroc.index]
    return auroc.loc[order].map("{:.1f}".format).reset_index().rename(columns={"ood": "OOD", "id": "ID"})


def layer_search() -> pd.DataFrame:
    """Per classifier, what oodl's choice of a layer cost: images passed for it, and seconds beside those of the run."""
    found = []
    for run in SEARCHED:
        card = Card.load(RESULTS / run / "card.json")
        learned = next(one["learned"] for one in card.detectors if one["label"] == "oodl")
        for one in card.classifiers:
            if one["name"] in learned:
                seconds = one["seconds"]
                found.append(
                    {
                        "classifier": f"{card.metrics[0]['id'].removesuffix('-half')} {one['name']}",
                        "layer chosen": learned[one["name"]]["layer"],
                        "proxies passed": one["images"]["proxy"]["forward"],
                        "seconds for them": f"{seconds['network proxy']:.1f}",
                        "seconds for its SVMs": f"{seconds['fit oodl']:.1f}",
                        "seconds of the whole run": f"{sum(seconds.values()):.1f}",
                    }
                )
    return pd.DataFrame(found)


def _by_set(rows: pd.DataFrame, columns: tuple[str, ...], cell: Callable[[pd.DataFrame], str]) -> pd.DataFrame:
    table = []
    for kind, names in KINDS.items():
        for name in names:
            of_set = rows[rows["ood"] == name]
            parts = {column: of_set[of_set["detector"] == column] for column in columns}
            if any(map(len, parts.values())):
                cells = {column: cell(part) if len(part) else "" for column, part in parts.items()}
                table.append({"kind": kind, "OOD": name} | cells)
    return pd.DataFrame(table)


def _range(values: pd.Series, signed: bool = False) -> str:
    low, high = (f"{value:+.1f}" if signed else f"{value:.1f}" for value in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}" if signed else f"{low}–{high}"


TABLES = {one.__name__: one for one in (where_best, lc_readings, norms, inversion, layer_search)}


def page(text: str) -> str:
    """The page with each table made anew."""
    return filled(text, TABLES)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
