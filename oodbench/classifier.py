"""A trained classifier as oodbench sees it: a torch module and what one must know to use it rightly."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from oodbench.anatomy import Anatomy, examine, runnable
from oodbench.card_fields import NAME
from oodbench.data.inputs import Form
from oodbench.data.matching import ImageShape
from oodbench.data.preprocess import stretched
from oodbench.data.transform import form_of
from oodbench.errors import OodbenchError
from oodbench.heads import feature_gradient, features_of, find_logits, head_of
from oodbench.layers import IMAGES
from oodbench.outputs import Head


class Classifier:
    """A torch module with what brings images into its input form, its classes, head and candidate layers.

    Args:
        module: maps normalised images, float N×C×H×W, to logits, N×K, or returns them in a dictionary, a tuple or an
            object with `.logits`. It is never changed: `inference` puts it into eval mode and restores every mode
            afterwards. One whose outputs are meant to be log-probabilities declares `returns_log_probabilities`.
        num_classes: K.
        image_shape: (C, H, W) of the images that it takes; C is 1 or 3. Images of another size are stretched, as is
            usual for networks trained on small ones; for others give `preprocess` or `transform` instead.
        mean, std: input normalisation per channel, in units of [0, 1] pixels; one number serves all channels.
            The defaults 0 and 1 mean that the module normalises by itself, or was trained without.
        preprocess: how images become its input: resize, kernel, crop, mean and std.
        transform: or a callable from a PIL image (RGB, or L where `image_shape` says one channel) to a tensor C×H×W:
            that of torchvision, timm or open_clip for evaluation, or any function. A Normalize at its end is split off,
            so that detectors perturb pixels; any other output is taken as it comes.
        name: how reports call it; the module's class name by default.
        head: name of the submodule whose input is the penultimate features and whose output is the logits;
            found by itself when the last step is a linear layer, or a 1×1 convolution and the mean over space. Where a
            softmax comes after it, the logits are taken from it.
        layers: names of the submodules whose outputs are candidates for detectors that read a layer, in order
            from the input; by default the module's `candidate_layers`, else its blocks, see `oodbench.layers`.
        training: how it was trained, in plain values; empty where that is not known.

    Attributes:
        notes: what was decided about the network, in sentences.
        map_layers: the candidate layers that give maps, N×C×H×W or N×H×W×C.
        class_tokens: T, where the first of a layer's T tokens is a class token, at which the layer is read.
        memory_format: in which images are passed.
        layer_bytes: of an image's outputs of the innermost submodules: of all, and of the largest.

    Raises:
        OodbenchError: image form and normalisation are given twice, or do not fit each other; the module does not
            return N×K logits for images of that shape, ends in a softmax or has weights that are NaN; or a name is not
            that of a submodule, or not of the head: `head(features) = logits` is checked on random images.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        num_classes: int,
        image_shape: ImageShape | None = None,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        preprocess: Form | None = None,
        transform: Callable[[Any], Any] | None = None,
        name: str | None = None,
        head: str | None = None,
        layers: Sequence[str] | None = None,
        training: Mapping[str, Any] | None = None,
    ) -> None:
        self.module, notes = runnable(module)
        self.num_classes = num_classes
        self.preprocess = _preprocess(image_shape, mean, std, preprocess, transform)
        self.training = dict(training or {})
        self.name = name or type(self.module).__name__
        if not NAME.holds(self.name):
            raise OodbenchError(f"a classifier cannot be called {self.name!a}: give it {NAME.words}")
        found = self._examined(head, layers)
        self.head, self.layers, self.map_layers = found.head, found.layers, found.map_layers
        self.class_tokens, self.memory_format = found.class_tokens, found.memory_format
        self.layer_bytes = found.layer_bytes
        self._is_linear, self._ends_early = found.is_linear, found.ends_early
        self.notes = (*notes, *found.notes)

    def _examined(self, head: str | None, layers: Sequence[str] | None) -> Anatomy:
        generator = torch.Generator().manual_seed(0)
        images = torch.rand((IMAGES, *self.image_shape), generator=generator).to(self.device, self.precision)
        with self.inference(), torch.no_grad():
            return examine(
                self.module,
                self.normalise,
                images,
                num_classes=self.num_classes,
                name=self.name,
                head=head,
                layers=layers,
            )

    def __call__(self, images: Tensor) -> Tensor:
        """Logits (N×K) of images, float N×C×H×W in [0, 1]."""
        if not self._ends_early:
            return self._logits_in(self.module(self.normalise(images)), len(images))
        given: list[Tensor] = []
        head = self.module.get_submodule(self.head or "")
        handle = head.register_forward_hook(lambda _module, _inputs, output: given.append(output))
        try:
            self.module(self.normalise(images))
        finally:
            handle.remove()
        return given[-1]

    def _logits_in(self, returned: Any, count: int) -> Tensor:
        found, _ = find_logits(returned, (count, self.num_classes))
        if not isinstance(found, Tensor):
            raise OodbenchError(f"{self.name} returned {type(found).__name__}, in which there are no logits")
        return found

    def normalise(self, images: Tensor) -> Tensor:
        """(x − mean) / std per channel, for images in [0, 1]."""
        mean = torch.tensor(self.mean, dtype=images.dtype, device=images.device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, dtype=images.dtype, device=images.device).view(1, -1, 1, 1)
        return (images - mean) / std

    @property
    def image_shape(self) -> ImageShape:
        """(C, H, W) of the images that it takes."""
        return self.preprocess.shape

    @property
    def mean(self) -> tuple[float, ...]:
        """Of the input, per channel, in units of [0, 1] pixels."""
        return self.preprocess.mean

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation, likewise."""
        return self.preprocess.std

    @property
    def form(self) -> Form:
        """The preprocess without normalisation: what decides the pixels that enter."""
        return self.preprocess.form

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Eval mode, and no gradients for the weights; on leaving, every mode and flag is as it was."""
        modes = {module: module.training for module in self.module.modules()}
        frozen = {parameter: parameter.requires_grad for parameter in self.module.parameters()}
        self.module.eval()
        for parameter in frozen:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode
            for parameter, requires_grad in frozen.items():
                parameter.requires_grad_(requires_grad)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next((tensor.device for tensor in self.module.state_dict().values()), torch.device("cpu"))

    @property
    def precision(self) -> torch.dtype:
        """Of the images that enter it: float64 for a module in float64, float32 for any other, since input gradients
        underflow in less."""
        dtypes = {parameter.dtype for parameter in self.module.parameters()}
        return torch.float64 if torch.float64 in dtypes else torch.float32

    def to(self, device: torch.device | str) -> Classifier:
        """Move the module; returns itself."""
        self.module.to(device)
        return self

    def head_weights(self) -> Head | None:
        """Weight and bias with `head(features) = logits`; None where the last step is not linear."""
        return head_of(self.module.get_submodule(self.head)) if self.head and self._is_linear else None

    def features_of(self, given: Tensor) -> Tensor:
        """The penultimate features, N×D, of what enters the head: averaged over space before a 1×1 convolution."""
        return features_of(self.module.get_submodule(self.head or ""), given)

    def feature_gradient(self, gradient: Tensor) -> Tensor:
        """The gradient by the penultimate features, N×D, from that by what enters the head."""
        return feature_gradient(self.module.get_submodule(self.head or ""), gradient)

    def called(self, name: str) -> Classifier:
        """The same classifier under another name; this one keeps its own."""
        other = copy.copy(self)
        other.name = name
        return other

    def facts(self) -> dict[str, Any]:
        """Classes, image form, normalisation and, where it is not the default, preprocess, in plain values."""
        told = self.preprocess.facts()
        return {
            "num_classes": self.num_classes,
            "image_shape": list(self.image_shape),
            "mean": list(self.mean),
            "std": list(self.std),
            **({"preprocess": told} if told else {}),
        }

    def content_hash(self) -> str:
        """SHA-256 of everything that decides the logits: architecture, weights, buffers, preprocess."""
        digest = hashlib.sha256()
        digest.update(repr(self.module).encode())
        for part in self.module.modules():
            if isinstance(part, torch.jit.ScriptModule):  # which does not show what it does
                digest.update(str(getattr(part, "code", "")).encode())
        digest.update(repr((self.num_classes, self.image_shape, self.mean, self.std)).encode())
        digest.update(self.preprocess.told.encode())
        # Not the state dict, which leaves out buffers that are not saved.
        tensors = chain(self.module.named_parameters(), self.module.named_buffers())
        for name, tensor in sorted(tensors, key=lambda named: named[0]):
            array = tensor.detach().cpu().contiguous()
            digest.update(f"{name} {array.dtype} {tuple(array.shape)}".encode())
            digest.update(array.flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def _preprocess(
    image_shape: ImageShape | None,
    mean: float | Sequence[float] | None,
    std: float | Sequence[float] | None,
    preprocess: Form | None,
    transform: Callable[[Any], Any] | None,
) -> Form:
    """How images become input, of what the user gave."""
    if transform is not None and preprocess is None:
        return form_of(transform, image_shape, mean, std)
    if transform is None and preprocess is None:
        if image_shape is None:
            raise OodbenchError("give the classifier its image_shape (C, H, W), a preprocess or a transform")
        return stretched(image_shape, 0.0 if mean is None else mean, 1.0 if std is None else std)
    if transform is not None or mean is not None or std is not None or preprocess is None:
        raise OodbenchError("a preprocess says all of it: leave out mean, std and transform, or give only those")
    if image_shape is not None and tuple(image_shape) != preprocess.shape:
        raise OodbenchError(f"the preprocess gives images of {preprocess.shape}, not {image_shape}; leave that out")
    return preprocess
