"""From a Benchmark to everything a run needs, with all that can be checked checked before the first pass."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from oodbench.benchmark import Benchmark
from oodbench.classifier import Classifier
from oodbench.data.imageset import ImageSet
from oodbench.data.load import InDistribution, expand_ood, load_id, load_ood
from oodbench.data.matching import ImageShape
from oodbench.detectors.base import Detector
from oodbench.detectors.spec import build, label, parse_spec
from oodbench.errors import OodbenchError
from oodbench.files import cache_folder
from oodbench.models.catalogue import MODELS, find_model
from oodbench.models.load import default_model, load_classifier, recipe_of
from oodbench.progress import Reporter
from oodbench.recipes.obtain import find_recipe, obtain_own_classifier, training_part
from oodbench.recipes.sheet import Sheet
from oodbench.training import EpochReport, default_settings, train


@dataclass(frozen=True)
class Machine:
    """Where and how a run happens; none of it changes a score beyond rounding.

    Attributes:
        data_root: folder that holds the data sets; None is the usual places.
        device: auto, cpu, cuda or mps.
        batch_size: images that enter the network at a time.
        workers: processes that read images.
    """

    data_root: Path | None = None
    device: str = "auto"
    batch_size: int = 128
    workers: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise OodbenchError(f"the batch size must be at least 1, not {self.batch_size}")
        if self.workers < 0:
            raise OodbenchError(f"the number of workers must be 0 or more, not {self.workers}")


@dataclass(frozen=True)
class Assignment:
    """A classifier, and the detectors that read it.

    Attributes:
        models: what the detectors' rows are called after, once for each. A detector's own classifier has its
            architecture from those that the user asked for, or is given for all, and its rows stand with those of each,
            where they are scored too.
        garbage: whether the last of the classifier's outputs is no ID class but garbage.
        sheet: the picture that the classifier's training left, if there is one.
    """

    models: tuple[str, ...]
    classifier: Classifier
    detectors: Mapping[str, Detector]
    garbage: bool = False
    sheet: Sheet | None = None


@dataclass(frozen=True)
class Plan:
    """All that a run needs.

    Attributes:
        assignments: which detectors read which classifier.
        sets: per image form of the classifiers, since generated sets are made in it, the scored OOD sets and the
            validation sets.
        detectors: label → detector, not fitted.
        notes: what was decided for the user, in sentences.
    """

    benchmark: Benchmark
    machine: Machine
    id_set: InDistribution
    assignments: list[Assignment]
    detectors: dict[str, Detector]
    sets: dict[ImageShape, tuple[list[ImageSet], list[ImageSet]]]
    notes: list[str]


def make_plan(
    benchmark: Benchmark, machine: Machine, reporter: Reporter, classifiers: Sequence[Classifier] = ()
) -> Plan:
    """Resolve every name, load every set, get every classifier; raise before any image is passed.

    Args:
        classifiers: from Python, instead of `benchmark.models`.
    """
    device = choose_device(machine.device)
    detectors = build_detectors(benchmark)
    whole = load_id(benchmark.id, data_root=machine.data_root, seed=benchmark.seed, fit=benchmark.fit)
    scored, notes = expand_ood(benchmark.ood, id_name=whole.name, data_root=machine.data_root)
    validation, more = expand_ood(benchmark.validation_ood, id_name=whole.name, data_root=machine.data_root)
    id_set = replace(
        whole,
        fit=_drawn(whole.fit, benchmark.fit_limit, benchmark.seed, "fit"),
        test=_drawn(whole.test, benchmark.limit, benchmark.seed, "ID test"),
    )
    expanded = replace(benchmark, ood=tuple(scored), validation_ood=tuple(validation))
    load_sets = partial(_load_sets, expanded, machine, id_set)
    # In the ID images' form, that of all classifiers trained here, before any is: what is missing is said first.
    sets = {whole.image_shape: load_sets(whole.image_shape)}
    given = own_checkpoints(benchmark.models, detectors)
    references = [one for one in benchmark.models if one not in given.values()] or [default_model(whole.image_shape)]
    if len(set(references)) < len(references):
        raise OodbenchError("the same classifier is named twice; name each once")
    # An architecture that no detector reads as such need not be trained.
    if not classifiers and all(map(is_architecture, references)) and all(one.recipe for one in detectors.values()):
        bases = [_Base(one, one, whole.image_shape) for one in references]
    else:
        obtained = classifiers or [obtain_classifier(one, benchmark, whole, device, reporter) for one in references]
        bases = _bases(obtained, whole, device)
    sets |= {shape: load_sets(shape) for shape in {base.image_shape for base in bases} - sets.keys()}
    assignments = _assignments(bases, detectors, given, whole, device, reporter)
    return Plan(benchmark, machine, id_set, assignments, detectors, sets, notes + more)


def _load_sets(
    benchmark: Benchmark, machine: Machine, id_set: InDistribution, shape: ImageShape
) -> tuple[list[ImageSet], list[ImageSet]]:
    """The scored OOD sets and the validation sets, none of which is scored; what is generated, in that form."""

    def load(name: str, limit: int | None) -> ImageSet:
        images = load_ood(name, id_set=id_set, shape=shape, seed=benchmark.seed, data_root=machine.data_root)
        return _drawn(images, limit, benchmark.seed, "OOD")

    scored = [load(name, benchmark.limit) for name in benchmark.ood]
    validation = [load(name, benchmark.fit_limit) for name in benchmark.validation_ood]
    names = [images.name for images in scored]
    for name in names:
        if names.count(name) > 1:
            raise OodbenchError(
                f"two OOD sets are called '{name}'; rename a file or folder so that rows can be told apart"
            )
    contents = {images.content_hash: images.name for images in scored} if validation else {}
    for images in validation:
        if images.content_hash in contents:
            raise OodbenchError(
                f"validation set '{images.name}' holds the same images as scored set "
                f"'{contents[images.content_hash]}', so a choice made on it would leak into the result; use another"
            )
    return scored, validation


class _Base(NamedTuple):
    """What the user asked for: a classifier, or an architecture alone, where no detector reads it as such.

    Detectors' own classifiers are of its architecture and image form.
    """

    model: str
    architecture: str
    image_shape: ImageShape
    classifier: Classifier | None = None


def _bases(classifiers: Sequence[Classifier], id_set: InDistribution, device: torch.device) -> list[_Base]:
    """The classifiers, on the device; where two have one name, each is called after its content too."""
    bases: list[_Base] = []
    names = [classifier.name for classifier in classifiers]
    for one in classifiers:
        if one.num_classes != id_set.num_classes:
            raise OodbenchError(
                f"{one.name} has {one.num_classes} classes, but {id_set.name} has {id_set.num_classes}; "
                f"give a classifier that was trained on {id_set.name}, or another --id"
            )
        # Beside a network of another project, detectors' own are the small one for that size of image.
        architecture = one.name if one.name in MODELS else default_model(one.image_shape)
        if names.count(one.name) > 1:
            one.name = f"{one.name}-{one.content_hash()[:6]}"
        bases.append(_Base(one.name, architecture, one.image_shape, one.to(device)))
    if len({base.model for base in bases}) < len(bases):
        raise OodbenchError("the same classifier is named twice; name each once")
    return bases


def _assignments(
    bases: Sequence[_Base],
    detectors: Mapping[str, Detector],
    given: Mapping[str, str],
    id_set: InDistribution,
    device: torch.device,
    reporter: Reporter,
) -> list[Assignment]:
    """The bases with the detectors that read any classifier, and the others' own classifiers, given or trained."""
    shared = {name: detector for name, detector in detectors.items() if detector.recipe is None}
    assignments = [Assignment((one.model,), one.classifier, shared) for one in bases if shared and one.classifier]
    for part, readers in _by_training(detectors).items():
        assert part.recipe is not None
        reference = given.get(part.recipe)
        # Bases for which it is the same have one between them, so that images pass it once.
        alike: dict[tuple[str, ImageShape], list[str]] = {}
        for model, architecture, shape, _ in bases:
            alike.setdefault(("" if reference else architecture, shape), []).append(model)
        for (architecture, shape), models in alike.items():
            classifier, sheet = obtain_own_classifier(part, architecture, id_set, shape, device, reporter, reference)
            classifier.name = f"{models[0]}+{label(part)}"
            rows = tuple(models) if shared else (classifier.name,)
            assignments.append(Assignment(rows, classifier, readers, find_recipe(part.recipe).garbage, sheet))
    return assignments


