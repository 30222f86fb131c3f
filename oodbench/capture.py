"""What is taken out of a classifier's forward pass, and how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from oodbench.classifier import PENULTIMATE, Classifier
from oodbench.errors import OodbenchError, unknown_name

ALL_LAYERS = frozenset({"*"})

SMALLEST_PASS = 16
"""A smaller batch is filled up to this many images. The float32 kernels for a handful of images round in
another order, and where a ReLU stands on its edge that changes an input gradient by percents: an image's
score would depend on its batch."""


@dataclass(frozen=True)
class Needs:
    """What a detector reads, so that one pass can capture it for all.

    Attributes:
        logits, features: the network's output, and the input of its last linear layer.
        layers: names of candidate layers whose pooled outputs are read; `ALL_LAYERS` is every one.
        images: the pixels themselves, when scoring.
        input_gradient: `Outputs.input_gradient` or `Outputs.perturbed`, on live batches, when scoring.
        proxies: image sets made from the fit images that `fit` compares ID with, by their names in the data
            catalogue, e.g. "pixel-shuffled".
        validation_proxies: those that `fit` reads only where the user named no validation set.
        labels: the classes of the fit images, in `fit`.
    """

    logits: bool = False
    features: bool = False
    layers: frozenset[str] = frozenset()
    images: bool = False
    input_gradient: bool = False
    proxies: frozenset[str] = frozenset()
    validation_proxies: frozenset[str] = frozenset()
    labels: bool = False

    def __or__(self, other: Needs) -> Needs:
        return Needs(*(getattr(self, one.name) | getattr(other, one.name) for one in fields(self)))


@dataclass
class PassCount:
    """How many images entered the network, and how many went back for a gradient, without `SMALLEST_PASS`."""

    forward: int = 0
    gradient: int = 0
    perturbed: int = 0


class Capture:
    """Hooks that take what `needs` names out of a forward pass; in place only inside `with capture:`.

    Raises:
        OodbenchError: a layer that is needed is not there, or the penultimate features are not known.
    """

    def __init__(self, classifier: Classifier, needs: Needs, count: PassCount) -> None:
        self.classifier, self.needs, self.count = classifier, needs, count
        self._submodules = dict(classifier.module.named_modules())
        self._layers = _wanted_layers(classifier, needs.layers)
        self._wants_features = needs.features or PENULTIMATE in self._layers
        if self._wants_features and classifier.head is None:
            raise OodbenchError(
                f"the penultimate features of {classifier.name} are not known, since its last step is not a "
                f"linear layer; name its head: Classifier(module, head='...')"
            )
        self._taken: dict[str, Tensor] = {}
        self._hooks: list[Any] = []
        self._open = False

    def __enter__(self) -> Capture:
        self._open = True
        if self._wants_features:
            head = self._submodules[self.classifier.head or ""]
            self._hooks.append(head.register_forward_pre_hook(self._take_features))
        for name in self._layers:
            if name != PENULTIMATE:
                self._hooks.append(self._submodules[name].register_forward_hook(self._layer_taker(name)))
        return self

    def __exit__(self, *_: object) -> None:
        self._open = False
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def forward(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The logits with their graph, and all captured tensors, detached, under the keys of `Outputs`.

        Args:
            images: float N×C×H×W in [0, 1], on the classifier's device.

        Raises:
            OodbenchError: the pass is over, and with it the classifier's eval mode.
        """
        if not self._open:
            raise OodbenchError("a batch was perturbed after its pass was over; score it while `passes` has it out")
        self._taken.clear()
        count = len(images)
        # On CPUs convolutions are faster in this order of memory (1.13 × on a ResNet-20, 2 cores).
        logits = self.classifier(_filled(images).contiguous(memory_format=torch.channels_last))[:count]
        tensors = {"logits": shown(logits)}
        if self._wants_features:
            tensors["features"] = shown(self._layer_output(PENULTIMATE)[:count])
        for name in self._layers:
            tensors[f"layer:{name}"] = shown(self._layer_output(name)[:count])
        return logits, tensors

    def _layer_output(self, name: str) -> Tensor:
        if name not in self._taken:
            raise OodbenchError(
                f"layer '{name}' of {self.classifier.name} was not called in the forward pass; "
                f"name candidate layers that are: Classifier(module, layers=[...])"
            )
        return self._taken[name]

    def _take_features(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._taken[PENULTIMATE] = inputs[0].detach().flatten(1)

    def _layer_taker(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def take(module: nn.Module, _inputs: Any, output: Any) -> None:
            if not isinstance(output, Tensor):
                raise OodbenchError(
                    f"layer '{name}' ({type(module).__name__}) gives {type(output).__name__}, not a tensor; "
                    f"name other candidate layers: Classifier(module, layers=[...])"
                )
            shape = self.classifier.image_shape
            # Layer normalisation is over the last axis: networks that have it may keep their channels there.
            unsure = output.dim() == 4 and _space(output, shape) is None
            if unsure and any(isinstance(part, nn.LayerNorm) for part in module.modules()):
                raise OodbenchError(
                    f"layer '{name}' ({type(module).__name__}) gives N×{'×'.join(map(str, output.shape[1:]))}, which "
                    f"may be N×C×H×W or N×H×W×C; name other candidate layers: Classifier(module, layers=[...])"
                )
            self._taken[name] = pooled(output.detach(), shape)

        return take


def pooled(output: Tensor, image_shape: tuple[int, int, int]) -> Tensor:
    """A layer's output as N×C: averaged over space (N×C×H×W, or N×H×W×C as in Swin) or over tokens (N×T×C).

    Args:
        image_shape: (C, H, W) of the images. Where its proportions do not tell the axes of space, the output is
            taken for N×C×H×W.
    """
    if output.dim() == 4:
        return output.mean(dim=_space(output, image_shape) or (2, 3))
    if output.dim() == 3:
        return output.mean(dim=1)
    return output.flatten(1)


def _space(output: Tensor, image_shape: tuple[int, int, int]) -> tuple[int, int] | None:
    """The axes, of N×C×H×W or N×H×W×C, that have the image's proportions; None where both pairs have, or neither."""
    _, height, width = image_shape
    fitting = [
        axes
        for axes in ((1, 2), (2, 3))
        # Of an image that is halved again and again, to within the rounding.
        if abs(output.shape[axes[0]] * width - output.shape[axes[1]] * height) < max(height, width)
    ]
    return fitting[0] if len(fitting) == 1 else None


def shown(tensor: Tensor) -> Tensor:
    """What detectors see of a tensor: detached, and where float64 exists, in which they compute."""
    return tensor.detach().cpu() if tensor.device.type == "mps" else tensor.detach()


def _filled(images: Tensor) -> Tensor:
    """At least `SMALLEST_PASS` images: these, and copies of the last that no gradient flows through."""
    missing = SMALLEST_PASS - len(images)
    if missing <= 0:
        return images
    return torch.cat([images, images[-1:].detach().expand(missing, *images.shape[1:])])


def _wanted_layers(classifier: Classifier, names: frozenset[str]) -> tuple[str, ...]:
    """The layers that are to be captured, in order from the input.

    Candidates only: a detector that chooses among all captured layers must not choose another one because of
    what a detector beside it needs.
    """
    wanted = names - ALL_LAYERS
    if "*" in names:
        wanted |= set(classifier.layers)
    for name in wanted:
        if name not in classifier.layers:
            hint = "Classifier(module, layers=[...]) makes other submodules candidates"
            raise unknown_name(f"candidate layer of {classifier.name}", name, classifier.layers, hint)
    return tuple(name for name in classifier.layers if name in wanted)
