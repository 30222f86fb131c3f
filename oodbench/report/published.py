"""Figures that others published, from a CSV file, beside the measured ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from oodbench.errors import OodbenchError, unknown_name
from oodbench.metrics import METRICS
from oodbench.report.comparison import Block, Leaderboard, Row

KEYS = ("id", "model", "detector", "ood")
SOURCE = "source"


def with_published(leaderboard: Leaderboard, path: Path) -> tuple[Leaderboard, list[str]]:
    """The leaderboard with published figures beside its rows, and a note for each line that fits no row.

    The file has the columns id, detector, ood and source, perhaps model (empty: any), and columns of metrics with
    fractions from 0 to 1, empty where nothing was published.

    Raises:
        OodbenchError: the file is not such a CSV, a figure is not a fraction, or two lines fit one row.
    """
    table = read_published(path)
    used: set[int] = set()

    def matched(row: Row) -> Row:
        first = row.first
        wanted = {"id": first.id, "detector": first.detector, "ood": first.ood}
        fits = (table[list(wanted)] == pd.Series(wanted)).all(axis=1) & table["model"].isin(["", first.model])
        lines = table.index[fits].tolist()
        if len(lines) > 1:
            raise OodbenchError(
                f"{path}: lines {lines[0] + 2} and {lines[1] + 2} are both about {first.detector} on {first.ood}; keep "
                f"one, or tell them apart by the column model"
            )
        used.update(lines)
        if not lines:
            return row
        line = table.loc[lines[0]]
        figures = {name: float(line[name]) for name in METRICS if name in table and line[name] != ""}
        return replace(row, published=figures, source=str(line[SOURCE]))

    blocks: list[Block] = [
        replace(block, rows={key: matched(row) for key, row in block.rows.items()}) for block in leaderboard.blocks
    ]
    unused = [
        f"{path}, line {line + 2}: no row of the report is about that" for line in table.index if line not in used
    ]
    return replace(leaderboard, blocks=tuple(blocks)), unused


def read_published(path: Path) -> pd.DataFrame:
    """The file's lines as text, checked.

    Raises:
        OodbenchError: see `with_published`.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False, encoding="utf-8")
    except (OSError, ValueError) as error:
        raise OodbenchError(f"{path} is not a CSV file that can be read: {error}") from error
    known = (*KEYS, SOURCE, *METRICS)
    for column in table.columns:
        if column not in known:
            raise unknown_name(f"column of published figures ({path})", str(column), known)
    missing = [column for column in (*KEYS, SOURCE) if column not in table and column != "model"]
    if missing:
        raise OodbenchError(f"{path} has no column {', '.join(missing)}; it needs id, detector, ood and source")
    if "model" not in table:
        table["model"] = ""
    for name in METRICS:
        for line, text in enumerate(table.get(name, ())):
            if text != "" and not _is_fraction(text):
                raise OodbenchError(f"{path}, line {line + 2}: {name} is '{text}'; write a fraction from 0 to 1")
    return table


def _is_fraction(text: str) -> bool:
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False
