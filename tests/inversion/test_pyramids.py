"""Inversion by latents of several scales: it works, images differ, statistics are met, nothing else is touched."""

from __future__ import annotations

import math
from copy import deepcopy

import pytest
import torch

from oodbench.classifier import Classifier
from oodbench.errors import OodbenchError
from oodbench.inversion import losses
from oodbench.inversion.ablation import features_of
from oodbench.inversion.diversity import within_class_cosine
from oodbench.inversion.invert import generate, invert
from oodbench.inversion.live import live_features
from oodbench.inversion.pyramids import frame, invert_pyramids, sides
from oodbench.inversion.settings import PyramidSettings
from oodbench.parameters import changed
from oodbench.progress import Reporter
from tests.inversion.conftest import SMALL

FEW = PyramidSettings(images=90, batch_size=45, steps=40, step_size=0.2, offset=-1.0, frame=0.0)
"""Enough to invert `bars_classifier`, whose images fill the frame."""


def test_images_get_their_classes_and_differ_more_than_a_generators(bars_classifier: Classifier) -> None:
    made = invert_pyramids(bars_classifier, FEW, "cpu", Reporter())
    assert made.targets.tolist() == [0, 1, 2] * 30 and made.images.shape == (90, 1, 8, 8)
    with bars_classifier.inference(), torch.no_grad():
        assert (bars_classifier(made.images).argmax(dim=1) == made.targets).float().mean() >= 0.98
    generator = invert(bars_classifier, SMALL.replaced(epochs=8), "cpu", Reporter()).generator
    by_generator = generate(generator, made.targets, 0)
    cosines = [
        within_class_cosine(features_of(bars_classifier, one.images), one.targets) for one in (made, by_generator)
    ]
    assert cosines[0] < cosines[1]


def test_pixels_are_of_8_bits(bars_classifier: Classifier) -> None:
    images = invert_pyramids(bars_classifier, changed(FEW, {"steps": 2}), "cpu", Reporter()).images
    assert images.min() >= 0 and images.max() <= 1 and not images.requires_grad
    assert torch.equal(images, images.mul(255).round() / 255)


def test_one_seed_gives_one_result_and_another_seed_another(bars_classifier: Classifier) -> None:
    settings = changed(FEW, {"steps": 5, "shift": 2})
    one = invert_pyramids(bars_classifier, settings, "cpu", Reporter()).images
    torch.manual_seed(123)  # The caller's own random state must not matter.
    assert torch.equal(one, invert_pyramids(bars_classifier, settings, "cpu", Reporter()).images)
    other = invert_pyramids(bars_classifier, changed(settings, {"seed": 1}), "cpu", Reporter()).images
    assert not torch.equal(one, other)
    assert len(one.flatten(1).unique(dim=0)) == 90


def test_the_classifier_is_left_as_it_was(bars_classifier: Classifier) -> None:
    module = bars_classifier.module
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    module.train()
    invert_pyramids(bars_classifier, changed(FEW, {"steps": 2}), "cpu", Reporter())
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert all(part.training for part in module.modules()) and all(one.requires_grad for one in module.parameters())
    assert all(one.grad is None for one in module.parameters())


@pytest.mark.parametrize("name", ["statistics", "within_class", "image_cosine", "total_variation"])
def test_every_weight_lowers_what_it_weighs(name: str, bars_classifier: Classifier) -> None:
    def value(weight: float) -> float:
        settings = changed(FEW, {"images": 45, "statistics": 0.0, "cross_entropy": 0.01} | {name: weight})
        made = invert_pyramids(bars_classifier, settings, "cpu", Reporter())
        with live_features(bars_classifier, statistics=True) as passes:
            live = passes(made.images)
        measured = {
            "statistics": live.statistics,
            "within_class": losses.within_class(live.features, made.targets),
            "image_cosine": losses.image_cosine(made.images),
            "total_variation": losses.total_variation(made.images),
        }
        return float(measured[name])

    assert value(30.0) < 0.8 * value(0.0)


def test_the_gradient_alone_asks_for_a_class(bars_classifier: Classifier) -> None:
    settings = changed(FEW, {"cross_entropy": 0.0, "statistics": 0.0, "gradient": 1.0})
    made = invert_pyramids(bars_classifier, settings, "cpu", Reporter())
    with bars_classifier.inference(), torch.no_grad():
        assert (bars_classifier(made.images).argmax(dim=1) == made.targets).float().mean() > 0.9


def test_batches_do_not_depend_on_how_many_follow(bars_classifier: Classifier) -> None:
    settings = changed(FEW, {"steps": 3})
    whole = invert_pyramids(bars_classifier, settings, "cpu", Reporter())
    first = invert_pyramids(bars_classifier, changed(settings, {"images": 45}), "cpu", Reporter())
    assert torch.equal(whole.images[:45], first.images)


def test_scales_are_halved_from_half_of_the_image_or_from_a_small_one_whole() -> None:
    assert sides((28, 28)) == [(4, 4), (7, 7), (14, 14)]
    assert sides((32, 32)) == [(4, 4), (8, 8), (16, 16)]
    assert sides((8, 8)) == [(4, 4), (8, 8)]
    assert sides((30, 17)) == [(4, 3), (8, 5), (15, 9)]


def test_a_frame_is_a_superellipse_by_hand() -> None:
    flat = frame(torch.zeros(1, 4), (9, 9), 0.5)[0, 0]
    # In the middle x = y = 0; at the edge of the half-width x = 0.5, y = 0; in the corner x = y = 1.
    assert flat[4, 4] == pytest.approx(1 / (1 + math.exp(-8))) and flat[4, 6] == flat[6, 4] == pytest.approx(0.5)
    assert flat[0, 0] == pytest.approx(1 / (1 + math.exp(-8 * (1 - 32))), abs=1e-12)
    # u = 0.5·e^0.2 across, v = 0.5 down, the middle 0.1 lower.
    moved = frame(torch.tensor([[1.0, 0.0, 0.0, 1.0]]), (9, 9), 0.5)[0, 0]
    outside = (0.5 / (0.5 * math.exp(0.2))) ** 4 + ((0.25 - 0.1) / 0.5) ** 4
    assert moved[5, 6] == pytest.approx(1 / (1 + math.exp(-8 * (1 - outside))), abs=1e-6)


def test_too_few_images_are_refused(bars_classifier: Classifier) -> None:
    with pytest.raises(OodbenchError, match="has 3 classes; ask for as many images at least, not 2"):
        invert_pyramids(bars_classifier, changed(FEW, {"images": 2}), "cpu", Reporter())


def test_a_loss_that_is_no_longer_finite_stops_it(bars_classifier: Classifier) -> None:
    broken = deepcopy(bars_classifier)
    torch.nn.init.constant_(broken.module[8].bias, float("nan"))
    with pytest.raises(OodbenchError, match="no longer finite"):
        invert_pyramids(broken, FEW, "cpu", Reporter())


@pytest.mark.parametrize(
    "values", [{"images": 0}, {"batch_size": 1}, {"steps": 0}, {"frame": -1.0}, {"cross_entropy": 0.0}]
)
def test_settings_out_of_range_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(OodbenchError, match=next(iter(values))):
        changed(PyramidSettings(), values)
