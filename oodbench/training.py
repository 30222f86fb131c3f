"""Training a classifier on an image set: SGD on a one-cycle schedule, repeatable, resumed after a kill."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from oodbench.classifier import Classifier
from oodbench.data.imageset import ImageSet
from oodbench.data.inputs import AnyForm, as_form, key_of
from oodbench.errors import OodbenchError
from oodbench.models.catalogue import MODELS, build
from oodbench.models.checkpoint import save_checkpoint
from oodbench.parameters import check_parameters, parameter
from oodbench.pixels import Pixels, augmented, channel_statistics, in_memory, to_unit
from oodbench.progress import whole
from oodbench.resume import read_resume, save_resume
from oodbench.transfer import sent

WARM_UP = 0.2
"""Share of the steps in which the learning rate rises."""

EVALUATION_BATCH = 512


@dataclass(frozen=True)
class TrainingSettings:
    """How a classifier is trained.

    Without label smoothing by default: it makes confidence a poorer score (Xia et al. 2024, arXiv 2403.14715).

    Raises:
        OodbenchError: a value is out of its range.
    """

    epochs: int = parameter(20, "Passes over the training images.", low=1)
    batch_size: int = parameter(128, "Images a step.", low=2)
    learning_rate: float = parameter(0.1, "Peak of the one-cycle schedule, for the mean loss of a batch.", low=0)
    weight_decay: float = parameter(5e-4, "L2 penalty on the weights of convolutions and linear layers.", low=0)
    label_smoothing: float = parameter(0.0, "Share of the target spread evenly over all classes.", low=0, high=1)
    l1: float = parameter(0.0, "L1 penalty on the weights of convolutions and linear layers.", low=0)
    augment: bool = parameter(False, "Random crops, their margin mirrored, and left-right flips: for natural images.")
    seed: int = parameter(0, "Seed of first weights, order of the images and augmentation.", low=0)

    def __post_init__(self) -> None:
        check_parameters(self)


DEFAULTS = {
    "digits": TrainingSettings(epochs=15, batch_size=64),
    "mnist": TrainingSettings(epochs=5),
    "fashion-mnist": TrainingSettings(epochs=12),
    "cifar10": TrainingSettings(epochs=20, augment=True),
    "cifar100": TrainingSettings(epochs=20, augment=True),
}
"""Settings by ID set; for others those of TrainingSettings hold, without augmentation: a mirrored image may be
of another class."""


def default_settings(id_name: str, architecture: str) -> TrainingSettings:
    """The settings for an architecture on an ID set, where the user gives none."""
    settings = DEFAULTS.get(id_name, TrainingSettings())
    # Some of torchvision's networks have no BatchNorm, without which 0.1 is too fast.
    return settings if architecture in MODELS else replace(settings, learning_rate=0.01)


@dataclass(frozen=True)
class EpochReport:
    """What one epoch came to: its number (from 1) of how many, the mean training loss with its penalties, the
    accuracy on the held-out images in [0, 1], and the seconds that it took."""

    epoch: int
    epochs: int
    loss: float
    accuracy: float
    seconds: float


Mix = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]
"""(images, labels, step from 0) → the batch to train on instead: uint8 images and labels on the classifier's device."""


def train(
    architecture: str,
    fit: ImageSet,
    held_out: ImageSet,
    *,
    num_classes: int,
    form: AnyForm,
    settings: TrainingSettings,
    checkpoint: Path | None = None,
    device: torch.device | str = "cpu",
    progress: Callable[[EpochReport], None] | None = None,
    objective: nn.Module | None = None,
    more_outputs: int = 0,
    record: Mapping[str, Any] | None = None,
) -> Classifier:
    """Train an architecture on the images of `fit`; the weights of the last epoch are kept.

    The held-out images are only looked at to report an accuracy: nothing is chosen by them. The same
    arguments give the same weights on a CPU with the same number of threads, whether or not the training was
    interrupted.

    Args:
        form: into which the images are brought: (C, H, W), or a preprocess.
        checkpoint: where the finished classifier is saved. After each epoch `<checkpoint>.resume` holds all
            that is needed to go on; a training of the same settings and images that finds it goes on from
            there.
        progress: is told of each epoch.
        objective: the mean loss of (logits, labels); by default the cross-entropy. What it learns is resumed too.
        more_outputs: how many outputs the network has after those of the classes, for the objective to use.
        record: what the checkpoint shall say of the training beside what it says anyway.

    Raises:
        OodbenchError: labels are missing or do not fit the classes, a class has no image, the loss stops
            being finite, or the resume file belongs to another training.
    """
    images = [fit.content_hash, fit.labels_hash]
    objective = objective or nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    outputs, record = num_classes + more_outputs, dict(record or {})
    identity = json.dumps([architecture, outputs, key_of(form), asdict(settings), images, repr(objective), record])
    fit_pixels = in_memory(fit, num_classes, form)
    held_out_pixels = in_memory(held_out, num_classes, form)
    require_every_class(fit, fit_pixels.labels, num_classes)
    with own_random_numbers(device):
        classifier = new_classifier(architecture, outputs, fit_pixels, form, settings.seed).to(device)
        resume = None if checkpoint is None else Path(f"{checkpoint}.resume")
        reports = optimise(
            classifier,
            fit_pixels,
            held_out_pixels,
            settings,
            objective,
            classes=num_classes,
            what=f"training {architecture} on {fit.name}",
            resume=resume,
            identity=identity,
            progress=progress,
        )
    classifier.training = _record(fit, held_out, settings, reports) | record
    if checkpoint is not None and resume is not None:
        save_checkpoint(classifier, architecture, checkpoint, classifier.training)
        resume.unlink(missing_ok=True)
    return classifier


