"""Training with a garbage class: noise and inversions of the network itself are class K (METHODS 1.3)."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from oodbench.classifier import Classifier
from oodbench.data.imageset import ImageSet
from oodbench.data.matching import ImageShape
from oodbench.data.noise import noise_set
from oodbench.errors import OodbenchError
from oodbench.files import atomic_write
from oodbench.inversion.generator import Generator
from oodbench.inversion.invert import Epoch, generate, invert
from oodbench.inversion.pictures import save_class_grid
from oodbench.models.catalogue import build
from oodbench.models.checkpoint import load_checkpoint, save_checkpoint
from oodbench.progress import Reporter
from oodbench.recipes.calibration import calibrate
from oodbench.recipes.holdout import NOISE_SEED, garbage_shares, hold_out, matched, mean_uncertainty
from oodbench.recipes.realism import Realism
from oodbench.recipes.rounds import GarbageSettings, RoundReport, best_round, round_file, rounds_folder
from oodbench.resume import read_resume, save_resume
from oodbench.training import (
    Pixels,
    accuracy,
    channel_statistics,
    in_memory,
    new_optimiser,
    own_random_numbers,
    require_every_class,
    run_epoch,
)

RECIPE = "garbage"

COLLAPSED = 0.5
"""A generator whose inversion accuracy is below this share of the best so far is given up."""


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
) -> list[RoundReport]:
    """Train an architecture with K+1 outputs, the last of them garbage; the best round's network is saved.

    Beside the checkpoint, in the folder `<checkpoint>.rounds`, every round leaves its network, a sheet of inverted
    images and a row of rounds.csv; `<checkpoint>.resume` holds what is needed to go on after a kill. A part of the
    fit images is held out to choose the round (see `holdout`); no OOD set is seen.

    Args:
        test: ID images on which the kept network's accuracy is reported; they decide nothing.
        num_classes: K.

    Raises:
        OodbenchError: labels are missing, a class has no image, the loss stops being finite, or the resume file
            belongs to another training.
    """
    identity = json.dumps(
        [RECIPE, architecture, num_classes, image_shape, asdict(settings), fit.content_hash, fit.labels_hash]
    )
    with own_random_numbers(device):
        state = _Training(architecture, fit, num_classes, image_shape, settings, checkpoint, device)
        reports = state.resume(identity)
        held_out = len(state.holdout.known.labels)
        while len(reports) < settings.rounds and (
            not reports or len(reports) - 1 - best_round(reports, held_out) < settings.patience
        ):
            reports.append(state.round(len(reports) + 1))
            state.save(identity, reports)
            reporter.say(str(reports[-1]))
        kept = best_round(reports, held_out)
        state.classifier.module.load_state_dict(dict(load_checkpoint(round_file(state.rounds_folder, kept + 1)).state))
        known = in_memory(test, num_classes, image_shape)
        final = accuracy(state.classifier, known.images, known.labels)
        reporter.say(f"round {kept + 1} is kept; accuracy {100 * final:.2f} % on the ID test images")
        record = state.record(reports) | {"accuracy": final, "round": kept + 1, "test_sha256": test.content_hash}
        save_checkpoint(state.classifier, architecture, checkpoint, record)
    state.resume_file.unlink(missing_ok=True)
    return reports


class _Training:
    """A training between two rounds: the network, the generator and the garbage set."""

    def __init__(
        self,
        architecture: str,
        fit: ImageSet,
        num_classes: int,
        image_shape: ImageShape,
        settings: GarbageSettings,
        checkpoint: Path,
        device: torch.device | str,
    ) -> None:
        self.architecture, self.fit, self.settings, self.device = architecture, fit, settings, device
        self.garbage_class = num_classes
        seed = settings.training.seed
        self.holdout, kept = hold_out(fit, num_classes, image_shape, seed)
        self.known: Pixels = in_memory(kept, num_classes, image_shape)
        require_every_class(kept, self.known.labels, num_classes)
        class_size = len(self.known.labels) / num_classes
        self.added, self.most = (max(1, round(share * class_size)) for share in (settings.added, settings.most))
        noise = noise_set("gaussian", max(1, round(settings.noise * class_size)), image_shape, seed + NOISE_SEED)
        self.noise = matched(noise, image_shape)
        self.realism = Realism(self.known.images, self.holdout.known.images, device)
        self.inverted: Tensor = self.noise[:0]
        torch.manual_seed(seed)
        mean, std = channel_statistics(self.known.images)
        module = build(architecture, num_classes + 1, image_shape)
        self.classifier = Classifier(
            module, num_classes=num_classes + 1, image_shape=image_shape, mean=mean, std=std, name=architecture
        ).to(device)
        module.to(memory_format=torch.channels_last)
        self.generator: Generator | None = None
        self.best_inversion = 0.0
        self.resume_file = Path(f"{checkpoint}.resume")
        self.rounds_folder = rounds_folder(checkpoint)

    def round(self, number: int) -> RoundReport:
        """Train, invert, measure, and let the inverted images join the garbage set."""
        started = time.monotonic()
        # A seed a round: where a training resumes, the random numbers are what they would have been.
        torch.manual_seed(self.settings.training.seed * 1_000_003 + number)
        garbage_images = len(self.noise) + len(self.inverted)
        self._train()
        calibrate(self.classifier, self.holdout.known, self.settings.allowed)
        new, inversion_accuracy, new_generators = self._invert(number)
        noise, altered = (
            garbage_shares(self.classifier, self.garbage_class, kinds)
            for kinds in (self.holdout.noise, self.holdout.altered)
        )
        realistic = self.realism.passes(new)
        report = RoundReport(
            number,
            accuracy(self.classifier, self.holdout.known.images, self.holdout.known.labels),
            sum(noise.values()) / len(noise),
            sum(altered.values()) / len(altered),
            noise | altered,
            inversion_accuracy,
            new_generators,
            mean_uncertainty(self.classifier, self.holdout.known.images),
            mean_uncertainty(self.classifier, new),
            float(realistic.float().mean()),
            garbage_images,
            time.monotonic() - started,
        )
        joining = new if self.settings.keep_realistic else new[~realistic]
        self.inverted = torch.cat([self.inverted, joining])
        self.inverted = self.inverted[torch.randperm(len(self.inverted))[: self.most]]
        return report

    def _train(self) -> None:
        garbage = torch.cat([self.noise, self.inverted])
        labels = torch.cat([self.known.labels, torch.full((len(garbage),), self.garbage_class)])
        data = Pixels(torch.cat([self.known.images, garbage]), labels)
        counts = torch.bincount(labels, minlength=self.garbage_class + 1)
        weights = len(labels) / (len(counts) * counts)
        smoothing = self.settings.training.label_smoothing
        objective = nn.CrossEntropyLoss(weights, label_smoothing=smoothing).to(self.device)
        optimiser = new_optimiser(self.classifier.module, self.settings.training)
        for epoch in range(self.settings.training.epochs):
            loss = run_epoch(self.classifier, optimiser, data, self.settings.training, epoch, objective)
            if not math.isfinite(loss):
                raise OodbenchError(
                    f"garbage training of {self.architecture} on {self.fit.name}: the loss is {loss}; lower the "
                    f"learning rate (it is {self.settings.training.learning_rate})"
                )

    def _invert(self, number: int) -> tuple[Tensor, float, int]:
        """Images of what the network is inverted to, the inversion accuracy, and how many generators collapsed."""
        images, reached = self._train_generator(self._seed(number, 0))
        collapsed = reached < COLLAPSED * self.best_inversion
        if collapsed:
            images, reached = self._train_generator(self._seed(number, 1))
        self.best_inversion = max(self.best_inversion, reached)
        return images, reached, int(collapsed)

    def _train_generator(self, seed: int) -> tuple[Tensor, float]:
        settings = self.settings.inversion.replaced(seed=seed)
        snapshots = min(self.settings.snapshots, self.added, settings.epochs)
        images: list[Tensor] = []

        def take(epoch: Epoch, generator: Generator) -> None:
            if len(images) < epoch.epoch * snapshots // settings.epochs:
                share = (self.added + len(images)) // snapshots
                images.append(generate(generator, share, seed + len(images)).images.mul(255).round().byte().cpu())

        inversion = invert(self.classifier, settings, self.device, Reporter(), after_epoch=take)
        self.generator = inversion.generator
        return torch.cat(images), inversion.history[-1].inversion_accuracy

    def _seed(self, number: int, attempt: int) -> int:
        return self.settings.training.seed * 1_000_003 + 2 * number + attempt

    def record(self, reports: Sequence[RoundReport]) -> dict[str, Any]:
        """How the network was trained; `accuracy` is that on the held-out ID images."""
        return {
            "recipe": RECIPE,
            "id": self.fit.name,
            "accuracy": reports[-1].accuracy,
            "fit": {"origin": self.fit.origin, "images": len(self.fit), "sha256": self.fit.content_hash},
            "held_out": len(self.holdout.known.labels),
            "settings": asdict(self.settings),
            "rounds": [asdict(report) for report in reports],
        }

    def save(self, identity: str, reports: Sequence[RoundReport]) -> None:
        """Keep the round: its network, its sheet, its row, and last what is needed to go on."""
        assert self.generator is not None
        number = len(reports)
        path = round_file(self.rounds_folder, number)
        save_checkpoint(self.classifier, self.architecture, path, self.record(reports))
        names = [*map(str, range(self.garbage_class)), "garbage"]
        save_class_grid(self.generator, path.with_suffix(".png"), seed=0, names=names)
        table = pd.json_normalize([asdict(report) for report in reports])
        with atomic_write(self.rounds_folder / "rounds.csv") as temporary:
            table.to_csv(temporary, index=False)
        state = {
            "identity": identity,
            "reports": [asdict(report) for report in reports],
            "module": self.classifier.module.state_dict(),
            "inverted": self.inverted,
            "best_inversion": self.best_inversion,
        }
        save_resume(self.resume_file, state)

    def resume(self, identity: str) -> list[RoundReport]:
        """Go to where an interrupted training stopped; the reports of the rounds done."""
        state = read_resume(self.resume_file, identity)
        if state is None:
            return []
        self.classifier.module.load_state_dict(state["module"])
        self.inverted = state["inverted"]
        self.best_inversion = state["best_inversion"]
        return [RoundReport(**report) for report in state["reports"]]
