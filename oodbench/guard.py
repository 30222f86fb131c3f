"""Fitted detectors in use: scores of images as they come, and a guard that says which of them are OOD."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from oodbench.card_fields import GUARD, GUARDED, wrong
from oodbench.classifier import Classifier
from oodbench.data.imageset import ImageSet
from oodbench.data.inputs import from_facts
from oodbench.data.loader import batches
from oodbench.data.made import make_proxy
from oodbench.data.python_sets import as_image_set
from oodbench.detectors.base import Detector
from oodbench.detectors.spec import build
from oodbench.detectors.state import read_file, save_state
from oodbench.errors import OodbenchError
from oodbench.live import collected, passes
from oodbench.outputs import FitData, Needs

Images = np.ndarray | Tensor | ImageSet | Dataset | DataLoader
"""Arrays N×H×W or N×H×W×C, or tensors N×C×H×W, uint8 or float in [0, 1], C being 1 or 3; an ImageSet; or a map-style
torch Dataset, or a DataLoader of one, see `as_image_set`."""


@dataclass(frozen=True, eq=False)
class Scorer:
    """A fitted detector with the classifier that it reads."""

    classifier: Classifier
    detector: Detector
    batch_size: int = 128

    def score(self, images: Images) -> NDArray[np.float64]:
        """One float64 score an image, (N,): the higher, the more in-distribution.

        Images are brought into the classifier's form as in a run. Float tensors that have its form already are taken
        as they are.

        Raises:
            OodbenchError: they are of another form than `Images`, or a score is not finite.
        """
        device = self.classifier.device
        detector = self.detector.to(device)
        live = passes(self.classifier, _batches(images, self.classifier, self.batch_size), self.detector.needs)
        parts = [detector(batch).cpu().numpy() for batch in live]
        scores = np.concatenate(parts) if parts else np.empty(0)
        broken = np.flatnonzero(~np.isfinite(scores))
        if len(broken):
            raise OodbenchError(
                f"{self.detector} gave {scores[broken[0]]} for image {broken[0]}; a score must be finite"
            )
        return scores


@dataclass(frozen=True, eq=False)
class Guard:
    """A fitted detector and its threshold, for use in production, with the classifier that they belong to.

    Attributes:
        scorer: gives the scores; None until `load_guard` or `attached` gave the guard its classifier.
        detector: fitted.
        threshold: scores below are OOD.
        id_recall: share of the ID test images that are kept by it.
        facts: of the classifier, `content_hash` among them.
    """

    detector: Detector
    threshold: float
    id_recall: float
    facts: dict[str, Any]
    scorer: Scorer | None = None

    def __call__(self, images: Images) -> NDArray[np.float64]:
        """The scores, see `Scorer.score`."""
        if self.scorer is None:
            raise OodbenchError("this guard has no classifier yet: guard.attached(network), or oodbench.load_guard")
        return self.scorer.score(images)

    def is_ood(self, images: Images) -> NDArray[np.bool_]:
        """(N,) which images are OOD: their score is below the threshold."""
        return self(images) < self.threshold

    def save(self, path: Path | str) -> Path:
        """Write the detector, the threshold and what tells the classifier, without its weights."""
        told = {"threshold": self.threshold, "id_recall": self.id_recall, "classifier": self.facts}
        save_state(self.detector, Path(path), {"guard": json.dumps(told)})
        return Path(path)

    def attached(self, network: nn.Module | Classifier) -> Guard:
        """The guard with its classifier.

        Args:
            network: the classifier, or its torch module, wherever it lies; it stays as it is.

        Raises:
            OodbenchError: it is another classifier than that which the detector was fitted on, or a module whose
                images a function of the user's prepares: that is given with the classifier.
        """
        classifier = network if isinstance(network, Classifier) else _classifier(network, self.facts)
        found, wanted = classifier.content_hash(), self.facts["content_hash"]
        if found != wanted:
            raise OodbenchError(
                f"this guard belongs to {self.facts['name']} of content {wanted[:12]}, not to "
                f"{classifier.name} of content {found[:12]}: give its own network, or make a new guard"
            )
        return Guard(self.detector, self.threshold, self.id_recall, self.facts, Scorer(classifier, self.detector))


def fit(
    detector: Detector | str,
    classifier: Classifier,
    images: Images,
    labels: ArrayLike | None = None,
    *,
    seed: int = 0,
    batch_size: int = 128,
) -> Scorer:
    """Fit a detector on ID images, as a run does.

    Args:
        detector: an object, or a spec such as `odin(norm=l2)`.
        labels: int (N,), 0 … K−1, for detectors that read them.
        seed: of the proxies that some detectors make of the images.

    Raises:
        OodbenchError: the images are of another form than `Images`, or the detector lacks something to learn from.
    """
    if not isinstance(classifier, Classifier):
        raise OodbenchError(
            f"fit takes a Classifier, not {type(classifier).__name__}: oodbench.Classifier(network, num_classes=K, "
            f"image_shape=(C, H, W), mean=…, std=…)"
        )
    detector = build(detector) if isinstance(detector, str) else detector
    if isinstance(images, Dataset | DataLoader):
        images = as_image_set("images", images)
    if not detector.learns():
        return Scorer(classifier, detector, batch_size)
    needs = detector.fit_needs | Needs("logits")
    reduce = {"own": detector.reduce} if detector.reduces else {}
    outputs, reduced = collected(passes(classifier, _batches(images, classifier, batch_size), needs), reduce)
    proxies = {}
    names = needs.named("proxy") | needs.named("validation-proxy")
    if names:
        as_set = images if isinstance(images, ImageSet) else as_image_set("images", images)
        for name in sorted(names):
            proxy = _batches(make_proxy(name, as_set, seed, classifier.form), classifier, batch_size)
            proxies[name], _ = collected(passes(classifier, proxy, needs.stored))
    if labels is None and isinstance(images, ImageSet):
        labels = images.labels
    known = None if labels is None else torch.as_tensor(np.asarray(labels), dtype=torch.int64).to(classifier.device)
    if known is not None and len(known) != len(outputs):
        raise OodbenchError(f"there are {len(outputs)} images but {len(known)} labels; give one label an image")
    data = FitData(outputs, known, proxies, reduced=reduced.get("own", {}))
    return Scorer(classifier, detector.fit(data), batch_size)


def load_guard(path: Path | str, network: nn.Module | Classifier) -> Guard:
    """The guard that `Guard.save` wrote, on its classifier.

    Raises:
        OodbenchError: the file is no guard, or the network is another than that which it belongs to.
    """
    return read_guard(Path(path)).attached(network)


def read_guard(path: Path) -> Guard:
    """The guard that `Guard.save` wrote, still without its classifier.

    Raises:
        OodbenchError: the file is no guard.
    """
    facts, state = read_file(path)
    try:
        told = json.loads(facts.get("guard", "null"))
    except (ValueError, RecursionError):
        told = None
    if broken := [*wrong(told, GUARD, "")] or [*wrong(told["classifier"], GUARDED, "classifier: ")]:
        raise OodbenchError(
            f"{path} is no guard ({broken[0]}): make one with result.guard(DETECTOR).save({str(path)!r})"
        )
    return Guard(
        build(facts["label"]).with_state(state), told["threshold"], told["id_recall"], facts=told["classifier"]
    )


def threshold_at(scores: ArrayLike, id_recall: float) -> float:
    """The largest value that keeps at least this share of ID scores, an order statistic (METHODS section 3).

    Raises:
        OodbenchError: the recall is not above 0 and at most 1.
    """
    if not 0 < id_recall <= 1:
        raise OodbenchError(f"id_recall must be above 0 and at most 1, not {id_recall}")
    ordered = np.sort(np.asarray(scores, dtype=np.float64))[::-1]
    # Less a hair: 0.07 · 100 is 7.000000000000001 in floating point, and that would be 8 scores.
    return float(ordered[max(1, math.ceil(id_recall * len(ordered) - 1e-9)) - 1])


def _classifier(network: nn.Module, facts: dict[str, Any]) -> Classifier:
    return Classifier(
        network,
        num_classes=facts["num_classes"],
        preprocess=from_facts(facts),
        name=facts["name"],
        head=facts.get("head"),
        layers=facts.get("layers"),
    )


def _batches(images: Images, classifier: Classifier, batch_size: int) -> Iterator[Tensor]:
    """Batches in the classifier's form, uint8, or float where the images are so and already of that form."""
    if isinstance(images, np.ndarray | Tensor):
        tensor = _channels_first(images)
        if not len(tensor):
            return
        if tensor.is_floating_point() and tuple(tensor.shape[1:]) == classifier.image_shape:
            yield from tensor.tensor_split(math.ceil(len(tensor) / batch_size))
            return
    as_set = images if isinstance(images, ImageSet) else as_image_set("images", images)
    yield from (batch for batch, _ in batches(as_set, classifier.form, batch_size))


