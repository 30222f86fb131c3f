"""Training with a garbage class: noise and inversions of the network itself are class K (METHODS 1.3)."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oodbench.classifier import Classifier
from oodbench.data.imageset import ImageSet
from oodbench.data.inputs import AnyForm, key_of
from oodbench.data.noise import noise_set
from oodbench.detectors.inversion import log_uncertainty
from oodbench.inversion.conditioning import seeded
from oodbench.models.checkpoint import save_checkpoint
from oodbench.pixels import Pixels, in_memory
from oodbench.progress import Reporter
from oodbench.recipes.calibration import Calibration, calibrate
from oodbench.recipes.extend import blend, extended, hold_constant
from oodbench.recipes.holdout import batches, garbage_shares, hold_out, matched, share_of_last
from oodbench.recipes.inversions import altered, invert_for_garbage
from oodbench.recipes.selection import NOISE_SEED, selection_families
from oodbench.recipes.settings import GarbageSettings
from oodbench.recipes.sheet import save_sheet
from oodbench.training import (
    EpochReport,
    accuracy,
    new_classifier,
    optimise,
    own_random_numbers,
    require_every_class,
)
from oodbench.transfer import sent

RECIPE = "garbage"

NOISE_IMAGES = 1000
"""Of Gaussian noise, that are trained on."""


@dataclass(frozen=True)
class GarbageReport:
    """What a training came to; all of it on ID images and synthetic families, none of it on an OOD set.

    Attributes:
        accuracy: share of held-out ID images put into their class, garbage being none.
        class_accuracy: the same by the K classes' logits alone.
        accuracy_before: of the network that was started from, on the same images; None where there was none.
        blended: share of the tuned weights in what is kept (see `extend.blend`).
        calibration: see there.
        shares: by selection family, the share that is put into garbage.
        inversions: made in all; fooled: the share of them that the network did not yet put into garbage.
        seconds: of the training; inversion_seconds: those of them that inverting took.
    """

    accuracy: float
    class_accuracy: float
    accuracy_before: float | None
    blended: float
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
        before = ""
        if self.accuracy_before is not None:
            before = f" (before: {100 * self.accuracy_before:.2f} %; tuned weights: {self.blended:g} of the mean)"
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
    form: AnyForm,
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
        start_from: a classifier of that architecture with K outputs, which is left as it is. Where tuning costs
            accuracy on held-out images beyond the tolerance, its weights are averaged with those it had.
        calibrate_on: ID images that decide how readily garbage is said; by default a part of the fit images, which
            then are not trained on. A network that is started from has seen those if it was trained on them: it is
            surer of them than of others, and more of those will be lost.

    Raises:
        OodbenchError: labels are missing, a class has no image, the network to start from does not fit, the loss
            stops being finite, or the resume file belongs to another training.
    """

    def say(epoch: EpochReport) -> None:
        if epoch.seconds > 5:
            right = f"accuracy {100 * epoch.accuracy:.2f} % of the classes on the ID test images, which decide nothing"
            reporter.say(f"epoch {epoch.epoch} of {epoch.epochs}: loss {epoch.loss:.4f}, {right}")

    seed = settings.training.seed
    held_out, kept = (calibrate_on, fit) if calibrate_on else hold_out(fit, seed)
    held, known, tested = (in_memory(images, num_classes, form) for images in (held_out, kept, test))
    require_every_class(kept, known.labels, num_classes)
    with own_random_numbers(device):
        if start_from:
            classifier = extended(start_from, architecture, num_classes, held)
        else:
            classifier = new_classifier(architecture, num_classes + 1, known, form, seed)
        if settings.output == "constant":
            hold_constant(classifier)
        before = {name: value.clone() for name, value in classifier.to(device).module.state_dict().items()}
        garbage = Garbage(classifier, known.images, settings)
        described = [RECIPE, architecture, num_classes, key_of(form), asdict(settings), classifier.content_hash()]
        images = [(one.content_hash, one.labels_hash) for one in (fit, held_out)]
        resume = Path(f"{checkpoint}.resume")
        epochs = optimise(
            classifier,
            known,
            tested,
            settings.training,
            garbage,
            classes=num_classes,
            what=f"garbage training of {architecture} on {fit.name}",
            resume=resume,
            identity=json.dumps([described, images]),
            progress=say,
            mix=garbage.mix,
        )
        report = _finished(garbage, held, start_from, before, sum(epoch.seconds for epoch in epochs))
        final = accuracy(classifier, tested.images, tested.labels)
        reporter.say(f"{report}; {100 * final:.2f} % on the ID test images, which decide nothing")
        record = {
            "recipe": RECIPE,
            "id": fit.name,
            "accuracy": final,
            "fit": {"origin": fit.origin, "images": len(fit), "sha256": fit.content_hash},
            "test_sha256": test.content_hash,
            "held_out": {"origin": held_out.origin, "images": len(held_out)},
            "settings": asdict(settings),
            "report": asdict(report),
            "sheet_sha256": hashlib.sha256(save_sheet(classifier, known.images, seed, checkpoint)).hexdigest(),
        }
        save_checkpoint(classifier, architecture, checkpoint, record)
    resume.unlink(missing_ok=True)
    return report


