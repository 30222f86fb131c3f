"""What a table says, whatever format it is written in: titles, columns, figures as text, marks of the best."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from oodbench.report.comparison import ALL_SETS, Block, Estimate, Leaderboard, Mean, Row
from oodbench.report.runs import Measurement

NOTHING = "–"
"""What stands where there is no figure."""

TIED_MARK = "≈"

METRIC_TITLES = {
    "auroc": "AUROC",
    "fpr_at_95_id_recall": "FPR@95 ID recall",
    "fpr_at_95_ood_recall": "FPR@95 OOD recall",
    "aupr_in": "AUPR in",
    "aupr_out": "AUPR out",
    "detection_error": "Detection error",
}
"""Short titles, for column heads."""

MOST_COLUMNS = 5
"""Sets that a terminal shows as columns; more are rows."""

SUMMARY_MEANING = "AUROC/FPR@95 at 95 % ID recall, in percent"

METRIC_MEANINGS = {
    "auroc": "AUROC (higher is better)",
    "fpr_at_95_id_recall": "FPR@95 at 95 % ID recall: OOD accepted where 95 % of ID is kept (lower is better)",
    "fpr_at_95_ood_recall": "FPR@95 at 95 % OOD recall: ID flagged where 95 % of OOD is caught (lower is better)",
    "aupr_in": "Average precision with ID positive (higher is better); depends on how many images the sets have",
    "aupr_out": "Average precision with OOD positive (higher is better); depends on how many images the sets have",
    "garbage_share": "Garbage share: OOD images that the network puts into its garbage class (higher is better)",
}
"""What figures of detectors × sets mean."""

OVERVIEWS = ("auroc", "fpr_at_95_id_recall", "fpr_at_95_ood_recall")
"""The metrics that get an overview of detectors × sets in markdown."""


FIRST = ("near", "far")
"""The groups that are spoken of before others."""

SWITCHED = ("auroc", "fpr_at_95_id_recall", "fpr_at_95_ood_recall", "aupr_in", "aupr_out")
"""The metrics of which a page shows one at a time."""


@dataclass(frozen=True)
class Cell:
    """One field of a table: its text, and the standing of its figure in the column ("best", "tied" or "")."""

    text: str
    standing: str = ""


@dataclass(frozen=True)
class Grid:
    """A table: its title, its columns' titles, and its lines, whose first cell is a name."""

    title: str
    header: list[str]
    lines: list[list[Cell]]


def percent(value: float, digits: int = 1) -> str:
    """A fraction in percent, without the sign."""
    return f"{100 * value:.{digits}f}"


def estimate_text(estimate: Estimate, digits: int = 1) -> str:
    """`97.4`, with ` ± 0.3` if there are repeats, and ` [96.5, 98.2]` if there is an interval; in percent."""
    text = percent(estimate.value, digits)
    if estimate.spread is not None:
        text += f" ± {percent(estimate.spread, digits)}"
    if estimate.interval is not None:
        text += f" [{percent(estimate.interval.low, digits)}, {percent(estimate.interval.high, digits)}]"
    return text


def rank_text(rank: float | None) -> str:
    """A rank or a mean of ranks, or NOTHING."""
    return NOTHING if rank is None else f"{rank:.2f}".rstrip("0").rstrip(".")


def published_text(row: Row) -> str:
    """Published figures of the row in percent, with their source; empty where there are none."""
    figures = [f"{METRIC_TITLES[name]} {estimate_text(value)}" for name, value in row.published.items()]
    return f"{', '.join(figures)} ({row.source})" if figures else ""


def block_title(block: Block) -> str:
    """`digits · cnn8`, and where a run lacked sets of its benchmark, `(partial: 4 of 6 sets)`."""
    partial = partial_titles(block)
    return f"{block.id} · {block.model}" + (f" ({partial})" if partial else "")


def partial_titles(block: Block) -> str:
    """`partial_title` of every run of a block, each once."""
    return ", ".join(filter(None, dict.fromkeys(partial_title(row.first) for row in block.rows.values())))


def partial_title(one: Measurement) -> str:
    """`partial: 4 of 6 sets`, of a run that lacked sets of its benchmark; else empty."""
    # Older cards have no such field.
    missing, wanted = (len(one.run.card.benchmark.get(field, ())) for field in ("missing", "ood"))
    return f"partial: {wanted - missing} of {wanted} sets" if missing else ""


