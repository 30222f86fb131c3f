"""The conditional generator of latents: it is inverted like any generator, and its images are compositions."""

from __future__ import annotations

import torch

from oodbench.classifier import Classifier
from oodbench.inversion.composing import ComposingGenerator
from oodbench.inversion.compositions import Compositions, draw_compositions
from oodbench.inversion.conditioning import seeded
from oodbench.inversion.invert import generate, inversion_accuracy, invert
from oodbench.inversion.settings import InversionSettings, LatentSettings
from oodbench.progress import Reporter
from tests.inversion.conftest import bars


def composing(classifier: Classifier, settings: InversionSettings, seed: int = 0) -> ComposingGenerator:
    known = bars(50, 7)[0].mul(255).round().to(torch.uint8)
    random = seeded(seed, "compositions")

    def draw(count: int) -> list[Compositions]:
        return draw_compositions(count, known, LatentSettings(), random)

    torch.manual_seed(seed)
    return ComposingGenerator(classifier, settings, draw)


def test_it_learns_to_invert(bars_classifier: Classifier, small_settings: InversionSettings) -> None:
    generator = composing(bars_classifier, small_settings)
    before = inversion_accuracy(generator.eval(), bars_classifier, 300, 0)
    made = invert(bars_classifier, small_settings, "cpu", Reporter(), generator)
    assert made.generator is generator
    after = inversion_accuracy(generator, bars_classifier, 300, 0)
    assert before < 0.5 and after > before + 0.2


def test_its_images_are_of_the_classifiers_form(bars_classifier: Classifier, small_settings: InversionSettings) -> None:
    generator = composing(bars_classifier, small_settings)
    made = generate(generator, torch.tensor([0, 1, 2, 2, 1, 0, 0]), seed=0)
    assert made.images.shape == (7, 1, 8, 8) and made.images.min() >= 0 and made.images.max() <= 1
    assert generator.to_image.out_channels == 2 and generator.settings()["image_shape"] == (1, 8, 8)
    again = generate(composing(bars_classifier, small_settings), torch.tensor([0, 1, 2, 2, 1, 0, 0]), seed=0)
    assert torch.equal(made.images, again.images)