def own_checkpoints(references: Sequence[str], detectors: Mapping[str, Detector]) -> dict[str, str]:
    """Recipe → reference, of the checkpoints among the references that are trained by a recipe.

    Raises:
        OodbenchError: there are two of a recipe, or no detector reads one.
    """
    found: dict[str, str] = {}
    wanted = {detector.recipe for detector in detectors.values()}
    for reference in references:
        # What is no file is refused, in words, where classifiers are obtained.
        if not is_architecture(reference) and Path(reference).is_file() and (recipe := recipe_of(reference)):
            if recipe in found or recipe not in wanted:
                reason = f"so is {found[recipe]}" if recipe in found else "no detector of this run reads such a one"
                raise OodbenchError(f"{reference} is trained by the recipe {recipe}, and {reason}; leave it out")
            found[recipe] = reference
    return found


def _by_training(detectors: Mapping[str, Detector]) -> dict[Detector, dict[str, Detector]]:
    """The detectors with a classifier of their own, grouped by what decides its training."""
    groups: dict[Detector, dict[str, Detector]] = {}
    for name, detector in detectors.items():
        if detector.recipe is not None:
            groups.setdefault(training_part(detector), {})[name] = detector
    return groups


def build_detectors(benchmark: Benchmark) -> dict[str, Detector]:
    """Label → detector, in the benchmark's order; `parameters` apply to every detector of their name."""
    overrides: dict[str, dict[str, str]] = {}
    for key, value in benchmark.parameters.items():
        name, dot, parameter = key.partition(".")
        if not dot:
            raise OodbenchError(f"'{key}' names no detector's parameter; write DETECTOR.PARAMETER, e.g. odin.epsilon")
        overrides.setdefault(parse_spec(name)[0], {})[parameter] = str(value)
    detectors: dict[str, Detector] = {}
    for spec in benchmark.detectors:
        detector = build(spec, overrides.get(parse_spec(spec)[0], {}))
        if label(detector) in detectors:
            raise OodbenchError(f"detector {label(detector)} is named twice; name each once, or with other parameters")
        detectors[label(detector)] = detector
    unused = set(overrides) - {parse_spec(spec)[0] for spec in benchmark.detectors}
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


