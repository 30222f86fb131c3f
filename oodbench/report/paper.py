"""Tables for a paper, in the field's form: detectors × sets and means of groups, as LaTeX to be put in by \\input."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, NamedTuple

from oodbench.errors import OodbenchError, unknown_name
from oodbench.report.comparison import ALL_SETS, Block, Estimate, Leaderboard, Mean, Row, grouped_by
from oodbench.report.html import environment
from oodbench.report.layout import block_facts, estimate_text, partial_titles, percent, published_entries
from oodbench.report.names import Names, same_name
from oodbench.report.panels import Body, Line, Panel, pages, panels
from oodbench.report.standings import INFLUENCES, LOWER_IS_BETTER, standings
from oodbench.report.style import DOUBLE, SINGLE
from oodbench.report.tex import POINTS, SEPARATION, Part, Parts, escaped, one_line, text_width

SHOWN = {
    "auroc": "AUROC",
    "fpr_at_95_id_recall": "FPR@95",
    "fpr_at_95_ood_recall": "FPR@95",
    "aupr_in": "AUPR-In",
    "aupr_out": "AUPR-Out",
    "detection_error": "Detection error",
    "garbage_share": "Garbage share",
}
"""The figures that a table can show, as papers call them."""

CONVENTIONS = {
    "fpr_at_95_id_recall": "the share of OOD accepted where 95 % of ID is kept",
    "fpr_at_95_ood_recall": "the share of ID flagged where 95 % of OOD is caught",
}

BY_RANK, REST = "best", "*"
"""In an order: by average rank, the best first; all that is not named."""


PAGE_LINES = 42
"""Lines of a page of LaTeX's `article` in 10 points, which has less room than those of conferences."""

CAPTION_SPACE = 2
"""Lines of the space around a caption."""


@dataclass(frozen=True)
class PaperTable:
    """What a table for a paper shows.

    Attributes:
        metrics: names of SHOWN; a cell has them all, with slashes between.
        columns: names of sets, `set:NAME` for one that is called as a group; of groups, which stand for their sets and
            mean; `mean:GROUP`, `mean:all`; `sets`, `means`. By default every group.
        decimals: of the percentages.
        transpose: sets as rows, detectors as columns.
        order: detectors to show, in that order, by any of their names, with `*` for all others; or `best` alone: by
            average rank. By default all but controls, as they were run.
        names: how detectors, sets, models and groups are spelled.
        width: inches that the text takes; wider tables are cut into panels below each other.
    """

    metrics: tuple[str, ...] = ("auroc", "fpr_at_95_id_recall")
    columns: tuple[str, ...] = ()
    decimals: int = 1
    transpose: bool = False
    order: tuple[str, ...] = ()
    names: Names = field(default_factory=Names.load)
    width: float = DOUBLE

    def __post_init__(self) -> None:
        for name in self.metrics:
            if name not in SHOWN:
                raise unknown_name("metric", name, SHOWN)
        if not self.metrics or not 0 <= self.decimals <= 6:
            raise OodbenchError("a table needs a metric, and from 0 to 6 decimals; see oodbench report --help")


class Column(NamedTuple):
    """A set, or the mean over its group where there is no set."""

    group: str
    ood: str = ""


def to_latex(leaderboard: Leaderboard, paper: PaperTable | None = None) -> str:
    """One table an ID set, a block of rows an architecture; and one of the published figures, where there are any.

    What is taller than a page goes on in a table with the same number, "continued".

    Raises:
        OodbenchError: a column or a detector of the order is not there.
    """
    paper = paper or PaperTable()
    tables = []
    for id_name, blocks in grouped_by(leaderboard.blocks, lambda block: block.id).items():
        tables += _table(id_name, blocks, paper)
        tables += _published(id_name, blocks, paper)
    return environment(latex=True).get_template("tables.tex.j2").render(tables=tables, separation=SEPARATION)


