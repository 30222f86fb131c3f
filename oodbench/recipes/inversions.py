"""What joins the garbage class: inversions by latents or by a generator, and how they are altered in training."""

from __future__ import annotations

import torch
from torch import Tensor

from oodbench.classifier import Classifier
from oodbench.inversion.composing import ComposingGenerator
from oodbench.inversion.compositions import Compositions, draw_compositions
from oodbench.inversion.generator import Generator
from oodbench.inversion.invert import Epoch, generate, invert
from oodbench.inversion.latents import invert_latents
from oodbench.inversion.settings import InversionSettings, LossWeights
from oodbench.progress import Reporter
from oodbench.recipes.settings import GarbageSettings

GENERATOR = InversionSettings(
    epochs=4,
    steps_per_epoch=10,
    batch_size=96,
    learning_rate=5e-3,
    dropout=0.2,
    weights=LossWeights(image_cosine=50.0),
    accuracy_images=96,
)
"""Of the generator, anew at each inversion; after each of its epochs images are taken, the early ones like no class."""


def invert_for_garbage(
    classifier: Classifier, known: Tensor, settings: GarbageSettings, random: torch.Generator
) -> Tensor:
    """`settings.inversion.images` images that the network is inverted to now, uint8 N×C×H×W on the CPU.

    Args:
        known: ID images, uint8 N×C×H×W.
    """

    def draw(count: int) -> list[Compositions]:
        return draw_compositions(count, known, settings.inversion, random, classifier.device)

    count = settings.inversion.images
    if settings.by == "latents":
        return _pixels(invert_latents(classifier, draw(count), settings.inversion, random).images)
    seed = int(torch.randint(2**31, (1,), generator=random))
    taken: list[Tensor] = []

    def take(epoch: Epoch, generator: Generator) -> None:
        size = (count + epoch.epoch - 1) // GENERATOR.epochs
        if size:
            taken.append(_pixels(generate(generator, size, seed + epoch.epoch).images))

    generator = ComposingGenerator(classifier, GENERATOR, draw)
    invert(classifier, GENERATOR.replaced(seed=seed), classifier.device, Reporter(), generator, take)
    return torch.cat(taken)


def altered(images: Tensor) -> Tensor:
    """Garbage images, uint8, of which some are made negative, of other contrast and light, grey, or turned over.

    Draws from torch's global generator of random numbers.
    """
    pixels = images.float()

    def chance(share: float) -> Tensor:
        return torch.rand(len(images), 1, 1, 1) < share

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(len(images), 1, 1, 1)

    pixels = torch.where(chance(0.25), 255 - pixels, pixels)
    lit = (pixels * uniform(-0.8, 0.6).exp() + 255 * uniform(-0.2, 0.3)).clamp(0, 255)
    pixels = torch.where(chance(0.25), lit, pixels)
    pixels = torch.where(chance(0.2), pixels.mean(dim=1, keepdim=True), pixels)
    pixels = torch.where(chance(0.5), pixels.flip(3), pixels)
    pixels = torch.where(chance(0.25), pixels.flip(2), pixels)
    return pixels.round().to(torch.uint8)


def _pixels(images: Tensor) -> Tensor:
    return images.mul(255).round().to(torch.uint8).cpu()
