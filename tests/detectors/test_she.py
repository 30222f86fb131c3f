"""SHE: patterns by hand, and classes of which no fit image is right."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from oodbench.detectors.she import HopfieldEnergy
from oodbench.errors import OodbenchError
from oodbench.outputs import FitData, Outputs


def outputs(features: list[list[float]], predicted: list[int]) -> Outputs:
    logits = torch.nn.functional.one_hot(torch.tensor(predicted), 3).float()
    return Outputs({"features": torch.tensor(features), "logits": logits})


FIT = outputs([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0], [9.0, 9.0]], [0, 0, 1, 0])


def fitted(labels: Tensor) -> HopfieldEnergy:
    return HopfieldEnergy().fit(FitData(FIT, labels))


def test_by_hand() -> None:
    # The last is predicted 0 and is 1: it is in no pattern. S_0 = (2, 0), S_1 = (0, 2), of all (4/3, 2/3).
    found = fitted(torch.tensor([0, 0, 1, 1]))
    test = outputs([[5.0, 1.0], [5.0, 1.0], [3.0, 3.0]], [0, 1, 2])
    assert found.score(test).tolist() == pytest.approx([10.0, 2.0, 6.0])
    assert found.state["classes never right"] == [2]


def test_refuses_a_classifier_that_has_nothing_right() -> None:
    with pytest.raises(OodbenchError, match="she learns from fit images that are classified right, and none of 4 is"):
        fitted(torch.tensor([1, 1, 2, 2]))
