"""pNML: the closed form in NumPy, learning by hand, and directions that no fit image has."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from oodbench.detectors.pnml import Pnml
from oodbench.outputs import FitData, Head, Outputs

HEAD = Head(
    torch.randn(4, 6, generator=torch.Generator().manual_seed(7)).double(),
    torch.tensor([1.0, -2.0, 0.5, 0.3]).double(),
)


def drawn(count: int, seed: int) -> Outputs:
    features = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed)) * torch.linspace(2, 0.3, 6)
    return Outputs({"features": features, "logits": HEAD(features).float()}, HEAD)


FIT, TEST = drawn(50, 0), drawn(30, 1)


@pytest.mark.parametrize("preset", ["paper", "pytorch-ood"])
def test_equals_the_closed_form(preset: str) -> None:
    x, t = (one.features.double().numpy() for one in (FIT, TEST))
    x, t = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (x, t))
    logits = TEST.logits.double().numpy() if preset == "paper" else t @ HEAD.weight.numpy().T + HEAD.bias.numpy()
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    q = np.einsum("ni,ij,nj->n", t, np.linalg.inv(x.T @ x), t)
    kappa = (q / (1 + q))[:, None]
    expected = -np.log((p / (p + (1 - p) * p**kappa)).sum(axis=1))
    found = Pnml(preset=preset).fit(FitData(FIT)).score(TEST)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-8, atol=1e-12)


def test_by_hand() -> None:
    # One fit image along the only axis: q = 1, κ = 1/2; p = ½: each share is ½/(½ + ½·√½) = 2 − √2.
    outputs = Outputs({"features": torch.tensor([[3.0]]), "logits": torch.zeros(1, 2)})
    found = Pnml().fit(FitData(outputs)).score(outputs)
    assert found.item() == pytest.approx(-np.log(2 * (2 - np.sqrt(2))), rel=1e-12)


def test_where_no_fit_image_lies_the_regret_is_larger() -> None:
    flat = FIT.features.clone()
    flat[:, 5] = 0
    fitted = Pnml().fit(FitData(Outputs({"features": flat})))
    seen, unseen = torch.zeros(2, 1, 6)
    seen[0, 0], unseen[0, 5] = 1, 1
    logits = torch.tensor([[2.0, 0.0, 0.0, 0.0]])
    scores = [fitted.score(Outputs({"features": one, "logits": logits})).item() for one in (seen, unseen)]
    # q is 10¹⁰ over the largest eigenvalue: as good as no bound, κ = 1, the largest regret of these probabilities.
    p = logits.double().softmax(dim=1).numpy()
    assert scores[1] == pytest.approx(-np.log((p / (p + (1 - p) * p)).sum()), abs=1e-6)
    assert scores[0] > scores[1] + 0.1


def test_certain_images_are_told_apart() -> None:
    features = TEST.features[:1].repeat(3, 1)
    logits = torch.tensor([[30.0, 0, 0, 0], [60.0, 0, 0, 0], [90.0, 0, 0, 0]])
    scores = Pnml().fit(FitData(FIT)).score(Outputs({"features": features, "logits": logits}))
    assert scores[0] < scores[1] < scores[2] < 0