def board_title(leaderboard: Leaderboard) -> str:
    """`cifar10 · resnet20, resnet32`."""
    models: dict[str, list[str]] = {}
    for block in leaderboard.blocks:
        models.setdefault(block.id, []).append(block_title(block).removeprefix(f"{block.id} · "))
    return "; ".join(f"{name} · {', '.join(of)}" for name, of in models.items())


def measured(block: Block) -> str:
    """What was measured on what, in a sentence, with the ID accuracy."""
    row, _ = _readers(block)
    sets = ", ".join(f"{count} {group}" for group, count in Counter(map(block.group_of, block.sets)).items())
    controls = sum(map(block.is_control, block.detectors))
    runs = f", mean of {len(row.trainings)} runs" if len(row.trainings) > 1 else ""
    return (
        f"{len(block.detectors) - controls} detectors{f' and {controls} controls' * bool(controls)} of {block.model} "
        f"on {block.id} (ID accuracy {estimate_text(row.id_accuracy, 2)} % of {row.n_id:,} test images{runs}), against "
        f"{len(block.sets)} OOD sets ({sets})."
    )


def block_facts(block: Block) -> list[str]:
    """What one must know to read the block's tables: accuracy, runs, and how many images each set has."""
    row, own = _readers(block)
    repeats = "; ".join(str(one.repeat) for one in row.trainings)
    counts = [
        f"{ood} {some.n_ood} ({percent(some.prevalence)} %)"
        for ood in block.sets
        for some in [next(row for row in block.rows.values() if row.first.ood == ood)]
    ]
    accuracy = estimate_text(row.id_accuracy, 2)
    own_accuracies = ", ".join(f"{detector} {estimate_text(row.id_accuracy, 2)} %" for detector, row in own.items())
    return [
        f"ID accuracy {accuracy} % on {row.n_id} images; runs: {len(row.trainings)} ({repeats}).",
        *([f"ID accuracy of detectors that read a classifier of their own: {own_accuracies}."] if own else []),
        f"OOD images, and their share of all: {', '.join(counts)}.",
    ]


def _readers(block: Block) -> tuple[Row, dict[str, Row]]:
    """A row of those that share a classifier, and one of each detector that reads one of its own."""
    by_detector = {row.first.detector: row for row in block.rows.values()}
    own = {detector: row for detector, row in by_detector.items() if row.first.own_classifier}
    return next((row for detector, row in by_detector.items() if detector not in own), block.first), own


def legend(leaderboard: Leaderboard) -> list[str]:
    """How to read the tables, in sentences."""
    several = any(len(row.trainings) > 1 for row in leaderboard.rows)
    lines = [
        "In percent. Bold: the best of a column, on a set or in the mean over sets. "
        f"{TIED_MARK}: tied with it, that is not significantly worse (paired tests by image, AUROC: DeLong, FPR@95: "
        "delta method; Holm-corrected over the detectors, 5 %); other metrics have no test. Controls take no part.",
        "Average rank: by AUROC over the sets, equal detectors sharing their mean rank.",
    ]
    if several:
        lines.append("±: standard deviation over runs, which is what other trainings would change.")
    if leaderboard.intervals:
        lines.append(
            "[ ]: 95 % interval, which is what other images of the same sets would change (AUROC: DeLong; FPR@95: "
            "stratified bootstrap)" + ("; over several runs, the mean of their intervals." if several else ".")
        )
    if leaderboard.grouped:
        lines.append("Group means weigh every set alike; they have no interval.")
    return lines