def shown_detectors(block: Block, order: Sequence[str]) -> list[str]:
    """The detectors of a block that an order asks for (see `PaperTable`).

    Raises:
        OodbenchError: none of that name was run.
    """
    by_name = {same_name(label): label for label in block.detectors}
    contest = [label for label in block.detectors if not block.is_control(label)] or list(block.detectors)
    if not order:
        return contest
    if tuple(order) == (BY_RANK,):
        ranks = {label: block.average_rank(label) for label in contest}
        # What lacks a set has no rank, and comes last.
        return sorted(contest, key=lambda label: (ranks[label] is None, ranks[label] or 0))
    named = [same_name(name) for name in order if name != REST]
    for name in named:
        if name not in by_name:
            raise unknown_name("detector in these runs", name, by_name, f"or write {BY_RANK}, or {REST} for all others")
    rest = [label for label in contest if same_name(label) not in named]
    return [label for name in order for label in (rest if name == REST else [by_name[same_name(name)]])]


def shown_columns(blocks: Sequence[Block], wanted: Sequence[str]) -> list[Column]:
    """The columns of a table of blocks (see `PaperTable`), all blocks' sets together.

    Raises:
        OodbenchError: there is no such set or group.
    """
    members = _members(blocks)
    named: dict[str, list[Column]] = {"sets": [Column(group, ood) for group, sets in members.items() for ood in sets]}
    named["means"] = [Column(group) for group, sets in members.items() if len(sets) > 1]
    named |= {ood: [Column(group, ood)] for group, sets in members.items() for ood in sets}
    named |= {f"set:{ood}": [Column(group, ood)] for group, sets in members.items() for ood in sets}
    named |= {f"mean:{group}": [Column(group)] for group in (*members, ALL_SETS)}
    means = dict.fromkeys(named["means"])
    named |= {
        group: [*(Column(group, ood) for ood in sets), *([Column(group)] if Column(group) in means else [])]
        for group, sets in members.items()
    }
    for name in wanted:
        if name not in named:
            raise unknown_name("column", name, named)
    return [column for name in (wanted or members) for column in named[name]]


def _members(blocks: Sequence[Block]) -> dict[str, list[str]]:
    """Group → its sets, over all blocks."""
    group_of = {ood: row.first.group for block in blocks for (_, ood), row in block.rows.items()}
    return grouped_by(group_of, lambda ood: group_of[ood])


def _entries(
    block: Block, detectors: Sequence[str], column: Column, members: dict[str, list[str]]
) -> dict[str, Row | Mean]:
    """Detector → what stands in the column; a mean only where the block has all sets of the group."""
    if column.ood:
        return {one: block.rows[one, column.ood] for one in detectors if (one, column.ood) in block.rows}
    means = {one: block.means[one, column.group] for one in detectors if (one, column.group) in block.means}
    whole = set(members.get(column.group, ()))
    return {one: mean for one, mean in means.items() if whole <= {row.first.ood for row in mean.rows}}


def _cells(
    block: Block, detectors: list[str], columns: list[Column], paper: PaperTable, members: dict[str, list[str]]
) -> list[list[Parts]]:
    """(columns, detectors): the figures, the best and the tied of every column marked."""
    made = []
    for column in columns:
        entries = _entries(block, detectors, column, members)
        marks = {metric: standings(entries, metric) for metric in paper.metrics}
        made.append([_parts(one, entries, marks, paper) for one in detectors])
    return made


def _parts(detector: str, entries: dict[str, Row | Mean], marks: dict[str, Any], paper: PaperTable) -> Parts:
    if detector not in entries:
        return ()
    parts = []
    for metric in paper.metrics:
        estimate = entries[detector].figures[metric]
        mark = marks[metric][detector].mark if detector in marks[metric] else ""
        parts.append(Part("–") if estimate is None else _part(estimate, paper, mark))
    return parts