def obtain_classifier(
    reference: str, benchmark: Benchmark, id_set: InDistribution, device: torch.device, reporter: Reporter
) -> Classifier:
    """The classifier of `reference`: loaded, or, for a bare architecture of ours, trained once and kept."""
    if "=" not in reference and not Path(reference).exists() and not Path(reference).suffix:
        find_model(reference)
    if not is_architecture(reference):
        classifier = load_classifier(
            reference,
            num_classes=id_set.num_classes,
            image_shape=id_set.image_shape,
            mean=benchmark.mean,
            std=benchmark.std,
        )
        return classifier.to(device)
    if benchmark.mean or benchmark.std:
        reporter.say(f"--mean and --std are not used for {reference}: it is trained here, with those of {id_set.name}")
    settings = default_settings(id_set.name, reference)
    recipe = json.dumps([reference, asdict(settings), id_set.fit.content_hash, id_set.fit.labels_hash])
    key = hashlib.sha256(recipe.encode()).hexdigest()[:12]
    checkpoint = cache_folder() / "classifiers" / f"{id_set.name}-{reference}-{key}.safetensors"
    if checkpoint.is_file():
        reporter.say(f"classifier: {reference} trained on {id_set.name} earlier ({checkpoint})")
    else:
        reporter.say(
            f"classifier: training {reference} on {id_set.name}, {settings.epochs} epochs; kept in {checkpoint}"
        )
        train(
            reference,
            id_set.fit,
            id_set.test,
            num_classes=id_set.num_classes,
            image_shape=id_set.image_shape,
            settings=settings,
            checkpoint=checkpoint,
            device=device,
            progress=lambda report: _say_epoch(reporter, report),
        )
    # Loaded also when it was trained just now, so that both runs score the very same classifier.
    loaded = load_classifier(str(checkpoint), num_classes=id_set.num_classes, image_shape=id_set.image_shape)
    return loaded.to(device)


def _say_epoch(reporter: Reporter, report: EpochReport) -> None:
    # A line an epoch is progress where epochs take long, and noise where they take no time; the last says how it went.
    if report.seconds > 5 or report.epoch == report.epochs:
        reporter.say(
            f"classifier: epoch {report.epoch} of {report.epochs}, accuracy {100 * report.accuracy:.2f} % on the ID "
            f"test images, which decide nothing"
        )


def _drawn(images: ImageSet, limit: int | None, seed: int, role: str) -> ImageSet:
    """The set, or a seeded draw of `limit` of its images; a rank needs two."""
    if len(images) < 2:
        raise OodbenchError(f"{role} set '{images.name}' has {len(images)} image(s); at least 2 are needed")
    return images if limit is None else images.drawn(limit, seed)
