"""From a Benchmark to everything a run needs, with all that can be checked checked before the first pass.

Nothing is trained here, and nothing of the user's is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from oodbench.benchmark import Benchmark
from oodbench.classifier import Classifier
from oodbench.data.imageset import ImageSet
from oodbench.data.load import InDistribution, expand_ood, is_generated, is_inverted, load_id, load_ood
from oodbench.data.matching import ImageShape
from oodbench.data.python_sets import image_sets
from oodbench.data.reading import remembering
from oodbench.detectors.base import Detector
from oodbench.detectors.catalogue import catalogue, name_of
from oodbench.detectors.spec import build, changed, label, parse_spec
from oodbench.errors import OodbenchError
from oodbench.models.catalogue import MODELS, find_model
from oodbench.models.load import default_model, load_classifier, recipe_of
from oodbench.parameters import parameters
from oodbench.recipes.catalogue import Recipe, find_recipe
from oodbench.recipes.obtain import Wanted
from oodbench.store import SHARD


@dataclass(frozen=True)
class Machine:
    """Where and how a run happens; none of it changes a score beyond rounding.

    Attributes:
        data_root: folder that holds the data sets; None is the usual places.
        device: auto, cpu, cuda or mps.
        batch_size: images that enter the network at a time.
        workers: threads that read images.
        store: whether outputs are kept in the cache, and taken from there.
    """

    data_root: Path | None = None
    device: str = "auto"
    batch_size: int = 128
    workers: int = 0
    store: bool = True

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise OodbenchError(f"the batch size must be at least 1, not {self.batch_size}")
        if self.workers < 0:
            raise OodbenchError(f"the number of workers must be 0 or more, not {self.workers}")


@dataclass(frozen=True)
class Assignment:
    """A classifier, and the detectors that read it.

    Attributes:
        models: what the detectors' rows are called after, once for each. A classifier that detectors have of their own
            has its architecture from those that the user asked for, or is given for all, and its rows stand with
            those of each, where they are scored too.
    """

    models: tuple[str, ...]
    wanted: Wanted
    detectors: Mapping[str, Detector]

    @property
    def recipe(self) -> Recipe:
        """How the classifier is made."""
        return find_recipe(self.wanted.recipe)


@dataclass(frozen=True)
class Plan:
    """All that a run needs, but for the classifiers, which are still to be obtained.

    Attributes:
        whole: the ID set, on whose whole training split classifiers are trained.
        id_set: what of it is drawn to fit and to test detectors on.
        assignments: which detectors read which classifier.
        sets: per image form of the classifiers, since generated sets are made in it, the scored OOD sets and the
            validation sets.
        inverted: names of scored sets that are still to be made, of each classifier that the user asked for.
        detectors: label → detector, not fitted.
        notes: what was decided for the user, in sentences.
    """

    benchmark: Benchmark
    machine: Machine
    device: torch.device
    whole: InDistribution
    id_set: InDistribution
    assignments: list[Assignment]
    detectors: dict[str, Detector]
    sets: dict[ImageShape, tuple[list[ImageSet], list[ImageSet]]]
    inverted: tuple[str, ...]
    notes: list[str]

    @property
    def scored(self) -> list[ImageSet]:
        """The OOD sets that some classifier is scored on."""
        return list(dict.fromkeys(images for scored, _ in self.sets.values() for images in scored))


def make_plan(
    benchmark: Benchmark,
    machine: Machine,
    classifiers: Sequence[Classifier] = (),
    own_sets: Mapping[str, Any] | None = None,
) -> Plan:
    """Resolve every name, find every set and checkpoint; raise before any image is passed.

    Args:
        classifiers: from Python, instead of `benchmark.models`.
        own_sets: from Python, by name; see `runner.run`.
    """
    device = choose_device(machine.device)
    benchmark, notes = _with_detectors(benchmark, bool(classifiers))
    detectors = build_detectors(benchmark)
    places: dict[str, Any] = {"data_root": machine.data_root, "given": image_sets(own_sets or {})}
    benchmark = benchmark.there(**places)
    whole = load_id(benchmark.id, seed=benchmark.seed, fit=benchmark.fit, expected=benchmark.expected, **places)
    present = [one for one in benchmark.ood if one not in benchmark.missing]
    scored, more, grouped = expand_ood(present, id_name=whole.name, **places)
    validation, still_more, _ = expand_ood(benchmark.validation_ood, id_name=whole.name, **places)
    places["expected"] = {**grouped, **benchmark.expected}
    id_set = replace(
        whole,
        fit=remembering(_several(whole.fit, "fit").drawn_by_class(benchmark.fit_limit, benchmark.seed), SHARD),
        test=remembering(_drawn(whole.test, benchmark.limit, benchmark.seed, "ID test"), SHARD),
    )
    for name in filter(is_inverted, validation):
        raise OodbenchError(f"'{name}' is made of the classifier under test; name another validation set")
    inverted = tuple(filter(is_inverted, scored))
    from_data = [name for name in scored if name not in inverted]
    find = partial(load_ood, id_set=id_set, seed=benchmark.seed, **places)
    load_sets = partial(_load_sets, benchmark, from_data, validation, find, {})
    # In the ID images' form, that of all classifiers trained here, before any is: what is missing is said first.
    sets = {whole.image_shape: load_sets(whole.image_shape)}
    given = own_checkpoints(benchmark.models, detectors)
    wanted = bases(benchmark, classifiers, set(given.values()), whole)
    sets |= {shape: load_sets(shape) for shape in {base.image_shape for base in wanted} - sets.keys()}
    assignments = _assignments(wanted, detectors, given)
    if any(base.is_trained for base in wanted) and (benchmark.mean or benchmark.std):
        notes.append(f"--mean and --std are not used for what is trained here, with those of {whole.name}")
    if benchmark.missing:
        notes.append(f"partial: {len(present)} of {len(benchmark.ood)} sets; not here: {', '.join(benchmark.missing)}")
    notes += [*more, *still_more]
    return Plan(benchmark, machine, device, whole, id_set, assignments, detectors, sets, inverted, notes)


def _load_sets(
    benchmark: Benchmark,
    scored_names: Sequence[str],
    validation_names: Sequence[str],
    find: Callable[..., ImageSet],
    known: dict[tuple[str, int | None], ImageSet],
    shape: ImageShape,
) -> tuple[list[ImageSet], list[ImageSet]]:
    """The scored OOD sets and the validation sets, none of which is scored; what is generated, in that form.

    Args:
        scored_names, validation_names: single sets, groups expanded.
        find: see `load_ood`.
        known: sets that were found before for another form; those that are the same in each are taken from there.
    """

    def load(name: str, limit: int | None) -> ImageSet:
        if (name, limit) not in known or is_generated(name):
            known[name, limit] = _drawn(find(name, shape=shape), limit, benchmark.seed, "OOD")
        return known[name, limit]

    scored = [load(name, benchmark.limit) for name in scored_names]
    validation = [load(name, benchmark.fit_limit) for name in validation_names]
    names = [images.name for images in scored]
    for name in names:
        if names.count(name) > 1:
            raise OodbenchError(f"two OOD sets are called '{name}'; give one a name of its own, as in mine=folder:PATH")
    refuse_leaks(scored, validation)
    return scored, validation


def refuse_leaks(scored: Sequence[ImageSet], validation: Sequence[ImageSet]) -> None:
    """Raise OodbenchError where a validation set holds the images of a scored one, as far as that is known unread."""
    for images in validation:
        for other in scored:
            first, second = images.known_hashes, other.known_hashes
            same_place = images.identity is not None and images.identity == other.identity
            if same_place or (first and second and first.content_hash == second.content_hash):
                raise OodbenchError(
                    f"validation set '{images.name}' holds the same images as scored set '{other.name}', so a choice "
                    f"made on it would leak into the result; use another"
                )


def bases(
    benchmark: Benchmark,
    classifiers: Sequence[Classifier],
    own: Collection[str],
    id_set: InDistribution,
) -> list[Wanted]:
    """What the user asked for: classifiers, or an architecture, to be trained, each under a name of its own."""
    references = [one for one in benchmark.models if one not in own] or [default_model(id_set.image_shape)]
    if len(set(references)) < len(references):
        raise OodbenchError("the same classifier is named twice; name each once")
    there: list[Classifier | str] = list(classifiers) or [
        one if is_architecture(one) else _loaded(one, benchmark, id_set) for one in references
    ]
    names = [one if isinstance(one, str) else one.name for one in there]
    wanted = []
    for one in there:
        if isinstance(one, str):
            wanted.append(Wanted(one, one, id_set.image_shape))
            continue
        if one.num_classes != id_set.num_classes:
            raise OodbenchError(
                f"{one.name} has {one.num_classes} classes, but {id_set.name} has {id_set.num_classes}; "
                f"give a classifier that was trained on {id_set.name}, or another --id"
            )
        # Beside a network of another project, detectors' own are the small one for that size of image.
        architecture = one.name if one.name in MODELS else default_model(one.image_shape)
        name = one.name if names.count(one.name) == 1 else f"{one.name}-{one.content_hash()[:6]}"
        wanted.append(Wanted(name, architecture, one.image_shape, given=one))
    if len({one.name for one in wanted}) < len(wanted):
        raise OodbenchError("the same classifier is named twice; name each once")
    return wanted


def _loaded(reference: str, benchmark: Benchmark, id_set: InDistribution) -> Classifier:
    if "=" not in reference and not Path(reference).exists() and not Path(reference).suffix:
        find_model(reference)
    return load_classifier(
        reference,
        num_classes=id_set.num_classes,
        image_shape=id_set.image_shape,
        mean=benchmark.mean,
        std=benchmark.std,
    )


def _assignments(
    bases: Sequence[Wanted], detectors: Mapping[str, Detector], given: Mapping[str, str]
) -> list[Assignment]:
    """The bases with the detectors that read any classifier, and the others' own classifiers."""
    shared = {name: detector for name, detector in detectors.items() if detector.reads is None}
    # An architecture that no detector reads as such need not be trained.
    derived = any(find_recipe(one.reads).derive for one in detectors.values() if one.reads)
    assignments = [Assignment((one.name,), one, shared) for one in bases if shared or derived]
    for part, readers in _by_training(detectors).items():
        assert part.reads is not None
        for models, wanted in _own(part, bases, given.get(part.reads)):
            rows = models if shared else (wanted.name,)
            assignments.append(Assignment(rows, wanted, readers))
    return assignments


