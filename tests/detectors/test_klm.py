"""KL matching: SciPy's divergence, the direction, and classes that are never predicted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from oodbench.detectors.klm import KlMatching
from oodbench.outputs import FitData, Outputs


def drawn(count: int, seed: int) -> Tensor:
    return 3 * torch.randn(count, 5, generator=torch.Generator().manual_seed(seed))


def scores(fit: Tensor, test: Tensor) -> np.ndarray:
    return KlMatching().fit(FitData(Outputs({"logits": fit}))).score(Outputs({"logits": test})).numpy()


@pytest.mark.parametrize("never", [None, 3])
def test_is_scipys_divergence_from_the_nearest_template(never: int | None) -> None:
    fit, test = drawn(200, 0), drawn(30, 1)
    if never is not None:
        fit[:, never] = -20
    p, q = fit.double().softmax(dim=1).numpy(), test.double().softmax(dim=1).numpy()
    templates = [p[p.argmax(axis=1) == k].mean(axis=0) for k in range(5) if k != never]
    expected = [-min(stats.entropy(one, template) for template in templates) for one in q]
    np.testing.assert_allclose(scores(fit, test), expected, rtol=1e-9)


def test_names_classes_that_are_never_predicted() -> None:
    fit = drawn(200, 0)
    fit[:, [1, 4]] = -20
    assert KlMatching().fit(FitData(Outputs({"logits": fit}))).state["classes never predicted"] == [1, 4]


def test_the_divergence_is_from_the_image_to_the_template() -> None:
    # p = (1/2, 1/2) and d = (3/4, 1/4): KL(p ‖ d) = ½ ln(4/3) = 0.1438…, the other way round 0.1308….
    fit, test = torch.tensor([[3.0, 1.0]]).log(), torch.zeros(1, 2)
    assert scores(fit, test).item() == pytest.approx(-0.5 * np.log(4 / 3), rel=1e-6)


def test_a_fit_set_fifty_times_over_changes_nothing() -> None:
    fit, test = drawn(100, 0), drawn(20, 1)
    np.testing.assert_allclose(scores(fit.repeat(50, 1), test), scores(fit, test), rtol=1e-9)


def test_probabilities_that_underflow_stay_finite_and_apart() -> None:
    fit = torch.tensor([[2000.0, 0.0], [0.0, 2000.0]])
    found = scores(fit, torch.tensor([[2000.0, 0.0], [0.5, 0.0], [0.0, 0.0]]))
    assert np.isfinite(found).all() and found[0] == 0 and found[0] > found[1] > found[2]
