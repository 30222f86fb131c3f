"""A trained classifier as oodbench sees it: a torch module and what one must know to use it rightly."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from oodbench.errors import OodbenchError
from oodbench.outputs import PENULTIMATE, Head


class Classifier:
    """A torch module with its input normalisation, image form, classes, head and candidate layers.

    Args:
        module: maps normalised images, float N×C×H×W, to logits, N×K. It is never changed: `inference` puts it
            into eval mode and restores every mode afterwards.
        num_classes: K.
        image_shape: (C, H, W) of the images that it takes; C is 1 or 3.
        mean, std: input normalisation per channel, in units of [0, 1] pixels; one number serves all channels.
            The defaults 0 and 1 mean that the module normalises by itself, or was trained without.
        name: how reports call it; the module's class name by default.
        head: name of the submodule whose input is the penultimate features and whose output is the logits;
            found by itself when the last step is a linear layer.
        layers: names of the submodules whose outputs are candidates for detectors that read a layer, in order
            from the input; by default the module's `candidate_layers`, else its children that have weights.
        training: how it was trained, in plain values; empty where that is not known.

    Raises:
        OodbenchError: the normalisation does not fit the channels, the module does not return N×K logits for
            images of that shape, or a name is not that of a submodule.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        num_classes: int,
        image_shape: tuple[int, int, int],
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        name: str | None = None,
        head: str | None = None,
        layers: Sequence[str] | None = None,
        training: Mapping[str, Any] | None = None,
    ) -> None:
        self.module = module
        self.num_classes = num_classes
        self.image_shape = image_shape
        self.training = dict(training or {})
        self.name = name or type(module).__name__
        self.mean = _per_channel(mean, image_shape[0], "mean")
        self.std = _per_channel(std, image_shape[0], "std")
        if not all(value > 0 for value in self.std):
            raise OodbenchError(f"the standard deviations of the input normalisation must be positive: {self.std}")
        called, found, spatial = self._probe()
        self.head = head if head is not None else found
        self.layers = tuple(layers) if layers is not None else self._default_layers(called)
        self.map_layers = tuple(name for name in self.layers if name in spatial)
        submodules = dict(module.named_modules())
        for wanted in (*self.layers, *([self.head] if self.head else [])):
            if wanted not in submodules and wanted != PENULTIMATE:
                raise OodbenchError(
                    f"{self.name} has no submodule '{wanted}'; it has: {', '.join(filter(None, submodules))}"
                )

    def __call__(self, images: Tensor) -> Tensor:
        """Logits (N×K) of images, float N×C×H×W in [0, 1]."""
        logits: Tensor = self.module(self.normalise(images))
        return logits

    def normalise(self, images: Tensor) -> Tensor:
        """(x − mean) / std per channel, for images in [0, 1]."""
        mean = torch.tensor(self.mean, dtype=images.dtype, device=images.device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, dtype=images.dtype, device=images.device).view(1, -1, 1, 1)
        return (images - mean) / std

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Eval mode, and no gradients for the weights; on leaving, every mode and flag is as it was."""
        modes = {module: module.training for module in self.module.modules()}
        frozen = {parameter: parameter.requires_grad for parameter in self.module.parameters()}
        self.module.eval()
        self.module.requires_grad_(False)
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
        """The last linear layer; None where the last step is not one."""
        head = self.module.get_submodule(self.head) if self.head else None
        weight, bias = (getattr(head, name, None) for name in ("weight", "bias"))
        if not isinstance(weight, Tensor) or weight.dim() != 2:
            return None
        weight = weight.detach().cpu() if weight.device.type == "mps" else weight.detach()
        bias = torch.zeros(len(weight)) if bias is None else bias.detach()
        return Head(weight.double(), bias.to(weight.device).double())

    def called(self, name: str) -> Classifier:
        """The same classifier under another name; this one keeps its own."""
        other = copy.copy(self)
        other.name = name
        return other

    def facts(self) -> dict[str, Any]:
        """Classes, image form and normalisation, in plain values."""
        return {
            "num_classes": self.num_classes,
            "image_shape": list(self.image_shape),
            "mean": list(self.mean),
            "std": list(self.std),
        }

    def content_hash(self) -> str:
        """SHA-256 of everything that decides the logits: architecture, weights, buffers, normalisation, form."""
        digest = hashlib.sha256()
        digest.update(repr(self.module).encode())
        digest.update(repr((self.num_classes, self.image_shape, self.mean, self.std)).encode())
        # Not the state dict, which leaves out buffers that are not saved.
        tensors = chain(self.module.named_parameters(), self.module.named_buffers())
        for name, tensor in sorted(tensors, key=lambda named: named[0]):
            array = tensor.detach().cpu().contiguous()
            digest.update(f"{name} {array.dtype} {tuple(array.shape)}".encode())
            digest.update(array.flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def _probe(self) -> tuple[dict[str, nn.Module], str | None, set[str]]:
        """The submodules that a forward pass calls, in the order in which they finish, the head among them, and
        those whose outputs have four axes; checks the logits' form."""
        called: dict[str, nn.Module] = {}
        spatial: set[str] = set()
        from_linear: dict[str, Tensor] = {}
        sizes = [0]

        def note(submodule: nn.Module, _inputs: object, output: Tensor) -> None:
            called[names[submodule]] = submodule
            if isinstance(output, Tensor) and not any(submodule.children()):
                sizes.append(output.nbytes // len(images))
            if isinstance(output, Tensor) and output.dim() == 4:
                spatial.add(names[submodule])
            if isinstance(submodule, nn.Linear):
                from_linear[names[submodule]] = output

        names = {submodule: name for name, submodule in self.module.named_modules() if name}
        hooks = [submodule.register_forward_hook(note) for submodule in names]
        images = torch.full((2, *self.image_shape), 0.5, device=self.device, dtype=self.precision)
        try:
            with self.inference(), torch.no_grad():
                logits = self(images)
        # torchvision's networks assert the form of their input.
        except (RuntimeError, ValueError, AssertionError) as error:
            raise OodbenchError(
                f"{self.name} does not take images of {_form(self.image_shape)}: {error}. "
                "Give the image form that it was trained on."
            ) from error
        finally:
            for hook in hooks:
                hook.remove()
        if not isinstance(logits, Tensor) or logits.shape != (2, self.num_classes):
            shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise OodbenchError(
                f"{self.name} should return one row of {self.num_classes} logits per image, but returned {shape} "
                f"for 2 images; give the number of classes that it was trained on"
            )
        self.layer_bytes = sum(sizes), max(sizes)
        """Of an image's outputs of the innermost submodules: of all, and of the largest."""
        return called, _find_head(from_linear, logits), spatial

    def _default_layers(self, called: dict[str, nn.Module]) -> tuple[str, ...]:
        declared = getattr(self.module, "candidate_layers", None)
        if declared is not None:
            return tuple(declared)
        blocks = [
            name
            for name, submodule in called.items()
            # What the head is a part of comes after the penultimate features.
            if "." not in name
            and not f"{self.head}.".startswith(f"{name}.")
            and any(True for _ in submodule.parameters())
        ]
        return (*blocks, PENULTIMATE) if self.head else tuple(blocks)


def _per_channel(value: float | Sequence[float], channels: int, what: str) -> tuple[float, ...]:
    values = (float(value),) * channels if isinstance(value, int | float) else tuple(map(float, value))
    if len(values) == 1:
        values *= channels
    if len(values) != channels:
        raise OodbenchError(
            f"the input normalisation's {what} has {len(values)} values for images of {channels} channel(s); "
            f"give one value, or one per channel"
        )
    return values


def _find_head(from_linear: Mapping[str, Tensor], logits: Tensor) -> str | None:
    """The linear layer whose output is the logits; none where something, say a softmax, comes after it."""
    return next((name for name, output in from_linear.items() if torch.equal(output, logits)), None)


def _form(shape: tuple[int, int, int]) -> str:
    return f"{shape[0]} channel(s), {shape[1]}×{shape[2]} pixels"
