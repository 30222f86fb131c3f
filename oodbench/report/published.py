"""Figures that others published, from a CSV file or from those that come with oodbench, beside the measured ones."""

from __future__ import annotations

import io
import warnings
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pandas as pd

from oodbench.errors import OodbenchError, unknown_name
from oodbench.files import read_small
from oodbench.metrics import METRICS
from oodbench.report.comparison import Block, Estimate, Leaderboard, Mean, Row, mean_over
from oodbench.report.names import same_name

KEYS = ("id", "model", "detector", "ood")
SOURCE = "source"
SPREADS = tuple(f"{name}_spread" for name in METRICS)

LITERATURE = ("odin", "openood-cifar10")
"""The files that come with oodbench, by name."""

Entry = Row | Mean


def with_published(leaderboard: Leaderboard, given: str | Path) -> tuple[Leaderboard, list[str]]:
    """The leaderboard with published figures beside its rows, and a note for each line that fits no row.

    Args:
        given: a name of LITERATURE, or a CSV file with the columns id, detector, ood and source, perhaps model (empty:
            any), and columns of metrics with fractions from 0 to 1, empty where nothing was published, and of their
            standard deviations (`auroc_spread`). Detectors have any of their names. An ood like `cifar100+tinyimagenet`
            is the unweighted mean over those sets.

    Raises:
        OodbenchError: there is no such file, it is no such CSV, a figure is not a fraction, or two lines fit one row.
    """
    name = str(given)
    inside = name in LITERATURE
    path = (
        Path(str(resources.files("oodbench.report").joinpath("literature", f"{name}.csv"))) if inside else Path(given)
    )
    if not inside and not path.suffix and not path.exists():
        raise unknown_name("published figures", name, LITERATURE, "or a CSV file of yours")
    table = read_published(path)
    used: set[int] = set()
    blocks = tuple(_with_published(block, table, path, used) for block in leaderboard.blocks)
    if inside:
        notes = [f"{name}: {len(used)} of {len(table)} published lines are about this report's rows"]
    else:
        lines = [line for line in table.index if line not in used]
        notes = [f"{path}, line {line + 2}: no row of the report is about that" for line in lines]
    return replace(leaderboard, blocks=blocks), notes


def _with_published(block: Block, table: pd.DataFrame, path: Path, used: set[int]) -> Block:
    """The block with the figures of the table's lines that are about it; `used` gets those lines."""
    rows, means, seen = dict(block.rows), [], dict[tuple[str, str], int]()
    labels = {same_name(label): label for label in block.detectors}
    about = table[(table["id"] == block.id) & table["model"].isin(["", block.model])]
    for line in about.index.tolist():
        values = about.loc[line]
        label = labels.get(same_name(values["detector"]), "")
        sets = [values["ood"]] if (label, values["ood"]) in rows else values["ood"].split("+")
        if not all((label, ood) in rows for ood in sets):
            continue
        earlier = seen.setdefault((label, values["ood"]), line)
        if earlier != line:
            raise OodbenchError(
                f"{path}: lines {earlier + 2} and {line + 2} are both about {label} on {values['ood']}; keep one, or "
                f"tell them apart by the column model"
            )
        used.add(line)
        figures = {name: _figure(values, name) for name in METRICS if values.get(name, "") != ""}
        if len(sets) == 1:
            rows[label, sets[0]] = replace(rows[label, sets[0]], published=figures, source=values[SOURCE])
        elif mean := mean_over("published", [rows[label, ood] for ood in sets]):
            means.append(replace(mean, published=figures, source=values[SOURCE]))
    return replace(block, rows=rows, published_means=tuple(means))


def _figure(values: pd.Series[str], name: str) -> Estimate:
    spread = values.get(f"{name}_spread", "")
    return Estimate(float(values[name]), float(spread) if spread else None)


def read_published(path: Path) -> pd.DataFrame:
    """The file's lines as text, checked.

    Raises:
        OodbenchError: see `with_published`.
    """
    try:
        content = io.BytesIO(read_small(path))
        with warnings.catch_warnings():
            # pandas would leave out, with a warning, what a line has more than the head.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(content, dtype=str, keep_default_na=False, index_col=False, encoding="utf-8")
    except pd.errors.ParserWarning as error:
        raise OodbenchError(f"{path}: a line has more cells than the head; put text with commas in quotes") from error
    except (OSError, ValueError) as error:
        raise OodbenchError(f"{path} is not a CSV file that can be read: {error}") from error
    known = (*KEYS, SOURCE, *METRICS, *SPREADS)
    for column in table.columns:
        if column not in known:
            raise unknown_name(f"column of published figures ({path})", str(column), known)
    missing = [column for column in (*KEYS, SOURCE) if column not in table and column != "model"]
    if missing:
        raise OodbenchError(f"{path} has no column {', '.join(missing)}; it needs id, detector, ood and source")
    if "model" not in table:
        table["model"] = ""
    for name in (*METRICS, *SPREADS):
        for line, text in enumerate(table.get(name, ())):
            if text != "" and not _is_fraction(text):
                raise OodbenchError(f"{path}, line {line + 2}: {name} is '{text}'; write a fraction from 0 to 1")
    return table


def _is_fraction(text: str) -> bool:
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False