def summary(block: Block) -> list[Grid]:
    """A block at a glance: AUROC/FPR@95 of each detector on each set, and in the means of groups of several sets.

    Up to MOST_COLUMNS sets are columns, and the means of several groups a grid of their own; more are rows, with a
    group's mean after it.
    """

    def cell(entry: Row | Mean | None) -> Cell:
        if entry is None:
            return Cell(NOTHING)
        auroc, fpr = (percent(entry.metrics[name].value) for name in ("auroc", "fpr_at_95_id_recall"))
        return Cell(f"{auroc}/{fpr:>5}")

    shared, own = _readers(block)
    accuracy = estimate_text(shared.id_accuracy, 2)
    named = ", ".join(f"{detector} {estimate_text(row.id_accuracy, 2)}" for detector, row in own.items())
    title = f"{block_title(block)} · ID accuracy {accuracy}" + (f" ({named})" if named else "")
    columns: dict[str, Mapping[str, Row | Mean]] = {}
    means: dict[str, Mapping[str, Row | Mean]] = {}
    for group in groups_of(block):
        sets = [ood for ood in block.sets if block.group_of(ood) == group]
        columns |= {ood: {of: row for (of, key), row in block.rows.items() if key == ood} for ood in sets}
        if len(sets) > 1:
            means[group_title(group)] = {of: mean for (of, key), mean in block.means.items() if key == group}
            if len(block.sets) > MOST_COLUMNS or len(sets) == len(block.sets):
                columns[group_title(group)] = means[group_title(group)]
    if len(block.sets) > MOST_COLUMNS:
        lines = [
            [Cell(name), *(cell(entries.get(one)) for one in block.detectors)] for name, entries in columns.items()
        ]
        return [Grid(title, ["OOD set", *block.detectors], lines)]
    return [
        Grid(
            heading,
            ["detector", *shown],
            [[Cell(one), *(cell(entries.get(one)) for entries in shown.values())] for one in block.detectors],
        )
        for heading, shown in ((title, columns), ("", means))
        if not shown.keys() <= columns.keys() or shown is columns
    ]


def aggregate(leaderboard: Leaderboard) -> Grid | None:
    """Mean ± standard deviation of AUROC by group over the models; None for one model, or several ID sets."""
    blocks = leaderboard.blocks
    if len(blocks) < 2 or len({block.id for block in blocks}) > 1:
        return None
    groups = [group for group in groups_of(blocks[0]) if all(group in groups_of(block) for block in blocks)]
    lines = []
    for detector in blocks[0].detectors:
        found = [[block.means.get((detector, group)) for block in blocks] for group in groups]
        values = [[mean.metrics["auroc"].value for mean in of if mean] for of in found]
        texts = [estimate_text(Estimate.of(of)) if len(of) == len(blocks) else NOTHING for of in values]
        lines.append([Cell(detector), *map(Cell, texts)])
    title = f"AUROC, mean ± standard deviation over {len(blocks)} models"
    return Grid(title, ["detector", *map(group_title, groups)], lines)


def overviews(block: Block, grouped: bool) -> dict[str, Grid]:
    """Detectors × sets of each of OVERVIEWS, and of the garbage share for the detectors that have one, if any.

    All have group means if `grouped`, and that of AUROC the average rank.
    """
    groups = block.groups if grouped else ()
    grids = {name: _overview(block, name, block.detectors, groups) for name in OVERVIEWS}
    auroc = grids["auroc"]
    ranks = [Cell(rank_text(block.average_rank(detector))) for detector in block.detectors]
    ranked = [[*line, rank] for line, rank in zip(auroc.lines, ranks, strict=True)]
    grids["auroc"] = Grid(auroc.title, [*auroc.header, "average rank"], ranked)
    having = dict.fromkeys(detector for (detector, _), row in block.rows.items() if row.garbage_share is not None)
    return grids | ({"garbage_share": _overview(block, "garbage_share", tuple(having), groups)} if having else {})


def metric_tables(block: Block) -> dict[str, Grid]:
    """Detectors × means of groups and sets of each of SWITCHED, and the garbage share; best and tied of each column.

    The means come first, so that no screen cuts them off; those of all sets are left out, as they mix noise with what
    is near.
    """
    members = {group: [ood for ood in block.sets if block.group_of(ood) == group] for group in groups_of(block)}
    having = [detector for (detector, _), row in block.rows.items() if row.garbage_share is not None]
    shown = {name: block.detectors for name in SWITCHED} | (
        {"garbage_share": tuple(dict.fromkeys(having))} if having else {}
    )
    return {name: _metric_table(block, name, detectors, members) for name, detectors in shown.items()}


def groups_of(block: Block) -> list[str]:
    """The groups of a block's sets, near and far first."""
    names = dict.fromkeys(row.first.group for row in block.rows.values())
    return sorted(names, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))


def _metric_table(block: Block, name: str, detectors: Iterable[str], members: Mapping[str, Sequence[str]]) -> Grid:
    columns: dict[str, dict[str, Row | Mean]] = {}
    for group in (group for group, sets in members.items() if len(sets) > 1):
        columns[group_title(group)] = {of: mean for (of, key), mean in block.means.items() if key == group}
    for ood in (ood for sets in members.values() for ood in sets):
        columns[ood] = {of: row for (of, key), row in block.rows.items() if key == ood}
    lines = []
    for detector in detectors:
        cells = [Cell(detector_title(block, detector))]
        cells += [figure_cell(block, entries.get(detector), name) for entries in columns.values()]
        if name == "auroc":
            cells.append(Cell(rank_text(block.average_rank(detector))))
        lines.append(cells)
    ranks = ["average rank"] if name == "auroc" else []
    return Grid(METRIC_MEANINGS[name], ["detector", *columns, *ranks], lines)


