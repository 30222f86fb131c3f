"""ViM and its residual: the formula in NumPy by another decomposition, the rule for D', and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from oodbench.detectors.vim import Residual, Vim, paper_dimensions
from oodbench.errors import OodbenchError
from oodbench.outputs import FitData, Head, Outputs

HEAD = Head(
    torch.randn(4, 9, generator=torch.Generator().manual_seed(7)).double(),
    torch.tensor([1.0, -2.0, 0.5, 3.0]).double(),
)


def drawn(count: int, seed: int) -> Outputs:
    scales = torch.linspace(3, 0.2, 9)
    features = torch.randn(count, 9, generator=torch.Generator().manual_seed(seed)) * scales + 1
    return Outputs({"features": features, "logits": HEAD(features).float()}, HEAD)


FIT, TEST = drawn(200, 0), drawn(30, 1)


@pytest.mark.parametrize("dimensions", [0, 1, 6, 8])
def test_equals_the_formula(dimensions: int) -> None:
    weight, bias = HEAD.weight.numpy(), HEAD.bias.numpy()
    origin = -np.linalg.lstsq(weight, bias, rcond=None)[0]
    fit, test = (one.features.double().numpy() - origin for one in (FIT, TEST))
    # The right singular vectors of the features, not the eigenvectors of their products.
    principal = np.linalg.svd(fit, full_matrices=False)[2][: dimensions or 4]
    lengths = [np.linalg.norm(one - one @ principal.T @ principal, axis=1) for one in (fit, test)]
    alpha = FIT.logits.double().numpy().max(axis=1).sum() / lengths[0].sum()
    expected = np.log(np.exp(TEST.logits.double().numpy()).sum(axis=1)) - alpha * lengths[1]
    found = Vim(dimensions=dimensions).fit(FitData(FIT)).score(TEST)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-8)


def test_on_the_fit_images_the_virtual_logit_is_as_large_as_the_largest_logit() -> None:
    fitted = Vim().fit(FitData(FIT))
    virtual = FIT.logits.double().logsumexp(dim=1) - fitted.score(FIT)
    assert float(virtual.mean()) == pytest.approx(float(FIT.logits.amax(dim=1).mean()), rel=1e-6)


@pytest.mark.parametrize(("size", "principal"), [(9, 4), (64, 32), (767, 383), (768, 512), (2047, 512), (2048, 1000)])
def test_principal_dimensions_by_the_papers_rule(size: int, principal: int) -> None:
    assert paper_dimensions(size) == principal


def test_what_it_learns_by_default() -> None:
    assert Vim().fit(FitData(FIT)).state["rest"].shape == (9, 9 - paper_dimensions(9))


@pytest.mark.parametrize("dimensions", [9, 10])
def test_refuses_to_leave_nothing(dimensions: int) -> None:
    with pytest.raises(OodbenchError, match=rf"vim\(dimensions={dimensions}\) leaves nothing of 9 features"):
        Vim(dimensions=dimensions).fit(FitData(FIT))


def test_refuses_features_without_a_rest_and_networks_without_a_head() -> None:
    plane = FIT.features[:, :2] @ torch.randn(2, 9, generator=torch.Generator().manual_seed(1)).float()
    head = Head(HEAD.weight, torch.zeros(4).double())  # the origin is 0, in the plane
    with pytest.raises(OodbenchError, match="lie in 4 dimensions, and vim reads the rest; give fewer dimensions"):
        Vim().fit(FitData(Outputs({"features": plane, "logits": head(plane)}, head)))
    with pytest.raises(OodbenchError, match="last step is not a linear layer"):
        Vim().fit(FitData(Outputs(FIT.tensors())))


@pytest.mark.parametrize("dimensions", [0, 3])
def test_residual_is_the_distance_to_the_principal_plane(dimensions: int) -> None:
    origin = -np.linalg.lstsq(HEAD.weight.numpy(), HEAD.bias.numpy(), rcond=None)[0]
    fit, test = (one.features.double().numpy() - origin for one in (FIT, TEST))
    plane = np.linalg.svd(fit, full_matrices=False)[2][: dimensions or 4].T
    on_it = plane @ np.linalg.lstsq(plane, test.T, rcond=None)[0]
    found = Residual(dimensions=dimensions).fit(FitData(FIT)).score(TEST)
    np.testing.assert_allclose(found.numpy(), -np.linalg.norm(test.T - on_it, axis=0), rtol=1e-8)


def test_fault_21_a_residual_of_all_dimensions_is_refused() -> None:
    """OpenOOD's settings leave nothing of 512 features: every score was 0."""
    with pytest.raises(OodbenchError, match=r"residual\(dimensions=9\) leaves nothing of 9 features"):
        Residual(dimensions=9).fit(FitData(FIT))
