"""One test for each silent fault of a score that was found in another suite: none of them may live here.

To come with their detectors: 19 and 20 (k nearest neighbours: zero features, k above the bank), 21 (residual
of the full dimension), 23 (relative Mahalanobis that is plain), 24 (precision by a silent ridge or
pseudo-inverse), 25 (temperature scaling that stops early).
"""

from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from torch import Tensor

from oodbench.detectors.catalogue import catalogue
from oodbench.detectors.logits import MaxLogit
from oodbench.detectors.odin import Odin
from oodbench.detectors.softmax import Smood
from oodbench.detectors.spec import build
from oodbench.metrics import Counts, auroc, fpr_at_95_id_recall
from oodbench.outputs import Outputs
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


@pytest.mark.parametrize("detector", [Smood(), Odin(temperature=1.0, epsilon=0.0)])
def test_fault_16_msp_saturates_at_one(detector: Smood | Odin) -> None:
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
            lambda logits: Smood().score(Outputs({"logits": logits})),
        )
    )
    lost, kept = Counts.of(*float32), Counts.of(*ours)
    assert auroc(kept) > auroc(lost) + 0.05
    assert fpr_at_95_id_recall(kept) < 0.8 and fpr_at_95_id_recall(lost) == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("name", catalogue())
def test_fault_17_nan_for_the_most_confident_sample(name: str) -> None:
    """pytorch-ood and oodeel: p·log p of a p that underflows is 0·(−∞)."""
    run_check(check_extreme_logits, build(name))


@pytest.mark.parametrize("detector", [Smood(), MaxLogit(), build("energy"), build("odin(epsilon=0)")])
def test_fault_17_on_the_logits_of_its_report(detector: Smood) -> None:
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
