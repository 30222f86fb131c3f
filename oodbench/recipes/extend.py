"""A garbage output beside the classes of a network, added or held constant."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from oodbench.classifier import Classifier
from oodbench.errors import OodbenchError
from oodbench.models.catalogue import build
from oodbench.pixels import Pixels
from oodbench.recipes.calibration import garbage_bias
from oodbench.recipes.holdout import batches

START = 0.05
"""The garbage logit of a network that had none starts where so many ID images have a smaller largest class logit."""


def extended(classifier: Classifier, architecture: str, num_classes: int, known: Pixels) -> Classifier:
    """A copy of a trained classifier with one output more, garbage, whose logit is the same for every image.

    Args:
        architecture: the name in the catalogue that the classifier's module is of.
        num_classes: K, which the classifier must have.
        known: ID images by whose logits garbage's is chosen.

    Raises:
        OodbenchError: it has another number of classes or is not of that architecture, or its last step is no linear
            layer with a bias.
    """
    if classifier.num_classes != num_classes:
        raise OodbenchError(
            f"{classifier.name} has {classifier.num_classes} classes, but the ID set has {num_classes}; start from a "
            f"classifier that was trained on it"
        )
    garbage_bias(classifier)
    assert classifier.head is not None
    state = classifier.module.state_dict()
    top = torch.cat([logits.amax(dim=1) for logits in batches(classifier, known.images)])
    weight, bias = (state[f"{classifier.head}.{part}"] for part in ("weight", "bias"))
    state[f"{classifier.head}.weight"] = torch.cat([weight, torch.zeros_like(weight[:1])])
    state[f"{classifier.head}.bias"] = torch.cat([bias, top.sort().values[int(START * len(top))].to(bias)[None]])
    module = build(architecture, classifier.num_classes + 1, classifier.image_shape)
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise OodbenchError(
            f"{classifier.name} is not a network of the architecture {architecture}, so it cannot be fine-tuned as "
            f"one: {error}; name its architecture"
        ) from error
    return Classifier(
        module,
        num_classes=classifier.num_classes + 1,
        image_shape=classifier.image_shape,
        mean=classifier.mean,
        std=classifier.std,
        name=classifier.name,
    )


def hold_constant(classifier: Classifier) -> None:
    """Make the garbage logit a constant that training does not move: only the classes' logits tell what is garbage."""
    bias = garbage_bias(classifier)
    assert classifier.head is not None
    head = classifier.module.get_submodule(classifier.head)
    assert isinstance(head, nn.Linear)
    with torch.no_grad():
        head.weight[-1] = 0
    for parameter in (head.weight, bias):
        parameter.register_hook(_without_last)


def _without_last(gradient: Tensor) -> Tensor:
    return torch.cat([gradient[:-1], torch.zeros_like(gradient[-1:])])