def new_classifier(architecture: str, outputs: int, fit: Pixels, form: AnyForm, seed: int) -> Classifier:
    """An untrained classifier of that input form, normalised by its images; sets the global random numbers."""
    torch.manual_seed(seed)
    mean, std = channel_statistics(fit.images)
    preprocess = replace(as_form(form), mean=mean, std=std)
    module = build(architecture, outputs, preprocess.shape)
    return Classifier(module, num_classes=outputs, preprocess=preprocess, name=architecture)


def optimise(
    classifier: Classifier,
    fit: Pixels,
    held_out: Pixels,
    settings: TrainingSettings,
    objective: nn.Module,
    *,
    classes: int,
    what: str,
    resume: Path | None,
    identity: str,
    progress: Callable[[EpochReport], None] | None = None,
    mix: Mix | None = None,
) -> list[EpochReport]:
    """Train a classifier, in place and on its device, going on where an interrupted training of that identity stopped.

    Sets the global random numbers; afterwards the module is in eval mode.

    Args:
        held_out: images on which the accuracy of the first `classes` outputs is reported.
        objective: see `train`.
        what: what is done, for errors.
        resume: the file of what is needed to go on; it is left there.
        progress: is told of each epoch.
        mix: see `run_epoch`.

    Raises:
        OodbenchError: the loss stops being finite, or the resume file belongs to another training.
    """
    module = classifier.module
    # On CPUs the convolutions are a fifth to a half faster in this order of memory.
    module.to(memory_format=torch.channels_last)
    objective.to(classifier.device)
    optimiser = new_optimiser(module, settings)
    reports = _resumed(resume, identity, module, optimiser, objective)
    for epoch in range(len(reports), settings.epochs):
        started = time.monotonic()
        whole().doing(f"{what}, epoch {epoch + 1} of {settings.epochs}")
        # A seed an epoch: where a training resumes, the random numbers are what they would have been.
        torch.manual_seed(settings.seed * 1_000_003 + epoch + 1)
        loss = run_epoch(classifier, optimiser, fit, settings, epoch, objective, mix)
        if not np.isfinite(loss):
            raise OodbenchError(
                f"{what}: the loss of epoch {epoch + 1} is {loss}; lower the learning rate (it is "
                f"{settings.learning_rate})"
            )
        right = accuracy(classifier, held_out.images, held_out.labels, classes)
        report = EpochReport(epoch + 1, settings.epochs, loss, right, time.monotonic() - started)
        reports.append(report)
        if resume is not None:
            _save_resume(resume, identity, module, optimiser, objective, reports)
        if progress is not None:
            progress(report)
    module.to(memory_format=torch.contiguous_format)
    module.eval()
    return reports


def accuracy(classifier: Classifier, images: Tensor, labels: Tensor, classes: int | None = None) -> float:
    """Share of the images (uint8 N×C×H×W in the classifier's form) whose largest logit is their label's.

    Args:
        classes: look at the logits of so many classes only; by default at all.
    """
    right = 0
    with classifier.inference(), torch.no_grad():
        for batch, wanted in zip(images.split(EVALUATION_BATCH), labels.split(EVALUATION_BATCH), strict=True):
            logits = classifier(to_unit(batch, classifier.device))[:, :classes]
            right += int((logits.argmax(dim=1) == wanted.to(logits.device)).sum())
    return right / len(labels)


