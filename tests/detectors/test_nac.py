"""NAC-UE: its states by autograd, its bins by the authors' recipe, its counts by loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from oodbench.detectors.nac import NeuronCoverage, _edges
from oodbench.detectors.perturb import Perturb
from oodbench.errors import OodbenchError
from oodbench.example import make_example
from oodbench.outputs import FitData, Head, Outputs


def drawn(count: int, seed: int) -> Outputs:
    generator = torch.Generator().manual_seed(seed)
    head = Head(torch.randn(3, 6, generator=torch.Generator().manual_seed(9)).double(), torch.arange(3.0).double())
    features = torch.randn(count, 6, generator=generator).double().relu()
    return Outputs({"features": features, "logits": head(features)}, head)


def states(outputs: Outputs, steepness: float) -> np.ndarray:
    """By autograd, of the cross-entropy of the uniform distribution, which differs from KL(u ‖ p) by a constant."""
    features = outputs.features.clone().requires_grad_()
    loss = -outputs.head(features).log_softmax(dim=1).mean(dim=1).sum()
    (gradient,) = torch.autograd.grad(loss, features)
    return torch.sigmoid(steepness * features.detach() * gradient).numpy()


@pytest.mark.parametrize("detector", [NeuronCoverage(), NeuronCoverage(steepness=2, bins=10, filled=0.2)])
def test_is_the_mean_coverage_of_the_neurons_states(detector: NeuronCoverage) -> None:
    fit, test = drawn(200, 0), drawn(30, 1)
    edges = _edges(detector.bins).numpy()
    of_fit, of_test = (states(one, detector.steepness) for one in (fit, test))
    expected = []
    for row in of_test:
        shares = []
        for neuron, state in enumerate(row):
            inside = sum((one >= edges).sum() == (state >= edges).sum() for one in of_fit[:, neuron])
            shares.append(min(inside / len(of_fit) / detector.filled, 1))
        expected.append(np.mean(shares))
    found = detector.fit(FitData(fit)).score(test)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)
    assert len(np.unique(expected)) >= 5


@pytest.mark.parametrize("bins", [4, 50, 500])
def test_edges_are_spaced_as_in_the_authors_code(bins: int) -> None:
    # log_1000 of evenly spaced numbers from 1 to √1000, and their mirror image.
    lower = np.log(np.linspace(1, np.sqrt(1000), bins // 2 + 1)) / np.log(1000)
    every = np.concatenate([lower, (1 - lower)[::-1][1:]])
    np.testing.assert_allclose(_edges(bins).numpy(), every[1:-1], rtol=1e-12)
    assert len(every) == bins + 1 and every[0] == 0 and every[-1] == 1


@pytest.mark.parametrize("bins", [2, 3, 7])
def test_edges_rise_and_mirror_each_other(bins: int) -> None:
    edges = _edges(bins)
    assert len(edges) == bins - 1 and (edges.diff() > 0).all()
    torch.testing.assert_close(edges, 1 - edges.flip(0))


def test_a_fit_set_twice_over_changes_nothing() -> None:
    fit, test = drawn(50, 0), drawn(30, 1)
    once, twice = (NeuronCoverage().fit(FitData(one)) for one in (fit, Outputs.concatenate([fit, fit])))
    assert torch.equal(once.score(test), twice.score(test))


def test_a_score_of_counts_cannot_be_climbed() -> None:
    example = make_example()
    fitted = example.fitted(Perturb(base=NeuronCoverage()))
    with pytest.raises(OodbenchError, match="cannot climb the score of nac, which has no gradient; take another base"):
        example.scores(fitted, example.id_images)
