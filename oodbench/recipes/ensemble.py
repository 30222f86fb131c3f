"""Deep ensembles (Lakshminarayanan et al. 2017, arXiv 1612.01474): several classifiers as one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from oodbench.classifier import Classifier
from oodbench.errors import OodbenchError
from oodbench.outputs import Outputs


class Ensemble(nn.Module):
    """The mean of the members' softmax probabilities, as logits; each member's logits are a candidate layer."""

    returns_log_probabilities = True

    def __init__(self, members: Sequence[Classifier]) -> None:
        super().__init__()
        self.classifiers = tuple(members)
        self.members = nn.ModuleList(_Member(member) for member in members)
        self.candidate_layers = tuple(f"members.{number}" for number in range(len(members)))

    def forward(self, images: Tensor) -> Tensor:
        return mean_log_probability([member(images) for member in self.members])


class _Member(nn.Module):
    """A classifier as a module that normalises its own input."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.module = classifier.module
        self.classifier = (classifier,)  # no submodule

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier[0](images)
        return logits

    def extra_repr(self) -> str:
        return f"mean={self.classifier[0].mean}, std={self.classifier[0].std}"


def mean_log_probability(logits: Sequence[Tensor]) -> Tensor:
    """log of the mean of several classifiers' probabilities, N×K each."""
    together = torch.stack([one.log_softmax(dim=1) for one in logits])
    return together.logsumexp(dim=0) - math.log(len(logits))


def ensemble(classifiers: Sequence[Classifier]) -> Classifier:
    """The ensemble of two or more classifiers of one image form.

    Raises:
        OodbenchError: there is one only, or their classes or image forms differ.
    """
    if len(classifiers) < 2:
        raise OodbenchError(
            f"an ensemble has two members or more, not {len(classifiers)}; name several classifiers with --model"
        )
    first = classifiers[0]
    for other in classifiers[1:]:
        if (other.num_classes, other.form) != (first.num_classes, first.form):
            raise OodbenchError(
                f"{first.name} and {other.name} cannot be one ensemble: they take images of {first.image_shape} and "
                f"{other.image_shape} ({first.form.words}; {other.form.words}), and tell {first.num_classes} and "
                f"{other.num_classes} classes apart"
            )
    module = Ensemble(classifiers)
    name = "+".join(one.name for one in classifiers)
    return Classifier(module, num_classes=first.num_classes, preprocess=first.form, name=name)


def of_members(outputs: Sequence[Outputs]) -> Outputs:
    """What the ensemble makes of images, from what its members made of them: no network is asked again."""
    logits = [one.logits for one in outputs]
    layers = {f"layer:members.{number}": one for number, one in enumerate(logits)}
    return Outputs({"logits": mean_log_probability(logits), **layers})
