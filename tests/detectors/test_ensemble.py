"""Ensembles: agreement against 200 digits, and the ensemble against its members asked one by one."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch
from torch import Tensor

from oodbench.detectors.ensemble import MEASURES, Ensemble, agreement
from oodbench.detectors.softmax import top_log_odds
from oodbench.errors import OodbenchError
from oodbench.example import make_example
from oodbench.recipes.ensemble import ensemble


def drawn(scale: float, members: int = 3, count: int = 25) -> Tensor:
    return scale * torch.randn(members, count, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def odds_of(p: list[mpmath.mpf], k: int) -> mpmath.mpf:
    return mpmath.log(p[k] / mpmath.fsum(one for other, one in enumerate(p) if other != k))


def exactly(logits: Tensor) -> dict[str, list[float]]:
    """The measures by their definitions, in 200 digits."""
    odds, own_odds, information = [], [], []
    with mpmath.workdps(200):
        for image in logits.transpose(0, 1).tolist():
            powers = [[mpmath.exp(mpmath.mpf(z)) for z in row] for row in image]
            p = [[one / mpmath.fsum(row) for one in row] for row in powers]
            mean = [mpmath.fsum(column) / len(p) for column in zip(*p, strict=True)]
            top = mean.index(max(mean))
            odds.append(float(odds_of(mean, top)))
            first = [k for k, one in enumerate(mean) if one > mean[top] * (1 - 1e-12)]
            own_odds.append(max(float(mpmath.fsum(odds_of(row, k) for row in p) / len(p)) for k in first))

            def entropy(q: list[mpmath.mpf]) -> mpmath.mpf:
                return -mpmath.fsum(one * mpmath.log(one) for one in q)

            information.append(float(-(entropy(mean) - mpmath.fsum(map(entropy, p)) / len(p))))
    return {"max_probability": odds, "log_odds": own_odds, "mutual_information": information}


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_equals_its_definition(measure: str, scale: float) -> None:
    logits = drawn(scale)
    found = agreement(logits, measure)
    torch.testing.assert_close(
        found, torch.tensor(exactly(logits)[measure], dtype=torch.float64), rtol=1e-9, atol=1e-15
    )


def test_no_measure_saturates_where_all_are_sure() -> None:
    # Probabilities of 1 − 10⁻²⁰ and less: float64 has them all as 1.
    logits = drawn(1.0)
    logits[:, :, 0] += torch.linspace(50, 150, 25)
    for measure in MEASURES:
        found = agreement(logits, measure)
        torch.testing.assert_close(
            found, torch.tensor(exactly(logits)[measure], dtype=torch.float64), rtol=1e-6, atol=0
        )
        assert len(found.unique()) == 25


def test_mean_log_odds_by_hand() -> None:
    # Mean p of image 1: (0.9 + 0.2)/2 > (0.1 + 0.8)/2, class 0; of image 2: class 1, of which p is 0.4, 0.8.
    p = torch.tensor([[[0.9, 0.1], [0.6, 0.4]], [[0.2, 0.8], [0.2, 0.8]]], dtype=torch.float64)
    expected = [(math.log(9) + math.log(1 / 4)) / 2, (math.log(2 / 3) + math.log(4)) / 2]
    assert agreement(p.log() + 7, "log_odds").tolist() == pytest.approx(expected, rel=1e-12)


def test_mean_log_odds_of_classes_that_are_tied() -> None:
    """Two that are sure, of 1 − e⁻⁴⁰ and 1 − e⁻⁶⁰: both mean p are ½, and the surer one's class counts."""
    logits = torch.tensor([[[40.0, 0.0]], [[0.0, 60.0]]], dtype=torch.float64)
    for one in (logits, logits.flip(0), logits.flip(2)):
        assert agreement(one, "log_odds").tolist() == [10.0]


def test_equal_members_are_as_one() -> None:
    logits = drawn(4.0, members=1).expand(6, -1, -1)
    for measure in ("max_probability", "log_odds"):
        torch.testing.assert_close(agreement(logits, measure), top_log_odds(logits[0]), rtol=1e-12, atol=1e-12)
    assert agreement(logits, "mutual_information").abs().max() < 1e-15


def test_members_that_disagree_score_below_those_that_agree() -> None:
    sure = torch.tensor([[8.0, 0.0, 0.0], [0.0, 8.0, 0.0]])
    agree, disagree = torch.stack([sure[0], sure[0]]), sure
    for measure in MEASURES:
        first, second = agreement(torch.stack([agree, disagree], dim=1), measure).tolist()
        assert first > second
    assert second == pytest.approx(-torch.tensor(2.0).log().item(), abs=0.01), "one bit, all that two can disagree by"


def log_odds_of(logits: Tensor, classes: Tensor) -> Tensor:
    """Of a class an image, from N×K logits: where p is next to 1, 1 − p has no digits left."""
    others = logits.scatter(1, classes[:, None], -torch.inf)
    return logits.gather(1, classes[:, None])[:, 0] - others.logsumexp(dim=1)


@pytest.mark.parametrize("measure", MEASURES)
def test_reads_its_members(measure: str) -> None:
    members = [make_example(width=width, precision=torch.float64) for width in (12, 18)]
    together = make_example(recipe=Ensemble.reads, precision=torch.float64)
    images = together.all_images
    with torch.no_grad():
        asked = [one.classifier.module.eval()(one.classifier.normalise(images.double() / 255)) for one in members]
    p = torch.stack(asked).softmax(dim=2)
    mean = p.mean(dim=0)
    if measure == "max_probability":
        expected = (mean.amax(dim=1) / (1 - mean.amax(dim=1))).log()
    elif measure == "log_odds":
        expected = torch.stack([log_odds_of(logits, mean.argmax(dim=1)) for logits in asked]).mean(dim=0)
    else:
        expected = (mean * mean.log()).sum(dim=1) - (p * p.log()).sum(dim=2).mean(dim=0)
    found = together.scores(Ensemble(measure=measure), images)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)


def test_one_classifier_is_no_ensemble() -> None:
    with pytest.raises(OodbenchError, match="two members or more"):
        ensemble([make_example().classifier])
