"""The classifier that a detector with a recipe reads: trained once, and kept by what decides it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from oodbench.classifier import Classifier
from oodbench.data.load import InDistribution
from oodbench.data.matching import ImageShape
from oodbench.detectors.base import Detector
from oodbench.detectors.spec import label, parameters
from oodbench.errors import OodbenchError, unknown_name
from oodbench.files import cache_folder
from oodbench.models.load import load_classifier
from oodbench.progress import Reporter
from oodbench.recipes.confidence import ConfidenceSettings, default_confidence_settings, train_confidence
from oodbench.recipes.garbage import train_garbage
from oodbench.recipes.settings import GarbageSettings, default_garbage_settings
from oodbench.recipes.sheet import Sheet, kept_sheet


@dataclass(frozen=True)
class Recipe:
    """How a detector's own classifier is trained.

    Attributes:
        settings: (ID set, architecture, training parameters of the detector, some or all) → settings, a dataclass
            whose field `training` is a TrainingSettings.
        train: as `garbage.train_garbage`.
        more_outputs: how many outputs the classifier has beyond the ID classes.
        garbage: whether the one beyond them is a class too, that of what is none of them.
        sheet: the picture that a training left beside its checkpoint, None where there is none; of recipes that
            leave pictures.
    """

    settings: Callable[[str, str, Mapping[str, Any]], Any]
    train: Callable[..., Any]
    more_outputs: int
    garbage: bool
    sheet: Callable[[Path], Sheet | None] | None = None


class Own(NamedTuple):
    """A detector's own classifier, and the picture that its training left, if there is one."""

    classifier: Classifier
    sheet: Sheet | None = None


def _garbage_settings(id_name: str, architecture: str, given: Mapping[str, Any]) -> GarbageSettings:
    settings = default_garbage_settings(id_name, architecture)
    training = replace(settings.training, seed=given.get("seed", settings.training.seed))
    # -1 leaves what is the default for the ID set.
    chosen = {name: value for name, value in given.items() if name != "seed" and value != -1}
    return replace(settings.replaced(**chosen), training=training)


def _confidence_settings(id_name: str, architecture: str, given: Mapping[str, Any]) -> ConfidenceSettings:
    settings = default_confidence_settings(id_name, architecture)
    training = replace(settings.training, seed=given.get("seed", settings.training.seed))
    return replace(settings, budget=given.get("budget", settings.budget), training=training)


RECIPES: Mapping[str, Recipe] = {
    "garbage": Recipe(_garbage_settings, train_garbage, more_outputs=1, garbage=True, sheet=kept_sheet),
    "confidence": Recipe(_confidence_settings, train_confidence, more_outputs=1, garbage=False),
}


def find_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        OodbenchError: there is none.
    """
    if name not in RECIPES:
        raise unknown_name("recipe", name, RECIPES)
    return RECIPES[name]


def training_part(detector: Detector) -> Detector:
    """The detector with all but its training parameters at their defaults: detectors equal in it share a classifier."""
    defaults = {facts.name: facts.default for facts in parameters(type(detector)) if not facts.training}
    return replace(detector, **defaults)


def obtain_own_classifier(
    detector: Detector,
    architecture: str,
    id_set: InDistribution,
    image_shape: ImageShape,
    device: torch.device,
    reporter: Reporter,
    reference: str | None = None,
) -> Own:
    """The classifier of a detector's recipe, on the whole training split of the ID set: from the cache, or trained.

    Args:
        reference: a checkpoint of the recipe, instead.

    Raises:
        OodbenchError: there is no such recipe, the training fails, or the checkpoint is not what the detector reads.
    """
    if detector.recipe is None:
        raise OodbenchError(f"{type(detector).__name__} has no recipe; it reads any classifier")
    recipe = find_recipe(detector.recipe)
    classes = id_set.num_classes + recipe.more_outputs
    if reference is not None:
        return Own(_given(reference, detector, classes, image_shape).to(device), _sheet(recipe, Path(reference)))
    given = {facts.name: getattr(detector, facts.name) for facts in parameters(type(detector)) if facts.training}
    settings = recipe.settings(id_set.name, architecture, given)
    checkpoint = _cached(detector.recipe, architecture, settings, id_set, image_shape)
    what = f"{architecture} by the recipe {detector.recipe} on {id_set.name}"
    if checkpoint.is_file():
        reporter.say(f"classifier: {what}, trained earlier ({checkpoint})")
    else:
        reporter.say(f"classifier: training {what}; kept in {checkpoint}")
        recipe.train(
            architecture,
            id_set.fit,
            id_set.test,
            num_classes=id_set.num_classes,
            image_shape=image_shape,
            settings=settings,
            checkpoint=checkpoint,
            device=device,
            reporter=reporter,
        )
    # Loaded also when it was trained just now, so that both runs score the very same classifier.
    classifier = load_classifier(str(checkpoint), num_classes=classes, image_shape=image_shape)
    return Own(classifier.to(device), _sheet(recipe, checkpoint))


def _sheet(recipe: Recipe, checkpoint: Path) -> Sheet | None:
    return recipe.sheet(checkpoint) if recipe.sheet else None


def _given(reference: str, detector: Detector, classes: int, image_shape: ImageShape) -> Classifier:
    if training_part(detector) != type(detector)():
        raise OodbenchError(
            f"{label(detector)} says how its classifier is trained, but {reference} is trained already; "
            f"leave out the checkpoint, or the detector's training parameters"
        )
    classifier = load_classifier(reference, num_classes=classes, image_shape=image_shape)
    if classifier.image_shape != image_shape:
        raise OodbenchError(
            f"{reference} takes images of {classifier.image_shape}, the others of {image_shape}; use them in two runs"
        )
    return classifier


def _cached(recipe: str, architecture: str, settings: Any, id_set: InDistribution, image_shape: ImageShape) -> Path:
    decides = [recipe, architecture, image_shape, asdict(settings), id_set.fit.content_hash, id_set.fit.labels_hash]
    key = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:12]
    return cache_folder() / "classifiers" / f"{id_set.name}-{architecture}-{recipe}-{key}.safetensors"
