"""Standardised fit outputs: scikit-learn's, block by block, and what was given stays as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

from oodbench.detectors import standardised as module
from oodbench.detectors.standardised import standardised
from oodbench.errors import OodbenchError


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [7, 4096])
def test_is_scikit_learns_of_all_parts_together(
    rows: int, precision: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROWS", rows)
    generator = torch.Generator().manual_seed(0)
    first, second = (50 + torch.randn(count, 5, generator=generator, dtype=precision) for count in (40, 23))
    first[:, 2] = second[:, 2] = 3.0
    before = first.clone(), second.clone()
    array, scaler = standardised({"first": first, "second": second})
    expected = StandardScaler().fit(torch.cat([first, second]).double().numpy())
    np.testing.assert_allclose(array, expected.transform(torch.cat([first, second]).double().numpy()), atol=1e-12)
    np.testing.assert_allclose(scaler.mean_, expected.mean_, rtol=1e-14)
    np.testing.assert_allclose(scaler.scale_, expected.scale_, rtol=1e-12)
    assert array.dtype == np.float64 and scaler.scale_[2] == 1
    assert torch.equal(first, before[0]) and torch.equal(second, before[1])


def test_names_the_part_that_is_not_finite() -> None:
    with pytest.raises(OodbenchError, match="the second of image 1 are not finite"):
        standardised({"first": torch.zeros(3, 2), "second": torch.tensor([[0.0, 0.0], [torch.nan, 0.0]])})
