"""Which classifiers a run needs: those the user asked for, and those that detectors have of their own."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from oodbench.benchmark import PREPROCESS, Benchmark
from oodbench.capture import refuse_missing
from oodbench.classifier import Classifier
from oodbench.data.load import InDistribution
from oodbench.data.preprocess import Preprocess, stretched
from oodbench.detectors.base import Detector
from oodbench.detectors.spec import label
from oodbench.errors import OodbenchError
from oodbench.models.catalogue import MODELS, find_model
from oodbench.models.load import default_model, load_classifier, recipe_of
from oodbench.models.normalisation import parse_normalisation
from oodbench.parameters import parameters
from oodbench.recipes.catalogue import Recipe, find_recipe
from oodbench.recipes.obtain import Wanted


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


def taken(given: Classifier | nn.Module, benchmark: Benchmark, id_set: InDistribution) -> Classifier:
    """A classifier, or one made of a plain torch module: with the classes and the image form of the ID set.

    Raises:
        OodbenchError: the module takes other images or gives another number of outputs, or it is no module.
    """
    if isinstance(given, Classifier):
        return given
    kind = type(given).__name__
    way = "oodbench.Classifier(network, num_classes=K, image_shape=(C, H, W), mean=…, std=…)"
    if not isinstance(given, nn.Module):
        raise OodbenchError(f"a {kind} is no classifier; pass a torch module, or {way}")
    told = parse_normalisation(benchmark.mean, benchmark.std, id_set.image_shape[0])
    mean, std = told or (None, None)
    try:
        return Classifier(given, num_classes=id_set.num_classes, image_shape=id_set.image_shape, mean=mean, std=std)
    except (OodbenchError, RuntimeError) as error:
        form = "×".join(map(str, id_set.image_shape))
        raise OodbenchError(
            f"{kind} does not tell the {id_set.num_classes} classes of {id_set.name} apart on its images, {form}: "
            f"{error}; pass {way} with what it takes"
        ) from error


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
            wanted.append(Wanted(one, one, stretched(id_set.image_shape), retrain=benchmark.retrain))
            continue
        # Labels of somebody's set tell the classes that it shows; the classifier may know more.
        if one.num_classes < id_set.num_classes or (id_set.published and one.num_classes > id_set.num_classes):
            raise OodbenchError(
                f"{one.name} has {one.num_classes} classes, but {id_set.name} has {id_set.num_classes}"
                f"{id_set.about_labels}; give a classifier that was trained on {id_set.name}, or another --id"
            )
        # Beside a network of another project, detectors' own are the small one for that size of image.
        architecture = one.name if one.name in MODELS else default_model(one.image_shape)
        name = one.name if names.count(one.name) == 1 else f"{one.name}-{one.content_hash()[:6]}"
        wanted.append(Wanted(name, architecture, one.form, given=one, retrain=benchmark.retrain))
    if len({one.name for one in wanted}) < len(wanted):
        raise OodbenchError("the same classifier is named twice; name each once")
    return wanted


def classes_of(bases: Sequence[Wanted], id_set: InDistribution) -> int:
    """K, of the classifiers that are there; else of the ID set."""
    told = {base.name: base.given.num_classes for base in bases if base.given}
    if len(set(told.values())) > 1:
        raise OodbenchError(f"the classifiers tell different numbers of classes apart ({told}); use them in two runs")
    return max(told.values(), default=id_set.num_classes)


def refuse_unreadable(classifier: Classifier, detectors: Mapping[str, Detector]) -> None:
    """Raise OodbenchError where a classifier does not have what one of the detectors reads; no image is passed."""
    for name, detector in detectors.items():
        try:
            refuse_missing(classifier, detector.needs | detector.fit_needs)
        except OodbenchError as error:
            raise OodbenchError(f"{name} cannot read {classifier.name}: {error}") from error


def _loaded(reference: str, benchmark: Benchmark, id_set: InDistribution) -> Classifier:
    if "=" not in reference and not Path(reference).exists() and not Path(reference).suffix:
        find_model(reference)
    return load_classifier(
        reference,
        num_classes=None,
        image_shape=id_set.image_shape,
        mean=benchmark.mean,
        std=benchmark.std,
        **{name: getattr(benchmark, name) for name in PREPROCESS},
    )


def assign(bases: Sequence[Wanted], detectors: Mapping[str, Detector], given: Mapping[str, str]) -> list[Assignment]:
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
        own = Wanted(f"{'+'.join(names)}+{part.reads}", "", first.form, recipe=part.reads, members=names)
        return [(names, own)]
    if reference is not None and part != type(part)():
        raise OodbenchError(
            f"{label(part)} says how its classifier is trained, but {reference} is trained already; "
            f"leave out the checkpoint, or the detector's training parameters"
        )
    # Bases for which it is the same have one between them, so that images pass it once. A recipe that fine-tunes starts
    # from the classifier itself, where it is there and of an architecture that is known here.
    alike: dict[tuple[str, Preprocess, Classifier | None], list[str]] = {}
    tunes = find_recipe(part.reads).finetuning is not None and not reference
    for base in bases:
        start = base.given if tunes and base.given and base.given.name == base.architecture else None
        # A function of the user's cannot be kept with a checkpoint.
        form = base.form if isinstance(base.form, Preprocess) else stretched(base.form.shape)
        start = start if form == base.form else None
        alike.setdefault(("" if reference else base.architecture, form, start), []).append(base.name)
    training = [one for one in parameters(type(part)) if one.training]
    given = {one.name: getattr(part, one.name) for one in training if getattr(part, one.name) != one.default}
    own = Wanted("", "", bases[0].form, None, reference, part.reads, given, retrain=bases[0].retrain)
    return [
        (
            tuple(models),
            replace(own, name=f"{models[0]}+{label(part)}", architecture=architecture, form=form, start=start),
        )
        for (architecture, form, start), models in alike.items()
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


def is_architecture(reference: str) -> bool:
    """Whether a reference is an architecture of ours, to be trained, and no checkpoint."""
    return reference in MODELS and not Path(reference).exists()
