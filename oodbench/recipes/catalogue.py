"""Recipes: how the classifiers of a run are made, by training or from others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from oodbench.errors import unknown_name

if TYPE_CHECKING:
    from oodbench.classifier import Classifier
    from oodbench.data.load import InDistribution
    from oodbench.outputs import Outputs
    from oodbench.recipes.sheet import Sheet


@dataclass(frozen=True)
class Recipe:
    """How a classifier is made.

    Attributes:
        summary: what it makes, in a few words.
        settings: (ID set, architecture) → the default settings, a dataclass of `parameters`.
        train: as `plain.train_plain`; None where nothing is trained.
        finetuning: the same as `settings`, for a network that is trained already and so many fit images, of recipes
            whose `train` takes one.
        derive: the classifier made of those under test, where nothing is trained.
        combine: what a derived classifier makes of images, of what those make of them that it is derived from; None:
            it is asked itself.
        more_outputs: how many outputs it has beyond the ID classes.
        column: where the output beyond them is an answer as the classes are: the name of the share of the OOD images
            that it takes, in tables.
        high_for: which images the output beyond the classes is high for.
        sheet: the picture that a training left beside its checkpoint, None where there is none; of recipes that
            leave pictures.
    """

    summary: str
    settings: Callable[[str, str], Any] | None = None
    train: Callable[..., Any] | None = None
    finetuning: Callable[[str, str, int], Any] | None = None
    derive: Callable[[Sequence[Classifier]], Classifier] | None = None
    combine: Callable[[Sequence[Outputs]], Outputs] | None = None
    more_outputs: int = 0
    column: str | None = None
    high_for: Literal["ID", "OOD"] = "ID"
    sheet: Callable[[Path], Sheet | None] | None = None

    def defaults(self, id_set: InDistribution, architecture: str, from_trained: bool) -> Any:
        """The settings of a training on an ID set, where the user gives none."""
        if from_trained and self.finetuning is not None:
            return self.finetuning(id_set.name, architecture, len(id_set.fit))
        assert self.settings is not None
        return self.settings(id_set.name, architecture)


@dataclass(frozen=True)
class Later:
    """A function of a module that is imported when it is called: most runs train nothing, and none trains all."""

    where: str

    def __call__(self, *args: Any, **options: Any) -> Any:
        """What the function gives."""
        module, _, name = self.where.partition(":")
        return getattr(import_module(f"oodbench.{module}"), name)(*args, **options)


PLAIN = "plain"
"""The recipe of a classifier that no detector has of its own."""

RECIPES: Mapping[str, Recipe] = {
    PLAIN: Recipe(
        "a classifier of the ID classes", Later("training:default_settings"), Later("recipes.plain:train_plain")
    ),
    "garbage": Recipe(
        "a classifier with a class for what is none of the others, trained on inversions of itself",
        Later("recipes.settings:default_garbage_settings"),
        Later("recipes.garbage:train_garbage"),
        Later("recipes.settings:finetuning_settings"),
        more_outputs=1,
        column="garbage_share",
        high_for="OOD",
        sheet=Later("recipes.sheet:kept_sheet"),
    ),
    "confidence": Recipe(
        "a classifier that says how sure it is, paid in hints",
        Later("recipes.confidence:default_confidence_settings"),
        Later("recipes.confidence:train_confidence"),
        more_outputs=1,
    ),
    "ensemble": Recipe(
        "the classifiers under test as one, by the mean of their probabilities",
        derive=Later("recipes.ensemble:ensemble"),
        combine=Later("recipes.ensemble:of_members"),
    ),
}


def find_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        OodbenchError: there is none.
    """
    if name not in RECIPES:
        raise unknown_name("recipe", name, RECIPES)
    return RECIPES[name]
