"""What a card says of a run: the records of its sets, classifiers and detectors."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from oodbench.card import Card
from oodbench.data.imageset import ImageSet, shared_images_note
from oodbench.data.workers import default_workers
from oodbench.detectors.base import WIDTHS, Detector, State
from oodbench.detectors.catalogue import find
from oodbench.detectors.spec import parse_spec
from oodbench.parameters import PLAIN, parameters
from oodbench.plan import Plan
from oodbench.recipes.obtain import Obtained
from oodbench.report.runs import SCORED_ROLES
from oodbench.report.sheets import sheet_file
from oodbench.subject import Subject

MOST_NAMED, LONGEST_NAME = 2_000, 60
"""Classes whose names stand on the card, and letters of a name: of ImageNet's 1,000 that is 30 kB."""


def card(
    plan: Plan,
    subjects: Sequence[Subject],
    obtained: Sequence[Obtained],
    rows: list[dict[str, Any]],
    notes: Sequence[str],
    processes: int = 1,
) -> Card:
    """The card of a run.

    Args:
        rows: see `measure.metrics`.
        notes: what was found after the plan was made.
        processes: how many shared the work.
    """
    shown = [(one, images) for one in subjects for images in one.shown]
    sets = [_set_record(one, images) | {"classifier": model} for one, images in shown for model in one.rows_of(images)]
    accuracies = {(row["model"], row["detector"]): row["id_accuracy"] for row in rows}
    return Card(
        benchmark=plan.benchmark.as_dict(),
        machine={
            "device": str(subjects[0].classifier.device),
            "batch_size": plan.machine.batch_size,
            "workers": default_workers() if plan.machine.workers is None else plan.machine.workers,
            "precision": plan.machine.precision,
            "compile": plan.machine.compile,
            "processes": processes,
            "platform": platform.platform(),
            "processors": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
        # What two classifiers of one model were shown is recorded once.
        sets=_with_class_names([one for number, one in enumerate(sets) if one not in sets[:number]], shown),
        classifiers=[
            _classifier_record(one, got)
            | {"id_accuracy": accuracies.get((one.models[0], next(iter(one.detectors), "")))}
            for one, got in zip(subjects, obtained, strict=True)
            if one.detectors
        ],
        detectors=[_detector_record(label, detector, subjects) for label, detector in plan.detectors.items()],
        metrics=rows,
        notes=[*plan.notes, *(note for one in subjects for note in one.notes), *notes],
    )


def sheet_of(one: Obtained) -> str:
    """The file of the picture that a classifier's training left, as the card names it."""
    assert one.sheet is not None
    return sheet_file(one.sheet.name, one.classifier.name, one.classifier.content_hash())


def overlaps(plan: Plan) -> list[str]:
    """Sentences on images that are in two of the sets, or twice in one, as far as the hashes are known."""
    test, fit = plan.id_set.test, plan.id_set.fit
    pairs = [(fit, test, "the images to fit on", "test images")]
    ours = ((test, "the ID test images"), (fit, "the images to fit on"))
    pairs += [(own, images, name, f"images of {images.name}") for images in plan.scored for own, name in ours]
    notes = []
    for first, second, first_name, second_name in pairs:
        if first.known_hashes and second.known_hashes:
            hashes = first.known_hashes.image_hashes, second.known_hashes.image_hashes
            notes.append(shared_images_note(*hashes, first_name, second_name))
    for images in (test, *plan.scored):
        if images.known_hashes:
            again = len(images) - len(np.unique(images.known_hashes.image_hashes, axis=0))
            notes.append(f"{again:,} of the {len(images):,} images of {images.name} repeat another" if again else "")
    return [note for note in notes if note]


def _set_record(subject: Subject, images: ImageSet) -> dict[str, Any]:
    role, matching = subject.shown[images]
    return {
        "name": images.name,
        "role": role,
        "group": images.group,
        "count": len(images),
        "content_hash": images.content_hash,
        "labels_hash": images.labels_hash,
        "origin": images.origin,
        "matching": matching,
        "notes": list(images.notes),
    }


def _with_class_names(records: list[dict[str, Any]], shown: Sequence[tuple[Subject, ImageSet]]) -> list[dict[str, Any]]:
    """The records of sets; in the first of each scored one, what its classes are called."""
    scored = {images.name: images.classes for one, images in shown if one.shown[images][0] in SCORED_ROLES}
    for name, classes in scored.items():
        if 0 < len(classes) <= MOST_NAMED:
            first = next(one for one in records if one["name"] == name and one["role"] in SCORED_ROLES)
            first["classes"] = [one[:LONGEST_NAME] for one in classes]
    return records


def _classifier_record(one: Subject, got: Obtained) -> dict[str, Any]:
    classifier, sheet = one.classifier, got.sheet
    return {
        "name": classifier.name,
        "models": list(one.models),
        "detectors": list(one.detectors),
        "content_hash": one.content_hash,
        **classifier.facts(),
        "head": classifier.head,
        "layers": list(classifier.layers),
        **({"training": without_origins(classifier.training)} if classifier.training else {}),
        **({"sheet": {"file": sheet_of(got), "caption": sheet.caption}} if sheet else {}),
        "batch_size": one.batch_size,
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


def _detector_record(label: str, detector: Detector, subjects: Sequence[Subject]) -> dict[str, Any]:
    entry = find(parse_spec(label)[0])
    values = {one.name: (one.type, getattr(detector, one.name)) for one in parameters(type(detector))}
    return {
        "label": label,
        "name": entry.name,
        "paper": entry.paper,
        "parameters": {name: value if kind in PLAIN else str(value) for name, (kind, value) in values.items()},
        "learned": {
            one.classifier.name: _plain(one.detectors[label].state) for one in subjects if label in one.detectors
        },
    }


def _plain(state: State) -> dict[str, Any]:
    """What was learned, without tensors."""
    plain: dict[str, Any] = {}
    for name, value in state.items():
        if isinstance(value, Mapping):
            inner = _plain(value)
            # A mapping of tensors alone has nothing to say; an empty one says that there was nothing.
            if name != WIDTHS and (inner or not value):
                plain[name] = inner
        elif not isinstance(value, Tensor):
            plain[name] = value
    return plain
