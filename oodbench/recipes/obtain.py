"""The classifiers that a run needs: given, loaded, derived from others, or trained once and kept by what decides it.

Those of the default run come with the package, so that its scores are the same wherever it runs.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from oodbench.classifier import Classifier
from oodbench.data.inputs import Form, key_of
from oodbench.data.load import InDistribution
from oodbench.data.matching import ImageShape
from oodbench.errors import OodbenchError
from oodbench.files import cache_folder, check_cache, safe_name
from oodbench.models.checkpoint import load_checkpoint
from oodbench.models.load import load_classifier
from oodbench.parameters import changed
from oodbench.progress import Reporter
from oodbench.recipes.catalogue import PLAIN, Recipe, find_recipe
from oodbench.resume import is_damaged

if TYPE_CHECKING:
    from oodbench.recipes.sheet import Sheet

WITH_OODBENCH = Path(__file__).with_name("trained")
"""Checkpoints that come with the package, named as in the cache, after all that decides a training."""


@dataclass(frozen=True)
class Wanted:
    """A classifier that is to be obtained.

    Attributes:
        name: how results call it.
        architecture: what is trained, where nothing is given.
        form: how images become its input.
        given: it is there already.
        reference: a checkpoint that it is loaded from.
        recipe: how it is made.
        parameters: what a detector says of its training, where that is not the default.
        members: names of those that it is derived from.
        start: what its training starts from, of recipes that fine-tune.
        retrain: it is trained on this machine, also where it comes with oodbench.
    """

    name: str
    architecture: str
    form: Form
    given: Classifier | None = None
    reference: str | None = None
    recipe: str = PLAIN
    parameters: Mapping[str, Any] = field(default_factory=dict)
    members: tuple[str, ...] = ()
    start: Classifier | None = None
    retrain: bool = False

    @property
    def image_shape(self) -> ImageShape:
        """(C, H, W) of the images that it takes."""
        return self.form.shape

    @property
    def is_trained(self) -> bool:
        """Whether it is trained on the ID set, now or earlier, and not given in any way."""
        return self.given is None and self.reference is None and find_recipe(self.recipe).train is not None


@dataclass(frozen=True)
class Obtained:
    """A classifier, and the picture that its training left, if there is one."""

    classifier: Classifier
    sheet: Sheet | None = None


def obtain(
    wanted: Wanted,
    id_set: InDistribution,
    device: torch.device,
    reporter: Reporter,
    others: Mapping[str, Classifier] | None = None,
) -> Obtained:
    """A classifier on the device: as it was given, loaded, derived, from the cache, or trained on the ID set.

    Args:
        others: those obtained before, by name, for one that is derived.

    Raises:
        OodbenchError: the training fails, or a checkpoint is not what is wanted.
    """
    recipe = find_recipe(wanted.recipe)
    if wanted.given is not None:
        return Obtained(_on(wanted.given, device))
    if recipe.derive is not None:
        members: Sequence[Classifier] = [(others or {})[name] for name in wanted.members]
        return Obtained(recipe.derive(members))
    classes = id_set.num_classes + recipe.more_outputs
    if wanted.reference is not None:
        return Obtained(_checkpoint(wanted, classes).to(device), _sheet(recipe, Path(wanted.reference)))
    checkpoint = _trained(wanted, recipe, id_set, device, reporter)
    # Loaded also when it was trained just now, so that both runs score the very same classifier.
    classifier = load_classifier(str(checkpoint), num_classes=classes, image_shape=wanted.image_shape)
    return Obtained(classifier.to(device), _sheet(recipe, checkpoint))


def images_to_train_on(wanted: Wanted, id_set: InDistribution) -> int:
    """Images that its training takes, each as often as there are epochs; 0 where it is not trained."""
    if not wanted.is_trained or with_oodbench(wanted, id_set):
        return 0
    return epochs_of(_settings(wanted, id_set)) * len(id_set.fit)


def epochs_of(settings: Any) -> int:
    """Epochs of a recipe's settings, which are those of a training or have such."""
    epochs: int = getattr(settings, "training", settings).epochs
    return epochs


