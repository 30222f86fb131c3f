"""The regression check: is a run still the run that a baseline was made of, score by score?

A baseline is a run folder, of which card and scores are read. The check is two-sided: a better score is drift too. What
moved is named: classifier, detector, set, image, and by how much.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tabulate import tabulate

from oodbench.benchmark import Benchmark
from oodbench.card import Card
from oodbench.data.reference import PATH_KINDS
from oodbench.errors import OodbenchError
from oodbench.metrics import METRICS, evaluate
from oodbench.models.catalogue import MODELS
from oodbench.plan import Machine, make_plan
from oodbench.progress import Reporter
from oodbench.recipes.catalogue import PLAIN
from oodbench.run_folder import CARD_FILE, Result
from oodbench.runner import run

Key = tuple[str, str, str]
"""(classifier, detector, set)."""


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

# Metrics of equal scores differ by the order in which float64 numbers are added, at most.
SUMMATION = 1e-9


class Drift(NamedTuple):
    """One difference, as text: of what, in what, the baseline's value, the value now, and by how much."""

    subject: str
    what: str
    baseline: str
    now: str
    difference: str = ""


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
    drifts = list(_changed_facts(baseline.card, now.card))
    distances = {}
    for key, before in baseline.scores.items():
        after = now.scores.get(key)
        if after is None or len(after) != len(before):
            count = "none" if after is None else str(len(after))
            drifts.append(Drift("/".join(key), "number of scores", str(len(before)), count))
            continue
        distances[key] = _distances(before, after, _spread(baseline, key))
        drifts += _changed_scores(key, before, after, distances[key], tolerance)
    drifts += _changed_metrics(baseline, now, tolerance)
    return Comparison(drifts, _runs(baseline.card, now.card), _furthest(distances, tolerance))


def tolerance_between(baseline: Card, now: Card) -> Tolerance:
    """The tolerance between two runs: tight on one class of device (cpu, cuda, mps), looser across classes."""
    first, second = (str(card.machine["device"]).partition(":")[0] for card in (baseline, now))
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


def _changed_facts(baseline: Card, now: Card) -> Iterator[Drift]:
    first, second = _facts(baseline), _facts(now)
    for subject in first | second:
        if subject not in first or subject not in second:
            yield Drift(subject, "is there", *("yes" if subject in facts else "no" for facts in (first, second)))
            continue
        before, after = first[subject], second[subject]
        for name in before | after:
            if before.get(name) != after.get(name):
                yield Drift(subject, name.replace("_", " "), _shown(before.get(name)), _shown(after.get(name)))


def _facts(card: Card) -> dict[str, dict[str, Any]]:
    """What decides scores, apart from the scores: subject → name → plain value."""
    facts: dict[str, dict[str, Any]] = {}
    for one in card.sets:
        chosen = ("count", "content_hash", "labels_hash", "matching")
        facts[f"set {one['name']} ({one['role']}) of {one['classifier']}"] = {name: one[name] for name in chosen}
    for one in card.classifiers:
        facts[f"classifier {one['name']}"] = {"content_hash": one["content_hash"]}
    for one in card.detectors:
        facts[f"detector {one['label']}"] = one["parameters"]
        for classifier, learned in one["learned"].items():
            # Numbers that were learned show in the scores, for which there is a tolerance.
            words = {f"learned {name}": value for name, value in learned.items() if isinstance(value, str)}
            if words:
                facts[f"detector {one['label']} on {classifier}"] = words
    return facts


def _shown(value: Any) -> str:
    """A plain value; of a hash, its head."""
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 else text


def _spread(baseline: Result, key: Key) -> np.ndarray:
    """The unit in which each score's movement is measured, see `Tolerance`."""
    classifier, detector, _ = key
    scores, of_id = baseline.scores[key], baseline.scores[classifier, detector, baseline.card.metrics[0]["id"]]
    low, middle, high = np.quantile(np.concatenate([scores, of_id]), [0.1, 0.5, 0.9])
    spread: np.ndarray = np.maximum(high - low, np.abs(scores - middle))
    return spread


def _distances(before: np.ndarray, after: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """How far each score moved, in spreads; infinitely far where it is not finite, or all were equal before."""
    with np.errstate(divide="ignore", invalid="ignore"):
        distances = np.where(before == after, 0.0, np.abs(after - before) / spread)
    return np.nan_to_num(distances, nan=np.inf, posinf=np.inf)


def _changed_scores(
    key: Key, before: np.ndarray, after: np.ndarray, distances: np.ndarray, tolerance: Tolerance
) -> Iterator[Drift]:
    subject, image = "/".join(key), int(distances.argmax())
    # The higher of two neighbours: between an infinite one and another there is nothing to interpolate.
    usual = np.quantile(distances, USUAL_SHARE, method="higher")
    if usual > tolerance.usual or distances[image] > tolerance.largest:
        difference = (
            f"{after[image] - before[image]:+.4g}, {distances[image]:.2g} spreads; "
            f"{np.count_nonzero(distances > tolerance.usual)} of {len(distances)} moved"
        )
        yield Drift(subject, f"score of image {image}", f"{before[image]:.9g}", f"{after[image]:.9g}", difference)
    if _are_float32(after) and not _are_float32(before):
        yield Drift(subject, "precision", "float64", "float32", "each score is a float32 number")


def _are_float32(scores: np.ndarray) -> bool:
    with np.errstate(over="ignore"):
        return bool((scores == scores.astype(np.float32)).all())


def _changed_metrics(baseline: Result, now: Result, tolerance: Tolerance) -> Iterator[Drift]:
    rows = {(row["model"], row["detector"], row["ood"]): row for row in now.card.metrics}
    for row in baseline.card.metrics:
        key = row["model"], row["detector"], row["ood"]
        # Of the same scores, so that a changed metric shows however little it changed.
        again = evaluate(baseline.scores[(*key[:2], row["id"])], baseline.scores[key])
        yield from _changed_metric(f"{'/'.join(key)}, baseline's scores", row, again, SUMMATION)
        if key in rows:
            allowed = tolerance.metric + 1 / min(row["n_id"], row["n_ood"])
            yield from _changed_metric("/".join(key), row, rows[key], allowed)
    accuracies = {one["name"]: one["id_accuracy"] for one in now.card.classifiers}
    # Every classifier is tested on the same ID images.
    tested = next(one["count"] for one in baseline.card.sets if one["role"] == "ID test")
    for one in baseline.card.classifiers:
        name, before = one["name"], one["id_accuracy"]
        after = accuracies.get(name, before)
        if not abs(after - before) <= tolerance.metric + 1 / tested:
            yield Drift(f"classifier {name}", "ID accuracy", f"{before:.6f}", f"{after:.6f}", f"{after - before:+.6f}")


def _changed_metric(
    subject: str, before: Mapping[str, Any], after: Mapping[str, Any], allowed: float
) -> Iterator[Drift]:
    """The metric that changed most, if that is more than is allowed."""
    # A metric that is newer than the baseline has nothing to be compared with.
    changes = {name: after[name] - before[name] for name in METRICS if name in before}
    most = max(changes, key=lambda name: abs(changes[name]))
    if not abs(changes[most]) <= allowed:  # which NaN is not either
        yield Drift(subject, most, f"{before[most]:.6f}", f"{after[most]:.6f}", f"{changes[most]:+.6f}")


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
    benchmark = Benchmark(**_relocated(baseline.card.benchmark, baseline.path.parent, Path()))
    trained = [one for one in make_plan(benchmark, machine).assignments if one.wanted.is_trained]
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