def _channels_first(images: np.ndarray | Tensor) -> Tensor:
    """N×C×H×W, uint8 or float in [0, 1]."""
    tensor = images if isinstance(images, Tensor) else torch.from_numpy(np.require(images, requirements=("C", "W")))
    if not isinstance(images, Tensor):
        tensor = tensor[:, None] if tensor.dim() == 3 else tensor.permute(0, 3, 1, 2) if tensor.dim() == 4 else tensor
    if tensor.dim() != 4 or tensor.shape[1] not in (1, 3):
        raise OodbenchError(
            f"images have shape {'×'.join(map(str, images.shape))}; give arrays N×H×W or N×H×W×3, or tensors "
            f"N×3×H×W or N×1×H×W"
        )
    if tensor.dtype != torch.uint8 and not tensor.is_floating_point():
        raise OodbenchError(f"images are {tensor.dtype}; give uint8, or float in [0, 1]")
    if tensor.is_floating_point() and len(tensor) and not bool(((tensor >= 0) & (tensor <= 1)).all()):
        raise OodbenchError("float images must lie in [0, 1]; divide by 255, and leave normalisation to the classifier")
    return tensor


def _quantised(images: Tensor) -> Tensor:
    return (images * 255).round().to(torch.uint8) if images.is_floating_point() else images
