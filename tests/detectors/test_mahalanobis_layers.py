"""Mahalanobis distances of all layers: the weights by scikit-learn on its own, on images that no Gaussian has seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from oodbench.detectors.mahalanobis_layers import MahalanobisLayers
from oodbench.errors import OodbenchError
from oodbench.outputs import FitData, Outputs

WIDTHS = {"a": 3, "b": 5}


def drawn(count: int, seed: int, spread: float = 1.0) -> Outputs:
    generator = torch.Generator().manual_seed(seed)
    layers = {f"layer:{name}": torch.randn(count, width, generator=generator) for name, width in WIDTHS.items()}
    layers["layer:b"] = layers["layer:b"] * spread
    for layer in layers.values():
        layer[: count // 2, 0] += 3
    return Outputs(layers)


def labels(count: int) -> Tensor:
    return (torch.arange(count) >= count // 2).long()


def distances(fit: Outputs, fit_labels: Tensor, test: Outputs) -> np.ndarray:
    columns = []
    for name in WIDTHS:
        known, asked = (one.layer(name).double().numpy() for one in (fit, test))
        means = np.stack([known[fit_labels.numpy() == label].mean(axis=0) for label in (0, 1)])
        centred = known - means[fit_labels.numpy()]
        inverse = np.linalg.inv(centred.T @ centred / len(known))
        apart = asked[:, None] - means
        columns.append(-np.einsum("ncd,de,nce->nc", apart, inverse, apart).min(axis=1))
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("named", [False, True])
def test_is_the_weighted_sum(named: bool) -> None:
    fit, test, others = drawn(200, 0), drawn(20, 1), drawn(60, 2, spread=3.0)
    further = drawn(60, 3, spread=4.0)
    proxies = {"pixel-shuffled": others, "patch-shuffled": further}
    data = FitData(fit, labels(200), proxies, {"mine": further} if named else {})
    fitted = MahalanobisLayers(shrinkage=0).fit(data)
    order = np.random.default_rng(0).permutation(200)
    apart, used = torch.from_numpy(order[:40]), torch.from_numpy(order[40:])
    compared = further if named else Outputs.concatenate([others, further])
    seen = fit.select(used), labels(200)[used]
    of_id, of_ood = (distances(*seen, one) for one in (fit.select(apart), compared))
    scaler = StandardScaler().fit(np.concatenate([of_id, of_ood]))
    model = LogisticRegression(class_weight="balanced", max_iter=10_000)
    model.fit(scaler.transform(np.concatenate([of_id, of_ood])), [1] * 40 + [0] * len(of_ood))
    weights = model.coef_[0] / scaler.scale_
    np.testing.assert_allclose([fitted.state["weights"][name] for name in WIDTHS], weights, rtol=1e-4)
    assert weights[1] > max(0, 2 * weights[0]), "the layer that tells them apart counts"
    expected = distances(fit, labels(200), test) @ [fitted.state["weights"][name] for name in WIDTHS]
    np.testing.assert_allclose(fitted.score(test).numpy(), expected, rtol=1e-8)


def test_needs_labels_proxies_and_ten_images() -> None:
    proxies = {"pixel-shuffled": drawn(20, 1), "patch-shuffled": drawn(20, 2)}
    with pytest.raises(OodbenchError, match="mahalanobis_layers needs the classes of all fit images"):
        MahalanobisLayers().fit(FitData(drawn(20, 0), None, proxies))
    with pytest.raises(OodbenchError, match="without the proxy set 'pixel-shuffled'"):
        MahalanobisLayers().fit(FitData(drawn(20, 0), labels(20)))
    with pytest.raises(OodbenchError, match="mahalanobis_layers weighs its layers on a fifth of 10 or more fit images"):
        MahalanobisLayers().fit(FitData(drawn(8, 0), labels(8), proxies))
