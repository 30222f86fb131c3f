"""Cosine: by hand in the plane."""

from __future__ import annotations

import pytest
import torch

from oodbench.detectors.cosine import Cosine
from oodbench.outputs import FitData, Outputs


def test_by_hand_in_the_plane() -> None:
    # The means are (2, 0) and (0, 3); lengths do not count, and zeros are at cosine 0.
    fit = Outputs({"features": torch.tensor([[1.0, 1.0], [3.0, -1.0], [0.0, 3.0]])})
    fitted = Cosine().fit(FitData(fit, torch.tensor([5, 5, 7])))
    test = Outputs({"features": torch.tensor([[7.0, 0.0], [-1.0, 1.0], [-2.0, -2.0], [0.0, 0.0], [3.0, 4.0]])})
    half = 0.5**0.5
    assert fitted.score(test).tolist() == pytest.approx([1.0, half, -half, 0.0, 0.8])