def one_cycle(progress: float) -> float:
    """The learning rate's factor at a share of the training in [0, 1]: up to 1, then down to 0, linearly."""
    return min(progress / WARM_UP, (1 - progress) / (1 - WARM_UP))


def new_optimiser(module: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    """SGD with Nesterov's momentum, which decays the weights of convolutions and linear layers alone."""
    weights = _penalised(module)
    others = [parameter for parameter in module.parameters() if parameter.dim() <= 1]
    groups = [
        {"params": weights, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=0.9, nesterov=True)


def _penalised(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.dim() > 1]


def run_epoch(
    classifier: Classifier,
    optimiser: torch.optim.Optimizer,
    data: Pixels,
    settings: TrainingSettings,
    epoch: int,
    objective: Callable[[Tensor, Tensor], Tensor],
    mix: Mix | None = None,
) -> float:
    """One pass over the images in a new order, the epoch counted from 0 in the schedule; the mean loss.

    Args:
        mix: is given each batch, augmented, and may change it.
    """
    classifier.module.train()
    batches = -(-len(data.labels) // settings.batch_size)
    losses, sizes = [], []
    # Batches of even size: a last one of few images would give BatchNorm a poor estimate.
    for number, chosen in enumerate(torch.randperm(len(data.labels)).tensor_split(batches)):
        factor = one_cycle((epoch * batches + number + 0.5) / (settings.epochs * batches))
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * factor
        images, labels = (sent(part[chosen], classifier.device) for part in (data.images, data.labels))
        if settings.augment:
            images = augmented(images)
        if mix is not None:
            images, labels = mix(images, labels, epoch * batches + number)
        logits = classifier(to_unit(images, classifier.device))
        loss = objective(logits, labels)
        if settings.l1 > 0:
            loss = loss + settings.l1 * torch.stack([w.abs().sum() for w in _penalised(classifier.module)]).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        # Read at the end: reading each would make a GPU wait.
        losses.append(loss.detach())
        sizes.append(len(chosen))
        whole().advance(len(chosen))
    return float(np.average(torch.stack(losses).tolist(), weights=sizes))


def require_every_class(fit: ImageSet, labels: Tensor, num_classes: int) -> None:
    """Raise OodbenchError if a class of 0 … K−1 is not among the labels of the images to train on."""
    counts = torch.bincount(labels, minlength=num_classes)
    missing = [fit.class_name(label) for label in (counts == 0).nonzero().flatten().tolist()]
    if missing:
        raise OodbenchError(
            f"{fit.name} has {len(fit)} images to train on, but none of class {', '.join(missing[:10])}: "
            f"train on more images, or on a set that has every one of the {num_classes} classes"
        )


@contextmanager
def own_random_numbers(device: torch.device | str) -> Iterator[None]:
    """What is drawn and seeded inside leaves the caller's random numbers as they were."""
    with torch.random.fork_rng(devices=[device] if torch.device(device).type == "cuda" else []):
        yield


def _save_resume(
    path: Path,
    identity: str,
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    objective: nn.Module,
    reports: list[EpochReport],
) -> None:
    state = {
        "identity": identity,
        "reports": [asdict(report) for report in reports],
        "module": module.state_dict(),
        "optimiser": optimiser.state_dict(),
        "objective": objective.state_dict(),
    }
    save_resume(path, state)


def _resumed(
    path: Path | None, identity: str, module: nn.Module, optimiser: torch.optim.Optimizer, objective: nn.Module
) -> list[EpochReport]:
    """Bring module and optimiser to where an interrupted training stopped; the reports of the epochs done."""
    state = read_resume(path, identity) if path else None
    if state is None:
        return []
    module.load_state_dict(state["module"])
    optimiser.load_state_dict(state["optimiser"])
    objective.load_state_dict(state["objective"])
    return [EpochReport(**report) for report in state["reports"]]


def _record(
    fit: ImageSet, held_out: ImageSet, settings: TrainingSettings, reports: list[EpochReport]
) -> dict[str, Any]:
    return {
        "id": fit.name,
        "accuracy": reports[-1].accuracy,
        "fit": {
            "origin": fit.origin,
            "images": len(fit),
            "sha256": fit.content_hash,
            "notes": list(fit.notes),
        },
        "held_out": {
            "origin": held_out.origin,
            "images": len(held_out),
            "sha256": held_out.content_hash,
            "used": "for the reported accuracy only: the weights are those of the last epoch",
        },
        "settings": asdict(settings),
        "accuracies": [report.accuracy for report in reports],
        "seconds": sum(report.seconds for report in reports),
    }