def _trained(wanted: Wanted, recipe: Recipe, id_set: InDistribution, device: torch.device, reporter: Reporter) -> Path:
    """The checkpoint of a training on the whole training split of the ID set: with oodbench, or done now or earlier."""
    assert recipe.train is not None
    by = "" if wanted.recipe == PLAIN else f" by the recipe {wanted.recipe}"
    what = f"{wanted.start.name if wanted.start else wanted.architecture}{by} on {id_set.name}"
    if ours := with_oodbench(wanted, id_set):
        reporter.say(f"classifier: {what}, comes with oodbench (`oodbench run --retrain` trains it)")
        return ours
    checkpoint = cache_folder() / "classifiers" / _file_name(wanted, id_set)
    if checkpoint.is_file():
        if _is_sound(checkpoint):
            reporter.say(f"classifier: {what}, trained earlier ({checkpoint})")
            return checkpoint
        reporter.say(f"{checkpoint} of the cache is damaged, or of an oodbench that kept no checksum: it is made anew")
    check_cache()
    resume = Path(f"{checkpoint}.resume")
    if is_damaged(resume):
        reporter.say(f"{resume} of the cache is damaged: the training starts afresh")
        resume.unlink()
    reporter.say(f"classifier: {'fine-tuning' if wanted.start else 'training'} {what}; kept in {checkpoint}")
    recipe.train(
        wanted.architecture,
        id_set.fit,
        id_set.test,
        num_classes=id_set.num_classes,
        form=wanted.form,
        settings=_settings(wanted, id_set),
        checkpoint=checkpoint,
        device=device,
        reporter=reporter,
        **({"start_from": _on(wanted.start, device)} if wanted.start else {}),
    )
    return checkpoint


def _is_sound(checkpoint: Path) -> bool:
    """Whether a checkpoint of the cache is, bit by bit, what was saved."""
    try:
        return load_checkpoint(checkpoint).verified
    except OodbenchError:
        return False


def with_oodbench(wanted: Wanted, id_set: InDistribution) -> Path | None:
    """The checkpoint of what would be trained, if it comes with oodbench; None if it does not, or shall not serve."""
    checkpoint = WITH_OODBENCH / _file_name(wanted, id_set)
    return checkpoint if checkpoint.is_file() and not wanted.retrain else None


def _settings(wanted: Wanted, id_set: InDistribution) -> Any:
    defaults = find_recipe(wanted.recipe).defaults(id_set, wanted.architecture, wanted.start is not None)
    return changed(defaults, wanted.parameters)


def _file_name(wanted: Wanted, id_set: InDistribution) -> str:
    """Of the checkpoint of a training, after all that decides what is trained."""
    fit = id_set.fit
    decides = [
        wanted.recipe,
        wanted.architecture,
        key_of(wanted.form),
        asdict(_settings(wanted, id_set)),
        fit.content_hash,
        fit.labels_hash,
        *([wanted.start.content_hash()] if wanted.start else []),
    ]
    key = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:12]
    names = [id_set.name, wanted.architecture, *([] if wanted.recipe == PLAIN else [wanted.recipe])]
    return f"{safe_name('-'.join(names))}-{key}.safetensors"


def _checkpoint(wanted: Wanted, classes: int) -> Classifier:
    assert wanted.reference is not None
    classifier = load_classifier(wanted.reference, num_classes=classes, image_shape=wanted.image_shape)
    if classifier.form != wanted.form:
        raise OodbenchError(
            f"{wanted.reference} takes images of {classifier.image_shape} ({classifier.form.words}), the others of "
            f"{wanted.image_shape} ({wanted.form.words}); use them in two runs"
        )
    return classifier


def _on(classifier: Classifier, device: torch.device) -> Classifier:
    """The classifier on the device: itself where it lies there, else a copy, since it is somebody's own."""
    if classifier.device.type == device.type and device.index in (None, classifier.device.index):
        return classifier
    moved = copy.copy(classifier)
    moved.module = copy.deepcopy(classifier.module)
    return moved.to(device)


def _sheet(recipe: Recipe, checkpoint: Path) -> Sheet | None:
    return recipe.sheet(checkpoint) if recipe.sheet else None
