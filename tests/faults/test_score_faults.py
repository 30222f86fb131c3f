"""One test for each silent fault of a score that was found in another suite: none of them may live here.

Further ones stand with their detectors: 21 (residual of the full dimension), 23 (relative Mahalanobis that is plain).
"""

from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from oodbench.detectors.base import Detector
from oodbench.detectors.catalogue import catalogue
from oodbench.detectors.logits import MaxLogit
from oodbench.detectors.odin import Odin
from oodbench.detectors.softmax import Msp
from oodbench.detectors.spec import build
from oodbench.errors import OodbenchError
from oodbench.metrics import Counts, auroc, fpr_at_95_id_recall
from oodbench.outputs import FitData, Head, Outputs
from oodbench.testing import check_extreme_logits, check_labels, check_parameters, run_check
from tests.threads import one_thread as one_thread


def leading(lead: float, spread: float, count: int, seed: int) -> Tensor:
    """float32 logits of 10 classes whose top leads by about so much."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 1, (count, 10))
    logits[:, 0] = logits[:, 1:].max(axis=1) + generator.normal(lead, spread, count)
    return torch.from_numpy(logits).float()


def fifty_digit_log_probability(row: list[float]) -> Decimal:
    """log max p; its ranks are those of max p."""
    with localcontext() as context:
        context.prec = 50
        top = max(row)
        return -sum((Decimal(value) - Decimal(top)).exp() for value in row).ln()


@pytest.mark.parametrize("detector", [Msp(), Odin(temperature=1.0, epsilon=0.0)])
def test_fault_16_msp_saturates_at_one(detector: Msp | Odin) -> None:
    """OpenOOD, pytorch-ood, oodeel: in float32 up to 90 % of the scores were exactly 1 and AUROC fell to 0.717."""
    logits = torch.cat([leading(30, 2, 300, 0), leading(60, 2, 300, 1)])
    saturated = logits.softmax(dim=1).amax(dim=1)
    assert (saturated == 1).double().mean() > 0.9, "else this shows nothing"
    scores = detector.score(Outputs({"logits": logits})).tolist()
    exact = [fifty_digit_log_probability(row) for row in logits.tolist()]
    assert len(set(scores)) == len(set(exact)) == 600
    assert sorted(range(600), key=scores.__getitem__) == sorted(range(600), key=exact.__getitem__)


def test_fault_16_confident_networks_keep_their_auroc() -> None:
    """As OpenOOD's own metric saw it: top logits 22 over the rest for ID, 18 for OOD."""
    of_id, of_ood = leading(22, 2, 2000, 2), leading(18, 2, 2000, 3)
    float32, ours = (
        [score(logits) for logits in (of_id, of_ood)]
        for score in (
            lambda logits: logits.softmax(dim=1).amax(dim=1),
            lambda logits: Msp().score(Outputs({"logits": logits})),
        )
    )
    lost, kept = Counts.of(*float32), Counts.of(*ours)
    assert auroc(kept) > auroc(lost) + 0.05
    assert fpr_at_95_id_recall(kept) < 0.8 and fpr_at_95_id_recall(lost) == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("name", catalogue())
def test_fault_17_nan_for_the_most_confident_sample(name: str) -> None:
    """pytorch-ood and oodeel: p·log p of a p that underflows is 0·(−∞)."""
    run_check(check_extreme_logits, build(name))


@pytest.mark.parametrize("detector", [Msp(), MaxLogit(), build("energy"), build("odin(epsilon=0)")])
def test_fault_17_on_the_logits_of_its_report(detector: Msp) -> None:
    """(200, 0, 0), and (±10,000, 0, …) and all equal; the more certain scores higher or as high."""
    rows = [[200.0, 0, 0], [1e4, 0, 0], [-1e4, 0, 0], [0, 0, 0], [1e4, 1e4, 1e4]]
    scores = detector.score(Outputs({"logits": torch.tensor(rows)}))
    assert scores.isfinite().all()
    assert scores[1] > scores[0] > scores[3]


@pytest.mark.parametrize("name", catalogue())
def test_fault_18_labels_used_where_none_should_be(name: str) -> None:
    """pytorch-ood's KL matching took its templates by labels where its text says predictions."""
    run_check(check_labels, build(name))


@pytest.mark.parametrize("name", catalogue())
def test_fault_22_an_option_that_never_runs(name: str) -> None:
    """oodeel's ViM: both values of `pca_origin` gave bit-equal scores."""
    run_check(check_parameters, build(name))


