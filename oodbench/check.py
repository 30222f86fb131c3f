"""The regression check: is a run still the run that a baseline was made of, score by score?

A baseline is a run folder, of which card and scores are read. The check is two-sided: a better score is drift too. What
moved is named: classifier, detector, set, image, and by how much.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from oodbench.benchmark import Benchmark
from oodbench.card import Card
from oodbench.data.reference import PATH_KINDS
from oodbench.drift import Drift, Key, changed_facts, changed_metrics, changed_order, inconsistent
from oodbench.errors import OodbenchError
from oodbench.models.catalogue import MODELS
from oodbench.plan import Machine, make_plan
from oodbench.progress import Reporter
from oodbench.recipes.catalogue import PLAIN
from oodbench.recipes.obtain import with_oodbench
from oodbench.run_folder import CARD_FILE, Result
from oodbench.runner import run


@dataclass(frozen=True)
class Tolerance:
    """How far a run may be from its baseline before it is drift.

    Scores move in units of their spread: the distance from the 10th to the 90th percentile of the baseline's
    scores of the set and of the ID set together, or for a score far outside them its distance from their median.

    Attributes:
        usual: three of four scores of a set move at most so far; what is systematic exceeds it.
        largest: every score moves at most so far. Wider, since rounding can tip single images over a kink of the
            network, where its gradient, which ODIN follows, jumps.
        metric: a metric, a fraction, moves at most so far and one image of the smaller set.
    """

    usual: float
    largest: float
    metric: float


# docs/regression-checks.md says what they were measured on.
SAME_DEVICE = {
    "cpu": Tolerance(usual=5e-5, largest=5e-3, metric=5e-4),
    "cuda": Tolerance(usual=1e-3, largest=5e-2, metric=2e-3),
    "mps": Tolerance(usual=1e-3, largest=5e-2, metric=2e-3),
}
ACROSS_DEVICES = Tolerance(usual=2e-2, largest=1e-1, metric=1e-2)

USUAL_SHARE = 0.75

# Over all sets of a detector: the median movement in one direction, as a share of `Tolerance.usual`, and the share of
# images that may move further than that.
DIRECTED_SHARE, MOVED_SHARE = 0.2, 0.1


@dataclass(frozen=True)
class Comparison:
    """What two runs differ in.

    Attributes:
        drifts: every difference beyond the tolerance; none is no drift.
        runs: what was compared with what, in words.
        furthest: the score that moved furthest, in words.
    """

    drifts: list[Drift]
    runs: str
    furthest: str

    def __str__(self) -> str:
        """The report: the table of drifts, or that there are none."""
        if not self.drifts:
            return f"no drift: {self.runs}\n{self.furthest}"
        table = tabulate(self.drifts, headers=Drift._fields, disable_numparse=True)
        return f"drift: {self.runs}\n{self.furthest}\n\n{table}"


def compare(baseline: Result, now: Result) -> Comparison:
    """Compare sets, classifiers, detectors, per-sample scores and metrics of two runs, two-sided."""
    tolerance = tolerance_between(baseline.card, now.card)
    drifts = [*changed_facts(baseline.card, now.card), *changed_order(baseline.card, now.card)]
    distances, moved = {}, set()
    for key in baseline.scores | now.scores:
        before, after = baseline.scores.get(key), now.scores.get(key)
        if before is None or after is None or len(after) != len(before):
            counts = ("none" if scores is None else str(len(scores)) for scores in (before, after))
            drifts.append(Drift("/".join(key), "number of scores", *counts))
            continue
        distances[key] = _distances(before, after, _spread(baseline, key))
        found = [*_changed_scores(key, before, after, distances[key], tolerance)]
        moved |= {key[:2]} if found else set()
        drifts += found
    drifts += _changed_together(baseline, now, tolerance, moved)
    drifts += inconsistent(baseline, "baseline's scores")
    drifts += inconsistent(now, "the run's scores")
    drifts += changed_metrics(baseline.card, now.card, tolerance.metric)
    return Comparison(drifts, _runs(baseline.card, now.card), _furthest(distances, tolerance))


def tolerance_between(baseline: Card, now: Card) -> Tolerance:
    """The tolerance between two runs: tight on one class of device (cpu, cuda, mps), looser across classes.

    Raises:
        OodbenchError: a card names no such device.
    """
    first, second = (str(card.machine.get("device")).partition(":")[0] for card in (baseline, now))
    for unknown in {first, second} - SAME_DEVICE.keys():
        raise OodbenchError(f"a card says that it is of the device '{unknown}'; a run is of {', '.join(SAME_DEVICE)}")
    return SAME_DEVICE[first] if first == second else ACROSS_DEVICES


def _runs(baseline: Card, now: Card) -> str:
    first, second = baseline.versions, now.versions
    changed = [f"{name} {first.get(name)} → {second[name]}" for name in second if first.get(name) != second[name]]
    return (
        f"baseline of {baseline.created} on {baseline.machine['device']}, run of {now.created} on "
        f"{now.machine['device']}, {', '.join(changed) or 'the same versions'}"
    )


def _furthest(distances: dict[Key, np.ndarray], tolerance: Tolerance) -> str:
    allowed = f"allowed are {tolerance.usual:g} for three of four of a set, {tolerance.largest:g} for each"
    key = max(distances, key=lambda key: distances[key].max(), default=None)
    if key is None or not distances[key].any():
        return f"{len(distances)} × scores compared, which are equal; {allowed}"
    image = int(distances[key].argmax())
    moved = f"{'/'.join(key)}, image {image}, by {distances[key][image]:.1e} spreads"
    return f"{len(distances)} × scores compared; furthest moved {moved}; {allowed}"


def _spread(baseline: Result, key: Key) -> np.ndarray:
    """The unit in which each score's movement is measured, see `Tolerance`."""
    scores = baseline.scores[key]
    of_id = baseline.scores.get((*key[:2], _id_of(baseline)), scores)
    low, middle, high = np.quantile(np.concatenate([scores, of_id]), [0.1, 0.5, 0.9])
    spread: np.ndarray = np.maximum(high - low, np.abs(scores - middle))
    return spread


