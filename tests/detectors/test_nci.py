"""NCI: by hand."""

from __future__ import annotations

import pytest
import torch

from oodbench.detectors.nci import NeuralCollapse
from oodbench.outputs import FitData, Head, Outputs

HEAD = Head(torch.tensor([[2.0, 0.0], [0.0, 1.0]]).double(), torch.zeros(2).double())


def of(*features: list[float]) -> Outputs:
    stored = torch.tensor(features)
    return Outputs({"features": stored, "logits": HEAD(stored)}, HEAD)


@pytest.mark.parametrize("alpha", [0.0, 1e-3, 0.5])
def test_by_hand(alpha: float) -> None:
    fitted = NeuralCollapse(alpha=alpha).fit(FitData(of([0.0, -1.0], [2.0, 1.0])))  # the mean is (1, 0)
    # (4, 4) is predicted 0: (3, 4)/5 · (2, 0) = 1.2. (1, 9): (0, 9)/9 · (0, 1) = 1. The mean itself: 0.
    found = fitted.score(of([4.0, 4.0], [1.0, 9.0], [1.0, 0.0]))
    assert found.tolist() == pytest.approx([1.2 + 8 * alpha, 1 + 10 * alpha, alpha])