def _finished(
    garbage: Garbage, held: Pixels, start_from: Classifier | None, before: Mapping[str, Tensor], seconds: float
) -> GarbageReport:
    """Blend the trained network with what it was before, if it was trained then, calibrate it, and say how it does."""
    (classifier,), settings = garbage.classifier, garbage.settings
    accuracy_before, blended = None, 1.0
    if start_from:
        accuracy_before = accuracy(start_from, held.images, held.labels)
        blended = blend(classifier, before, held, accuracy_before - settings.tolerance)
    calibration = calibrate(classifier, held, settings.allowed, settings.confidence)
    return GarbageReport(
        accuracy(classifier, held.images, held.labels),
        accuracy(classifier, held.images, held.labels, classifier.num_classes - 1),
        accuracy_before,
        blended,
        calibration,
        garbage_shares(classifier, selection_families(classifier.image_shape, settings.training.seed)),
        garbage.made,
        garbage.fooled / max(garbage.made, 1),
        seconds,
        garbage.seconds,
    )


class Garbage(nn.Module):
    """The garbage images of a training, and its loss: (mean CE of ID + weight · mean CE of garbage) / (1 + weight).

    From time to time the network is inverted as it is then; what it is inverted to is garbage from then on.
    """

    def __init__(self, classifier: Classifier, known: Tensor, settings: GarbageSettings) -> None:
        """
        Args:
            known: ID images that are trained on, uint8 N×C×H×W.
        """
        super().__init__()
        # Not a part of this module: what it learns is resumed elsewhere.
        self.classifier, self.known, self.settings = [classifier], known, settings
        shape, seed = classifier.image_shape, settings.training.seed
        self.noise = matched(noise_set("gaussian", NOISE_IMAGES, shape, seed + NOISE_SEED), shape)
        self.inverted = self.noise[:0]
        self.made, self.fooled, self.seconds = 0, 0, 0.0

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss; garbage images are those whose label is the last."""
        garbage = labels == logits.shape[1] - 1
        smoothing, weight = self.settings.training.label_smoothing, self.settings.weight
        loss = F.cross_entropy(logits[~garbage], labels[~garbage], label_smoothing=smoothing)
        return (loss + weight * F.cross_entropy(logits[garbage], labels[garbage])) / (1 + weight)

    def mix(self, images: Tensor, labels: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """A batch with garbage images at its end."""
        if step and step % self.settings.every == 0:
            self._invert(step)
        count = math.ceil(self.settings.share * len(images))
        noise = math.ceil(self.settings.noise * count) if len(self.inverted) else count
        parts = ((self.noise, noise), (self.inverted, count - noise))
        garbage = altered(torch.cat([part[torch.randint(len(part), (size,))] for part, size in parts if size]))
        last = torch.full((count,), self.classifier[0].num_classes - 1)
        return torch.cat([images, sent(garbage, images.device)]), torch.cat([labels, sent(last, labels.device)])

    def _invert(self, step: int) -> None:
        started = time.monotonic()
        (classifier,) = self.classifier
        random = seeded(self.settings.training.seed, f"garbage step {step}")
        new = invert_for_garbage(classifier, self.known, self.settings, random)
        logits = torch.cat([*batches(classifier, new)])
        self.made += len(new)
        self.fooled += round(len(new) * (1 - share_of_last(logits)))
        # The exclusion of arXiv 2512.00229: what the network is sure of does not join.
        new = new[log_uncertainty(logits).exp() >= self.settings.uncertainty]
        self.inverted = torch.cat([self.inverted, new])
        self.inverted = self.inverted[torch.randperm(len(self.inverted), generator=random)[: self.settings.most]]
        self.seconds += time.monotonic() - started

    def get_extra_state(self) -> dict[str, Any]:
        """What an interrupted training goes on with."""
        return {"inverted": self.inverted, "made": self.made, "fooled": self.fooled, "seconds": self.seconds}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.inverted, self.made, self.fooled = state["inverted"], state["made"], state["fooled"]
        self.seconds = state["seconds"]
