"""Fitting and scoring: every set is walked through once, shard by shard, for all classifiers and detectors."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import reduce
from itertools import chain, product
from operator import or_
from typing import Any

import numpy as np
import torch
from torch import Tensor

from oodbench.data.imageset import ImageSet
from oodbench.data.inputs import Form
from oodbench.data.made import make_proxy
from oodbench.data.noise import DerivedSource
from oodbench.data.reading import Shard, side_by_side
from oodbench.detectors.base import Detector
from oodbench.distributed import ALONE, Cutting, Ranks
from oodbench.metrics import accuracy, evaluate
from oodbench.outputs import FitData, Needs, Outputs
from oodbench.own_sets import MOST
from oodbench.plan import Plan, refuse_leaks
from oodbench.progress import FIT, TRAINING_PASS, whole
from oodbench.recipes.catalogue import RECIPES
from oodbench.recipes.obtain import images_to_train_on
from oodbench.report.worst import Pictures
from oodbench.run_folder import Scores
from oodbench.store import SHARD
from oodbench.subject import Found, Subject
from oodbench.worst_seen import WorstSeen

Answers = Mapping[tuple[str, ImageSet], np.ndarray]
"""(classifier, set) → int64 answers: classes, or a number of classes, where the answer beyond them was given."""


def expect(plan: Plan, ranks: Ranks = ALONE) -> None:
    """Say what the run comes to, as far as the plan knows: trainings, images to be passed, detectors to be fitted."""
    test, images, fitted, scored = plan.id_set.test, plan.id_set.fit, 0, 0.0
    made = min(len(test), plan.benchmark.limit or MOST) * len(plan.inverted)
    for one in plan.assignments:
        whole().expect("training", TRAINING_PASS * images_to_train_on(one.wanted, plan.whole))
        of_form, validation = plan.sets[one.wanted.form]
        if any(detector.learns() for detector in one.detectors.values()):
            needs = reduce(or_, (detector.fit_needs for detector in one.detectors.values()), Needs())
            fitted += len(images) * (1 + len(_proxies(needs, bool(validation)))) + sum(map(len, validation))
            whole().expect("detectors", FIT * len(one.detectors))
        shown = len(test) + sum(map(len, of_form)) + made * len(one.models)
        scored += shown * _passes(one.detectors.values(), one.recipe.combine is not None)
    if ranks.count > 1:  # of which each does its part; then the first finds all of it
        whole().expect("shared", (fitted + scored) / ranks.count)
    else:
        whole().expect("fit images", fitted)
        whole().expect("sets", scored)


def _passes(detectors: Iterable[Detector], is_combined: bool) -> float:
    """What it costs an image, in passes, to be scored by all of them; see `Detector.passes`."""
    return (0.0 if is_combined else 1.0) + sum(detector.passes for detector in detectors)


def fit(plan: Plan, subjects: Sequence[Subject], ranks: Ranks = ALONE) -> None:
    """Fit every detector on the ID fit images, and the proxies and validation sets that are asked for."""
    live = [(one, label) for one in subjects for label, detector in one.detectors.items() if detector.needs.live]
    parts: dict[Subject, dict[ImageSet, list[Outputs]]] = {one: {} for one in subjects}
    reduced: dict[Subject, dict[str, list[Outputs]]] = {one: {} for one in subjects}
    images = plan.id_set.fit
    learners = [one for one in subjects if one.learns]
    validation = {one: plan.sets[one.classifier.form][1] for one in learners}
    wanted: dict[Form, set[str]] = {}
    for one in learners:
        wanted.setdefault(one.classifier.form, set()).update(_proxies(one.fit_needs, bool(validation[one])))
    made = {
        form: [make_proxy(name, images, plan.benchmark.seed, form) for name in sorted(names)]
        for form, names in wanted.items()
    }
    proxies = [*chain(*made.values())]
    roles = {images: "fit"} | dict.fromkeys(proxies, "proxy")
    roles |= {one: "validation" for sets in validation.values() for one in sets}
    groups = [[images, *proxies], *([one] for one, role in roles.items() if role == "validation")] if learners else []

    def readers(shard: Shard) -> list[Subject]:
        role = roles[shard.images]
        if role == "proxy":
            of_form = [one for one in learners if shard.images in made[one.classifier.form]]
            return [one for one in of_form if shard.images.name in _proxies(one.fit_needs, bool(validation[one]))]
        return [one for one in learners if role == "fit" or shard.images in validation[one]]

    def visit(shard: Shard) -> None:
        for one in readers(shard):
            if one.is_kept:
                passed(shard, one, "shared")

    def passed(shard: Shard, one: Subject, stage: str) -> Found:
        role = roles[shard.images]
        whole().doing(f"passing {role} images of {shard.images.name}: {one.classifier.name}")
        with whole().step(stage, len(shard)):
            return one.fit_part(shard, role)

    ranks.fill(subjects, groups, Cutting(SHARD, plan.machine.workers, _forms(learners)), visit)
    with closing(_shards(plan, groups if ranks.is_first else [], learners)) as walk:
        for shard, one in ((part, one) for part in walk for one in readers(part)):
            found = passed(shard, one, "fit images")
            parts[one].setdefault(shard.images, []).append(found.outputs)
            for label, rows in found.products.items():
                reduced[one].setdefault(label, []).append(Outputs(rows))
    for one in subjects if ranks.is_first else ():
        with whole().step("detectors", len(one.detectors) if one.learns else 0, FIT):
            one.fit(*_fit_data(one, images, roles, parts[one], reduced[one]))
    ranks.share_fitted(live)


def _proxies(needs: Needs, validated: bool) -> frozenset[str]:
    """The proxies that detectors of these needs compare ID with; some only where the user named no validation set."""
    return needs.named("proxy") | (frozenset() if validated else needs.named("validation-proxy"))


def _fit_data(
    subject: Subject,
    fit_images: ImageSet,
    roles: Mapping[ImageSet, str],
    parts: Mapping[ImageSet, Sequence[Outputs]],
    reduced: Mapping[str, Sequence[Outputs]],
) -> tuple[FitData, dict[str, Mapping[str, Tensor]]]:
    by_role: dict[str, dict[str, Outputs]] = {"fit": {}, "proxy": {}, "validation": {}}
    for images, outputs in parts.items():
        by_role[roles[images]][images.name] = Outputs.concatenate(outputs)
    device = subject.classifier.device
    labels = None if fit_images.labels is None else torch.from_numpy(fit_images.labels).to(device)
    outputs_of_fit = by_role["fit"].get(fit_images.name, Outputs({}))
    joined = {label: Outputs.concatenate(rows).to(device).tensors() for label, rows in reduced.items()}
    return FitData(outputs_of_fit, labels, by_role["proxy"], by_role["validation"]), joined


def pass_scored(plan: Plan, subjects: Sequence[Subject], ranks: Ranks) -> None:
    """Have several processes pass what is to be scored, so that the first of them finds it in the store."""

    def visit(shard: Shard) -> None:
        for one in _showing(plan, subjects, shard):
            if one.is_kept:
                with _passing(plan, subjects, shard, one, "shared"):
                    one.score_part(shard, _role(plan, shard))

    cutting = Cutting(SHARD, plan.machine.workers, _forms(subjects))
    ranks.fill(subjects, _scored_groups(plan, subjects), cutting, visit)


@contextmanager
def _passing(plan: Plan, subjects: Sequence[Subject], shard: Shard, one: Subject, stage: str) -> Iterator[None]:
    """Tell which set it is of how many."""
    sets = [*chain(*_scored_groups(plan, subjects))]
    number = sets.index(shard.images) + 1
    whole().doing(f"passing set {number} of {len(sets)}, {shard.images.name}: {one.classifier.name}")
    with whole().step(stage, len(shard), _passes(one.detectors.values(), one.combine is not None)):
        yield


def _showing(plan: Plan, subjects: Sequence[Subject], shard: Shard) -> list[Subject]:
    """The subjects that are shown a shard."""
    return [one for one in subjects if shard.images is plan.id_set.test or shard.images in _scored(plan, one)]


def _role(plan: Plan, shard: Shard) -> str:
    return "ID test" if shard.images is plan.id_set.test else "OOD"


def score(plan: Plan, subjects: Sequence[Subject]) -> tuple[Scores, Answers, dict[tuple[str, str], Pictures]]:
    """Per-sample scores, the classifiers' answers, and the images that detectors got most wrong."""
    scores: dict[tuple[str, str, str], list[np.ndarray]] = {}
    answers: dict[tuple[str, ImageSet], list[np.ndarray]] = {}
    worst, test = WorstSeen(), plan.id_set.test
    with closing(_shards(plan, _scored_groups(plan, subjects), subjects)) as walk:
        for shard, one in ((part, one) for part in walk for one in _showing(plan, subjects, part)):
            with _passing(plan, subjects, shard, one, "sets"):
                found, given = one.score(shard, _role(plan, shard))
            answers.setdefault((one.classifier.name, shard.images), []).append(given)
            for model in one.rows_of(shard.images):
                worst.see(model, shard, one.classifier.form, found, lowest=shard.images is test)
                for label, part in found.items():
                    scores.setdefault((model, label, shard.images.name), []).append(part)
    for scored, validation in plan.sets.values():
        refuse_leaks(scored, validation)
    joined = {key: np.concatenate(parts) for key, parts in scores.items()}
    answered = {key: np.concatenate(parts) for key, parts in answers.items()}
    by_model: dict[tuple[str, str], np.ndarray] = {}
    for one in subjects:  # the user's own come first, before those that detectors have of their own
        for (name, images), given in answered.items():
            for model in one.rows_of(images) if name == one.classifier.name else ():
                by_model.setdefault((model, images.name), given)
    return joined, answered, worst.pictures(by_model)