def _own(part: Detector, bases: Sequence[Wanted], reference: str | None) -> list[tuple[tuple[str, ...], Wanted]]:
    """The classifiers that a detector has of its own, each with the bases whose rows it stands with."""
    assert part.reads is not None
    if find_recipe(part.reads).derive is not None:
        names, first = tuple(one.name for one in bases), bases[0]
        own = Wanted(f"{'+'.join(names)}+{part.reads}", "", first.image_shape, recipe=part.reads, members=names)
        return [(names, own)]
    if reference is not None and part != type(part)():
        raise OodbenchError(
            f"{label(part)} says how its classifier is trained, but {reference} is trained already; "
            f"leave out the checkpoint, or the detector's training parameters"
        )
    # Bases for which it is the same have one between them, so that images pass it once. A recipe that fine-tunes starts
    # from the classifier itself, where it is there and of an architecture that is known here.
    alike: dict[tuple[str, ImageShape, Classifier | None], list[str]] = {}
    tunes = find_recipe(part.reads).finetuning is not None and not reference
    for base in bases:
        start = base.given if tunes and base.given and base.given.name == base.architecture else None
        alike.setdefault(("" if reference else base.architecture, base.image_shape, start), []).append(base.name)
    training = [one for one in parameters(type(part)) if one.training]
    given = {one.name: getattr(part, one.name) for one in training if getattr(part, one.name) != one.default}
    return [
        (
            tuple(models),
            Wanted(f"{models[0]}+{label(part)}", architecture, shape, None, reference, part.reads, given, start=start),
        )
        for (architecture, shape, start), models in alike.items()
    ]