def _table(id_name: str, blocks: list[Block], paper: PaperTable) -> list[dict[str, Any]]:
    columns, members = shown_columns(blocks, paper.columns), _members(blocks)
    bodies = []
    for block in blocks:
        detectors = shown_detectors(block, paper.order)
        cells = _cells(block, detectors, columns, paper, members)
        by_set = [
            Line(_column_title(column, columns, paper), column.group, line)
            for column, line in zip(columns, cells, strict=True)
        ]
        by_detector = [
            Line(escaped(paper.names.detector(one)), "", [line.cells[place] for line in by_set])
            for place, one in enumerate(detectors)
        ]
        bodies.append((by_set, by_detector) if paper.transpose else (by_detector, by_set))
    titles = [_block_title(block, paper) for block in blocks] if len(blocks) > 1 else []
    corner = "OOD set" if paper.transpose else "Detector"
    cut, width = panels(corner, bodies, titles, len(paper.metrics), paper.names.group, paper.width * POINTS)
    wide = width > SINGLE * POINTS
    return _on_pages(
        cut,
        comments=list(_comments(blocks, paper, width)),
        environment="table*" if wide else "table",
        captions=(_caption(id_name, blocks, paper), f"{_what(id_name, paper)}, continued."),
        label=_label(id_name),
        width=paper.width if wide else min(SINGLE, paper.width),
    )


def _on_pages(
    cut: list[Panel], comments: list[str], environment: str, captions: tuple[str, str], label: str, width: float
) -> list[dict[str, Any]]:
    """The tables that the panels take; those after the first have its number and the second caption.

    Args:
        width: of the caption, in inches.
    """
    room = PAGE_LINES - CAPTION_SPACE - math.ceil(text_width(captions[0]) / (width * POINTS))
    first: dict[str, Any] = {"comments": comments, "environment": environment, "caption": captions[0], "label": label}
    rest = first | {"comments": [], "caption": captions[1], "label": ""}
    return [(rest if number else first) | {"panels": of} for number, of in enumerate(pages(cut, room))]


def _column_title(column: Column, columns: Sequence[Column], paper: PaperTable) -> str:
    if column.ood:
        return escaped(paper.names.set(column.ood))
    group = escaped(paper.names.group(column.group))
    if paper.transpose:
        return f"{group}, mean"
    return "Mean" if any(one.ood and one.group == column.group for one in columns) else group


def _block_title(block: Block, paper: PaperTable) -> str:
    accuracy = next((row for row in block.rows.values() if not row.first.own_classifier), block.first).id_accuracy
    return rf"{escaped(paper.names.model(block.model))} (ID accuracy {percent(accuracy.value, 2)}\,\%)"


def _what(id_name: str, paper: PaperTable) -> str:
    return f"OOD detection with {escaped(paper.names.set(id_name))} as ID"


def _caption(id_name: str, blocks: list[Block], paper: PaperTable) -> str:
    both = all(name in paper.metrics for name in CONVENTIONS)
    shown = {name: SHOWN[name] for name in paper.metrics}
    if both:
        shown |= {"fpr_at_95_id_recall": "FPR@95 (ID kept)", "fpr_at_95_ood_recall": "FPR@95 (OOD caught)"}
    arrows = [
        rf"{escaped(title)}\,$\{'down' if name in LOWER_IS_BETTER else 'up'}arrow$" for name, title in shown.items()
    ]
    what = _what(id_name, paper)
    if len(blocks) == 1:
        what += f", {_block_title(blocks[0], paper)}"
    if partial := ", ".join(filter(None, dict.fromkeys(map(partial_titles, blocks)))):
        what += f" ({partial})"
    meanings = [f"{shown[name]}: {CONVENTIONS[name]}." for name in paper.metrics if name in CONVENTIONS]
    runs = [len(row.trainings) for block in blocks for row in block.rows.values() if len(row.trainings) > 1]
    spread = rf"$\pm$: standard deviation over {max(runs)} runs." if runs else ""
    marks = r"\textbf{Bold}: best; \underline{underlined}: not significantly worse."
    return " ".join(
        [f"{what}: {' / '.join(arrows)}, in percent.", *map(escaped, meanings), marks, *([spread] if spread else [])]
    )