def _distances(before: np.ndarray, after: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """How far each score moved, in spreads; infinitely far where one is not finite, or all were equal before."""
    with np.errstate(divide="ignore", invalid="ignore"):
        distances = np.where((before == after) & np.isfinite(after), 0.0, np.abs(after - before) / spread)
    return np.nan_to_num(distances, nan=np.inf, posinf=np.inf)


def _changed_scores(
    key: Key, before: np.ndarray, after: np.ndarray, distances: np.ndarray, tolerance: Tolerance
) -> Iterator[Drift]:
    subject, image = "/".join(key), int(distances.argmax())
    # The higher of two neighbours: between an infinite one and another there is nothing to interpolate.
    usual = np.quantile(distances, USUAL_SHARE, method="higher")
    if usual > tolerance.usual or distances[image] > tolerance.largest:
        with np.errstate(invalid="ignore"):
            change = after[image] - before[image]
        count = np.count_nonzero(distances > tolerance.usual)
        difference = f"{change:+.4g}, {distances[image]:.2g} spreads; {count} of {len(distances)} moved"
        yield Drift(subject, f"score of image {image}", f"{before[image]:.9g}", f"{after[image]:.9g}", difference)
    if _are_float32(after) and not _are_float32(before):
        yield Drift(subject, "precision", "float64", "float32", "each score is a float32 number")


def _are_float32(scores: np.ndarray) -> bool:
    with np.errstate(over="ignore"):
        return bool((scores == scores.astype(np.float32)).all())


def _changed_together(
    baseline: Result, now: Result, tolerance: Tolerance, known: Set[tuple[str, str]]
) -> Iterator[Drift]:
    """What moves less than is allowed on each set, but in one direction on all of them, or on many of all images.

    Rounding has no direction. Up on OOD and down on ID images makes every metric worse; up on all is another formula.

    Args:
        known: of which there is drift already.
    """
    movements: dict[tuple[str, str], list[tuple[np.ndarray, float]]] = {}
    for key, before in baseline.scores.items():
        after = now.scores.get(key)
        if after is not None and len(after) == len(before) and key[:2] not in known:
            spread = _spread(baseline, key)
            moved = np.divide(after - before, spread, out=np.zeros(len(before)), where=spread > 0)
            movements.setdefault(key[:2], []).append((moved, -1.0 if key[2] == _id_of(baseline) else 1.0))
    for of, parts in movements.items():
        apart = np.concatenate([sign * moved for moved, sign in parts])
        alike = np.concatenate([moved for moved, _ in parts])
        middle = max(float(np.median(apart)), float(np.median(alike)), key=abs)
        share = float((np.abs(alike) > tolerance.usual).mean())
        if abs(middle) > DIRECTED_SHARE * tolerance.usual:
            yield Drift("/".join(of), "all sets together", "", "", f"half of the images moved {middle:+.2g} spreads")
        elif share > MOVED_SHARE:
            moved_far = f"{100 * share:.0f} % of the images moved more than {tolerance.usual:g} spreads"
            yield Drift("/".join(of), "all sets together", "", "", moved_far)


def _id_of(run: Result) -> str:
    name: str = run.card.metrics[0]["id"]
    return name


def load_baseline(folder: Path) -> Result:
    """Read a baseline; paths in its benchmark stay relative to its folder.

    Raises:
        OodbenchError: there is none, or it is damaged.
    """
    if not is_baseline(folder):
        raise OodbenchError(
            f"there is no baseline {folder}; make one of a run: oodbench check --baseline {folder} --against RUN "
            "--update"
        )
    return Result.load(folder)


def is_baseline(folder: Path) -> bool:
    """Whether there is a baseline, which is the folder of a run.

    Raises:
        OodbenchError: it is the path of a file, as baselines once were.
    """
    if folder.suffix == ".npz" or folder.is_file():
        raise OodbenchError(
            f"{folder} is no folder, and a baseline is one, with card.json and scores.npz; make it of a run: oodbench "
            "check --baseline FOLDER --against RUN --update"
        )
    return (folder / CARD_FILE).is_file()


def save_baseline(result: Result, folder: Path) -> None:
    """Write card, scores and tables of a run as a baseline; no images, and no detectors.

    Relative paths in its benchmark, which start at the current folder, are made to start at the baseline's.

    Raises:
        OodbenchError: such a path leads nowhere from the current folder.
    """
    is_baseline(folder)
    benchmark = _relocated(result.card.benchmark, Path(), folder, must_exist=True)
    Result(replace(result.card, benchmark=benchmark), result.scores).save(folder)


def rerun(baseline: Result, machine: Machine, reporter: Reporter | None = None) -> Result:
    """Run a baseline's benchmark again; relative paths in it start at the baseline's folder.

    Raises:
        OodbenchError: the benchmark names no checkpoint of its classifier, or of a detector's own classifier, so that
            it would be trained anew; and as `runner.run`.
    """
    try:
        benchmark = Benchmark(**_relocated(baseline.card.benchmark, baseline.path.parent, Path()))
    except TypeError as error:
        raise OodbenchError(f"the benchmark on {baseline.path} is none of this oodbench: {error}") from error
    plan = make_plan(benchmark, machine)
    trained = [one for one in plan.assignments if one.wanted.is_trained and not with_oodbench(one.wanted, plan.whole)]
    missing = [
        "the classifier" if one.wanted.recipe == PLAIN else f"the classifier of {', '.join(one.detectors)}"
        for one in trained
    ]
    if missing:
        raise OodbenchError(
            f"the baseline's benchmark names no checkpoint of {' and of '.join(missing)}, so a new one would be "
            "trained, which scores otherwise; make the baseline of `oodbench run --model CHECKPOINT` (what detectors "
            "train is made by `oodbench train --recipe`), or give a run with --against"
        )
    # From the store it would compare scores with themselves, and see no other kernels.
    return run(benchmark, machine=replace(machine, store=False), reporter=reporter)


def _relocated(benchmark: Mapping[str, Any], old: Path, new: Path, must_exist: bool = False) -> dict[str, Any]:
    """The benchmark with its relative paths, which start at `old`, made to start at `new`."""

    def moved(text: str) -> str:
        path = Path(text).expanduser()
        if must_exist and not (old / path).exists():
            raise OodbenchError(f"the run names {text}, which is not there; go to the folder that it was run in")
        return text if path.is_absolute() else os.path.relpath(old / path, new)

    def of_set(reference: str) -> str:
        before, colon, path = reference.partition(":")
        kind = before.rpartition("=")[2]
        # A list may be found below a data folder, and tar files by a pattern.
        elsewhere = kind in ("list", "tar") and not (old / Path(path).expanduser()).exists()
        return f"{before}:{moved(path)}" if colon and kind in PATH_KINDS and not elsewhere else reference

    def of_model(reference: str) -> str:
        architecture, equals, path = reference.partition("=")
        if equals and not (old / reference).exists():
            return f"{architecture}={moved(path)}"
        return reference if reference in MODELS and not (old / reference).exists() else moved(reference)

    changed = dict(benchmark) | {"id": of_set(benchmark["id"]), "models": [*map(of_model, benchmark["models"])]}
    changed |= {sets: [*map(of_set, benchmark[sets])] for sets in ("ood", "validation_ood")}
    return changed | {"fit": benchmark["fit"] and of_set(benchmark["fit"])}