def own_checkpoints(references: Sequence[str], detectors: Mapping[str, Detector]) -> dict[str, str]:
    """Recipe → reference, of the checkpoints among the references that are trained by a recipe.

    Raises:
        OodbenchError: there are two of a recipe, or no detector reads one.
    """
    found: dict[str, str] = {}
    wanted = {detector.reads for detector in detectors.values()}
    for reference in references:
        # What is no file is refused, in words, where classifiers are obtained.
        if not is_architecture(reference) and Path(reference).is_file() and (recipe := recipe_of(reference)):
            if recipe in found or recipe not in wanted:
                reason = f"so is {found[recipe]}" if recipe in found else "no detector of this run reads such a one"
                raise OodbenchError(f"{reference} is trained by the recipe {recipe}, and {reason}; leave it out")
            found[recipe] = reference
    return found


def _by_training(detectors: Mapping[str, Detector]) -> dict[Detector, dict[str, Detector]]:
    """The detectors with a classifier of their own, grouped by what decides its training.

    They share a classifier that agree in all their training parameters.
    """
    groups: dict[Detector, dict[str, Detector]] = {}
    for name, detector in detectors.items():
        if detector.reads is not None:
            defaults = {facts.name: facts.default for facts in parameters(type(detector)) if not facts.training}
            groups.setdefault(replace(detector, **defaults), {})[name] = detector
    return groups


