"""What each loss and each setting does: inversions that differ in one thing, over seeds, as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from oodbench.classifier import Classifier
from oodbench.errors import OodbenchError
from oodbench.inversion.diversity import Diversity, diversity
from oodbench.inversion.invert import CHUNK, Inversion, generate, invert
from oodbench.inversion.live import live_features
from oodbench.inversion.settings import InversionSettings
from oodbench.progress import Reporter

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "all": {},
    "no_ce": {"cross_entropy": 0.0},
    "no_orthogonality": {"orthogonality": 0.0},
    "no_kl": {"kl": 0.0},
    "no_cosine": {"cosine": 0.0},
}
"""The ablation of the losses (Suhail et al., arXiv 2411.17777): what each variant changes in the settings."""

DOCUMENT_SETTINGS: Mapping[str, Sequence[float]] = {
    "batch_size": (1024, 2048),
    "label_smoothing": (0.01,),
    "weight_decay": (1e-4,),
    "l1": (1e-4,),
    "learning_rate": (1e-3, 3e-3),
}
"""What the source document used (METHODS 1.2; the learning rate: its range on Fashion-MNIST), for figures."""

FAST_ACCURACY = 0.8

GENERATED = 2000
"""Images that a run's diversity is measured on."""


@dataclass(frozen=True)
class Study:
    """
    Attributes:
        table: a row a run. First what distinguishes it (variant, or parameter and value), then seed, epochs,
            max_inversion_accuracy, final_inversion_accuracy, epochs_to_0.8 (nan: never), feature_cosine,
            coverage, within_class_cosine.
        curves: one row an epoch of a run: the same first columns, then those of `Inversion.curves`.
    """

    table: pd.DataFrame
    curves: pd.DataFrame


def ablate(
    classifier: Classifier,
    settings: InversionSettings,
    seeds: Sequence[int],
    real_features: Tensor,
    device: torch.device | str,
    reporter: Reporter,
    variants: Mapping[str, Mapping[str, Any]] = VARIANTS,
) -> Study:
    """Invert with each variant of the settings and each seed.

    Args:
        real_features: M×D penultimate features of real ID images (see `features_of`), for the coverage.
        variants: by name, what each changes in the settings.
    """
    runs = [
        ({"variant": variant, "seed": seed}, settings.replaced(**changes, seed=seed))
        for variant, changes in variants.items()
        for seed in seeds
    ]
    return _study(classifier, runs, real_features, device, reporter)


def sweep(
    classifier: Classifier,
    settings: InversionSettings,
    values: Mapping[str, Sequence[Any]],
    seeds: Sequence[int],
    real_features: Tensor,
    device: torch.device | str,
    reporter: Reporter,
) -> Study:
    """Invert with each value of each setting, the others as given, and each seed.

    Args:
        values: by the name of a setting or of a loss weight, what to try.
        real_features: as in `ablate`.

    Raises:
        OodbenchError: there is no such setting, or a value is out of its range; nothing was trained yet.
    """
    runs = [
        (
            {"parameter": parameter, "value": value, "seed": seed},
            settings.replaced(**{parameter: value, "seed": seed}),
        )
        for parameter, tried in values.items()
        for value in tried
        for seed in seeds
    ]
    return _study(classifier, runs, real_features, device, reporter)


def features_of(classifier: Classifier, images: Tensor) -> Tensor:
    """Penultimate features, N×D on the CPU, of images, float N×C×H×W in [0, 1]."""
    with live_features(classifier) as passes, torch.no_grad():
        return torch.cat([passes(part.to(classifier.device)).features.cpu() for part in images.split(CHUNK)])


def diversity_of(classifier: Classifier, inversion: Inversion, real_features: Tensor) -> Diversity:
    """The diversity of GENERATED images, against real images' features (M×D)."""
    generated = generate(inversion.generator, GENERATED, inversion.settings.seed)
    return diversity(features_of(classifier, generated.images), generated.targets.cpu(), real_features.cpu())


def epochs_to(accuracy: float, curve: Iterable[float]) -> float:
    """The first epoch, counted from 1, whose inversion accuracy is at least `accuracy`; nan if none is."""
    reached = (number for number, value in enumerate(curve, start=1) if value >= accuracy)
    return float(next(reached, float("nan")))


def _study(
    classifier: Classifier,
    runs: Sequence[tuple[dict[str, Any], InversionSettings]],
    real_features: Tensor,
    device: torch.device | str,
    reporter: Reporter,
) -> Study:
    if not runs:
        raise OodbenchError("there is nothing to run: give at least one seed, and one variant or value")
    # The default of a swept setting is the same run for every setting: it is done once.
    done: dict[InversionSettings, tuple[Inversion, Diversity]] = {}
    rows, curves = [], []
    for labels, settings in reporter.track(runs, "inversions", len(runs)):
        if settings not in done:
            inversion = invert(classifier, settings, device, Reporter())
            done[settings] = inversion, diversity_of(classifier, inversion, real_features)
        rows.append(labels | _summary(*done[settings]))
        curves.append(done[settings][0].curves().assign(**labels))
        reporter.say(
            f"{' '.join(str(label) for label in labels.values())}: "
            f"inversion accuracy {rows[-1]['final_inversion_accuracy']:.3f}"
        )
    joined = pd.concat(curves, ignore_index=True)
    first = list(runs[0][0])
    return Study(pd.DataFrame(rows), joined[[*first, *joined.columns.drop(first)]])


def _summary(inversion: Inversion, measured: Diversity) -> dict[str, Any]:
    curve = [epoch.inversion_accuracy for epoch in inversion.history]
    return {
        "epochs": len(curve),
        "max_inversion_accuracy": max(curve),
        "final_inversion_accuracy": curve[-1],
        f"epochs_to_{FAST_ACCURACY}": epochs_to(FAST_ACCURACY, curve),
        "feature_cosine": measured.feature_cosine,
        "coverage": measured.coverage,
        "within_class_cosine": measured.within_class_cosine,
    }
