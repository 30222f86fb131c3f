"""Seconds of a run against the loop that a user would write, on a CPU.

    python benchmarks/speed/user_loop.py --data ../shared/data

The user's loop: `model.eval()`, `torch.inference_mode()`, a DataLoader over float images that are normalised already,
logits and, by a hook, penultimate features. Ours, in the same process and turn by turn: a run's pass from uint8 images
to logits, features and layers as they are stored. User CPU seconds, which other work on the machine disturbs less than
the wall time; a ratio is of the medians, against the user's best batch size.
"""

from __future__ import annotations

import argparse
import resource
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision import models

from oodbench.classifier import Classifier
from oodbench.data.imageset import ArraySource, ImageSet
from oodbench.data.reading import shards
from oodbench.detectors.spec import build
from oodbench.models.catalogue import build as build_network
from oodbench.models.load import load_classifier
from oodbench.store import NO_STORE, SHARD
from oodbench.subject import Subject

SIZES = (64, 128, 256)
USERS = tuple(f"user, {size}" for size in SIZES)
DETECTORS = ("energy", "knn")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--networks", default="resnet20,cnn32,resnet18")
    parser.add_argument("--images", type=int, default=SHARD)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with np.load(arguments.data / "cifar10_test.npz") as stored:
        pixels = stored["images"][:: len(stored["images"]) // arguments.images][: arguments.images]
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {len(pixels)} images of 32×32")
    rows = []
    for name in arguments.networks.split(","):
        rows += measured(name, classifier_of(name, arguments.data), pixels, arguments.repeats)
    print(tabulate(rows, ("network", "pass", "user CPU s", "of the user's best"), tablefmt="github", floatfmt=".3f"))


def classifier_of(name: str, data: Path) -> Classifier:
    """ResNet-20 of public weights; others of random ones whose normalisations have seen data."""
    if name == "resnet20":
        weights = data / "weights" / "resnet20-12fca82f.th"
        return load_classifier(
            f"resnet20={weights}", num_classes=10, image_shape=(3, 32, 32), mean="imagenet", std="imagenet"
        )
    torch.manual_seed(0)
    network = models.resnet18(num_classes=10) if name == "resnet18" else build_network(name, 10, (3, 32, 32))
    with torch.no_grad():
        network.train()(torch.rand(64, 3, 32, 32))
    return Classifier(network, num_classes=10, image_shape=(3, 32, 32), mean=0.5, std=0.25)


def measured(
    name: str, classifier: Classifier, pixels: np.ndarray, repeats: int
) -> list[tuple[str, str, float, float]]:
    """Rows of network, pass, seconds and ratio."""
    images = classifier.normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().float() / 255)
    source = ImageSet("test", ArraySource(pixels), "test images")
    detectors = {one: build(one) for one in DETECTORS}
    subject = Subject(classifier, (name,), detectors, 10, NO_STORE)

    def ours() -> None:
        for shard in shards(source, SHARD):
            subject.score_part(shard, "OOD")

    works: dict[str, Callable[[], object]] = {
        f"user, {size}": lambda size=size: users_loop(classifier.module, classifier.head or "", images, size)
        for size in SIZES
    }
    works["oodbench"] = ours
    seconds: dict[str, list[float]] = {one: [] for one in works}
    for _ in range(repeats + 1):
        for one, work in works.items():
            before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
            work()
            seconds[one].append(resource.getrusage(resource.RUSAGE_SELF).ru_utime - before)
    # The first turn warms up.
    medians = {one: statistics.median(taken[1:]) for one, taken in seconds.items()}
    best = min(medians[one] for one in USERS)
    return [(name, one, medians[one], medians[one] / best) for one in works]


def users_loop(network: nn.Module, head: str, images: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Logits and penultimate features, as anybody would collect them."""
    features: list[Tensor] = []
    handle = network.get_submodule(head).register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
    network.eval()
    with torch.inference_mode():
        logits = [network(batch) for (batch,) in DataLoader(TensorDataset(images), batch_size=size)]
    handle.remove()
    return torch.cat(logits), torch.cat(features)


if __name__ == "__main__":
    main()
