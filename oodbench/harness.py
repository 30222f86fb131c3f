"""The harness: a Benchmark in, a Card and per-sample scores out; each image passes each network once."""

from __future__ import annotations

import os
import platform
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import reduce
from itertools import product
from operator import or_
from typing import Any

import numpy as np
import torch
from torch import Tensor

from oodbench.benchmark import Benchmark
from oodbench.card import Card
from oodbench.classifier import Classifier
from oodbench.data.imageset import ImageSet
from oodbench.data.load import make_proxy
from oodbench.data.loader import batches
from oodbench.data.matching import ImageShape, describe_match, match
from oodbench.detectors.base import Detector
from oodbench.detectors.catalogue import find
from oodbench.detectors.spec import parse_spec
from oodbench.errors import OodbenchError
from oodbench.metrics import accuracy, evaluate
from oodbench.outputs import LiveOutputs, Needs, Outputs, PassCount, passes
from oodbench.plan import Assignment, Machine, Plan, make_plan
from oodbench.progress import Reporter
from oodbench.report.sheets import sheet_file
from oodbench.report.worst import Pictures, indices_to_keep
from oodbench.run_folder import Result, Scores


def run(
    benchmark: Benchmark | None = None,
    classifiers: Sequence[Classifier] = (),
    machine: Machine | None = None,
    reporter: Reporter | None = None,
) -> Result:
    """Fit and score every detector of the benchmark on every classifier.

    Args:
        benchmark: what to run; the embedded default if not given.
        classifiers: your own classifiers, instead of `benchmark.models`.
        machine: data root, device, batch size and workers.
        reporter: hears decisions and progress.

    Raises:
        OodbenchError: anything named is missing or does not fit (before the first pass), or a score is not finite.
    """
    reporter = reporter or Reporter()
    plan = make_plan(benchmark or Benchmark(), machine or Machine(), reporter, classifiers)
    for note in plan.notes:
        reporter.say(note)
    measured = [_Measurement(plan, assignment, reporter).measure() for assignment in plan.assignments]
    scores = {key: scores for one in measured for key, scores in one.scores.items()}
    sheets = {_sheet_file(one): one.sheet.png for one in plan.assignments if one.sheet}
    return Result(_card(plan, measured), scores, _worst(plan, scores), sheets)