def _scored(plan: Plan, subject: Subject) -> list[ImageSet]:
    """The OOD sets that a classifier is shown: of those made in an input form, those of its own form alone."""
    return [*plan.sets[subject.classifier.form][0], *chain(*subject.against.values())]


def _scored_groups(plan: Plan, subjects: Sequence[Subject]) -> list[list[ImageSet]]:
    """The scored sets, those with the ID test set that are derived from it, so that its images are read once."""
    scored = dict.fromkeys(images for one in subjects for images in _scored(plan, one))
    derived = [images for images in scored if isinstance(images.source, DerivedSource)]
    return [[plan.id_set.test, *derived], *([images] for images in scored if images not in derived)]


def _forms(subjects: Sequence[Subject]) -> tuple[Form, ...]:
    return tuple(dict.fromkeys(one.classifier.form for one in subjects))


def _shards(
    plan: Plan, groups: Sequence[Sequence[ImageSet]], subjects: Sequence[Subject]
) -> Generator[Shard, None, None]:
    for group in groups:
        for shard in side_by_side(group, SHARD, plan.machine.workers, _forms(subjects)):
            yield shard
            # Also where nobody was shown it: the set's hash is made of all its shards.
            _ = shard.digest


def metrics(plan: Plan, subjects: Sequence[Subject], scores: Scores, answers: Answers) -> list[dict[str, Any]]:
    """One row a model, OOD set and detector: model by model, set by set, in the benchmark's order of the detectors."""
    test, classes = plan.id_set.test, plan.id_set.num_classes
    assert test.labels is not None  # load_id refuses an ID set without labels
    columns = [recipe.column for recipe in RECIPES.values() if recipe.column]
    rows = []
    for assignment, one in zip(plan.assignments, subjects, strict=True):
        right = accuracy(answers[one.classifier.name, test], test.labels)
        for images in _scored(plan, one):
            beyond = float((answers[one.classifier.name, images] == classes).mean())
            shares = {name: beyond if name == assignment.recipe.column else None for name in columns}
            for model, label in product(one.rows_of(images), one.detectors):
                of_id, of_ood = (scores[model, label, name] for name in (test.name, images.name))
                row: dict[str, Any] = {"id": plan.id_set.name, "model": model, "detector": label, "ood": images.name}
                row |= {"group": images.group, "n_id": len(test), "n_ood": len(images)}
                rows.append(
                    {
                        **row,
                        **evaluate(of_id, of_ood, f"{label} on {test.name}", f"{label} on {images.name}"),
                        "id_accuracy": right,
                        **shares,
                    }
                )
    models, sets = (list(dict.fromkeys(row[what] for row in rows)) for what in ("model", "ood"))
    labels = list(plan.detectors)
    return sorted(
        rows, key=lambda row: (models.index(row["model"]), sets.index(row["ood"]), labels.index(row["detector"]))
    )
