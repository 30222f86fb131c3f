"""Training with a learned confidence (DeVries & Taylor 2018, arXiv 1802.04865)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oodbench.data.imageset import ImageSet
from oodbench.data.inputs import AnyForm
from oodbench.parameters import check_parameters, parameter
from oodbench.progress import Reporter
from oodbench.recipes.plain import say_epoch
from oodbench.training import TrainingSettings, default_settings, train

RECIPE = "confidence"


@dataclass(frozen=True)
class ConfidenceSettings:
    """How a classifier with a confidence output is trained."""

    training: TrainingSettings = field(default_factory=TrainingSettings)
    budget: float = parameter(0.3, "Budget β of the mean of −log c.", low=1e-3, high=100)

    def __post_init__(self) -> None:
        check_parameters(self)


class ConfidenceObjective(nn.Module):
    """L = −log p'_y + λ·(−log c) of K class logits and that of c = σ(z_K); section 2.

    For half the images, drawn anew each time, p' = c·p + (1 − c)·y, a hint that the network pays for by its
    confidence; for the others p' = p. After each step λ falls by 1.01 where the budget is above the mean of −log c,
    and rises by 1/0.99 elsewhere.
    """

    weight: Tensor

    def __init__(self, budget: float) -> None:
        super().__init__()
        self.budget = budget
        self.register_buffer("weight", torch.tensor(0.1))

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        log_p = logits[:, :-1].log_softmax(dim=1).gather(1, labels[:, None]).squeeze(1)
        log_c, log_hint = F.logsigmoid(logits[:, -1]), F.logsigmoid(-logits[:, -1])
        hinted = (torch.rand(len(labels)) < 0.5).to(logits.device)
        log_shown = torch.where(hinted, torch.logaddexp(log_c + log_p, log_hint), log_p)
        price = -log_c.mean()
        loss = -log_shown.mean() + self.weight.clone() * price
        with torch.no_grad():
            self.weight.mul_(torch.where(price < self.budget, 1 / 1.01, 1 / 0.99))
        return loss

    def extra_repr(self) -> str:
        return f"budget={self.budget}"


def default_confidence_settings(id_name: str, architecture: str) -> ConfidenceSettings:
    """The settings for an architecture on an ID set, where the user gives none."""
    return ConfidenceSettings(default_settings(id_name, architecture))


def train_confidence(
    architecture: str,
    fit: ImageSet,
    test: ImageSet,
    *,
    num_classes: int,
    form: AnyForm,
    settings: ConfidenceSettings,
    checkpoint: Path,
    device: torch.device | str = "cpu",
    reporter: Reporter,
) -> None:
    """Train an architecture with K+1 outputs, the last of them the confidence's logit, as `training.train` does.

    Args:
        test: ID images on which the accuracy over the K classes is reported; they decide nothing.

    Raises:
        OodbenchError: see `training.train`.
    """
    train(
        architecture,
        fit,
        test,
        num_classes=num_classes,
        form=form,
        # A smoothed label is no hint: p' is asked for the label itself.
        settings=replace(settings.training, label_smoothing=0.0),
        checkpoint=checkpoint,
        device=device,
        progress=lambda report: say_epoch(reporter, report),
        objective=ConfidenceObjective(settings.budget),
        more_outputs=1,
        record={"recipe": RECIPE, "budget": settings.budget},
    )
