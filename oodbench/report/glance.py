"""A block at a glance: which detector is best on each group of sets, by how much, tied with whom; and one figure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from oodbench.report.comparison import Block, Mean
from oodbench.report.layout import estimate_text, groups_of, percent
from oodbench.report.names import Names
from oodbench.report.standings import BEST, TIED, standings

SHOWN = 12
"""Detectors in the figure, at most."""


@dataclass(frozen=True)
class Verdict:
    """Who is best in the mean over the sets of a group; controls take no part.

    Attributes:
        group: as papers call it.
        sets: that the mean is over.
        best: the detectors of the highest AUROC, several where they are equal.
        auroc, fpr: theirs, in percent.
        tied: those not significantly worse, in falling order.
        next: the best of those that are significantly worse, and by how many points; None where all are tied.
    """

    group: str
    sets: tuple[str, ...]
    best: tuple[str, ...]
    auroc: str
    fpr: str
    tied: tuple[str, ...]
    next: tuple[str, str] | None


@dataclass(frozen=True)
class Dots:
    """A detector's line of the figure: (group's number, place in percent of the axis, AUROC in percent) a mean."""

    detector: str
    means: list[tuple[int, float, str]]


@dataclass(frozen=True)
class Figure:
    """Mean AUROC by group, a line a detector, best first.

    Attributes:
        groups: as papers call them.
        low: the AUROC in percent at the left end of the axis; at its right end stands 100.
        ticks: (place in percent of the axis, AUROC in percent).
        left_out: detectors beyond SHOWN.
    """

    groups: list[str]
    low: int
    ticks: list[tuple[float, int]]
    lines: list[Dots]
    left_out: int


def verdicts(block: Block) -> list[Verdict]:
    """One a group, near and far first."""
    return [found for group in groups_of(block) if (found := _verdict(block, group))]


def figure(block: Block) -> Figure:
    """Mean AUROC by group of all detectors but controls, by the mean over their groups."""
    names, shown = Names.load(), groups_of(block)
    lines = {
        detector: [(number, block.means[detector, group]) for number, group in enumerate(shown)
                   if (detector, group) in block.means]
        for detector in block.detectors if not block.is_control(detector)
    }  # fmt: skip
    values = {one: [mean.metrics["auroc"].value for _, mean in means] for one, means in lines.items() if means}
    ordered = sorted(values, key=lambda one: -sum(values[one]) / len(values[one]))[:SHOWN]
    least = min((value for one in ordered for value in values[one]), default=0.0)
    low = min(90, 10 * math.floor(10 * least))

    def place(value: float) -> float:
        return round(100 * (100 * value - low) / (100 - low), 2)

    step = 2 if low == 90 else 5 if low >= 80 else 10 if low >= 50 else 20
    return Figure(
        [names.group(group) for group in shown],
        low,
        [(place(tick / 100), tick) for tick in range(-(-low // step) * step, 101, step)],
        [
            Dots(one, [(number, place(value), percent(value)) for (number, _), value in
                       zip(lines[one], values[one], strict=True)])
            for one in ordered
        ],
        len(values) - len(ordered),
    )  # fmt: skip


def _verdict(block: Block, group: str) -> Verdict | None:
    entries = dict(_contest(block, group))
    if not entries:
        return None
    marks = {name: standing.mark for name, standing in standings(entries, "auroc").items()}
    ordered = sorted(marks, key=lambda name: -entries[name].metrics["auroc"].value)
    best = [name for name in ordered if marks[name] == BEST]
    worse = next((name for name in ordered if not marks[name]), None)
    top = entries[best[0]]
    lead = top.metrics["auroc"].value - entries[worse].metrics["auroc"].value if worse else 0.0
    return Verdict(
        Names.load().group(group),
        tuple(row.first.ood for row in top.rows),
        tuple(best),
        estimate_text(top.metrics["auroc"]),
        estimate_text(top.metrics["fpr_at_95_id_recall"]),
        tuple(name for name in ordered if marks[name] == TIED),
        (worse, percent(lead, 1 if lead >= 0.001 else 2)) if worse else None,
    )


def _contest(block: Block, group: str) -> Iterator[tuple[str, Mean]]:
    for detector in block.detectors:
        mean = block.means.get((detector, group))
        if mean and not block.is_control(detector):
            yield detector, mean
