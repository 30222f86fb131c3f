"""From what a network returns to logits, and the linear layer that makes them, checked by what it computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from oodbench.outputs import Head

KEYS = ("logits", "output", "out")
"""Under which networks that return a dictionary keep the logits."""


def find_logits(returned: Any, form: tuple[int, int]) -> tuple[Any, str]:
    """The logits in what a network returned, and where they stand in it, in words; "" where they are all of it.

    A tensor, the attribute `.logits` (Hugging Face's outputs; torchvision's Inception and GoogLeNet in training mode),
    a key of `KEYS`, else the first tensor of the form (N, K). What is none of these is given back.
    """
    if isinstance(returned, Tensor):
        # A fully convolutional network's N×K×1×1.
        return (
            returned.flatten(1) if returned.shape[:2] + (1,) * (returned.dim() - 2) == returned.shape else returned
        ), ""
    if isinstance(getattr(returned, "logits", None), Tensor):
        return returned.logits, "its .logits"
    entries: Any = ()
    if isinstance(returned, Mapping):
        found = next((key for key in KEYS if isinstance(returned.get(key), Tensor)), None)
        if found is not None:
            return returned[found], f"its entry '{found}'"
        entries = returned.items()
    elif isinstance(returned, tuple | list):
        entries = enumerate(returned)
    for key, value in entries:
        if isinstance(value, Tensor) and tuple(value.shape) == form:
            return value, f"its entry {key!r}"
    return returned, ""


def tensor_of(output: Any) -> Any:
    """What a layer gives; of a tuple, as blocks of transformers return, its first tensor."""
    return output[0] if isinstance(output, tuple) and output and isinstance(output[0], Tensor) else output


def last_step(logits: Tensor) -> str | None:
    """ "softmax" or "log-softmax" where every row is what that gives; None for logits, N×K."""
    rows, small = logits.double(), max(1e-4, 8 * torch.finfo(logits.dtype).eps)
    if bool((rows >= 0).all()) and bool(((rows.sum(dim=1) - 1).abs() < small).all()):
        return "softmax"
    return "log-softmax" if bool((rows.logsumexp(dim=1).abs() < small).all()) else None


def matrix_of(head: nn.Module | None) -> Tensor | None:
    """The weight K×D of a linear layer, or of a 1×1 convolution; None for anything else."""
    weight = getattr(head, "weight", None)
    if not isinstance(weight, Tensor) or weight.dim() not in (2, 4) or weight.shape[2:].numel() != 1:
        return None
    return weight.flatten(1)


def features_of(head: nn.Module, given: Tensor) -> Tensor:
    """The features N×D of what enters the head: averaged over space before a 1×1 convolution (N×D×H×W), over the axes
    between before a linear layer (N×…×D)."""
    if given.dim() == 2 or matrix_of(head) is None:
        return given.flatten(1)
    return given.mean(dim=_averaged(head, given))


def feature_gradient(head: nn.Module, gradient: Tensor) -> Tensor:
    """The gradient by the features, N×D, from that by what enters the head."""
    if gradient.dim() == 2 or matrix_of(head) is None:
        return gradient.flatten(1)
    return gradient.sum(dim=_averaged(head, gradient))


def entering(head: nn.Module, features: Tensor, given: Tensor) -> Tensor:
    """What must enter the head, in place of `given`, so that it has these features."""
    if given.dim() == 2 or matrix_of(head) is None:
        return features.reshape(given.shape)
    for axis in _averaged(head, given):
        features = features.unsqueeze(axis)
    return features.expand(given.shape)


def _averaged(head: nn.Module, given: Tensor) -> tuple[int, ...]:
    is_convolution = head.weight.dim() == 4  # type: ignore[operator]
    return tuple(range(2, given.dim()) if is_convolution else range(1, given.dim() - 1))


def head_of(module: nn.Module) -> Head | None:
    """Weight and bias of a linear layer, or of a 1×1 convolution, in float64."""
    weight, bias = matrix_of(module), getattr(module, "bias", None)
    if weight is None:
        return None
    weight = weight.detach().cpu() if weight.device.type == "mps" else weight.detach()
    bias = torch.zeros(len(weight)) if bias is None else bias.detach()
    return Head(weight.double(), bias.to(weight.device).double())


class Seen(NamedTuple):
    """What was seen of a layer that may be the head, in a pass of N images.

    Attributes:
        features: N×D, see `features_of`.
        gave: its output.
    """

    module: nn.Module
    features: Tensor
    gave: Tensor


def is_linear(seen: Seen, logits: Tensor) -> bool:
    """Whether `head(features) = logits`, to within the rounding of their precision."""
    head = head_of(seen.module)
    if head is None or head.weight.shape != (logits.shape[1], seen.features.shape[1]):
        return False
    features = seen.features.to(head.weight.device).double()
    size = features.abs() @ head.weight.abs().T + head.bias.abs()
    off = (head(features) - logits.to(head.weight.device).double()).abs()
    return bool((off <= torch.finfo(logits.dtype).eps ** 0.5 * size).all())


def gives(seen: Seen, logits: Tensor) -> bool:
    """Whether a layer's output is the logits; after a ReLU, averaged over space, as in SqueezeNet, too."""
    if seen.gave.dim() == 4 and seen.gave.shape[:2] == logits.shape:
        return any(torch.allclose(one.mean(dim=(2, 3)), logits) for one in (seen.gave, seen.gave.relu()))
    return seen.gave.shape == logits.shape and torch.allclose(seen.gave, logits)


def precedes(seen: Seen, returned: Tensor, step: str) -> bool:
    """Whether the step, of a layer's output, is what the network returned."""
    if seen.gave.shape != returned.shape:
        return False
    after = seen.gave.softmax(dim=1) if step == "softmax" else seen.gave.log_softmax(dim=1)
    return torch.allclose(after, returned, atol=1e-5)
