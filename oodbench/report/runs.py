"""What runs measured, checked against their cards and each other: one Measurement a pair of score arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from oodbench.card import Card
from oodbench.data.catalogue import ADVERSARIAL
from oodbench.errors import OodbenchError
from oodbench.metrics import METRICS, Counts
from oodbench.report.worst import Pictures

CONTROL = "control"
"""What stands for the paper of a detector that is a control."""

SCORED_ROLES = ("ID test", "OOD")


class Run(Protocol):
    """What a report needs of a run; `run_folder.Result` says what each is."""

    @property
    def path(self) -> Path: ...
    @property
    def card(self) -> Card: ...
    @property
    def scores(self) -> Mapping[tuple[str, str, str], NDArray[np.float64]]: ...
    @property
    def pictures(self) -> Mapping[tuple[str, str], Pictures]: ...
    @property
    def sheets(self) -> Mapping[str, bytes]: ...


class Repeat(NamedTuple):
    """What tells repeats apart: the classifier's content and the benchmark's seed."""

    classifier_hash: str
    seed: int

    def __str__(self) -> str:
        return f"classifier {self.classifier_hash[:6]}, seed {self.seed}"


@dataclass(frozen=True, eq=False)
class Measurement:
    """One classifier, one detector, one OOD set, in one run.

    Attributes:
        model: the classifier's architecture; repeats share it.
        classifier: its name in the run.
        own_classifier: whether the detector reads another classifier than the model's other detectors, one of its own.
        read: content hash of the classifier that it reads.
        control: whether the detector is a control.
        settings: what else must be equal between repeats, in words.
        id_accuracy: of the classifier that the detector reads.
        garbage_share: of the OOD images put into the garbage class; None where the classifier has none.
    """

    run: Run
    id: str
    model: str
    classifier: str
    detector: str
    ood: str
    group: str
    own_classifier: bool
    read: str
    control: bool
    repeat: Repeat
    settings: dict[str, Any]
    id_scores: NDArray[np.float64]
    ood_scores: NDArray[np.float64]
    id_accuracy: float
    garbage_share: float | None

    @cached_property
    def counts(self) -> Counts:
        """All that the metrics and curves need to know."""
        return Counts.of(self.id_scores, self.ood_scores)

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Every metric, computed from the scores."""
        return {name: metric(self.counts) for name, metric in METRICS.items()}


def measurements(runs: Sequence[Run], apart: bool = False) -> list[Measurement]:
    """Everything that was measured in runs which may stand in one table, in the runs' order.

    Args:
        apart: every classifier is a model of its own, and nothing is a repeat of anything.

    Raises:
        OodbenchError: the runs are of different benchmark versions, or scored different images under one name, or
            scores do not belong to their card.
    """
    check_comparable(runs)
    found = [_measurement(run, row) for run in runs for row in run.card.metrics]
    if not apart:
        return found
    contents: dict[str, set[str]] = {}
    for one in found:
        contents.setdefault(one.model, set()).add(one.repeat.classifier_hash)
    stems = {(id(run), name): stem for run in runs for name, stem in file_stems(run).items()}
    called = {one.repeat.classifier_hash: stems.get((id(one.run), one.classifier)) for one in found}
    told_apart = len(set(called.values())) == len(called)

    def name(one: Measurement) -> str:
        stem = called[one.repeat.classifier_hash] if told_apart else None
        return stem or f"{one.model}-{one.repeat.classifier_hash[:6]}"

    return [one if len(contents[one.model]) == 1 else replace(one, model=name(one)) for one in found]


def file_stems(run: Run) -> dict[str, str]:
    """Classifier → its checkpoint's file name without ending, where all that the user asked for are files."""
    paths = [Path(one.rpartition("=")[2].partition("#")[0]) for one in run.card.benchmark.get("models", ())]
    named = list(dict.fromkeys(row["model"] for row in run.card.metrics))
    if len(paths) != len(named) or not all(path.suffix for path in paths):
        return {}
    return {name: path.stem for name, path in zip(named, paths, strict=True)}