def _comments(blocks: list[Block], paper: PaperTable, width: float) -> Iterator[str]:
    """What a caption is too short for."""
    star = "; table* spans the columns of a two-column class" if width > SINGLE * POINTS else ""
    lines = [
        f"Written by oodbench {metadata.version('oodbench')} (oodbench report). Needs \\usepackage{{booktabs}}.",
        f"About {width / POINTS:.1f} in wide in 10-point Computer Modern, cut at --width {paper.width:g}{star}.",
    ]
    for block in blocks:
        left_out = [one for one in block.detectors if one not in shown_detectors(block, paper.order)]
        lines += [f"{block.model}: {fact}" for fact in block_facts(block)]
        lines += [f"{block.model}: left out: {', '.join(left_out)} (--order names what is shown)."] if left_out else []
    lines += [f"{SHOWN[name]}, {name}: {CONVENTIONS[name]}." for name in paper.metrics if name in CONVENTIONS]
    for block in blocks:
        lines += list(_intervals(block, paper))
    untested = [SHOWN[name] for name in paper.metrics if name not in INFLUENCES]
    lines += [
        "Best and tied: of the detectors shown that are no controls, in each column and metric; paired tests by image "
        "(AUROC: DeLong; FPR@95: delta method), 5 %, Holm-corrected over the detectors; over runs, p-values averaged "
        "and doubled. Means weigh every set alike.",
        *([f"Without a test, so that only the best is marked: {', '.join(untested)}."] if untested else []),
    ]
    return map(one_line, lines)


def _intervals(block: Block, paper: PaperTable) -> Iterator[str]:
    """95 % intervals, which no cell has room for, where they were made: a line a detector and set."""
    for row in block.rows.values():
        shown = [(name, row.metrics[name]) for name in paper.metrics if name in row.metrics]
        texts = [f"{SHOWN[name]} {estimate_text(one, paper.decimals)}" for name, one in shown if one.interval]
        if texts:
            yield f"{block.model}: {row.first.detector} on {row.first.ood}, with 95 % intervals: {'; '.join(texts)}."


def _published(id_name: str, blocks: list[Block], paper: PaperTable) -> list[dict[str, Any]]:
    """The table of published figures beside the measured ones; none where there are none."""
    figures = [
        (block, entry, name) for block in blocks for entry in published_entries(block) for name in entry.published
    ]
    if not figures:
        return []
    sources = list(dict.fromkeys(entry.source for _, entry, _ in figures))
    several = len(blocks) > 1
    lines = []
    for block, entry, name in figures:
        sets = ", ".join(paper.names.set(row.first.ood) for row in entry.rows)
        what = [
            *([paper.names.model(block.model)] if several else []),
            paper.names.detector(entry.first.detector),
            f"mean of {sets}" if len(entry.rows) > 1 else sets,
            SHOWN[name],
        ]
        numbers = [str(_part(one, paper)) for one in (entry.metrics[name], entry.published[name])]
        number = sources.index(entry.source) + 1 if len(sources) > 1 else ""
        lines.append(" & ".join([*map(escaped, what), *numbers]) + (f"$^{{{number}}}$" if number else "") + r" \\")
    heads = [*(["Model"] if several else []), "Detector", "OOD set", "Metric", "Measured", "Published"]
    panel = Panel("l" * (len(heads) - 2) + "rl", [" & ".join(heads) + r" \\"], [Body("", lines)])
    numbered = enumerate(map(escaped, sources), 1)
    notes = [f"$^{{{at}}}$\\,{source}." if len(sources) > 1 else f"{source}." for at, source in numbered]
    meanings = dict.fromkeys(f"{SHOWN[name]}: {CONVENTIONS[name]}." for _, _, name in figures if name in CONVENTIONS)
    title = f"Published figures beside the measured ones with {escaped(paper.names.set(id_name))} as ID"
    return _on_pages(
        [panel],
        comments=["Published figures are of other weights: they say what is usual, and are no test."],
        environment="table",
        captions=(" ".join([f"{title}, in percent.", *map(escaped, meanings), *notes]), f"{title}, continued."),
        label=f"{_label(id_name)}-published",
        width=min(SINGLE, paper.width),
    )


def _label(id_name: str) -> str:
    return f"tab:ood-{re.sub('[^A-Za-z0-9]+', '-', id_name)}"


def _part(estimate: Estimate, paper: PaperTable, mark: str = "") -> Part:
    spread = "" if estimate.spread is None else f"±{percent(estimate.spread, paper.decimals)}"
    return Part(percent(estimate.value, paper.decimals), spread, mark)
