"""Tabulars that are no wider and no taller than a page: a table's columns cut into panels, and these into pages."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from oodbench.report.comparison import grouped_by
from oodbench.report.tex import SEPARATION, Parts, cell, column_form, escaped, spanning, text_width

HEAD_LINES = 1.5
"""Lines of text that a panel takes for its rules and the space before it."""

RULE_LINES = 0.5
"""Of the rule before a body, and of the space between groups."""

SPACE = "\\addlinespace\n"
"""What stands before a row that begins a group."""


class Body(NamedTuple):
    """Rows of LaTeX between two rules, and the row that says what they are of, if any."""

    title: str
    rows: list[str]


@dataclass(frozen=True)
class Panel:
    """A tabular: the form of its columns, the rows of its head, its bodies."""

    columns: str
    header: list[str]
    bodies: list[Body]


class Line(NamedTuple):
    """A row or a column of a table: its heading, the group that the heading stands under, and its cells."""

    heading: str
    group: str
    cells: list[Parts]


def panels(
    corner: str,
    bodies: list[tuple[list[Line], list[Line]]],
    titles: list[str],
    metrics: int,
    group_title: Callable[[str], str],
    room: float,
) -> tuple[list[Panel], float]:
    """The table cut into panels that are not wider than the text, and how wide the widest is, in points."""
    heads = [head for _, head in bodies]
    names = list(dict.fromkeys((line.group, line.heading) for head in heads for line in head))
    first = max(text_width(_plain(line.heading)) for lines, _ in bodies for line in [*lines, Line(corner, "", [])])
    widths = {name: _width(name, heads, metrics) for name in names}
    cuts = _cut(names, widths, room - first)
    panels = []
    for cut in cuts:
        made = []
        for number, (lines, head) in enumerate(bodies):
            place = {(line.group, line.heading): at for at, line in enumerate(head)}
            title = spanning(rf"\textit{{{titles[number]}}}", 1 + metrics * len(cut), "@{}l") + r" \\" if titles else ""
            rows = []
            groups = [line.group for line in lines]
            for at, line in enumerate(lines):
                fields = [line.cells[place[name]] if name in place else () for name in cut]
                row = " & ".join([line.heading, *(cell(parts, metrics) for parts in fields)]) + r" \\"
                rows.append(SPACE * (at > 0 and groups[at] != groups[at - 1]) + row)
            made.append(Body(title, rows))
        header = _header(corner, cut, metrics, group_title)
        panels.append(Panel("l" + column_form(metrics) * len(cut), header, made))
    return panels, max(first + sum(widths[name] for name in cut) for cut in cuts)


def pages(cut: list[Panel], room: float) -> list[list[Panel]]:
    """The panels in tables of at most `room` lines of text; a body stays whole where it fits on a page."""
    tables: list[list[Panel]] = []
    left = 0.0
    for panel in cut:
        head = len(panel.header) + HEAD_LINES
        begun = False
        for body in (part for whole in panel.bodies for part in _parts(whole, room - head)):
            if not tables or left < _height(body) + head * (not begun):
                tables.append([])
                left, begun = room, False
            if not begun:
                tables[-1].append(replace(panel, bodies=[]))
                left, begun = left - head, True
            tables[-1][-1].bodies.append(body)
            left -= _height(body)
    return tables


def _parts(body: Body, room: float) -> list[Body]:
    """The body, or what it is cut into where it is taller than the room: parts of as many rows, but for the last."""
    if _height(body) <= room:
        return [body]
    count = math.ceil(_height(body) / (room - 2))  # each part has the title and the rule again
    size = math.ceil(len(body.rows) / count)
    chunks = [body.rows[start : start + size] for start in range(0, len(body.rows), size)]
    return [body._replace(rows=[rows[0].removeprefix(SPACE), *rows[1:]]) for rows in chunks]


def _height(body: Body) -> float:
    """In lines of text."""
    spaces = sum(row.startswith(SPACE) for row in body.rows)
    return len(body.rows) + RULE_LINES * (1 + spaces) + bool(body.title)


def _width(name: tuple[str, str], heads: list[list[Line]], metrics: int) -> float:
    """Points that a column takes, with what parts it from its neighbour."""
    cells = [parts for head in heads for line in head if (line.group, line.heading) == name for parts in line.cells]
    # Figures stand under each other by metric, so that the widest of each counts, and the slashes between.
    widest = sum(max(part.width for part in column) for column in zip(*filter(None, cells), strict=True))
    return max(widest + 8.5 * (metrics - 1), text_width(_plain(name[1]))) + 2 * SEPARATION


def _cut(
    names: list[tuple[str, str]], widths: dict[tuple[str, str], float], room: float
) -> list[list[tuple[str, str]]]:
    """The columns in pieces that fit; a group stays together where it fits."""
    cuts: list[list[tuple[str, str]]] = [[]]
    left = room
    for group in grouped_by(names, lambda name: name[0]).values():
        whole = sum(widths[name] for name in group)
        for name in group:
            if cuts[-1] and (widths[name] > left or (name is group[0] and left < whole <= room)):
                cuts.append([])
                left = room
            cuts[-1].append(name)
            left -= widths[name]
    return cuts


def _header(corner: str, cut: list[tuple[str, str]], metrics: int, group_title: Callable[[str], str]) -> list[str]:
    """The headings, under those of their groups where several have one."""
    runs: list[list[tuple[str, str]]] = []
    for name in cut:
        if runs and runs[-1][0][0] == name[0]:
            runs[-1].append(name)
        else:
            runs.append([name])
    lines = []
    above = [escaped(group_title(run[0][0])) if run[0][0] else "" for run in runs]
    # A mean that stands alone is called as its group.
    above = ["" if run == [(run[0][0], title)] else title for run, title in zip(runs, above, strict=True)]
    if any(above):
        fields, rules, start = [""], [], 2
        for run, title in zip(runs, above, strict=True):
            width = metrics * len(run)
            fields.append(spanning(title, width))
            if title:
                rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
            start += width
        lines = [" & ".join(fields) + r" \\", "".join(rules)]
    return [*lines, " & ".join([corner, *(spanning(heading, metrics) for _, heading in cut)]) + r" \\"]


def _plain(heading: str) -> str:
    """A heading of LaTeX as about the characters that are seen."""
    return re.sub(r"\\text\w+\{\}|\$\\\w+\$", "x", heading).replace("\\", "").replace("{", "").replace("}", "")
