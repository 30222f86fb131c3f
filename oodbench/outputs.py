"""What a classifier makes of images: captured in one pass, shared by all detectors.

`passes` runs the network and yields one `LiveOutputs` a batch; `Outputs.concatenate` joins them into plain
`Outputs`. A live batch still has its images and its autograd graph, so that `input_gradient` and `perturbed`
are computed on demand, once, for all detectors that ask.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from oodbench.capture import ALL_LAYERS, Capture, Needs, PassCount, pooled, shown
from oodbench.classifier import Classifier
from oodbench.errors import OodbenchError
from oodbench.perturbation import Norm, step

__all__ = ["ALL_LAYERS", "LiveOutputs", "Needs", "Outputs", "PassCount", "passes", "pooled"]


class Outputs:
    """The captured quantities of N images, in their order.

    Attributes:
        labels: int64 N, or None where the images have none.
        proxies, validation: on the outputs of the fit images only, outputs of proxy sets made from ID, and of
            OOD validation sets that the user named, by name.
    """

    def __init__(
        self,
        *,
        logits: Tensor | None = None,
        features: Tensor | None = None,
        layers: Mapping[str, Tensor] | None = None,
        images: Tensor | None = None,
        labels: Tensor | None = None,
        proxies: Mapping[str, Outputs] | None = None,
        validation: Mapping[str, Outputs] | None = None,
    ) -> None:
        self._logits, self._features, self._images = logits, features, images
        self._layers = dict(layers or {})
        self.labels = labels
        self.proxies = dict(proxies or {})
        self.validation = dict(validation or {})

    def __len__(self) -> int:
        return len(next(iter(self.tensors().values()), ()))

    @property
    def logits(self) -> Tensor:
        """N×K, as the network gave them."""
        return _captured(self._logits, "logits")

    @property
    def features(self) -> Tensor:
        """N×D, the input of the last linear layer."""
        return _captured(self._features, "features")

    @property
    def images(self) -> Tensor:
        """N×C×H×W in [0, 1], as the classifier took them."""
        return _captured(self._images, "images")

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The captured layers, in order from the input."""
        return tuple(self._layers)

    def layer(self, name: str) -> Tensor:
        """N×C, the layer's output, averaged over space."""
        if name not in self._layers:
            captured = ", ".join(self._layers) or "none"
            raise OodbenchError(f"layer '{name}' was not captured; captured are: {captured}")
        return self._layers[name]

    def input_gradient(self, temperature: float) -> Tensor:
        """∇_x CE(z(x)/T, argmax z(x)), N×C×H×W; on live batches only."""
        raise OodbenchError("these outputs are stored: the input gradient exists on live batches only")

    def perturbed(
        self,
        temperature: float,
        epsilon: float,
        norm: Norm = "linf",
        *,
        fraction: float = 0.1,
        sign_of_zero: int = 0,
        clip: bool = False,
    ) -> Outputs:
        """The outputs at x − ε·step(∇_x CE(z(x)/T, argmax z(x))); on live batches only, unless ε = 0.

        Args:
            temperature: T, above 0.
            epsilon: ε in units of [0, 1] pixels; with 0 these are the outputs themselves, at no cost.
            norm, fraction, sign_of_zero: see `perturbation.step`.
            clip: whether the moved pixels are clipped to [0, 1].
        """
        if epsilon == 0:
            return self
        raise OodbenchError("these outputs are stored: perturbed outputs exist on live batches only")

    def select(self, indices: Tensor | slice) -> Outputs:
        """The outputs of some of the images, in the order of `indices`, without proxies and validation."""
        return _outputs({key: tensor[indices] for key, tensor in self.tensors().items()})

    def to(self, device: torch.device | str) -> Outputs:
        """The same outputs on another device."""
        moved = _outputs({key: tensor.to(device) for key, tensor in self.tensors().items()})
        moved.proxies = {name: outputs.to(device) for name, outputs in self.proxies.items()}
        moved.validation = {name: outputs.to(device) for name, outputs in self.validation.items()}
        return moved

    @staticmethod
    def concatenate(parts: Iterable[Outputs]) -> Outputs:
        """One Outputs of the parts in order, without their graphs, proxies and validation.

        Raises:
            OodbenchError: there are no parts, or they do not hold the same quantities.
        """
        columns = [part.tensors() for part in parts]
        if not columns:
            raise OodbenchError("there are no outputs to join: the image set is empty")
        for column in columns:
            if column.keys() != columns[0].keys():
                raise OodbenchError(
                    f"outputs that hold {', '.join(columns[0])} cannot be joined with outputs that hold "
                    f"{', '.join(column)}; capture the same of all"
                )
        return _outputs({key: torch.cat([column[key] for column in columns]) for key in columns[0]})

    def tensors(self) -> dict[str, Tensor]:
        """What was captured, by name: logits, features, images, labels, and layers as `layer:NAME`."""
        plain = {
            "logits": self._logits,
            "features": self._features,
            "images": self._images,
            "labels": self.labels,
        }
        layers = {f"layer:{name}": tensor for name, tensor in self._layers.items()}
        return {key: tensor for key, tensor in plain.items() if tensor is not None} | layers


