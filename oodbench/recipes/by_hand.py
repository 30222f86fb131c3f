"""A training that a user asked for by itself: any recipe, its settings, where it starts and what it leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from oodbench.classifier import Classifier
from oodbench.data.imageset import ImageSet
from oodbench.data.inputs import Form
from oodbench.data.load import InDistribution
from oodbench.errors import OodbenchError
from oodbench.files import check_output
from oodbench.models.load import default_model, load_classifier
from oodbench.models.preprocessing import Said, preprocess_of
from oodbench.parameters import changed
from oodbench.progress import TRAINING_PASS, Reporter, whole
from oodbench.recipes.catalogue import PLAIN, RECIPES, find_recipe
from oodbench.recipes.obtain import epochs_of


@dataclass(frozen=True)
class Training:
    """What is to be trained.

    Attributes:
        recipe: a name of the recipes.
        architecture: None is that of `start`, or the default for the images' size.
        values: settings by name, texts or values.
        start: a checkpoint that is fine-tuned, of recipes that do so.
        said: how images become its input, or that of what is trained; there normalisation is that of the images.
        calibrate_on: ID images that a recipe calibrates on, if not on a part of the training images.
    """

    recipe: str = PLAIN
    architecture: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    start: str | None = None
    said: Said = field(default_factory=Said)
    calibrate_on: ImageSet | None = None


def train_by_hand(
    wanted: Training, id_set: InDistribution, out: Path | None, device: torch.device, reporter: Reporter
) -> Path:
    """Train, and write the checkpoint; returns where.

    Args:
        out: by default ID-ARCHITECTURE[-RECIPE].safetensors in the current folder.

    Raises:
        OodbenchError: the recipe trains nothing or cannot do what is wanted, a setting is wrong, or the training fails.
    """
    recipe = find_recipe(wanted.recipe)
    if recipe.train is None or recipe.settings is None:
        trained = ", ".join(name for name, one in RECIPES.items() if one.train)
        raise OodbenchError(f"the recipe {wanted.recipe} trains nothing; there are: {trained}")
    if recipe.finetuning is None and (wanted.start or wanted.calibrate_on):
        able = ", ".join(name for name, one in RECIPES.items() if one.finetuning)
        raise OodbenchError(f"the recipe {wanted.recipe} does not fine-tune or calibrate; these do: {able}")
    start = _start(wanted, id_set, device)
    architecture = start.name if start else wanted.architecture or default_model(id_set.image_shape)
    settings = changed(recipe.defaults(id_set, architecture, start is not None), wanted.values)
    named = [id_set.name, architecture, *([] if wanted.recipe == PLAIN else [wanted.recipe])]
    checkpoint = out or Path(f"{'-'.join(named)}.safetensors")
    check_output(checkpoint)
    more = {"start_from": start, "calibrate_on": wanted.calibrate_on} if recipe.finetuning else {}
    with whole().step("training", epochs_of(settings) * len(id_set.fit), TRAINING_PASS):
        recipe.train(
            architecture,
            id_set.fit,
            id_set.test,
            num_classes=id_set.num_classes,
            form=start.form if start else _form(wanted.said, id_set),
            settings=settings,
            checkpoint=checkpoint,
            device=device,
            reporter=reporter,
            **more,
        )
    return checkpoint


def _form(said: Said, id_set: InDistribution) -> Form:
    """Into which images are brought for a network that is trained from nothing."""
    shape = id_set.image_shape
    return preprocess_of(replace(said, mean="none", std=None), None, shape, id_set.name, shape[0]).form


def _start(wanted: Training, id_set: InDistribution, device: torch.device) -> Classifier | None:
    if wanted.start is None:
        return None
    start = load_classifier(
        wanted.start,
        num_classes=id_set.num_classes,
        image_shape=id_set.image_shape,
        **asdict(wanted.said),
    ).to(device)
    if wanted.architecture not in (None, start.name):
        raise OodbenchError(f"--from names a {start.name}, --model a {wanted.architecture}; leave out --model")
    return start
