"""Against the per-sample scores that pytorch-ood 0.4.0 gave on the same images and the same ResNet-20."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from oodbench.classifier import Classifier
from oodbench.detectors.base import Detector
from oodbench.detectors.spec import build
from oodbench.metrics import Counts, auroc
from oodbench.models.load import load_classifier
from oodbench.outputs import Needs, passes

SHARED = Path(__file__).parents[2].parent / "shared"
PEERS, DATA = SHARED / "peers", SHARED / "data"
pytestmark = pytest.mark.skipif(not (PEERS / "workload.npz").is_file(), reason="the shared data are not here")

# Our detector, theirs, and whether their score is minus our score, or minus the probability of these log-odds.
PAIRS = [
    ("smood", "MSP", "probability"),
    ("maxlogit", "MaxLogit", "same"),
    ("energy", "Energy", "same"),
    ("odin", "ODIN", "probability"),
]
SETS = ("id", "textures", "gaussian")


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    weights = DATA / "weights" / "resnet20-12fca82f.th"
    return load_classifier(
        f"resnet20={weights}", num_classes=10, image_shape=(3, 32, 32), mean="imagenet", std="imagenet"
    )


@pytest.fixture(scope="module")
def theirs() -> dict[str, np.ndarray]:
    with np.load(PEERS / "pytorch_ood_scores.npz") as stored:
        return {f"{peer}/{name}": stored[f"{peer}/{name}"] for _, peer, _ in PAIRS for name in SETS}


def images(name: str) -> Tensor:
    """The workload's images, uint8 N×3×32×32, by its recipe."""
    if name == "gaussian":
        drawn = np.random.default_rng(3).normal(0.5, 1, (1000, 32, 32, 3))
        stored = np.rint(255 * np.clip(drawn, 0, 1)).astype(np.uint8)
    else:
        file = {"id": "cifar10_test.npz", "textures": "textures_32.npz"}[name]
        with np.load(PEERS / "workload.npz") as workload, np.load(DATA / file) as data:
            stored = data["images"][workload[f"idx_{name}"]]
    return torch.from_numpy(np.ascontiguousarray(stored.transpose(0, 3, 1, 2)))


def ours(classifier: Classifier, name: str, count: int) -> dict[str, np.ndarray]:
    """Scores of the first images of a set by our detectors, all from one pass."""
    detectors: dict[str, Detector] = {spec: build(spec) for spec, _, _ in PAIRS}
    found: dict[str, list[Tensor]] = {spec: [] for spec in detectors}
    batches = ((batch, None) for batch in images(name)[:count].split(125))
    for live in passes(classifier, batches, Needs(logits=True, input_gradient=True)):
        for spec, detector in detectors.items():
            found[spec].append(detector.score(live))
    return {spec: torch.cat(parts).numpy() for spec, parts in found.items()}


@pytest.mark.parametrize("name", SETS)
def test_scores_of_single_images_agree(classifier: Classifier, theirs: dict[str, np.ndarray], name: str) -> None:
    found = ours(classifier, name, 60)
    for spec, peer, kind in PAIRS:
        score = found[spec] if kind == "same" else 1 / (1 + np.exp(-found[spec]))
        expected = -theirs[f"{peer}/{name}"][:60].astype(np.float64)
        # float32 on their side, and here and there a sign of a vanishing gradient.
        tolerance = 1e-4 if kind == "same" else 2e-5
        assert np.median(np.abs(score - expected)) < tolerance / 10, (spec, name)
        assert np.abs(score - expected).max() < tolerance, (spec, name)
        apart = expected < 0.9999 if spec == "smood" else np.isfinite(expected)  # their probabilities tie at 1
        assert spearmanr(score[apart], expected[apart])[0] > 0.999, (spec, name)


@pytest.mark.slow
def test_aurocs_agree(classifier: Classifier, theirs: dict[str, np.ndarray]) -> None:
    found = {name: ours(classifier, name, 2000) for name in SETS}
    with open(PEERS / "aurocs.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["library"] == "pytorch-ood"]
    for spec, peer, _ in PAIRS:
        for name in SETS[1:]:
            (expected,) = (float(row["auroc"]) for row in rows if (row["detector"], row["ood"]) == (peer, name))
            value = auroc(Counts.of(found["id"][spec], found[name][spec]))
            assert value == pytest.approx(expected, abs=1e-3), (spec, name)
