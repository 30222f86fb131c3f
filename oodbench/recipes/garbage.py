"""Training with a garbage class: noise and inversions of the network itself are class K (METHODS 1.3)."""

from __future__ import annotations

import hashlib
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from oodbench.classifier import Classifier
from oodbench.data.imageset import ImageSet
from oodbench.data.matching import ImageShape
from oodbench.data.noise import noise_set
from oodbench.errors import OodbenchError
from oodbench.inversion.compositions import draw_compositions
from oodbench.inversion.conditioning import seeded
from oodbench.inversion.latents import invert_latents
from oodbench.inversion.pictures import save_grid
from oodbench.inversion.settings import LatentSettings
from oodbench.models.catalogue import build
from oodbench.models.checkpoint import save_checkpoint
from oodbench.progress import Reporter
from oodbench.recipes.calibration import Calibration, calibrate
from oodbench.recipes.extend import extended, hold_constant
from oodbench.recipes.holdout import garbage_shares, hold_out, matched
from oodbench.recipes.inversions import altered, invert_for_garbage
from oodbench.recipes.selection import NOISE_SEED, selection_families
from oodbench.recipes.settings import GarbageSettings
from oodbench.recipes.sheet import sheet_file
from oodbench.resume import read_resume, save_resume
from oodbench.training import (
    accuracy,
    augmented,
    channel_statistics,
    descend,
    in_memory,
    new_optimiser,
    own_random_numbers,
    require_every_class,
    to_unit,
)
from oodbench.transfer import sent

RECIPE = "garbage"

NOISE_IMAGES = 1000
"""Of Gaussian noise, that are trained on."""

SHEET_CLASSES, SHEET_IMAGES = 20, 10
"""Rows of the sheet of inversions at most, and images a row."""

SHEET_STEPS = 40
"""Of its images at most: more than in training, so that the network takes them for classes."""


@dataclass(frozen=True)
class GarbageReport:
    """What a training came to; all of it on ID images and synthetic families, none of it on an OOD set.

    Attributes:
        accuracy: share of held-out ID images put into their class, garbage being none.
        class_accuracy: the same by the K classes' logits alone.
        accuracy_before: of the network that was started from, on the same images; None where there was none.
        calibration: see there.
        shares: by selection family, the share that is put into garbage.
        inversions: made in all; fooled: the share of them that the network did not yet put into garbage.
        seconds: of the training; inversion_seconds: those of them that inverting took.
    """

    accuracy: float
    class_accuracy: float
    accuracy_before: float | None
    calibration: Calibration
    shares: dict[str, float]
    inversions: int
    fooled: float
    seconds: float
    inversion_seconds: float

    @property
    def mean_share(self) -> float:
        """Mean garbage share of the selection families."""
        return sum(self.shares.values()) / len(self.shares)

    def __str__(self) -> str:
        before = "" if self.accuracy_before is None else f" (before: {100 * self.accuracy_before:.2f} %)"
        return (
            f"accuracy on held-out ID images {100 * self.accuracy:.2f} %, of the classes alone "
            f"{100 * self.class_accuracy:.2f} %{before}; garbage takes {self.calibration.taken} of "
            f"{self.calibration.images}, surely no more than {100 * self.calibration.bound:.2f} %, and "
            f"{100 * self.mean_share:.1f} % of synthetic families that were not trained on; {self.inversions:,} "
            f"inversions, {100 * self.fooled:.0f} % of which fooled it; {self.seconds:.0f} s, "
            f"{self.inversion_seconds:.0f} s of them inverting"
        )


