"""One Gaussian a class: against scikit-learn's mixture of the same parameters, and SciPy's density."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture as Theirs
from torch import Tensor

from oodbench.detectors.gmm import GaussianMixture
from oodbench.errors import OodbenchError
from oodbench.outputs import FitData, Outputs


def drawn(count: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (count,), generator=generator) ** 2  # 0, 1 and 4
    features = torch.randn(count, 4, generator=generator) * torch.tensor([1.0, 10.0, 0.1, 3.0])
    return features * (1 + labels[:, None] / 4) + labels[:, None], labels


FIT, TEST = drawn(400, 0), drawn(30, 1)[0]


def scores(covariance: str, features: Tensor, labels: Tensor) -> np.ndarray:
    detector = GaussianMixture(covariance=covariance, shrinkage=0)
    return detector.fit(FitData(Outputs({"features": features}), labels)).score(Outputs({"features": TEST})).numpy()


def parameters() -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    h, y = FIT[0].double().numpy(), FIT[1].numpy()
    parts = [h[y == c] for c in (0, 1, 4)]
    shares = np.array([len(one) for one in parts]) / len(h)
    return shares, np.stack([one.mean(axis=0) for one in parts]), [np.cov(one.T, bias=True) for one in parts]


def test_tied_is_scikit_learns_log_density() -> None:
    shares, means, covariances = parameters()
    tied = sum(share * one for share, one in zip(shares, covariances, strict=True))
    theirs = Theirs(3, covariance_type="tied")
    theirs.weights_, theirs.means_ = shares, means
    theirs.precisions_cholesky_ = np.linalg.cholesky(np.linalg.inv(tied))
    np.testing.assert_allclose(scores("tied", *FIT), theirs.score_samples(TEST.double().numpy()), rtol=1e-9)


def test_own_is_scipys_log_density() -> None:
    terms = [
        np.log(share) + multivariate_normal(mean, covariance).logpdf(TEST.double().numpy())
        for share, mean, covariance in zip(*parameters(), strict=True)
    ]
    np.testing.assert_allclose(scores("own", *FIT), logsumexp(terms, axis=0), rtol=1e-9)


@pytest.mark.parametrize("covariance", ["tied", "own"])
def test_a_fit_set_fifty_times_over_changes_nothing(covariance: str) -> None:
    often = scores(covariance, FIT[0].repeat(50, 1), FIT[1].repeat(50))
    np.testing.assert_allclose(often, scores(covariance, *FIT), rtol=1e-9)


def test_a_singular_covariance_is_said() -> None:
    features, labels = FIT
    few = torch.cat([(labels == 0).nonzero()[:3, 0], (labels != 0).nonzero()[:, 0]])
    with pytest.raises(OodbenchError, match="has rank 2 on 3 fit images, so it has no inverse; give more fit images"):
        scores("own", features[few], labels[few])
