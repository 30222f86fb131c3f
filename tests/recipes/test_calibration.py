"""The calibration takes the allowed share of ID images and no more, and leaves the other outputs alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from oodbench.classifier import Classifier
from oodbench.errors import OodbenchError
from oodbench.recipes.calibration import calibrate
from oodbench.training import Pixels

IMAGES = torch.randint(0, 256, (200, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def looked_at(classifier: Classifier, known: Pixels) -> tuple[torch.Tensor, int, int]:
    """Logits; of how many images the label has the largest logit of the classes; how many of them are garbage."""
    with classifier.inference(), torch.no_grad():
        logits = classifier(known.images / 255)
    right = logits[:, :-1].argmax(dim=1) == known.labels
    return logits, int(right.sum()), int((logits.argmax(dim=1)[right] == logits.shape[1] - 1).sum())


@pytest.mark.parametrize("allowed", [0.0, 0.01, 0.25, 0.999])
@pytest.mark.parametrize("start", [-30.0, 0.0, 30.0])
def test_garbage_takes_the_allowed_share(small_classifier: Classifier, allowed: float, start: float) -> None:
    assert isinstance(small_classifier.head, str)
    bias = small_classifier.module.get_submodule(small_classifier.head).bias
    assert isinstance(bias, torch.Tensor)
    with torch.no_grad():
        bias[-1] += start
        labels = small_classifier(IMAGES / 255)[:, :-1].argmax(dim=1)
    # Every third label is wrong: those images have no say.
    labels[::3] = 1 - labels[::3]
    known = Pixels(IMAGES, labels)
    before, right, _ = looked_at(small_classifier, known)
    raised = calibrate(small_classifier, known, allowed)
    after, _, lost = looked_at(small_classifier, known)
    assert lost - int(allowed * right) in (0, 1)  # one image stands on the boundary, where rounding decides
    assert torch.equal(before[:, :-1], after[:, :-1])
    assert torch.allclose(before[:, -1] + raised, after[:, -1], atol=1e-4)


def test_what_cannot_be_calibrated_is_refused() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 3, bias=False))
    without = Classifier(module, num_classes=3, image_shape=(1, 8, 8), mean=(0.5,), std=(0.5,))
    with pytest.raises(OodbenchError, match="no linear layer with a bias"):
        calibrate(without, Pixels(IMAGES, torch.zeros(200, dtype=torch.int64)), 0.1)


def test_a_network_that_is_never_right_is_refused(small_classifier: Classifier) -> None:
    with small_classifier.inference(), torch.no_grad():
        labels = 1 - small_classifier(IMAGES / 255)[:, :-1].argmax(dim=1)
    with pytest.raises(OodbenchError, match="none of 200 held-out"):
        calibrate(small_classifier, Pixels(IMAGES, labels), 0.1)