def _with_detectors(benchmark: Benchmark, given: bool) -> tuple[Benchmark, list[str]]:
    """The benchmark with its detectors named, and what was left out: training, on something of the user's, can take
    hours on anything larger than digits, so detectors that have a classifier trained are asked for by name."""
    if benchmark.detectors is not None:
        return benchmark, []
    default = Benchmark()
    named = replace(benchmark, detectors=tuple(entry.name for entry in catalogue().values() if entry.default))
    theirs = given or (benchmark.id, benchmark.fit, benchmark.models) != (default.id, default.fit, default.models)
    if not theirs:
        return named, []
    detectors = build_detectors(named)
    there = own_checkpoints(benchmark.models, detectors)
    left_out = [
        name for name, one in detectors.items() if one.reads and find_recipe(one.reads).train and one.reads not in there
    ]
    notes = [
        f"left out: {name}, which would train a classifier; to run it, name it with --detector" for name in left_out
    ]
    return replace(named, detectors=tuple(name for name in detectors if name not in left_out)), notes


def build_detectors(benchmark: Benchmark) -> dict[str, Detector]:
    """Label → detector, in the benchmark's order; `parameters` apply to every detector of their name."""
    overrides: dict[str, dict[str, str]] = {}
    for key, value in benchmark.parameters.items():
        name, dot, parameter = key.partition(".")
        if not dot:
            raise OodbenchError(f"'{key}' names no detector's parameter; write DETECTOR.PARAMETER")
        overrides.setdefault(parse_spec(name)[0], {})[parameter] = str(value)
    detectors: dict[str, Detector] = {}
    for given in benchmark.detectors or ():
        more = overrides.get(name_of(type(given)) if isinstance(given, Detector) else parse_spec(given)[0], {})
        detector = changed(given, more) if isinstance(given, Detector) else build(given, more)
        if label(detector) in detectors:
            raise OodbenchError(f"detector {label(detector)} is named twice; name each once, or with other parameters")
        detectors[label(detector)] = detector
    unused = set(overrides) - {name_of(type(detector)) for detector in detectors.values()}
    if unused:
        raise OodbenchError(
            f"parameters are set for {', '.join(sorted(unused))}, which is not among the detectors to be run"
        )
    return detectors


def choose_device(name: str) -> torch.device:
    """The torch device of auto, cpu, cuda or mps.

    Raises:
        OodbenchError: the device is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind in there if there[kind]))
    if name not in there:
        raise OodbenchError(f"there is no device '{name}'; choose among auto, {', '.join(sorted(there))}")
    if not there[name]:
        raise OodbenchError(f"device {name} was asked for, but torch finds none here; use --device cpu or auto")
    return torch.device(name)


def is_architecture(reference: str) -> bool:
    """Whether a reference is an architecture of ours, to be trained, and no checkpoint."""
    return reference in MODELS and not Path(reference).exists()


def _drawn(images: ImageSet, limit: int | None, seed: int, role: str) -> ImageSet:
    """The set, or a seeded draw of `limit` of its images."""
    return _several(images, role).drawn(len(images) if limit is None else limit, seed)


def _several(images: ImageSet, role: str) -> ImageSet:
    """The set; a rank needs two images."""
    if len(images) < 2:
        raise OodbenchError(f"{role} set '{images.name}' has {len(images)} image(s); at least 2 are needed")
    return images
