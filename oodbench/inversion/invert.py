"""Network inversion: train a generator against a frozen classifier, draw from it, measure how it inverts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from oodbench.classifier import Classifier
from oodbench.errors import OodbenchError
from oodbench.inversion import losses
from oodbench.inversion.conditioning import Conditions, draw, seeded
from oodbench.inversion.generator import Generator
from oodbench.inversion.live import Passes, live_features
from oodbench.inversion.settings import LOSSES, InversionSettings
from oodbench.progress import Reporter
from oodbench.transfer import sent

CHUNK = 200
"""Images at a time where no gradient is needed; on a CPU 500 are slower, since their maps leave the caches."""

MESSAGES = 20
"""How many lines, at most, a training says."""


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to: the mean of each unweighted loss over its steps, and how well it inverts now.

    Attributes:
        terms: by name; statistics are 0 where their weight is.
        inversion_accuracy: share of fresh images, dropout off, that the classifier gives their target class.
        seconds: the whole epoch; measuring_share: the part of it that measuring the accuracy took.
    """

    epoch: int
    loss: float
    terms: dict[str, float]
    inversion_accuracy: float
    seconds: float
    measuring_share: float


@dataclass(frozen=True)
class Inversion:
    """A trained generator, the settings that it was trained with, and how the training went."""

    generator: Generator
    settings: InversionSettings
    history: tuple[Epoch, ...]

    def curves(self) -> pd.DataFrame:
        """One row an epoch: epoch, inversion_accuracy, loss, each loss by name, seconds, measuring_share."""
        rows = []
        for epoch in self.history:
            row = {"epoch": epoch.epoch, "inversion_accuracy": epoch.inversion_accuracy, "loss": epoch.loss}
            rows.append(row | epoch.terms | {"seconds": epoch.seconds, "measuring_share": epoch.measuring_share})
        return pd.DataFrame(rows)


class Generated(NamedTuple):
    """Images, float32 N×C×H×W in [0, 1], and the class that each should get, int64 N."""

    images: Tensor
    targets: Tensor


