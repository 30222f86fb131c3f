"""A small classifier with easy images, made in milliseconds: what detectors are tested on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oodbench.classifier import Classifier
from oodbench.data.imageset import ArraySource, ImageSet
from oodbench.data.made import make_proxy
from oodbench.detectors.base import Detector
from oodbench.live import Live, collected, passes
from oodbench.outputs import FitData, Needs

SIDE = 16
NOISE_CHANNELS = 3
FIT_COUNT = 240
MEAN, STD = (0.5, 0.45, 0.4), (0.25, 0.2, 0.3)


@dataclass(frozen=True)
class Example:
    """Gratings, one direction a class, a classifier that is sure of them, and noise, of which it is unsure.

    Attributes:
        fit_images, id_images, ood_images: uint8 N×3×16×16.
        edge_images: flat, black, white and saturated ones, where gradients are zero and pixels at their limits.
        fit_labels: int64 N.
    """

    classifier: Classifier
    fit_images: Tensor
    fit_labels: Tensor
    id_images: Tensor
    ood_images: Tensor
    edge_images: Tensor

    @property
    def all_images(self) -> Tensor:
        """ID, OOD and edge images."""
        return torch.cat([self.id_images, self.ood_images, self.edge_images])

    def passes(self, images: Tensor, needs: Needs, batch_size: int = 64) -> Iterator[Live]:
        """Live outputs of uint8 images, batch by batch."""
        return passes(self.classifier, images.split(batch_size), needs)

    def fit_data(self, detector: Detector, stop: int | None = None) -> FitData:
        """What the detector is fitted on, of the first `stop` fit images."""
        needs, images = detector.fit_needs, self.fit_images[:stop]
        outputs, reduced = collected(self.passes(images, needs | Needs("logits")), {"own": detector.reduce})
        as_set = ImageSet("gratings", ArraySource(images.permute(0, 2, 3, 1).numpy()), origin="generated")
        proxies = {}
        for name in sorted(needs.named("proxy") | needs.named("validation-proxy")):
            proxy = torch.from_numpy(np.asarray(make_proxy(name, as_set, 0, self.classifier.form).read(0, len(as_set))))
            proxies[name], _ = collected(self.passes(proxy.permute(0, 3, 1, 2), needs | Needs("logits")))
        labels = self.fit_labels[:stop].to(self.classifier.device)
        return FitData(outputs, labels, proxies, reduced=reduced["own"])

    def fitted(self, detector: Detector, stop: int | None = None) -> Detector:
        """The detector fitted on the first `stop` fit images."""
        return detector.fit(self.fit_data(detector, stop))

    def scores(self, detector: Detector, images: Tensor, batch_size: int = 64) -> Tensor:
        """The scores that a fitted detector gives to uint8 images."""
        return torch.cat([detector(live) for live in self.passes(images, detector.needs, batch_size)])


def make_example(
    num_classes: int = 4,
    width: int = 12,
    precision: torch.dtype = torch.float32,
    head_factor: float = 1.0,
    device: torch.device | str = "cpu",
    recipe: str | None = None,
) -> Example:
    """The example, always the same one.

    Args:
        width: channels of the first layer; the penultimate features have twice as many.
        precision: float32 or float64 weights.
        head_factor: what the logits are multiplied by.
        device: where the classifier is; images stay on the CPU.
        recipe: that of the detector; the classifier has its further outputs, high for gratings or for noise as it
            says, or is derived from two, of which the other is wider by a half.
    """
    from oodbench.recipes.catalogue import find_recipe

    derive = find_recipe(recipe).derive if recipe else None
    widths = (width, width + width // 2) if derive else (width,)
    classifiers = [_example_classifier(num_classes, one, head_factor, recipe) for one in widths]
    for classifier in classifiers:
        classifier.module.to(device, precision)
    return Example(
        derive(classifiers) if derive else classifiers[0],
        *_gratings(num_classes, FIT_COUNT, seed=0),
        id_images=_gratings(num_classes, 40, seed=1)[0],
        ood_images=_noise(40, seed=2),
        edge_images=_edges(),
    )


def _example_classifier(num_classes: int, width: int, head_factor: float, recipe: str | None) -> Classifier:
    weights = _trained(num_classes, width, recipe)
    classifier = _classifier(len(weights["head.bias"]), width)
    classifier.module.load_state_dict(weights)
    head = classifier.module.head
    assert isinstance(head, nn.Linear)
    with torch.no_grad():
        head.weight.mul_(head_factor)
        head.bias.mul_(head_factor)
    return classifier


class _GratingNet(nn.Module):
    """Smooth filters that gratings excite and noise does not, and a few random ones that noise does.

    White is where it saturates, so that there are pixels without a gradient that would change its output.
    """

    candidate_layers = ("stem", "block", "penultimate")
    white: Tensor

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        convolution, norm = nn.Conv2d(3, width, 5, padding=2), nn.BatchNorm2d(width)
        mixing = nn.Conv2d(width, 2 * width, 3, padding=1)
        for layer in (convolution, mixing):
            bound = 1 / math.sqrt(layer.weight[0].numel())
            for weights in layer.parameters():
                nn.init.uniform_(weights, -bound, bound, generator=generator)
        smooth = width - NOISE_CHANNELS
        with torch.no_grad():
            convolution.weight[:smooth] = _smooth_filters(smooth)[:, None] / 3
            norm.bias[:smooth] = -0.7
            norm.weight[smooth:] = 0.1
        self.register_buffer("white", (1 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1))
        self.stem = nn.Sequential(convolution, norm, nn.ReLU(), nn.MaxPool2d(2))
        self.block = nn.Sequential(mixing, nn.BatchNorm2d(2 * width))
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(2 * width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        saturated = self.white - F.relu(self.white - images)
        logits: Tensor = self.head(self.dropout(F.relu(self.block(self.stem(saturated))).mean(dim=(2, 3))))
        return logits


def _smooth_filters(count: int) -> Tensor:
    """Gabor filters, count×5×5, in four directions."""
    y, x = np.mgrid[-2:3, -2:3]
    index = np.arange(count)[:, None, None]
    direction, phase = np.pi * (index % 4) / 4, 2 * np.pi * (index // 4) / (count / 4)
    along = 2 * np.pi * 2.5 / SIDE * (x * np.cos(direction) + y * np.sin(direction))
    return torch.from_numpy(np.exp(-(x**2 + y**2) / 6) * np.cos(along + phase)).float()


def _classifier(num_classes: int, width: int) -> Classifier:
    with torch.random.fork_rng(devices=[]):  # modules draw their first weights from the global generator
        module = _GratingNet(num_classes, width)
    shape = (3, SIDE, SIDE)
    return Classifier(module, num_classes=num_classes, image_shape=shape, mean=MEAN, std=STD)


@cache
def _trained(num_classes: int, width: int, recipe: str | None) -> dict[str, Tensor]:
    """Weights: normalisation statistics from ID images, a head by least squares, 6 for the class, 0 for noise.

    An output beyond the classes has 6 for the images that the recipe says it is high for.
    """
    from oodbench.recipes.catalogue import PLAIN, find_recipe

    made = find_recipe(recipe or PLAIN)
    outputs = num_classes + made.more_outputs
    classifier = _classifier(outputs, width)
    images, labels = _gratings(num_classes, FIT_COUNT, seed=0)
    for layer in classifier.module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # the plain mean over the batches seen, of which there is one
            layer.reset_running_stats()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        classifier(images / 255)  # in train mode, as modules are made
    stored, _ = collected(passes(classifier, [images, _noise(80, seed=3)], Needs("features")))
    features = stored.features.double()
    wanted = torch.zeros(len(features), outputs, dtype=torch.float64)
    wanted[: len(images)] = 6 * F.one_hot(labels, outputs) - 6 / outputs
    high = slice(len(images)) if made.high_for == "ID" else slice(len(images), None)
    wanted[high, num_classes:] = 6
    design = torch.cat([features, torch.ones(len(features), 1)], dim=1)
    normal = design.T @ design + 1e-3 * torch.eye(design.shape[1])
    solution = torch.linalg.solve(normal, design.T @ wanted).float()
    head = {"head.weight": solution[:-1].T, "head.bias": solution[-1]}
    return {**classifier.module.state_dict(), **head}


def _gratings(num_classes: int, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Coloured gratings with a little noise, and the classes that their directions and colours show."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % num_classes
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    direction = np.pi * labels[:, None, None] / num_classes
    phase, height = generator.uniform((0, 0.2), (2 * np.pi, 0.4), (count, 2)).T[:, :, None, None]
    waves = height * np.sin(2 * np.pi * 2.5 * (x * np.cos(direction) + y * np.sin(direction)) + phase)
    colours = 0.6 + 0.4 * np.cos(2 * np.pi * (labels[:, None] / num_classes + np.arange(3) / 3))
    values = 0.5 + waves[:, None] * colours[:, :, None, None] + generator.normal(0, 0.02, (count, 3, SIDE, SIDE))
    return torch.from_numpy(np.rint(255 * values.clip(0, 1)).astype(np.uint8)), torch.from_numpy(labels)


def _noise(count: int, seed: int) -> Tensor:
    generator = np.random.default_rng(seed)
    return torch.from_numpy(generator.integers(0, 256, (count, 3, SIDE, SIDE), dtype=np.uint8))


def _edges() -> Tensor:
    flat = torch.tensor([0, 255, 128], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 3, SIDE, SIDE)
    halves = torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8)
    halves[..., SIDE // 2 :] = 255
    return torch.cat([flat, halves, _noise(3, seed=4) // 128 * 255])