def figure_cell(block: Block, entry: Row | Mean | None, name: str) -> Cell:
    """A figure of the block with its mark, or NOTHING."""
    estimate = entry.figures[name] if entry else None
    if entry is None or estimate is None:
        return Cell(NOTHING)
    return Cell(estimate_text(estimate), block.standing(entry, name).mark)


def constants(leaderboard: Leaderboard) -> dict[str, str]:
    """Title → value of the columns of names and counts that say the same in every row, so that they need no column."""
    columns: dict[str, Callable[[Row], str]] = {
        "Group": lambda row: row.first.group,
        "Model": lambda row: row.first.model,
        "ID": lambda row: row.first.id,
        "ID accuracy": lambda row: estimate_text(row.id_accuracy),
        "Runs": lambda row: str(len(row.trainings)),
        "n ID": lambda row: str(row.n_id),
        "n OOD": lambda row: str(row.n_ood),
        "Prevalence": lambda row: percent(row.prevalence),
    }
    values = {title: {text(row) for row in leaderboard.rows} for title, text in columns.items()}
    return {title: one.pop() for title, one in values.items() if len(one) == 1}


def _overview(block: Block, name: str, detectors: Sequence[str], groups: Sequence[str]) -> Grid:
    lines = []
    for detector in detectors:
        entries = [
            *(block.rows.get((detector, ood)) for ood in block.sets),
            *(block.means.get((detector, group)) for group in groups),
        ]
        cells = [figure_cell(block, entry, name) for entry in entries]
        lines.append([Cell(detector_title(block, detector)), *cells])
    return Grid(METRIC_MEANINGS[name], ["detector", *block.sets, *map(group_title, groups)], lines)


def every_row(block: Block) -> Grid:
    """One line a detector and set, with every metric."""
    columns: dict[str, Callable[[Row], str | Cell]] = {
        "detector": lambda row: detector_title(block, row.first.detector),
        "OOD set": lambda row: row.first.ood,
        "group": lambda row: row.first.group,
        **{title: lambda row, name=name: figure_cell(block, row, name) for name, title in METRIC_TITLES.items()},  # type: ignore[misc]
        "rank": lambda row: rank_text(row.rank),
        "runs": lambda row: str(len(row.trainings)),
        "n ID": lambda row: str(row.n_id),
        "n OOD": lambda row: str(row.n_ood),
        "prevalence": lambda row: percent(row.prevalence),
    }
    if any(row.first.own_classifier for row in block.rows.values()):
        columns["ID accuracy"] = lambda row: estimate_text(row.id_accuracy)
    if any(row.published for row in block.rows.values()):
        columns["published"] = published_text
    lines = [
        [one if isinstance(one := text(row), Cell) else Cell(one) for text in columns.values()]
        for row in block.rows.values()
    ]
    return Grid("Every row", list(columns), lines)


def published_entries(block: Block) -> list[Row | Mean]:
    """What others published figures for, rows and means over several sets."""
    entries: list[Row | Mean] = [*block.rows.values(), *block.published_means]
    return [entry for entry in entries if entry.published]


def published_figures(block: Block) -> Grid | None:
    """One line a figure that others published, with the measured one; None where there are none."""
    lines = [
        [
            Cell(detector_title(block, entry.first.detector)),
            Cell(", ".join(row.first.ood for row in entry.rows)),
            Cell(METRIC_TITLES[name]),
            Cell(estimate_text(entry.metrics[name])),
            Cell(estimate_text(value)),
            Cell(entry.source),
        ]
        for entry in published_entries(block)
        for name, value in entry.published.items()
    ]
    header = ["detector", "OOD set", "metric", "measured", "published", "source"]
    return (
        Grid("Published figures beside the measured ones (several sets: their mean)", header, lines) if lines else None
    )


def detector_title(block: Block, detector: str) -> str:
    """The detector's label; a control says that it is one."""
    return f"{detector} (control)" if block.is_control(detector) else detector


def group_title(group: str) -> str:
    """`mean of noise`, `mean of all`."""
    return "mean of all sets" if group == ALL_SETS else f"mean of {group}"