@pytest.mark.parametrize("name", catalogue())
def test_fault_27_an_argument_that_is_accepted_and_dropped(name: str) -> None:
    """oodeel: MLS(epsilonnn=3) was accepted."""
    with pytest.raises(TypeError, match="epsilonnn"):
        type(build(name))(epsilonnn=3)


def reads_features(detector: Detector) -> bool:
    """And learns from nothing but stored outputs and labels."""
    stored = {"features", "logits", "head", "labels"}
    return "features" in detector.needs and detector.needs | detector.fit_needs <= stored and detector.reads is None


FEATURES = torch.randn(60, 5, generator=torch.Generator().manual_seed(0)).relu()
OF_CLASS = torch.arange(60) % 3
LOGITS = torch.randn(60, 3, generator=torch.Generator().manual_seed(1)) + 3 * torch.nn.functional.one_hot(OF_CLASS, 3)
HEAD = Head(torch.randn(3, 5, generator=torch.Generator().manual_seed(2)).double(), torch.ones(3).double())
FIT = FitData(Outputs({"features": FEATURES, "logits": LOGITS}, HEAD), OF_CLASS)


@pytest.mark.parametrize("name", [name for name in catalogue() if reads_features(build(name))])
def test_fault_19_features_of_zeros_give_nan_that_another_library_swallows(name: str) -> None:
    """OpenOOD added its ε to the normalised features, not to their length: 0/0, and FAISS a distance of 3.4e38."""
    # Forty-eight of the sixty images are left to a detector that holds some out.
    few = {"knn": {"k": "5"}, "nnguide": {"k": "5"}, "fusion": {"detectors": "energy+knn(k=5)"}}
    fitted = build(name, few.get(name, {})).fit(FIT)
    scores = fitted.score(Outputs({"features": torch.zeros(2, 5), "logits": torch.ones(2, 3)}, HEAD))
    assert scores.isfinite().all() and scores[0] == scores[1] and scores.abs().max() < 1e12


@pytest.mark.parametrize("name", ["knn", "nnguide"])
def test_fault_20_more_neighbours_than_there_are_fit_images(name: str) -> None:
    """oodeel: with 30 fit points and k = 50 the only score was 3.4e38."""
    with pytest.raises(OodbenchError, match=rf"{name}\(k=61\) needs .*61 fit images or more, but got 60"):
        build(f"{name}(k=61)").fit(FIT)


@pytest.mark.parametrize("name", ["mahalanobis", "rmd", "gmm"])
def test_fault_24_a_ridge_that_depends_on_the_number_of_images_or_a_silent_pseudo_inverse(name: str) -> None:
    """pytorch-ood added 1e-6 to an undivided scatter; OpenOOD and oodeel give unseen directions no weight at all."""
    many = FitData(Outputs({"features": FEATURES.repeat(50, 1)}), OF_CLASS.repeat(50))
    once, often = (build(name).fit(data).score(FIT.outputs) for data in (FIT, many))
    torch.testing.assert_close(often, once, rtol=1e-8, atol=1e-8)
    flat = torch.hstack([FEATURES, torch.zeros(60, 1)])
    with pytest.raises(OodbenchError, match="has rank 5 on 60 fit images, so it has no inverse"):
        build(f"{name}(shrinkage=0)").fit(FitData(Outputs({"features": flat}), OF_CLASS))
    if name != "rmd":  # which takes the same distance off twice
        moved = flat.clone()
        moved[:, 5] = 1
        fitted = build(name).fit(FitData(Outputs({"features": flat}), OF_CLASS))
        near, far = (fitted.score(Outputs({"features": one})) for one in (flat, moved))
        assert (far < near - 1000).all(), "what lies where no fit image does is far"


def test_fault_25_temperature_scaling_that_stops_far_from_its_optimum() -> None:
    """OpenOOD and pytorch-ood gave 1.77 and 1.24 where 2.80 is best."""
    logits = 2.8 * LOGITS
    temperature = torch.tensor(
        build("tempscale").fit(FitData(Outputs({"logits": logits}), OF_CLASS)).state["temperature"]
    )
    temperature = temperature.double().requires_grad_()
    (slope,) = torch.autograd.grad(cross_entropy(logits.double() / temperature, OF_CLASS), temperature)
    assert abs(float(slope)) < 1e-8