@dataclass
class _Measurement:
    """One classifier under the detectors that read it."""

    plan: Plan
    assignment: Assignment
    reporter: Reporter
    scores: Scores = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    sets: list[dict[str, Any]] = field(default_factory=list)
    learned: dict[str, dict[str, Any]] = field(default_factory=dict)
    counts: dict[str, PassCount] = field(default_factory=lambda: defaultdict(PassCount))
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    accuracy: float = float("nan")

    @property
    def classifier(self) -> Classifier:
        return self.assignment.classifier

    def measure(self) -> _Measurement:
        self._fit()
        id_set, (ood_sets, _) = self.plan.id_set, self.plan.sets[self.classifier.image_shape]
        predictions = self._score(id_set.test, "ID test")
        assert id_set.test.labels is not None  # load_id refuses an ID set without labels
        self.accuracy = accuracy(predictions, id_set.test.labels)
        for images in ood_sets:
            into_garbage = self._score(images, "OOD") == id_set.num_classes
            share = float(into_garbage.mean()) if self.assignment.garbage else None
            rows = product(self.assignment.models, self.assignment.detectors)
            self.metrics += [self._row(model, label, images, share) for model, label in rows]
        return self

    def _fit(self) -> None:
        detectors = self.assignment.detectors
        needs = _needs(detectors.values())
        if any(detector.learns() for detector in detectors.values()):
            outputs = self._collect(self.plan.id_set.fit, "fit", needs)
            validation = self.plan.sets[self.classifier.image_shape][1]
            for name in sorted(needs.proxies if validation else needs.proxies | needs.validation_proxies):
                proxy = make_proxy(name, self.plan.id_set.fit, self.plan.benchmark.seed)
                outputs.proxies[name] = self._collect(proxy, "proxy", needs)
            for images in validation:
                outputs.validation[images.name] = self._collect(images, "validation", needs)
            for label, detector in detectors.items():
                with self._timed(f"fit {label}"):
                    detector.fit(outputs)
        for label, detector in detectors.items():
            self.learned[label] = {
                name: value for name, value in detector.state.items() if not isinstance(value, Tensor)
            }

    def _collect(self, images: ImageSet, role: str, needs: Needs) -> Outputs:
        # What is scored only, fitting does not pay for.
        needs = Needs(needs.logits, needs.features, needs.layers)
        return Outputs.concatenate(self._passes(images, role, needs))

    def _score(self, images: ImageSet, role: str) -> np.ndarray:
        """Score a set under the detectors, batch by batch; returns the predicted classes."""
        detectors = self.assignment.detectors
        scores: dict[str, list[np.ndarray]] = {label: [] for label in detectors}
        predictions: list[np.ndarray] = []
        for outputs in self._passes(images, role, _needs(detectors.values())):
            done = sum(map(len, predictions))
            # Garbage is an answer like a class; any other output beyond the classes is none.
            answers = outputs.logits if self.assignment.garbage else outputs.logits[:, : self.plan.id_set.num_classes]
            predictions.append(answers.argmax(dim=1).cpu().numpy())
            for label, detector in detectors.items():
                with self._timed(f"score {label}"):
                    scores[label].append(_checked(detector.score(outputs), len(outputs), label, images.name, done))
        for label, parts in scores.items():
            joined = np.concatenate(parts)
            self.scores |= {(model, label, images.name): joined for model in self.assignment.models}
        return np.concatenate(predictions)

    def _passes(self, images: ImageSet, role: str, needs: Needs) -> Iterator[LiveOutputs]:
        machine, shape = self.plan.machine, self.classifier.image_shape
        record = _set_record(images, role, shape)
        self.sets += [record | {"classifier": model} for model in self.assignment.models]
        decided = "; ".join(filter(None, (record["matching"], *record["notes"])))
        if decided:
            self.reporter.say(f"{images.name} ({role}): {decided}")
        total = -(-len(images) // machine.batch_size)
        loaded = batches(images, shape, machine.batch_size, machine.workers)
        live = passes(self.classifier, loaded, needs, self.counts[role])
        tracked = self.reporter.track(live, f"{self.classifier.name}: {images.name} ({role})", total)
        while True:
            with self._timed(f"network {role}"):
                outputs = next(tracked, None)
            if outputs is None:
                return
            yield outputs

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[what] += time.perf_counter() - started

    def _row(self, model: str, label: str, images: ImageSet, garbage_share: float | None) -> dict[str, Any]:
        id_test = self.plan.id_set.test
        return {
            "id": self.plan.id_set.name,
            "model": model,
            "detector": label,
            "ood": images.name,
            "group": images.group,
            "n_id": len(id_test),
            "n_ood": len(images),
            **evaluate(
                self.scores[model, label, id_test.name],
                self.scores[model, label, images.name],
                f"{label} on {id_test.name}",
                f"{label} on {images.name}",
            ),
            "id_accuracy": self.accuracy,
            "garbage_share": garbage_share,
        }


def _needs(detectors: Any) -> Needs:
    # Logits always: they give the ID accuracy.
    return reduce(or_, (detector.needs for detector in detectors), Needs(logits=True))


def _checked(scores: Tensor, count: int, label: str, set_name: str, offset: int) -> np.ndarray:
    """A detector's scores of a batch as float64, or an error that names detector, set and image."""
    array: np.ndarray = scores.detach().cpu().numpy()
    if array.shape != (count,) or array.dtype != np.float64:
        raise OodbenchError(
            f"detector {label} gave scores of shape {array.shape} and type {array.dtype} for {count} images of "
            f"{set_name}; its score(outputs) must return float64 of shape (N,)"
        )
    broken = np.flatnonzero(~np.isfinite(array))
    if len(broken):
        raise OodbenchError(
            f"detector {label} gave {array[broken[0]]} for image {offset + broken[0]} of set {set_name}; "
            f"a score must be finite"
        )
    return array


def _worst(plan: Plan, scores: Scores) -> dict[tuple[str, str], Pictures]:
    """The pixels of the few images that each detector got most wrong, for reports to show."""
    pictures = {}
    id_test = plan.id_set.test
    for model, shape in {model: one.classifier.image_shape for one in plan.assignments for model in one.models}.items():
        wrong_id: set[int] = set()
        for images in plan.sets[shape][0]:
            kept = indices_to_keep(
                (scores[model, label, id_test.name], scores[model, label, images.name])
                for of_model, label, set_name in scores
                if (of_model, set_name) == (model, images.name)
            )
            wrong_id |= set(kept.id_images.tolist())
            pictures[model, images.name] = _pictures(images, kept.ood_images, shape)
        pictures[model, id_test.name] = _pictures(id_test, np.array(sorted(wrong_id)), shape)
    return pictures


def _pictures(images: ImageSet, indices: np.ndarray, shape: ImageShape) -> Pictures:
    matched = match(images.subset(indices, "").read(0, len(indices)), shape)
    return Pictures(indices, matched.permute(0, 2, 3, 1).numpy())


def _set_record(images: ImageSet, role: str, shape: ImageShape) -> dict[str, Any]:
    return {
        "name": images.name,
        "role": role,
        "group": images.group,
        "count": len(images),
        "content_hash": images.content_hash,
        "labels_hash": images.labels_hash,
        "origin": images.origin,
        "matching": describe_match(images.read(0, 1)[0], shape),
        "notes": list(images.notes),
    }


def _card(plan: Plan, measured: Sequence[_Measurement]) -> Card:
    sets = [record for one in measured for record in one.sets]
    return Card(
        benchmark=plan.benchmark.as_dict(),
        machine={
            "device": str(plan.assignments[0].classifier.device),
            "batch_size": plan.machine.batch_size,
            "workers": plan.machine.workers,
            "platform": platform.platform(),
            "processors": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
        # What two classifiers of one model were shown is recorded once.
        sets=[record for number, record in enumerate(sets) if record not in sets[:number]],
        classifiers=[_classifier_record(one) for one in measured],
        detectors=[_detector_record(label, detector, measured) for label, detector in plan.detectors.items()],
        metrics=_in_order(plan, [row for one in measured for row in one.metrics]),
        notes=plan.notes,
    )


def _in_order(plan: Plan, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Model by model, set by set, in the benchmark's order of the detectors."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    sets = list(dict.fromkeys(row["ood"] for row in rows))
    labels = list(plan.detectors)
    return sorted(
        rows, key=lambda row: (models.index(row["model"]), sets.index(row["ood"]), labels.index(row["detector"]))
    )


def _sheet_file(one: Assignment) -> str:
    assert one.sheet is not None
    return sheet_file(one.sheet.name, one.classifier.name, one.classifier.content_hash())


def _classifier_record(one: _Measurement) -> dict[str, Any]:
    classifier, sheet = one.classifier, one.assignment.sheet
    return {
        "name": classifier.name,
        "models": list(one.assignment.models),
        "detectors": list(one.assignment.detectors),
        "content_hash": classifier.content_hash(),
        **classifier.facts(),
        "layers": list(classifier.layers),
        **({"training": without_origins(classifier.training)} if classifier.training else {}),
        **({"sheet": {"file": _sheet_file(one.assignment), "caption": sheet.caption}} if sheet else {}),
        "id_accuracy": one.accuracy,
        "images": {role: asdict(count) for role, count in one.counts.items()},
        "seconds": {what: round(seconds, 4) for what, seconds in one.seconds.items()},
    }


def without_origins(record: Mapping[str, Any]) -> dict[str, Any]:
    """A training's record but for where its images lay, on whatever machine: their content hash says which they are."""
    return {
        name: without_origins(value) if isinstance(value, Mapping) else value
        for name, value in record.items()
        if name != "origin"
    }


def _detector_record(label: str, detector: Detector, measured: Sequence[_Measurement]) -> dict[str, Any]:
    entry = find(parse_spec(label)[0])
    return {
        "label": label,
        "name": entry.name,
        "paper": entry.paper,
        "parameters": asdict(detector),
        "learned": {one.classifier.name: one.learned[label] for one in measured if label in one.learned},
    }
