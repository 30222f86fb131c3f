"""Plain training: a classifier of the ID classes and nothing else."""

from __future__ import annotations

from pathlib import Path

import torch

from oodbench.data.imageset import ImageSet
from oodbench.data.inputs import AnyForm
from oodbench.progress import Reporter
from oodbench.training import EpochReport, TrainingSettings, train


def train_plain(
    architecture: str,
    fit: ImageSet,
    test: ImageSet,
    *,
    num_classes: int,
    form: AnyForm,
    settings: TrainingSettings,
    checkpoint: Path,
    device: torch.device | str = "cpu",
    reporter: Reporter,
) -> None:
    """Train an architecture on labelled images, and keep it, as `training.train` does.

    Args:
        test: ID images on which the accuracy is reported; they decide nothing.

    Raises:
        OodbenchError: see `training.train`.
    """
    train(
        architecture,
        fit,
        test,
        num_classes=num_classes,
        form=form,
        settings=settings,
        checkpoint=checkpoint,
        device=device,
        progress=lambda report: say_epoch(reporter, report),
    )


def say_epoch(reporter: Reporter, report: EpochReport) -> None:
    """Tell how an epoch went, where it took long or was the last."""
    # A line an epoch is progress where epochs take long, and noise where they take no time; the last says how it went.
    if report.seconds > 5 or report.epoch == report.epochs:
        reporter.say(
            f"classifier: epoch {report.epoch} of {report.epochs}, loss {report.loss:.4f}, accuracy "
            f"{100 * report.accuracy:.2f} % on the ID test images, which decide nothing"
        )
