"""How readily a network says garbage, set on held-out ID images: chance decides it in training, round by round."""

from __future__ import annotations

import torch

from oodbench.classifier import Classifier
from oodbench.errors import OodbenchError
from oodbench.training import EVALUATION_BATCH, Pixels, to_unit


def calibrate(classifier: Classifier, known: Pixels, allowed: float) -> float:
    """Raise, or lower, the bias of the last output, garbage, to where it takes a given share of ID images.

    Scores that compare the garbage logit with others only shift by it, so that no AUROC of theirs changes.

    Args:
        known: held-out ID images.
        allowed: share of them, of those put into their class before garbage is looked at, that garbage may take.

    Returns:
        What the bias was raised by.

    Raises:
        OodbenchError: the classifier's last step is no linear layer with a bias, or it puts no image into its class.
    """
    head = classifier.module.get_submodule(classifier.head) if classifier.head else None
    bias = getattr(head, "bias", None)
    if not isinstance(bias, torch.Tensor):
        raise OodbenchError(
            f"the last step of {classifier.name} is no linear layer with a bias, which a garbage class needs; "
            f"choose another architecture"
        )
    margins = []
    with classifier.inference(), torch.no_grad():
        batches = zip(known.images.split(EVALUATION_BATCH), known.labels.split(EVALUATION_BATCH), strict=True)
        for images, labels in batches:
            logits = classifier(to_unit(images, classifier.device)).cpu()
            top, index = logits[:, :-1].max(dim=1)
            margins.append((top - logits[:, -1])[index == labels])
        ordered = torch.cat(margins).sort().values
        if not len(ordered):
            raise OodbenchError(f"{classifier.name} puts none of {len(known.labels)} held-out ID images into its class")
        # The image at this place stays: of equal logits the first, a class's, is the largest.
        raised = float(ordered[int(allowed * len(ordered))])
        bias[-1] += raised
    return raised
