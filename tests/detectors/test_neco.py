"""NECO: scikit-learn's scaler and principal components, and features that never change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from oodbench.detectors.neco import Neco
from oodbench.outputs import FitData, Outputs


def drawn(count: int, seed: int) -> Outputs:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, 3, generator=generator) @ torch.randn(
        3, 8, generator=torch.Generator().manual_seed(9)
    )
    features = 50 + features * torch.logspace(-2, 2, 8) + 0.3 * torch.randn(count, 8, generator=generator)
    return Outputs({"features": features, "logits": torch.randn(count, 4, generator=generator)})


FIT, TEST = drawn(300, 0), drawn(30, 1)


@pytest.mark.parametrize("explained", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("maxlogit", [True, False])
def test_is_scikit_learns_projection(explained: float, maxlogit: bool) -> None:
    scaler = StandardScaler().fit(FIT.features.double().numpy())
    principal = PCA().fit(scaler.transform(FIT.features.double().numpy()))
    count = int(np.argmax(principal.explained_variance_ratio_.cumsum() >= explained)) + 1
    scaled = scaler.transform(TEST.features.double().numpy())
    ratio = np.linalg.norm(principal.transform(scaled)[:, :count], axis=1) / np.linalg.norm(scaled, axis=1)
    expected = ratio * TEST.logits.double().numpy().max(axis=1) if maxlogit else ratio
    found = Neco(explained=explained, maxlogit=maxlogit).fit(FitData(FIT)).score(TEST)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-8)


def test_a_feature_that_never_changes_is_left_as_it_is() -> None:
    with_constant = Outputs({"features": torch.hstack([FIT.features, torch.full((300, 1), 0.1)])})
    state = Neco().fit(FitData(with_constant)).state
    assert state["scale"][8] == 1 and (state["scale"][:8] != 1).all()
    moved = torch.hstack([TEST.features, torch.full((30, 1), 0.1)])
    plain = Neco(maxlogit=False).fit(FitData(FIT)).score(TEST)
    found = Neco(maxlogit=False).fit(FitData(with_constant)).score(Outputs({"features": moved}))
    torch.testing.assert_close(found, plain, rtol=1e-6, atol=0)