def invert(
    classifier: Classifier,
    settings: InversionSettings,
    device: torch.device | str,
    reporter: Reporter,
    generator: Generator | None = None,
    after_epoch: Callable[[Epoch, Generator], None] | None = None,
) -> Inversion:
    """Train a generator whose images the classifier puts into the class that they were conditioned on.

    Args:
        classifier: moved to the device; in eval mode and its weights frozen meanwhile, afterwards as before.
        generator: go on training this one (warm start), in place; by default a new one is made.
        after_epoch: is told of each epoch, and may draw from the generator as it is then.

    Raises:
        OodbenchError: the classifier's penultimate features are not known, the given generator does not fit the
            classifier or the settings, or the loss is no longer finite.
    """
    device = torch.device(device)
    classifier.to(device)
    live = live_features(classifier, statistics=settings.weights.statistics > 0)
    with _seeded_globally(settings.seed, device), live as passes:
        if generator is None:
            generator = new_generator(classifier, settings)
        _check_fit(generator, classifier, settings)
        generator.to(device).train()
        optimiser = torch.optim.AdamW(
            generator.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        random = seeded(settings.seed, "training")
        history: list[Epoch] = []
        for number in reporter.track(range(1, settings.epochs + 1), "inversion", settings.epochs):
            history.append(_epoch(number, generator, passes, settings, optimiser, random))
            if after_epoch:
                after_epoch(history[-1], generator)
            if number % -(-settings.epochs // MESSAGES) == 0 or number == settings.epochs:
                reporter.say(f"epoch {number}: inversion accuracy {history[-1].inversion_accuracy:.3f}")
    generator.eval()
    return Inversion(generator, settings, tuple(history))


def new_generator(classifier: Classifier, settings: InversionSettings) -> Generator:
    """An untrained generator for a classifier, its weights decided by the seed of the settings."""
    with _seeded_globally(settings.seed, torch.device("cpu")):
        return Generator(**_wanted(classifier, settings))


def generate(generator: Generator, targets: Tensor | int, seed: int) -> Generated:
    """Images for given classes (int64 N), or `targets` images of classes that are drawn; dropout off.

    Raises:
        OodbenchError: no image is asked for, or a target is no class of the generator.
    """
    made = list(_generated(generator, targets, seeded(seed, "generate")))
    return Generated(torch.cat([part.images for part in made]), torch.cat([part.targets for part in made]))


def inversion_accuracy(generator: Generator, classifier: Classifier, count: int, seed: int) -> float:
    """IA: the share of `count` fresh images, dropout off, that get the class they were conditioned on."""
    with classifier.inference(), torch.no_grad():
        return _accuracy(generator, classifier, count, seeded(seed, "accuracy"))


def _epoch(
    number: int,
    generator: Generator,
    passes: Passes,
    settings: InversionSettings,
    optimiser: torch.optim.Optimizer,
    random: torch.Generator,
) -> Epoch:
    start = time.perf_counter()
    generator.train()
    # Summed where they are made: reading every step's losses would make a GPU wait.
    sums = torch.zeros(len(LOSSES), device=generator.device)
    for _ in range(settings.steps_per_epoch):
        sums += _step(generator, passes, settings, optimiser, random)
    terms = dict(zip(LOSSES, (sums / settings.steps_per_epoch).tolist(), strict=True))
    loss = sum(getattr(settings.weights, name) * value for name, value in terms.items() if value)
    if not math.isfinite(loss):
        raise OodbenchError(
            f"the inversion's loss is no longer finite in epoch {number} ({terms}); "
            f"lower the learning rate, now {settings.learning_rate}, or the loss weights"
        )
    trained = time.perf_counter()
    with torch.no_grad():
        fresh = seeded(settings.seed, f"accuracy after epoch {number}")
        accuracy = _accuracy(generator, lambda images: passes(images).logits, settings.accuracy_images, fresh)
    seconds = time.perf_counter() - start
    return Epoch(number, loss, terms, accuracy, seconds, 1 - (trained - start) / seconds)


def _step(
    generator: Generator,
    passes: Passes,
    settings: InversionSettings,
    optimiser: torch.optim.Optimizer,
    random: torch.Generator,
) -> Tensor:
    """One step of the optimiser; returns the unweighted losses in the order of LOSSES, detached."""
    conditions, noise = _draw(generator, settings.batch_size, None, random)
    images = generator(conditions, noise)
    made = passes(images)
    terms = {
        "cross_entropy": losses.cross_entropy(made.logits, conditions.targets, settings.label_smoothing),
        "kl": losses.kl_divergence(made.logits, conditions.distribution(generator.num_classes)),
        "cosine": losses.cosine(made.features),
        "orthogonality": losses.orthogonality(made.features),
        "statistics": made.statistics,
        "image_cosine": losses.image_cosine(images),
        "total_variation": losses.total_variation(images),
        "l1": losses.l1(generator.parameters()),
    }
    weighted = [
        getattr(settings.weights, name) * term for name, term in terms.items() if getattr(settings.weights, name)
    ]
    optimiser.zero_grad()
    torch.stack(weighted).sum().backward()
    optimiser.step()
    return torch.stack([terms[name].detach() for name in LOSSES])


def _draw(
    generator: Generator, count: int, targets: Tensor | None, random: torch.Generator
) -> tuple[Conditions, Tensor]:
    conditions = draw(generator.conditioning, count, generator.num_classes, random, generator.device, targets)
    return conditions, sent(torch.randn(count, generator.noise_size, generator=random), generator.device)


@torch.no_grad()
def _generated(generator: Generator, targets: Tensor | int, random: torch.Generator) -> Iterator[Generated]:
    """Some images at a time, in eval mode; the generator's mode is as it was afterwards."""
    count = targets if isinstance(targets, int) else len(targets)
    if count < 1:
        raise OodbenchError(f"cannot generate {count} images; ask for at least one")
    mode = generator.training
    generator.eval()
    try:
        for start in range(0, count, CHUNK):
            size = min(CHUNK, count - start)
            wanted = None if isinstance(targets, int) else targets[start : start + size]
            conditions, noise = _draw(generator, size, wanted, random)
            yield Generated(generator(conditions, noise), conditions.targets)
    finally:
        generator.train(mode)


def _accuracy(generator: Generator, classify: Callable[[Tensor], Tensor], count: int, random: torch.Generator) -> float:
    parts = _generated(generator, count, random)
    return sum(int((classify(part.images).argmax(dim=1) == part.targets).sum()) for part in parts) / count


def _wanted(classifier: Classifier, settings: InversionSettings) -> dict[str, Any]:
    return {
        "num_classes": classifier.num_classes,
        "image_shape": tuple(classifier.image_shape),
        "conditioning": settings.conditioning,
        "noise_size": settings.noise_size,
        "width": settings.width,
        "dropout": settings.dropout,
    }


def _check_fit(generator: Generator, classifier: Classifier, settings: InversionSettings) -> None:
    wanted, given = _wanted(classifier, settings), generator.settings()
    differences = [f"{name} {given[name]} instead of {wanted[name]}" for name in wanted if given[name] != wanted[name]]
    if differences:
        raise OodbenchError(
            f"the given generator does not fit the classifier and the settings: it has {', '.join(differences)}; "
            f"start from a new generator, or with its settings"
        )


@contextmanager
def _seeded_globally(seed: int, device: torch.device) -> Iterator[None]:
    """The global random state, for initial weights and dropout: set by a seed, afterwards as before."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
