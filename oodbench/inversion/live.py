"""What the classifier makes of images, with the graph: the gradients of losses on it reach the images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from oodbench.classifier import Classifier
from oodbench.errors import OodbenchError
from oodbench.inversion import losses


class Live(NamedTuple):
    """What one pass gave, with its graph.

    Attributes:
        logits: N×K.
        features: N×D, penultimate.
        statistics: the loss of that name, the mean over the layers with a BatchNorm that remembers statistics; 0
            where there is none, where no gradients are asked for, and where they are not wanted.
    """

    logits: Tensor
    features: Tensor
    statistics: Tensor


Passes = Callable[[Tensor], Live]


@contextmanager
def live_features(classifier: Classifier, statistics: bool = False) -> Iterator[Passes]:
    """A function of images, through which gradients reach them.

    Inside, the classifier is in eval mode and its weights are frozen. `outputs.Capture` detaches its
    features, since detectors only read them; here the losses on them must reach the generator.

    Args:
        statistics: whether they are wanted; they cost every pass with gradients some time.

    Raises:
        OodbenchError: the penultimate features are not known.
    """
    if classifier.head is None:
        raise OodbenchError(
            f"the penultimate features of {classifier.name} are not known, since its last step is not a "
            f"linear layer; name its head: Classifier(module, head='...')"
        )
    features: list[Tensor] = []
    compared: list[Tensor] = []

    def take(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        features.append(inputs[0])

    def compare(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, _BatchNorm) and norm.running_mean is not None and norm.running_var is not None
        if torch.is_grad_enabled():
            compared.append(losses.statistics(inputs[0], norm.running_mean, norm.running_var, norm.eps))

    def passes(images: Tensor) -> Live:
        features.clear()
        compared.clear()
        logits = classifier(images)
        mean = torch.stack(compared).mean() if compared else torch.zeros((), device=images.device)
        return Live(logits, classifier.features_of(features.pop()), mean)

    with ExitStack() as stack:
        hook = classifier.module.get_submodule(classifier.head).register_forward_pre_hook(take)
        stack.callback(hook.remove)
        for module in classifier.module.modules():
            if statistics and isinstance(module, _BatchNorm) and module.running_mean is not None:
                stack.callback(module.register_forward_pre_hook(compare).remove)
        stack.enter_context(classifier.inference())
        yield passes
