"""The calibration surely takes no more than the allowed share of ID images, and leaves the other outputs alone."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import binom
from torch import nn

from oodbench.classifier import Classifier
from oodbench.errors import OodbenchError
from oodbench.pixels import Pixels
from oodbench.recipes.calibration import calibrate, upper_bounds

IMAGES = torch.randint(0, 256, (200, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def looked_at(classifier: Classifier, known: Pixels) -> tuple[torch.Tensor, int, int]:
    """Logits; of how many images the label has the largest logit of the classes; how many of them are garbage."""
    with classifier.inference(), torch.no_grad():
        logits = classifier(known.images / 255)
    right = logits[:, :-1].argmax(dim=1) == known.labels
    return logits, int(right.sum()), int((logits.argmax(dim=1)[right] == logits.shape[1] - 1).sum())


def moved(classifier: Classifier, start: float) -> Pixels:
    """The images with labels of which every third is wrong, and the garbage bias moved."""
    assert isinstance(classifier.head, str)
    bias = classifier.module.get_submodule(classifier.head).bias
    assert isinstance(bias, torch.Tensor)
    with torch.no_grad():
        bias[-1] += start
    classifier.module.eval()
    with torch.no_grad():
        labels = classifier(IMAGES / 255)[:, :-1].argmax(dim=1)
    labels[::3] = 1 - labels[::3]
    return Pixels(IMAGES, labels)


@pytest.mark.parametrize("allowed", [0.05, 0.1, 0.25, 0.999])
@pytest.mark.parametrize("confidence", [0.5, 0.95])
@pytest.mark.parametrize("start", [-30.0, 0.0, 30.0])
def test_garbage_takes_as_many_as_the_bound_allows(
    small_classifier: Classifier, allowed: float, confidence: float, start: float
) -> None:
    known = moved(small_classifier, start)
    before, right, _ = looked_at(small_classifier, known)
    done = calibrate(small_classifier, known, allowed, confidence)
    after, _, lost = looked_at(small_classifier, known)
    assert lost - done.taken in (0, 1) and done.images == right  # one image stands on the boundary: rounding decides
    assert torch.equal(before[:, :-1], after[:, :-1])
    assert torch.allclose(before[:, -1] + done.raised, after[:, -1], atol=1e-4)
    # By the binomial itself: at the bound so few are as rare as stated, and one more would break it.
    assert binom.cdf(done.taken, right, done.bound) == pytest.approx(1 - confidence)
    assert done.bound <= allowed
    assert done.taken == right - 1 or binom.cdf(done.taken + 1, right, allowed) > 1 - confidence


@pytest.mark.parametrize(("start", "raised"), [(-30.0, False), (30.0, True)])
def test_few_images_never_make_garbage_readier(small_classifier: Classifier, start: float, raised: bool) -> None:
    """Of 133 images none taken still lets 2.2 % be taken: where garbage takes none, it stays."""
    known = moved(small_classifier, start)
    _, _, lost_before = looked_at(small_classifier, known)
    done = calibrate(small_classifier, known, 0.002)
    _, _, lost = looked_at(small_classifier, known)
    assert done.taken == 0 and lost <= 1 and done.bound > 0.002
    assert (lost_before > 1) == raised and (done.raised < 0) == raised
    assert raised or done.raised == 0


def test_the_bound_covers_as_often_as_stated() -> None:
    """Drawn shares of 0.01 of 1,000: the bound is below it in at most 5 % of draws."""
    counted = torch.distributions.Binomial(1000, torch.tensor(0.01)).sample((20_000,)).long()
    torch.manual_seed(0)
    bounds = torch.from_numpy(upper_bounds(1000, 0.95))
    assert float((bounds[counted] < 0.01).float().mean()) <= 0.05
    assert float(bounds[0]) == pytest.approx(1 - 0.05 ** (1 / 1000))


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