def train_garbage(
    architecture: str,
    fit: ImageSet,
    test: ImageSet,
    *,
    num_classes: int,
    image_shape: ImageShape,
    settings: GarbageSettings,
    checkpoint: Path,
    device: torch.device | str = "cpu",
    reporter: Reporter,
    start_from: Classifier | None = None,
    calibrate_on: ImageSet | None = None,
) -> GarbageReport:
    """Train an architecture with K+1 outputs, the last of them garbage, or fine-tune a network that is trained already.

    Beside the checkpoint a sheet of what the network is inverted to is left; `<checkpoint>.resume`, written after each
    epoch, holds what is needed to go on after a kill. No OOD set is seen.

    Args:
        test: ID images on which the accuracy is reported; they decide nothing.
        num_classes: K.
        start_from: a classifier of that architecture with K outputs, which is left as it is.
        calibrate_on: ID images that decide how readily garbage is said; by default a part of the fit images, which
            then are not trained on. A network that is started from has seen those if it was trained on them: it is
            surer of them than of others, and more of those will be lost.

    Raises:
        OodbenchError: labels are missing, a class has no image, the network to start from does not fit, the loss
            stops being finite, or the resume file belongs to another training.
    """
    begun = [start_from.content_hash() if start_from else None, calibrate_on.content_hash if calibrate_on else None]
    identity = json.dumps(
        [RECIPE, architecture, num_classes, image_shape, asdict(settings), fit.content_hash, fit.labels_hash, *begun]
    )
    with own_random_numbers(device):
        known = in_memory(test, num_classes, image_shape)
        training = _Training(architecture, fit, calibrate_on, num_classes, image_shape, settings, device, start_from)
        resume = Path(f"{checkpoint}.resume")
        for epoch in range(training.resumed(resume, identity), settings.training.epochs):
            started = time.monotonic()
            loss = training.epoch(epoch)
            training.seconds += time.monotonic() - started
            training.save(resume, identity, epoch + 1)
            if training.seconds > 5:
                reporter.say(f"epoch {epoch + 1} of {settings.training.epochs}: loss {loss:.4f}")
        report = training.report(start_from)
        final = accuracy(training.classifier, known.images, known.labels)
        reporter.say(f"{report}; {100 * final:.2f} % on the ID test images, which decide nothing")
        if report.accuracy_before and report.accuracy < report.accuracy_before - settings.tolerance:
            reporter.say(
                f"fine-tuning cost more than {100 * settings.tolerance:g} points of accuracy on held-out ID images; "
                f"use a lower learning rate, now {settings.training.learning_rate:g}, or a lower weight of garbage"
            )
        training.draw_sheet(sheet_file(checkpoint))
        record = {
            "recipe": RECIPE,
            "id": fit.name,
            "accuracy": final,
            "fit": {"origin": fit.origin, "images": len(fit), "sha256": fit.content_hash},
            "test_sha256": test.content_hash,
            "held_out": {"origin": training.held_out.origin, "images": len(training.held_out)},
            "settings": asdict(settings),
            "report": asdict(report),
            "sheet_sha256": hashlib.sha256(sheet_file(checkpoint).read_bytes()).hexdigest(),
        }
        save_checkpoint(training.classifier, architecture, checkpoint, record)
    resume.unlink(missing_ok=True)
    return report


