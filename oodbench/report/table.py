"""Leaderboards from cards: one row per classifier, detector and OOD set, as CSV, markdown and terminal text."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from oodbench.card import Card
from oodbench.files import atomic_write
from oodbench.metrics import METRICS

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = (
    "id",
    "model",
    "detector",
    "ood",
    "group",
    "n_id",
    "n_ood",
    *METRICS,
    "id_accuracy",
    "garbage_share",
)


def leaderboard(card: Card) -> pd.DataFrame:
    """One row per classifier, detector and OOD set, in the order of the run; metrics as fractions."""
    # Cards of before there was a garbage class have no share of it, and most detectors have none.
    return pd.DataFrame(card.metrics, columns=list(COLUMNS)).astype({"garbage_share": float})


def save_csv(card: Card, path: Path) -> None:
    """Write the leaderboard as CSV, with every digit of the metrics."""
    with atomic_write(path) as temporary:
        leaderboard(card).to_csv(temporary, index=False)


def save_markdown(card: Card, path: Path) -> None:
    """Write the leaderboard as markdown: AUROC and FPR@95 overviews, then every row."""
    with atomic_write(path) as temporary:
        temporary.write_text(to_markdown(card), encoding="utf-8")


def to_markdown(card: Card) -> str:
    """The leaderboard as markdown, in percent: per classifier an overview of AUROC and FPR@95, then every row."""
    table = leaderboard(card)
    benchmark = card.benchmark
    parts = [f"# {benchmark['name']}: OOD detection with {table['id'].iloc[0]} as ID", ""]
    for model, rows in table.groupby("model", sort=False):
        parts += [
            f"**{model}**: ID accuracy {_accuracies(card, str(model), rows)} on {rows.iloc[0].n_id} images; seed "
            f"{benchmark['seed']}. In percent.",
            "",
        ]
        for metric, title in (
            ("auroc", "AUROC (higher is better)"),
            (
                "fpr_at_95_id_recall",
                "FPR@95 at 95 % ID recall: OOD accepted where 95 % of ID is kept (lower is better)",
            ),
        ):
            parts += [f"{title}", "", _overview(rows, metric).to_markdown(disable_numparse=True), ""]
    parts += ["Every row", "", _formatted(table).to_markdown(index=False, disable_numparse=True), ""]
    return "\n".join(parts)


def terminal_tables(card: Card, width: int) -> Iterator[Table]:
    """Tables for a terminal of that many columns: per classifier, AUROC / FPR@95 of each detector on each set."""
    from rich import box
    from rich.table import Table

    table = leaderboard(card)
    between = 3  # a blank on each side of the box's separator, itself a blank
    label_width = max(map(len, table.detector))
    for model, rows in table.groupby("model", sort=False):
        auroc, fpr = _overview(rows, "auroc"), _overview(rows, "fpr_at_95_id_recall")
        sets = list(auroc.columns)
        cell = max(len("100.0/100.0"), *map(len, sets)) + between
        per_table = max(1, (width - label_width) // cell)
        for start in range(0, len(sets), per_table):
            shown = Table(
                title=f"{rows.iloc[0].id} · {model} · ID accuracy {_accuracies(card, str(model), rows)}"
                if start == 0
                else None,
                caption="AUROC/FPR@95 at 95 % ID recall, in percent" if start + per_table >= len(sets) else None,
                box=box.SIMPLE_HEAD,
                show_edge=False,
                pad_edge=False,
            )
            shown.add_column("detector", no_wrap=True)
            for name in sets[start : start + per_table]:
                shown.add_column(name, justify="right", no_wrap=True)
            for detector in auroc.index:
                cells = [
                    f"{auroc.loc[detector, name]}/{fpr.loc[detector, name]:>5}"
                    for name in sets[start : start + per_table]
                ]
                shown.add_row(detector, *cells)
            yield shown


def _accuracies(card: Card, model: str, rows: pd.DataFrame) -> str:
    """`99.50`, or where detectors read classifiers of their own `99.50 (inversion 98.83)`, in percent."""
    own = card.own_classifiers(model)
    shared = rows[~rows.detector.isin(own)]
    named = ", ".join(f"{detector} {_percent(record['id_accuracy'], 2)}" for detector, record in own.items())
    return _percent(shared.iloc[0].id_accuracy, 2) + (f" ({named})" if named else "")


def _overview(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Detectors × sets of one metric, in percent, with the mean over the sets where there are several."""
    order, sets = rows.detector.unique(), rows.ood.unique()
    overview = rows.pivot(index="detector", columns="ood", values=metric).loc[order, sets]
    if len(sets) > 1:
        overview["mean"] = overview.mean(axis=1)
    overview.columns.name = None
    return overview.map(_percent)


def _formatted(table: pd.DataFrame) -> pd.DataFrame:
    shown: dict[str, Any] = {
        name: table[name].map(_percent) if table[name].dtype == float else table[name] for name in table.columns
    }
    return pd.DataFrame(shown)


def _percent(value: float, digits: int = 1) -> str:
    return "" if math.isnan(value) else f"{100 * value:.{digits}f}"
