"""Tuning: hyper-parameters chosen on ID images held out from fitting, against proxies made of them or a named set.

No scored OOD set decides anything. A search is a run whose detectors are the trials, so that what the network makes of
images is asked for once, whatever the number of trials.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any, Literal

import numpy as np

from oodbench.benchmark import Benchmark
from oodbench.classifier import Classifier
from oodbench.data.imageset import ImageSet, shared_images_note
from oodbench.data.inputs import Form
from oodbench.detectors.base import Detector
from oodbench.detectors.catalogue import name_of
from oodbench.detectors.spec import changed, label
from oodbench.errors import OodbenchError
from oodbench.parameters import Parameter, parameters, to_text
from oodbench.plan import Machine, Plan, build_detectors, make_plan
from oodbench.progress import Reporter
from oodbench.run_folder import Result
from oodbench.runner import run_plan

PROXIES = ("pixel-shuffled", "patch-shuffled")
"""Made of the held-out ID images: without any spatial structure, and with small structure only."""

HELD_OUT = 0.2
"""Share of the fit images that detectors are not fitted on, but chosen."""

TRIALS = 100
"""Of a detector at most; of a larger grid so many are drawn (Bergstra & Bengio 2012, JMLR 13)."""

Kind = Literal["proxies", "validation", "oracle"]


@dataclass(frozen=True)
class Trial:
    """A detector with the parameters of one point of its grid, and what they came to.

    Attributes:
        detector: its label.
        auroc: mean over the sets and classifiers, in [0, 1].
        aurocs: by set, the mean over classifiers.
    """

    detector: str
    auroc: float
    aurocs: Mapping[str, float]


@dataclass(frozen=True)
class Tuned:
    """A search for one detector.

    Attributes:
        asked: the detector as it was given, the first trial.
        picked: the trial of the highest mean AUROC, the first of equals.
        kind: what it was chosen on; by an oracle, on the scored sets themselves, which is for comparison only.
        sets: their names.
        trials: in the order of the grid.
        grid: how many points it has, of which trials may be a draw.
        at_edge: parameters picked at an end of their grid, beyond which there may be better.
        no_effect: parameters that were tried in several values and changed no score.
    """

    asked: str
    picked: str
    kind: Kind
    sets: tuple[str, ...]
    trials: tuple[Trial, ...]
    grid: int
    at_edge: tuple[str, ...]
    no_effect: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in a benchmark's file and on the card."""
        values = asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def trial(self, detector: str) -> Trial:
        """The trial of a label."""
        return next(one for one in self.trials if one.detector == detector)


def tune(
    benchmark: Benchmark,
    classifiers: Sequence[Classifier] = (),
    machine: Machine | None = None,
    reporter: Reporter | None = None,
    *,
    grids: Mapping[str, Sequence[str]] | None = None,
    oracle: bool = False,
    sets: Mapping[str, Any] | None = None,
) -> tuple[Tuned, ...]:
    """Search the grid of each detector of the benchmark, and pick the best on what decides nothing else.

    Args:
        benchmark: whose detectors are tuned. Its `validation_ood`, where it names any, stand for the proxies; its
            scored sets are not looked at but to see that they share no image with those.
        grids: values as text by DETECTOR.PARAMETER, instead of those declared.
        oracle: choose on the scored OOD sets and ID test images: an upper bound, never a result.
        sets: image sets by the names that the benchmark calls them by, as `oodbench.run` takes them.

    Raises:
        OodbenchError: no detector is named, all trials of one score alike, or a validation set shares images with a
            scored one.
    """
    machine, reporter = machine or Machine(), reporter or Reporter()
    if benchmark.detectors is None:
        raise OodbenchError("name the detectors that are to be tuned")
    asked = build_detectors(benchmark)
    names = {name_of(type(one)) for one in asked.values()}
    if unused := [key for key in grids or {} if key.partition(".")[0] not in names]:
        raise OodbenchError(f"a grid is given for {', '.join(unused)}, which is of no detector that is to be tuned")
    searches = {
        name: _trials(detector, _own(grids or {}, detector), benchmark.seed) for name, detector in asked.items()
    }
    kind: Kind = "oracle" if oracle else "validation" if benchmark.validation_ood else "proxies"
    trials = {label(one): one for found, _ in searches.values() for one in found}
    search = replace(
        benchmark,
        ood=PROXIES if kind == "proxies" else benchmark.ood,
        validation_ood=benchmark.validation_ood if kind == "validation" else (),
        detectors=tuple(trials.values()),
        parameters={},
        name="",
    )
    plan = make_plan(search, machine, classifiers, sets, hold_out=0.0 if oracle else HELD_OUT)
    if kind == "validation":
        _refuse_shared_images(plan)
        plan = _on_validation(plan)
    result = run_plan(plan, reporter)
    return tuple(
        _picked(name, [label(one) for one in found], size, kind, asked[name], result)
        for name, (found, size) in searches.items()
    )


