"""A leaderboard as CSV, markdown, tables of a terminal, or a pandas table."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import pandas as pd
from pandas.api.types import is_numeric_dtype

from oodbench.metrics import METRICS
from oodbench.report.comparison import Block, Estimate, Leaderboard, Mean, Row
from oodbench.report.html import to_html
from oodbench.report.layout import (
    SUMMARY_MEANING,
    TIED_MARK,
    Cell,
    Grid,
    aggregate,
    block_facts,
    block_title,
    every_row,
    legend,
    overviews,
    partial_title,
    published_figures,
    summary,
)
from oodbench.report.paper import to_latex

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = ("id", "model", "detector", "ood", "group", "n_id", "n_ood", *METRICS, "id_accuracy", "garbage_share")
"""Of a run's leaderboard.csv, which a report's CSV begins with."""


def to_csv(leaderboard: Leaderboard) -> str:
    """`to_frame` with every digit."""
    return csv_of(to_frame(leaderboard))


FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes a cell for that begins so."""


def csv_of(table: pd.DataFrame) -> str:
    """A table as CSV; names that a spreadsheet would carry out as a formula begin with an apostrophe there."""

    def harmless(value: object) -> object:
        return f"'{value}" if isinstance(value, str) and value.startswith(FORMULAS) else value

    texts = {str(name): table[name].map(harmless) for name in table if not is_numeric_dtype(table[name])}
    return table.assign(**texts).to_csv(index=False, lineterminator="\n")


def to_frame(leaderboard: Leaderboard) -> pd.DataFrame:
    """As fractions: per-set rows, then group means if they are to be shown (those have no `ood`).

    The columns are COLUMNS, then: prevalence, runs, rank, standing, p_value, control; the spread over runs of each
    metric and of the accuracy (blank for one run); and, where there are any, the ends of the intervals and the
    published figures.
    """
    lines = [_set_line(row) for row in leaderboard.rows]
    if leaderboard.grouped:
        lines += [_mean_line(block, mean) for block in leaderboard.blocks for mean in block.shown_means]
    spreads = [f"{name}_spread" for name in (*METRICS, "id_accuracy")]
    columns = [*COLUMNS, "prevalence", "sets", "runs", "rank", "standing", "p_value", "control", *spreads]
    columns += [name for name in dict.fromkeys(name for line in lines for name in line) if name not in columns]
    # Whole numbers stay whole where the lines of means have none.
    whole = dict.fromkeys(("n_id", "n_ood", "sets", "runs") if leaderboard.grouped else (), "Int64")
    return pd.DataFrame(lines, columns=columns).astype(whole | {"garbage_share": "float64"})


def to_json(leaderboard: Leaderboard) -> str:
    """The rows of `to_frame` as a list of objects, figures with 15 digits; null where there is no figure."""
    return to_frame(leaderboard).to_json(orient="records", indent=1, force_ascii=False, double_precision=15) + "\n"


def to_markdown(leaderboard: Leaderboard) -> str:
    """In percent: per classifier and ID set the overviews of AUROC and both FPR@95, then every row."""
    parts = ["# OOD detection", "", *(f"- {line}" for line in legend(leaderboard)), ""]
    for block in leaderboard.blocks:
        parts += [f"## {_markdown(block_title(block))}", ""]
        parts += [*(f"- {_markdown(fact)}" for fact in block_facts(block)), ""]
        grids = (*overviews(block, leaderboard.grouped).values(), published_figures(block), every_row(block))
        for grid in filter(None, grids):
            parts += [f"### {_markdown(grid.title)}", "", _markdown_table(grid), ""]
    return "\n".join(parts)


