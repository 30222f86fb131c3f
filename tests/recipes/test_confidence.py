"""Learned confidence: the objective by hand, what is left on disk, and what its own classifier is judged by."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from oodbench.errors import OodbenchError
from oodbench.models.checkpoint import load_checkpoint
from oodbench.progress import Reporter
from oodbench.recipes.confidence import ConfidenceObjective, ConfidenceSettings, train_confidence
from oodbench.training import TrainingSettings
from tests.recipes.conftest import turned_ramps


def expected(probability: float, confidence: float, hinted: bool) -> float:
    return -math.log(confidence * probability + (1 - confidence) if hinted else probability)


def test_the_objective_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "rand", lambda count: torch.tensor([0.1, 0.9]))
    logits = torch.tensor([[math.log(0.25), math.log(0.75), 0.0], [math.log(0.25), math.log(0.75), math.log(4)]])
    objective = ConfidenceObjective(budget=0.3)
    found = float(objective(logits, torch.tensor([0, 0])))
    price = -(math.log(0.5) + math.log(0.8)) / 2
    assert found == pytest.approx((expected(0.25, 0.5, True) + expected(0.25, 0.8, False)) / 2 + 0.1 * price)


@pytest.mark.parametrize(("confidence_logit", "factor"), [(9.0, 1 / 1.01), (-9.0, 1 / 0.99)])
def test_the_weight_falls_where_confidence_is_cheap_and_rises_where_it_is_dear(
    confidence_logit: float, factor: float
) -> None:
    objective = ConfidenceObjective(budget=0.3)
    objective(torch.tensor([[1.0, 0.0, confidence_logit]]), torch.tensor([0]))
    assert float(objective.weight) == pytest.approx(0.1 * factor)


def test_gradients_are_finite_where_everything_is_certain_and_wrong() -> None:
    logits = torch.tensor([[200.0, 0.0, 200.0], [0.0, 200.0, -200.0]], requires_grad=True)
    torch.manual_seed(0)
    ConfidenceObjective(budget=0.3)(logits, torch.tensor([1, 0])).backward()
    assert logits.grad is not None and logits.grad.isfinite().all()


def test_the_checkpoint_has_one_more_output_and_is_judged_on_the_classes(tmp_path: Path) -> None:
    checkpoint = tmp_path / "own.safetensors"
    train_confidence(
        "cnn8",
        turned_ramps(90, 0),
        turned_ramps(30, 1),
        num_classes=3,
        form=(1, 8, 8),
        settings=ConfidenceSettings(TrainingSettings(epochs=6, batch_size=16)),
        checkpoint=checkpoint,
        reporter=Reporter(),
    )
    stored = load_checkpoint(checkpoint)
    assert stored.num_classes == 4 and stored.record["recipe"] == "confidence"
    assert stored.record["budget"] == 0.3
    assert stored.record["accuracy"] > 0.9


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(OodbenchError, match="budget"):
        ConfidenceSettings(budget=0.0)
