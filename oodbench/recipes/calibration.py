"""How readily a network says garbage, set on held-out ID images: chance decides it in training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from oodbench.classifier import Classifier
from oodbench.errors import OodbenchError
from oodbench.pixels import Pixels
from oodbench.recipes.holdout import batches


@dataclass(frozen=True)
class Calibration:
    """What a calibration did, on `images` held-out ID images that are put into their class before garbage is looked at.

    Attributes:
        raised: what the garbage bias was raised by.
        taken: how many of them garbage takes now.
        bound: with the confidence asked for, the share of such ID images that garbage takes is no larger (Clopper &
            Pearson 1934, one-sided), provided that they are drawn like those held out.
    """

    raised: float
    taken: int
    images: int
    bound: float


def upper_bounds(images: int, confidence: float) -> np.ndarray:
    """Clopper & Pearson's one-sided upper bounds of a share, where 0, 1, … images−1 of so many were counted."""
    from scipy.stats import beta

    counted = np.arange(images)
    bounds: np.ndarray = beta.ppf(confidence, counted + 1, images - counted)
    return bounds


def calibrate(classifier: Classifier, known: Pixels, allowed: float, confidence: float = 0.95) -> Calibration:
    """Raise, or lower, the bias of the last output, garbage, to where it surely takes no more of ID than a share.

    It takes as many held-out images as it can while the bound of their share is no larger than allowed. Where they are
    too few for that even if it takes none, it is lowered until it takes none, but never raised: of few images the
    tail is not known. Scores that compare the garbage logit with others only shift, so that no AUROC changes.

    Args:
        known: held-out ID images.
        allowed: share of them, of those put into their class before garbage is looked at, that garbage may take.
        confidence: of the bound, below 1.

    Raises:
        OodbenchError: the classifier's last step is no linear layer with a bias, or it puts no image into its class.
    """
    bias = garbage_bias(classifier)
    ordered = class_margins(classifier, known).sort().values
    if not len(ordered):
        raise OodbenchError(f"{classifier.name} puts none of {len(known.labels)} held-out ID images into its class")
    bounds = upper_bounds(len(ordered), confidence)
    taken = max(0, int((bounds <= allowed).sum()) - 1)
    # The image at this place stays: of equal logits the first, a class's, is the largest.
    raised = float(ordered[taken])
    if bounds[0] > allowed:
        raised = min(raised, 0.0)
    with torch.no_grad():
        bias[-1] += raised
    return Calibration(raised, taken, len(ordered), float(bounds[taken]))


def class_margins(classifier: Classifier, known: Pixels) -> torch.Tensor:
    """Largest class logit − garbage logit of the images whose largest class logit is their label's."""
    logits = torch.cat(list(batches(classifier, known.images)))
    top, index = logits[:, :-1].max(dim=1)
    return (top - logits[:, -1])[index == known.labels]


def garbage_bias(classifier: Classifier) -> torch.nn.Parameter:
    """The bias of the last linear layer, whose last entry is garbage's.

    Raises:
        OodbenchError: there is none.
    """
    head = classifier.module.get_submodule(classifier.head) if classifier.head else None
    bias = getattr(head, "bias", None)
    if not isinstance(bias, torch.nn.Parameter):
        raise OodbenchError(
            f"the last step of {classifier.name} is no linear layer with a bias, which a garbage class needs; "
            f"choose another architecture"
        )
    return bias
