"""Monte-Carlo dropout: what it costs, its masks, and torch's own dropout."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from oodbench.capture import PassCount
from oodbench.classifier import Classifier
from oodbench.detectors.ensemble import MEASURES
from oodbench.detectors.mcd import MonteCarloDropout
from oodbench.errors import OodbenchError
from oodbench.example import make_example
from oodbench.live import passes
from oodbench.outputs import Needs
from tests.detectors.test_ensemble import log_odds_of


def test_is_what_torchs_own_dropout_gives_in_the_mean() -> None:
    example, samples = make_example(), 1500
    images = torch.cat([example.id_images[:4], example.ood_images[:4]])
    module = example.classifier.module.eval()
    module.dropout.train()
    torch.manual_seed(0)
    with torch.no_grad():
        normalised = example.classifier.normalise(images / 255)
        logits = torch.stack([module(normalised) for _ in range(samples)]).double()
    p = logits.softmax(dim=2)
    mean = p.mean(dim=0)
    information = (mean * mean.log()).sum(dim=1) - (p * p.log()).sum(dim=2).mean(dim=0)
    assert information.abs().max() > 0.1
    for live in example.passes(images, Needs("live")):
        largest, odds, shared = (MonteCarloDropout(samples=samples, measure=one).score(live) for one in MEASURES)
    torch.testing.assert_close(largest.sigmoid(), mean.amax(dim=1), rtol=0, atol=0.04)
    torch.testing.assert_close(shared, information, rtol=0, atol=0.04)
    drawn = torch.stack([log_odds_of(one, mean.argmax(dim=1)) for one in logits])
    assert ((odds - drawn.mean(dim=0)).abs() < 5 * drawn.std(dim=0) * (2 / samples) ** 0.5).all()


def test_an_image_has_the_same_masks_alone_and_beside_others() -> None:
    example = make_example(precision=torch.float64)
    detector = MonteCarloDropout(samples=5)
    whole = example.scores(detector, example.id_images)
    alone = torch.cat([example.scores(detector, image[None]) for image in example.id_images])
    torch.testing.assert_close(alone, whole, rtol=1e-9, atol=1e-9)


def test_seeds_have_no_mask_in_common() -> None:
    example, drawn = make_example(), []
    for live in example.passes(example.id_images, Needs("live")):
        real = live.forward
        live.forward = lambda *, dropout, real=real: drawn.append(dropout) or real(dropout=dropout)  # type: ignore
        for seed in (0, 1, 2):
            MonteCarloDropout(samples=4, seed=seed).score(live)
    assert sorted(drawn) == list(range(12))


def test_costs_a_pass_a_sample_once_for_all() -> None:
    example, count = make_example(), PassCount()
    detectors = [MonteCarloDropout(samples=7), MonteCarloDropout(samples=7, measure="mutual_information")]
    for live in passes(example.classifier, [example.id_images], detectors[0].needs, count):
        for detector in detectors:
            detector(live)
    assert count == PassCount(forward=40, further=7 * 40)


def test_a_network_without_dropout_is_refused() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    classifier = Classifier(module, num_classes=2, image_shape=(3, 2, 2))
    with pytest.raises(OodbenchError, match="has no dropout layer"):
        for live in passes(classifier, [torch.zeros(2, 3, 2, 2, dtype=torch.uint8)], Needs("live")):
            MonteCarloDropout()(live)