def architecture(card: Card, model: str) -> str:
    """A model's name, without the content that a run puts at its end where two classifiers have one name."""
    return model.removesuffix(f"-{card.classifier(model)['content_hash'][:6]}")


def check_comparable(runs: Sequence[Run]) -> None:
    """Raise OodbenchError, naming what differs, unless the runs scored the same images under the same names.

    A set's content is asked for per ID set and image form, since generated sets are made from the one and in the
    other.
    """
    first_version: tuple[int, Path] | None = None
    contents: dict[tuple[str, tuple[int, ...], str, str], tuple[str, Path]] = {}
    differences: list[str] = []
    for run in runs:
        version = run.card.benchmark["version"]
        first_version = first_version or (version, run.path)
        if version != first_version[0]:
            differences.append(
                f"{first_version[1]} is of benchmark version {first_version[0]}, {run.path} of {version}"
            )
        id_names = {row["model"]: row["id"] for row in run.card.metrics}
        for record in run.card.sets:
            if record["role"] not in SCORED_ROLES:
                continue
            classifier = run.card.classifier(record["classifier"])
            # What was made against a classifier is another set for each.
            against = classifier["content_hash"] if record["group"] == ADVERSARIAL else ""
            form = (*classifier["image_shape"], repr(classifier.get("preprocess")))
            key = (id_names[record["classifier"]], form, record["role"], record["name"] + against)
            content = f"{record['content_hash'][:12]}/{(record['labels_hash'] or 'no labels')[:12]}"
            known, where = contents.setdefault(key, (content, run.path))
            if content != known:
                what = f"{record['role']} set '{record['name']}'"
                differences.append(f"{what} has content {known} in {where} and {content} in {run.path}")
    if differences:
        raise OodbenchError(
            f"these results cannot stand in one table: {'; '.join(dict.fromkeys(differences))}; report them apart, or "
            f"run one of them again on the same sets"
        )


def _measurement(run: Run, row: dict[str, Any]) -> Measurement:
    name, label = row["model"], row["detector"]
    classifier, own = run.card.classifier(name), run.card.own_classifiers(name)
    fit_set = next((r["name"] for r in run.card.sets if (r["role"], r["classifier"]) == ("fit", name)), None)
    try:
        id_scores, ood_scores = (run.scores[name, label, row[kind]] for kind in ("id", "ood"))
    except KeyError as error:
        raise OodbenchError(f"the scores beside {run.path} lack those of {'/'.join(error.args[0])}") from error
    one = Measurement(
        run=run,
        id=row["id"],
        model=architecture(run.card, name),
        classifier=name,
        detector=label,
        ood=row["ood"],
        group=row["group"],
        own_classifier=label in own,
        read=own.get(label, classifier)["content_hash"],
        control=any(record["label"] == label and record["paper"] == CONTROL for record in run.card.detectors),
        repeat=Repeat(classifier["content_hash"], run.card.benchmark["seed"]),
        settings={
            "fit set": fit_set,
            "fit_limit": run.card.benchmark["fit_limit"],
            "validation_ood": tuple(run.card.benchmark["validation_ood"]),
        },
        id_scores=id_scores,
        ood_scores=ood_scores,
        id_accuracy=row["id_accuracy"],
        garbage_share=row.get("garbage_share"),
    )
    counted = (len(id_scores), len(ood_scores)) == (row["n_id"], row["n_ood"])
    # Also where one is missing or no number.
    if not counted or not all(abs(one.metrics[metric] - row.get(metric, np.nan)) <= 1e-9 for metric in METRICS):
        raise OodbenchError(
            f"the scores beside {run.path} do not give the metrics on it ({label} on {row['ood']}); "
            f"card and scores are of different runs"
        )
    return one