class LiveOutputs(Outputs):
    """The outputs of one batch while its images and autograd graph are at hand; made by `passes`.

    What it shows of the pass is detached; `input_gradient` and `perturbed` are computed once per distinct
    argument.
    """

    def __init__(self, capture: Capture, images: Tensor, labels: Tensor | None) -> None:
        self._capture = capture
        self._pixels = images.requires_grad_(capture.needs.input_gradient)
        with torch.set_grad_enabled(capture.needs.input_gradient):
            self._graph_logits, tensors = capture.forward(self._pixels)
        capture.count.forward += len(images)
        self._gradients: dict[float, Tensor] = {}
        self._perturbed: dict[tuple[object, ...], Outputs] = {}
        if capture.needs.images:
            tensors["images"] = shown(images)
        if labels is not None:
            tensors["labels"] = labels
        super().__init__(**_arguments(tensors))

    def input_gradient(self, temperature: float) -> Tensor:
        """∇_x CE(z(x)/T, argmax z(x)), N×C×H×W, as precise as x, which is in [0, 1], before normalisation."""
        if not self._capture.needs.input_gradient:
            raise OodbenchError("a detector asked for the input gradient, but does not declare it in its needs")
        if temperature not in self._gradients:
            logits = self._graph_logits
            if logits.device.type != "mps":  # which has no float64
                logits = logits.double()
            # Summed, not averaged: an image's gradient must not depend on how many share its batch.
            loss = F.cross_entropy(logits / temperature, logits.argmax(dim=1), reduction="sum")
            # The graph is kept for the next temperature; it goes when the batch goes.
            (self._gradients[temperature],) = torch.autograd.grad(loss, self._pixels, retain_graph=True)
            self._capture.count.gradient += len(self._pixels)
        return self._gradients[temperature]

    def perturbed(
        self,
        temperature: float,
        epsilon: float,
        norm: Norm = "linf",
        *,
        fraction: float = 0.1,
        sign_of_zero: int = 0,
        clip: bool = False,
    ) -> Outputs:
        """The outputs at x − ε·step(∇_x CE(z(x)/T, argmax z(x))), see `Outputs.perturbed`."""
        if epsilon == 0:
            return self
        key = (temperature, epsilon, norm, fraction, sign_of_zero, clip)
        if key not in self._perturbed:
            direction = step(self.input_gradient(temperature), norm, fraction, sign_of_zero)
            moved = self._pixels.detach() - epsilon * direction
            with torch.no_grad():
                _, tensors = self._capture.forward(moved.clamp(0, 1) if clip else moved)
            self._perturbed[key] = _outputs(tensors)
            self._capture.count.perturbed += len(moved)
        return self._perturbed[key]


def passes(
    classifier: Classifier,
    batches: Iterable[tuple[Tensor, Tensor | None]],
    needs: Needs,
    count: PassCount | None = None,
) -> Iterator[LiveOutputs]:
    """Pass batches of images through the network, once, and yield what it makes of each.

    Args:
        batches: images, uint8 N×C×H×W in the classifier's form, and labels or None.
        count: is told what entered the network.

    The classifier is in eval mode, without weight gradients, while a batch is out, and as it was afterwards.

    Raises:
        OodbenchError: a batch is not of that form, or `needs` names what the classifier does not have.
    """
    device, precision = classifier.device, _precision(classifier)
    form = (torch.uint8, *classifier.image_shape)
    with classifier.inference(), Capture(classifier, needs, count or PassCount()) as capture:
        for images, labels in batches:
            if (images.dtype, *images.shape[1:]) != form or not len(images):
                wanted = "×".join(map(str, classifier.image_shape))
                raise OodbenchError(
                    f"{classifier.name} takes batches of uint8 images N×{wanted}, not {images.dtype} of "
                    f"shape {tuple(images.shape)}; match the images to the classifier first"
                )
            pixels = images.to(device, non_blocking=True).to(precision).div_(255)
            yield LiveOutputs(capture, pixels, labels)


def _precision(classifier: Classifier) -> torch.dtype:
    """float64 for a module in float64, float32 for any other: input gradients underflow in less."""
    dtypes = {parameter.dtype for parameter in classifier.module.parameters()}
    return torch.float64 if torch.float64 in dtypes else torch.float32


def _outputs(tensors: Mapping[str, Tensor]) -> Outputs:
    return Outputs(**_arguments(tensors))


def _arguments(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """What `Outputs` is made of, from what `Outputs.tensors` gives."""
    layers = {key.removeprefix("layer:"): tensor for key, tensor in tensors.items() if key.startswith("layer:")}
    return {key: tensor for key, tensor in tensors.items() if not key.startswith("layer:")} | {"layers": layers}


def _captured(tensor: Tensor | None, name: str) -> Tensor:
    if tensor is None:
        raise OodbenchError(f"the {name} were not captured: the detector must declare them in its needs")
    return tensor
