"""A garbage output for a network that is trained already: added, held constant, and at no cost of its accuracy."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from oodbench.classifier import Classifier
from oodbench.errors import OodbenchError
from oodbench.models.catalogue import build
from oodbench.pixels import Pixels
from oodbench.recipes.calibration import garbage_bias
from oodbench.recipes.holdout import batches
from oodbench.training import accuracy

STEPS = 10
"""Of the shares that `blend` tries."""

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
        preprocess=classifier.preprocess,
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


def blend(classifier: Classifier, before: Mapping[str, Tensor], known: Pixels, least: float) -> float:
    """Average the weights with those before, as far as an accuracy of the classes needs it; the tuned ones' share.

    Wortsman et al. 2022, Robust fine-tuning of zero-shot models (arXiv 2109.01903). The shares 1, 0.9, … 0 are tried.

    Args:
        before: the state of the module before it was tuned.
        known: ID images, not trained on.
        least: the accuracy of the largest class logit on these that is to be kept.
    """
    tuned = {name: value.clone() for name, value in classifier.module.state_dict().items()}
    for tenths in range(STEPS, -1, -1):
        share = tenths / STEPS
        state = {
            name: torch.lerp(before[name], value, share) if value.is_floating_point() else value
            for name, value in tuned.items()
        }
        classifier.module.load_state_dict(state)
        if accuracy(classifier, known.images, known.labels, classifier.num_classes - 1) >= least:
            break
    return share


def _without_last(gradient: Tensor) -> Tensor:
    return torch.cat([gradient[:-1], torch.zeros_like(gradient[-1:])])