def terminal_tables(leaderboard: Leaderboard, width: int) -> Iterator[Table]:
    """`layout.summary` of each block, and what several models have in common, for a terminal of that many columns."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    between = 3  # a blank on each side of the box's separator, itself a blank
    of_blocks = [summary(block) for block in leaderboard.blocks]
    grids = [(grid, SUMMARY_MEANING if grid is of[-1] else None) for of in of_blocks for grid in of]
    together = aggregate(leaderboard)
    for grid, meaning in [*grids, *([(together, "in percent")] if together else [])]:
        cut = panels(grid, width + between, between)
        for panel in cut:
            shown = Table(
                title=panel.title if panel.title and panel is cut[0] else None,
                caption=meaning if panel is cut[-1] else None,
                box=box.SIMPLE_HEAD,
                show_edge=False,
                pad_edge=False,
            )
            for title in panel.header:
                shown.add_column(Text(title), justify="left" if title is panel.header[0] else "right", no_wrap=True)
            for line in panel.lines:
                shown.add_row(*(Text(cell.text) for cell in line))
            yield shown


def panels(grid: Grid, width: int, between: int = 2) -> list[Grid]:
    """The grid cut into grids of at most `width` characters a line, each with the first column and others in order.

    A grid has one column beside the first, however wide it is.

    Args:
        between: characters that a column takes beside its own.
    """
    columns = list(zip(grid.header, *([cell.text for cell in line] for line in grid.lines), strict=True))
    widths = [max(map(len, column)) + between for column in columns]
    cuts = [[0]]
    for column in range(1, len(widths)):
        if len(cuts[-1]) > 1 and sum(widths[chosen] for chosen in cuts[-1]) + widths[column] > width:
            cuts.append([0])
        cuts[-1].append(column)
    return [
        Grid(grid.title, [grid.header[one] for one in cut], [[line[one] for one in cut] for line in grid.lines])
        for cut in cuts
    ]


FORMATS: dict[str, Callable[[Leaderboard], str]] = {
    "csv": to_csv,
    "json": to_json,
    "md": to_markdown,
    "html": to_html,
    "latex": to_latex,
}
"""Every format of a report by name."""


def _set_line(row: Row) -> dict[str, object]:
    first = row.first
    partial = partial_title(first)
    return {
        "id": first.id,
        "model": first.model,
        "detector": first.detector,
        "ood": first.ood,
        "group": first.group,
        "n_id": row.n_id,
        "n_ood": row.n_ood,
        **_figures({**row.metrics, "id_accuracy": row.id_accuracy, "garbage_share": row.garbage_share}),
        "prevalence": row.prevalence,
        "runs": len(row.trainings),
        "rank": row.rank,
        "standing": row.standing,
        "p_value": row.p_value,
        "control": first.control,
        **{f"{name}_published": one.value for name, one in row.published.items()},
        **({"published_source": row.source} if row.published else {}),
        **({"partial": partial} if partial else {}),
    }


def _mean_line(block: Block, mean: Mean) -> dict[str, object]:
    first, standing = mean.first, block.standing(mean, "auroc")
    return {
        "id": first.id,
        "model": first.model,
        "detector": first.detector,
        "ood": "",
        "group": mean.group,
        **_figures({**mean.metrics, "garbage_share": mean.garbage_share}),
        "sets": len(mean.rows),
        "runs": len(mean.rows[0].trainings),
        "rank": mean.average_rank,
        "standing": standing.mark,
        "p_value": standing.p_value,
        "control": first.control,
    }


def _figures(estimates: Mapping[str, Estimate | None]) -> dict[str, float | None]:
    figures: dict[str, float | None] = {}
    for name, estimate in estimates.items():
        if estimate is None:
            continue
        figures[name], figures[f"{name}_spread"] = estimate.value, estimate.spread
        if estimate.interval is not None:
            figures[f"{name}_low"], figures[f"{name}_high"] = estimate.interval
    return figures


def _markdown_table(grid: Grid) -> str:
    lines = [[_markdown_cell(cell) for cell in line] for line in grid.lines]
    header = [*map(_markdown, grid.header)]
    return pd.DataFrame(lines, columns=header).to_markdown(index=False, disable_numparse=True)


def _markdown_cell(cell: Cell) -> str:
    text = _markdown(cell.text)
    return f"**{text}**" if cell.standing == "best" else f"{text} {TIED_MARK}" if cell.standing else text


def _markdown(text: str) -> str:
    """Text that Markdown shows as it is: no table's edge, emphasis, link, formula, HTML or entity."""
    return re.sub(r"[\\|*`<&$~]|(?<=\])[(\[]|\b_|_\b", lambda found: f"\\{found[0]}", text)