class _Training:
    """A training between two epochs: the network, the optimiser and the inversions so far."""

    def __init__(
        self,
        architecture: str,
        fit: ImageSet,
        calibrate_on: ImageSet | None,
        num_classes: int,
        image_shape: ImageShape,
        settings: GarbageSettings,
        device: torch.device | str,
        start_from: Classifier | None,
    ) -> None:
        self.settings, self.device, self.garbage_class = settings, torch.device(device), num_classes
        self.architecture, self.fit = architecture, fit
        if start_from and start_from.num_classes != num_classes:
            raise OodbenchError(
                f"{start_from.name} has {start_from.num_classes} classes, but {fit.name} has {num_classes}; start from "
                f"a classifier that was trained on {fit.name}"
            )
        seed = settings.training.seed
        self.held_out, kept = (calibrate_on, fit) if calibrate_on else hold_out(fit, seed)
        self.calibrating = in_memory(self.held_out, num_classes, image_shape)
        self.known = in_memory(kept, num_classes, image_shape)
        require_every_class(kept, self.known.labels, num_classes)
        self.noise = matched(noise_set("gaussian", NOISE_IMAGES, image_shape, seed + NOISE_SEED), image_shape)
        self.inverted: Tensor = self.noise[:0]
        self.made, self.fooled, self.seconds, self.inverting = 0, 0, 0.0, 0.0
        torch.manual_seed(seed)
        if start_from:
            self.classifier = extended(start_from, architecture, self.calibrating)
        else:
            mean, std = channel_statistics(self.known.images)
            module = build(architecture, num_classes + 1, image_shape)
            self.classifier = Classifier(
                module, num_classes=num_classes + 1, image_shape=image_shape, mean=mean, std=std, name=architecture
            )
        self.classifier.to(device).module.to(memory_format=torch.channels_last)
        if settings.output == "constant":
            hold_constant(self.classifier)
        self.optimiser = new_optimiser(self.classifier.module, settings.training)

    def epoch(self, number: int) -> float:
        """One pass over the ID images in a new order, the network inverted from time to time; the mean loss."""
        training, known = self.settings.training, self.known
        # A seed an epoch: where a training resumes, the random numbers are what they would have been.
        torch.manual_seed(training.seed * 1_000_003 + number + 1)
        batches = -(-len(known.labels) // training.batch_size)
        losses = []
        for batch, chosen in enumerate(torch.randperm(len(known.labels)).tensor_split(batches)):
            step = number * batches + batch
            if step and step % self.settings.every == 0:
                self._invert(step)
            self.classifier.module.train()
            images, labels = (sent(part[chosen], self.device) for part in (known.images, known.labels))
            if training.augment:
                images = augmented(images)
            garbage = sent(self._garbage(math.ceil(self.settings.share * len(chosen))), self.device)
            logits = self.classifier(to_unit(torch.cat([images, garbage]), self.device))
            mean = F.cross_entropy(logits[: len(images)], labels, label_smoothing=training.label_smoothing)
            if len(garbage):
                wrong = logits[len(images) :].log_softmax(dim=1)[:, -1].mean()
                mean = (mean - self.settings.weight * wrong) / (1 + self.settings.weight)
            progress = (step + 0.5) / (training.epochs * batches)
            losses.append(descend(self.classifier.module, self.optimiser, mean, training, progress))
        loss = float(torch.stack(losses).mean())
        if not math.isfinite(loss):
            raise OodbenchError(
                f"garbage training of {self.architecture} on {self.fit.name}: the loss is {loss}; lower the "
                f"learning rate (it is {training.learning_rate})"
            )
        return loss

    def _garbage(self, count: int) -> Tensor:
        """Noise and inversions, altered at random."""
        noise = math.ceil(self.settings.noise * count) if len(self.inverted) else count
        parts = ((self.noise, noise), (self.inverted, count - noise))
        return altered(torch.cat([part[torch.randint(len(part), (size,))] for part, size in parts if size]))

    def _invert(self, step: int) -> None:
        """Add inversions of the network as it is now."""
        started = time.monotonic()
        random = seeded(self.settings.training.seed, f"garbage step {step}")
        new = invert_for_garbage(self.classifier, self.known.images, self.settings, random)
        self.made += len(new)
        self.fooled += round(len(new) * (1 - garbage_shares(self.classifier, self.garbage_class, {"": new})[""]))
        self.inverted = torch.cat([self.inverted, new])
        self.inverted = self.inverted[torch.randperm(len(self.inverted), generator=random)[: self.settings.most]]
        self.inverting += time.monotonic() - started

    def report(self, before: Classifier | None) -> GarbageReport:
        """Calibrate the network, and say how it does."""
        known, settings = self.calibrating, self.settings
        calibration = calibrate(self.classifier, known, settings.allowed, settings.confidence)
        families = selection_families(self.classifier.image_shape, settings.training.seed)
        return GarbageReport(
            accuracy(self.classifier, known.images, known.labels),
            accuracy(self.classifier, known.images, known.labels, self.garbage_class),
            accuracy(before, known.images, known.labels) if before else None,
            calibration,
            garbage_shares(self.classifier, self.garbage_class, families),
            self.made,
            self.fooled / max(self.made, 1),
            self.seconds,
            self.inverting,
        )

    def draw_sheet(self, path: Path) -> None:
        """Leave a picture of inversions, moved further than in training."""
        rows = min(self.garbage_class, SHEET_CLASSES)
        random = seeded(self.settings.training.seed, "garbage sheet")
        targets = torch.arange(rows).repeat(SHEET_IMAGES)
        settings = LatentSettings(images=len(targets), steps=SHEET_STEPS)
        drawn = draw_compositions(len(targets), self.known.images, settings, random, self.device)
        images = invert_latents(self.classifier, drawn, settings, random, targets).images.cpu()
        by_class = images.unflatten(0, (SHEET_IMAGES, rows)).transpose(0, 1).flatten(0, 1)
        save_grid(by_class.numpy(), path, SHEET_IMAGES, [str(number) for number in range(rows)])

    def save(self, path: Path, identity: str, epochs: int) -> None:
        """Keep what is needed to go on after so many epochs."""
        state = {
            "identity": identity,
            "epochs": epochs,
            "module": self.classifier.module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "inverted": self.inverted,
            "counts": [self.made, self.fooled, self.seconds, self.inverting],
        }
        save_resume(path, state)

    def resumed(self, path: Path, identity: str) -> int:
        """Go to where an interrupted training stopped; the epochs done."""
        state = read_resume(path, identity)
        if state is None:
            return 0
        self.classifier.module.load_state_dict(state["module"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.inverted = state["inverted"]
        self.made, self.fooled, self.seconds, self.inverting = state["counts"]
        epochs: int = state["epochs"]
        return epochs