def _own(grids: Mapping[str, Sequence[str]], detector: Detector) -> dict[str, Sequence[str]]:
    name = name_of(type(detector))
    return {key.partition(".")[2]: values for key, values in grids.items() if key.partition(".")[0] == name}


def _trials(detector: Detector, grids: Mapping[str, Sequence[str]], seed: int) -> tuple[list[Detector], int]:
    """The detector itself, then the points of its grid; and how many there are, if only some were drawn.

    A parameter that was given another value than its default stays as it was given.
    """
    known = {one.name: one for one in parameters(type(detector))}
    values = {name: list(given) for name, given in grids.items()}
    for name, one in known.items():
        if one.grid and not one.training and name not in values and getattr(detector, name) == one.default:
            values[name] = list(map(to_text, one.grid))
    points = [dict(zip(values, point, strict=True)) for point in product(*values.values())] if values else []
    if len(points) > TRIALS:
        drawn = np.random.default_rng(seed).choice(len(points), TRIALS, replace=False)
        tried = [points[number] for number in sorted(drawn)]
    else:
        tried = points
    found = dict.fromkeys([detector, *(changed(detector, point) for point in tried)])
    return list(found), len(points)


def _picked(asked: str, trials: Sequence[str], grid: int, kind: Kind, detector: Detector, result: Result) -> Tuned:
    rows = [row for row in result.card.metrics if row["detector"] in set(trials)]
    sets = tuple(dict.fromkeys(row["ood"] for row in rows))
    found = []
    for name in trials:
        own = [row for row in rows if row["detector"] == name]
        aurocs = {one: float(np.mean([row["auroc"] for row in own if row["ood"] == one])) for one in sets}
        found.append(Trial(name, float(np.mean(list(aurocs.values()))), aurocs))
    best = max(found, key=lambda one: one.auroc)  # the first of equals
    tried = {name: Detector.from_text(name) for name in trials}
    values = {one: {getattr(each, one.name) for each in tried.values()} for one in parameters(type(detector))}
    searched = [one for one, several in values.items() if len(several) > 1]
    without = tuple(one.name for one in searched if not _has_effect(one, tried, result))
    if searched and len(without) == len(searched):
        raise OodbenchError(
            f"all {len(trials)} trials of {asked} score all images alike, whatever {', '.join(without)}: there is "
            f"nothing to be tuned; look at the grid, or leave the detector out"
        )
    picked = tried[best.detector]
    edges = tuple(one.name for one in searched if _at_edge(one, picked, list(tried.values())))
    return Tuned(asked, best.detector, kind, sets, tuple(found), max(grid, 1), edges, without)


def _at_edge(one: Parameter, picked: Detector, trials: Sequence[Detector]) -> bool:
    """Whether a number was picked at an end of what was tried, where it could go further."""
    values = sorted({getattr(each, one.name) for each in trials}) if one.type in (int, float) else []
    value = getattr(picked, one.name)
    return len(values) > 2 and value in (values[0], values[-1]) and value not in (one.low, one.high)


def _has_effect(one: Parameter, trials: Mapping[str, Detector], result: Result) -> bool:
    """Whether two trials that differ in this parameter alone differ in a score."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for name, detector in trials.items():
        others = (other for other in parameters(type(detector)) if other != one)
        alike.setdefault(tuple(to_text(getattr(detector, other.name)) for other in others), []).append(name)
    return any(_differ(result, group[0], other) for group in alike.values() for other in group[1:])


def _differ(result: Result, first: str, second: str) -> bool:
    pairs = [
        (scores, result.scores[model, second, images])
        for (model, name, images), scores in result.scores.items()
        if name == first
    ]
    return any(not np.array_equal(one, other) for one, other in pairs)


def _on_validation(plan: Plan) -> Plan:
    """The plan with its validation sets in the place of the scored ones."""
    benchmark = replace(plan.benchmark, ood=plan.benchmark.validation_ood, validation_ood=())
    sets: dict[Form, tuple[list[ImageSet], list[ImageSet]]] = {
        form: (validation, []) for form, (_, validation) in plan.sets.items()
    }
    return replace(plan, benchmark=benchmark, sets=sets, inverted=())


def _refuse_shared_images(plan: Plan) -> None:
    """Raise OodbenchError where an image of a validation set is also in a scored set, by its hash."""
    for scored, validation in plan.sets.values():
        for images in validation:
            for other in scored:
                note = shared_images_note(
                    other.hashes.image_hashes,
                    images.hashes.image_hashes,
                    f"those of the scored set {other.name}",
                    f"images of the validation set {images.name}",
                )
                if note:
                    raise OodbenchError(f"{note}, so a choice made on them would leak into the result; use another set")
