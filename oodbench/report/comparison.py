"""From measurements to a leaderboard: repeats aggregated, detectors ranked and tested against the best, group means."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

import numpy as np

from oodbench.data.catalogue import ADVERSARIAL
from oodbench.errors import OodbenchError
from oodbench.metrics import METRICS
from oodbench.report.runs import Measurement, Repeat, Run, measurements
from oodbench.report.standings import Standing, standings
from oodbench.statistics import Interval, bootstrap_fpr_interval, delong_interval, midranks

ALL_SETS = "all"
"""The group that holds every set."""

T = TypeVar("T")
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Estimate:
    """A figure and how far to trust it.

    Attributes:
        value: the mean over the repeats.
        spread: the standard deviation over the repeats (n − 1 in the denominator): what other trainings change. None
            for one run, whose spread is unknown.
        interval: at 95 %: what other images of the same sets change. Over repeats, the mean of their intervals, which
            is at least as wide as it must be, since the repeats share their images. None where it was not asked for.
    """

    value: float
    spread: float | None = None
    interval: Interval | None = None

    @classmethod
    def of(cls, values: Sequence[float], intervals: Sequence[Interval] = ()) -> Estimate:
        """From one value, and perhaps one interval, a repeat."""
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
        ends = np.mean(intervals, axis=0) if intervals else None
        return cls(float(np.mean(values)), spread, None if ends is None else Interval(float(ends[0]), float(ends[1])))


@dataclass(frozen=True, eq=False)
class Row:
    """A detector on an OOD set, over all repeats.

    Attributes:
        repeats: one measurement a repeat.
        metrics: name → Estimate, in the order of METRICS.
        id_accuracy: of the classifier that the detector reads.
        garbage_share: of the OOD images put into the garbage class; None where the classifier has none.
        rank: by AUROC among the detectors that are no controls, equal ones sharing their mean rank; None for a control.
        p_value: of being as good as the best by AUROC, Holm-corrected; None for the best itself and for a control.
        standing: by AUROC: "best", "tied" (not significantly worse than the best) or "".
        published: figures that others published for this row, by metric.
        source: who published them.
    """

    repeats: tuple[Measurement, ...]
    metrics: dict[str, Estimate]
    id_accuracy: Estimate
    garbage_share: Estimate | None = None
    rank: float | None = None
    p_value: float | None = None
    standing: str = ""
    published: dict[str, Estimate] = field(default_factory=dict)
    source: str = ""

    @property
    def first(self) -> Measurement:
        """The first repeat: what all repeats share can be read from it."""
        return self.repeats[0]

    @property
    def rows(self) -> tuple[Row, ...]:
        """Itself, as a Mean has several."""
        return (self,)

    @property
    def figures(self) -> dict[str, Estimate | None]:
        """The metrics and the garbage share."""
        return {**self.metrics, "garbage_share": self.garbage_share}

    @property
    def trainings(self) -> tuple[Measurement, ...]:
        """The repeats that differ in what the detector read: a classifier of its own may serve several repeats."""
        return _trainings(self.repeats)

    @property
    def n_id(self) -> int:
        """ID images."""
        return len(self.first.id_scores)

    @property
    def n_ood(self) -> int:
        """OOD images."""
        return len(self.first.ood_scores)

    @property
    def prevalence(self) -> float:
        """The share of OOD among all images scored."""
        return self.n_ood / (self.n_id + self.n_ood)


@dataclass(frozen=True, eq=False)
class Mean:
    """The unweighted mean of a detector over the sets of a group.

    Attributes:
        rows: those that it is the mean of.
        average_rank: the mean of their ranks; None for a control.
        garbage_share: None where the classifier has no garbage class.
        published, source: as of a Row.
    """

    group: str
    rows: tuple[Row, ...]
    metrics: dict[str, Estimate]
    average_rank: float | None
    garbage_share: Estimate | None
    published: dict[str, Estimate] = field(default_factory=dict)
    source: str = ""

    @property
    def first(self) -> Measurement:
        """A measurement from which id, model and detector can be read."""
        return self.rows[0].first

    @property
    def figures(self) -> dict[str, Estimate | None]:
        """The metrics and the garbage share."""
        return {**self.metrics, "garbage_share": self.garbage_share}


@dataclass(frozen=True, eq=False)
class Block:
    """One classifier architecture on one ID set: what may be compared with one another.

    Attributes:
        detectors, sets: in the order of the runs.
        groups: the groups of those sets, and `all` where there are several.
        rows: by (detector, set).
        means: by (detector, group), and for the group `all`; a detector has none where it lacks a set of the group, or
            was not repeated equally on its sets.
        published_means: over the sets that others published a mean over.
    """

    id: str
    model: str
    detectors: tuple[str, ...]
    sets: tuple[str, ...]
    groups: tuple[str, ...]
    rows: dict[tuple[str, str], Row]
    means: dict[tuple[str, str], Mean]
    published_means: tuple[Mean, ...] = ()

    @property
    def first(self) -> Row:
        """A row from which what all share can be read."""
        return next(iter(self.rows.values()))

    def is_control(self, detector: str) -> bool:
        """Whether that detector of the block is a control."""
        return next(row for (of, _), row in self.rows.items() if of == detector).first.control

    def group_of(self, ood: str) -> str:
        """The group of one of its sets."""
        return next(row for (_, name), row in self.rows.items() if name == ood).first.group

    def average_rank(self, detector: str) -> float | None:
        """Over all sets; None for a control, or where a set is missing."""
        mean = self.means.get((detector, ALL_SETS))
        return mean.average_rank if mean else None

    @property
    def shown_means(self) -> list[Mean]:
        """Those of its groups, in order."""
        return [mean for mean in self.means.values() if mean.group in self.groups]

    def standing(self, entry: Row | Mean, metric: str) -> Standing:
        """Of one of its rows or means by a metric, among all detectors in that column; a control has none."""
        return self._standings[metric].get(entry, Standing("", None))

    @cached_property
    def _standings(self) -> dict[str, dict[Row | Mean, Standing]]:
        columns: list[dict[str, Row | Mean]] = [
            {of: entry for (of, name), entry in entries.items() if name == column}
            for entries in (self.rows, self.means)
            for column in dict.fromkeys(name for _, name in entries)
        ]
        return {
            metric: {column[of]: one for column in columns for of, one in standings(column, metric).items()}
            for metric in (*METRICS, "garbage_share")
        }


@dataclass(frozen=True, eq=False)
class Leaderboard:
    """All that a report shows.

    Attributes:
        grouped: whether group means are to be shown.
        intervals: whether the estimates have intervals.
    """

    runs: tuple[Run, ...]
    blocks: tuple[Block, ...]
    grouped: bool = False
    intervals: bool = False

    @property
    def rows(self) -> list[Row]:
        """Of all blocks, in order."""
        return [row for block in self.blocks for row in block.rows.values()]


def compare(runs: Sequence[Run], intervals: bool = False, grouped: bool = False, apart: bool = False) -> Leaderboard:
    """The leaderboard of runs.

    Measurements of one ID set, architecture, detector and OOD set are repeats of one another, and become one row, if
    they differ in the classifier's content or in the benchmark's seed.

    Args:
        intervals: compute 95 % intervals: DeLong for AUROC, stratified bootstrap for both FPR@95.
        grouped: whether group means are to be shown.
        apart: no aggregation; every classifier is a model of its own.

    Raises:
        OodbenchError: the runs may not stand in one table (see `runs.measurements`), a measurement is there twice,
            repeats differ in more than the classifier and the seed, or detectors were not run on the same classifiers.
    """
    blocks = grouped_by(measurements(runs, apart), lambda one: (one.id, one.model))
    made = tuple(_block(found, intervals) for found in blocks.values())
    return Leaderboard(tuple(runs), made, grouped, intervals)


def grouped_by(items: Iterable[T], key: Callable[[T], Key]) -> dict[Key, list[T]]:
    """Items by key, keys and items in the order in which they come."""
    groups: dict[Key, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _block(found: list[Measurement], intervals: bool) -> Block:
    rows = {}
    for ood, on_set in grouped_by(found, lambda one: one.ood).items():
        by_detector = grouped_by(on_set, lambda one: one.detector)
        _check_repeats(by_detector)
        ordered = [sorted(repeats, key=lambda one: one.repeat) for repeats in by_detector.values()]
        for row in _judged([_row(repeats, intervals) for repeats in ordered]):
            rows[row.first.detector, ood] = row
    detectors, sets = (tuple(dict.fromkeys(part)) for part in zip(*rows, strict=True))
    members = grouped_by(sets, lambda ood: next(row.first.group for key, row in rows.items() if key[1] == ood))
    ordered_sets = tuple(ood for group in members.values() for ood in group)
    # What was made against a classifier says nothing of others' images.
    members[ALL_SETS] = [ood for group, oods in members.items() if group != ADVERSARIAL for ood in oods]
    groups = tuple(members) if len(members) > 2 else tuple(members)[:1]
    means = {}
    for group, oods in members.items():
        for detector in detectors:
            present = [rows[detector, ood] for ood in oods if (detector, ood) in rows]
            mean = mean_over(group, present) if len(present) == len(oods) else None
            if mean:
                means[detector, group] = mean
    in_order = {(d, ood): rows[d, ood] for ood in ordered_sets for d in detectors if (d, ood) in rows}
    first = found[0]
    return Block(first.id, first.model, detectors, ordered_sets, groups, in_order, means)


def _check_repeats(by_detector: dict[str, list[Measurement]]) -> None:
    """The measurements of each detector on one set are true repeats, and the same for all detectors."""
    everywhere = {one.repeat for repeats in by_detector.values() for one in repeats}
    for detector, repeats in by_detector.items():
        first = repeats[0]
        what = f"{detector} on {first.ood} ({first.id}, {first.model})"
        seen: dict[Repeat, Measurement] = {}
        for one in repeats:
            earlier = seen.setdefault(one.repeat, one)
            if earlier is not one:
                raise OodbenchError(
                    f"{what} is there twice with {one.repeat}: in {earlier.run.path} and in {one.run.path}; "
                    f"give it once, as the same measurement twice says no more than once"
                )
            for setting, value in one.settings.items():
                if value != first.settings[setting]:
                    raise OodbenchError(
                        f"{what} was measured with {setting} {first.settings[setting]} in {first.run.path} and {value} "
                        f"in {one.run.path}, so they are no repeats; report them apart, or make them alike"
                    )
        missing = sorted(everywhere - set(seen))
        if missing:
            raise OodbenchError(
                f"{what} was not run with {missing[0]}, as other detectors were; only detectors on the same "
                f"classifiers can be compared: run it, leave that run out, or give every classifier rows of its own "
                f"with --apart"
            )


def _row(repeats: list[Measurement], intervals: bool) -> Row:
    ends: dict[str, list[Interval]] = {}
    trainings = _trainings(repeats)
    if intervals:
        for one in trainings:
            found = {"auroc": delong_interval(one.id_scores, one.ood_scores)}
            for name, interval in (found | bootstrap_fpr_interval(one.id_scores, one.ood_scores)).items():
                ends.setdefault(name, []).append(interval)
    return Row(
        repeats=tuple(repeats),
        metrics={name: Estimate.of([one.metrics[name] for one in trainings], ends.get(name, ())) for name in METRICS},
        id_accuracy=Estimate.of([one.id_accuracy for one in trainings]),
        garbage_share=_garbage_share([[one.garbage_share for one in trainings]]),
    )


def _trainings(repeats: Sequence[Measurement]) -> tuple[Measurement, ...]:
    return tuple(alike[0] for alike in grouped_by(repeats, lambda one: (one.read, one.repeat.seed)).values())


def _judged(rows: list[Row]) -> list[Row]:
    """The rows of one set with ranks, p-values and standings; controls compete only among themselves."""
    contest = [row for row in rows if not row.first.control] or rows
    found = standings({row.first.detector: row for row in rows}, "auroc")
    ranks = dict(zip(found, midranks([-row.metrics["auroc"].value for row in contest]).tolist(), strict=True))
    return [
        replace(row, rank=ranks[of], standing=found[of].mark, p_value=found[of].p_value) if of in found else row
        for row in rows
        for of in [row.first.detector]
    ]


def mean_over(group: str, rows: Sequence[Row]) -> Mean | None:
    """A detector over some sets; the spread is that of the repeats' means, since their sets vary together.

    None where there are no sets, or the detector was not repeated equally on them.
    """
    if len({tuple(one.repeat for one in row.repeats) for row in rows}) != 1:
        return None
    metrics = {
        name: Estimate.of(np.mean([[one.metrics[name] for one in row.trainings] for row in rows], axis=0).tolist())
        for name in METRICS
    }
    ranks = [row.rank for row in rows if row.rank is not None]
    average_rank = float(np.mean(ranks)) if len(ranks) == len(rows) else None
    into_garbage = _garbage_share([[one.garbage_share for one in row.trainings] for row in rows])
    return Mean(group, tuple(rows), metrics, average_rank, into_garbage)


def _garbage_share(shares: Sequence[Sequence[float | None]]) -> Estimate | None:
    """Over sets × repeats; None where there is no garbage class."""
    there = [[share for share in of_set if share is not None] for of_set in shares]
    return Estimate.of(np.mean(there, axis=0).tolist()) if all(there) else None
