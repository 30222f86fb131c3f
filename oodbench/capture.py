"""What is taken out of a classifier's forward pass, and how; and passes in which something is changed on its way."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from oodbench.classifier import Classifier
from oodbench.compiled import Compiled
from oodbench.errors import OodbenchError, unknown_name
from oodbench.heads import entering, features_of, tensor_of
from oodbench.outputs import FREE, PENULTIMATE, Change, Needs, Outputs

SMALLEST_PASS = 16
"""A smaller batch is filled up to this many images. The float32 kernels for a handful of images round in
another order, and where a ReLU stands on its edge that changes an input gradient by percents: an image's
score would depend on its batch."""

SELU_LIMIT = -1.7580993408473766
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)


@dataclass
class PassCount:
    """How many images entered the network, and how many went back for a gradient, without `SMALLEST_PASS`."""

    forward: int = 0
    gradient: int = 0
    perturbed: int = 0
    edited: int = 0
    further: int = 0

    def add(self, other: PassCount) -> None:
        """Count what another one counted."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))


class Passed(NamedTuple):
    """What came of a pass of N images.

    Attributes:
        logits: N×K, with their graph where gradients are asked for.
        taken: by `features` or layer, what the network had there, with its graph, of at least N images.
        tensors: what was to be captured, detached, by its name in `Outputs`.
    """

    logits: Tensor
    taken: dict[str, Tensor]
    tensors: dict[str, Tensor]


class Capture:
    """Hooks that take what `needs` names out of a forward pass; in place only inside `with capture:`.

    Args:
        welcome: what is taken too, as far as the network lets it.
        compiled: layers of the classifier that are to be in place where the network is passed as it is, without a
            gradient.

    Raises:
        OodbenchError: a layer that is needed is not there, or the penultimate features are not known.
    """

    def __init__(
        self,
        classifier: Classifier,
        needs: Needs,
        count: PassCount,
        welcome: Needs | None = None,
        compiled: Compiled | None = None,
    ) -> None:
        self.classifier, self.needs, self.count, self.compiled = classifier, needs, count, compiled
        self._submodules = dict(classifier.module.named_modules())
        needed = _wanted(classifier, needs.named("layer"), classifier.layers)
        wanted = needs | (welcome or Needs())
        self._layers = _wanted(classifier, wanted.named("layer"), classifier.layers)
        self._only_welcome = set(self._layers) - set(needed)
        if classifier.head is None and "features" not in needs and PENULTIMATE not in needed:
            wanted, self._layers = (
                Needs(*(wanted - {"features"})),
                tuple(one for one in self._layers if one != PENULTIMATE),
            )
        self._maps = {name: layer_of_maps(classifier, name) for name in _wanted_maps(classifier, needs.named("maps"))}
        self._wants_features = "features" in wanted or PENULTIMATE in self._layers
        if self._wants_features and classifier.head is None:
            raise OodbenchError(
                f"the penultimate features of {classifier.name} are not known, since its last step is not a "
                f"linear layer; leave out detectors that read them, or from Python name its head: "
                f"Classifier(module, head='...')"
            )
        self._taken: dict[str, Tensor] = {}
        self._hooks = ExitStack()
        self._open = False

    def __enter__(self) -> Capture:
        self._open = True
        if self._wants_features:
            self._hook(self._head.register_forward_pre_hook(self._take_features))
        for name in {*self._layers, *self._maps.values()} - {PENULTIMATE}:
            self._hook(self._submodules[name].register_forward_hook(self._layer_taker(name)))
        return self

    def __exit__(self, *_: object) -> None:
        self._open = False
        self._taken.clear()
        self._hooks.close()

    @property
    def _head(self) -> nn.Module:
        return self._submodules[self.classifier.head or ""]

    def _hook(self, handle: Any) -> None:
        self._hooks.callback(handle.remove)

    def forward(
        self, images: Tensor, changes: Mapping[str, Change] | None = None, dropout: int | None = None
    ) -> Passed:
        """Pass images, float N×C×H×W in [0, 1] on the classifier's device.

        Args:
            changes: see `Outputs.edited`; of the head, the one that is to be.
            dropout: see `Outputs.forward`.

        Raises:
            OodbenchError: the pass is over, and with it the classifier's eval mode.
        """
        if not self._open:
            raise OodbenchError("a batch was perturbed after its pass was over; score it while `passes` has it out")
        self._taken.clear()
        count, filled = len(images), _filled(images)
        as_it_is = not changes and dropout is None and not torch.is_grad_enabled()
        compiled = self.compiled.in_place() if self.compiled and as_it_is else nullcontext()
        with compiled, self._changed(changes or {}), self._dropping(filled, dropout):
            # On CPUs convolutions are faster in this order of memory (1.13 × on a ResNet-20, 2 cores).
            logits = self.classifier(filled.contiguous(memory_format=self.classifier.memory_format))[:count]
        if not changes and torch.is_grad_enabled() and images.requires_grad and not logits.requires_grad:
            raise OodbenchError(
                f"{self.classifier.name} forbids gradients in its forward pass (torch.no_grad, inference mode or a "
                f"detached tensor), but a detector of this run asks for one; leave the detector out, or let it through"
            )
        tensors = {"logits": shown(logits)}
        if self._wants_features:
            tensors["features"] = shown(self.classifier.features_of(self._layer_output(PENULTIMATE)[:count]))
        shape = self.classifier.image_shape
        for name in self._layers:
            if name in self._only_welcome and name not in self._taken:
                continue
            tensors[f"layer:{name}"] = shown(self.pooled(name, self._layer_output(name)[:count].detach()))
        for name, layer in self._maps.items():
            tensors[f"maps:{name}"] = shown(channels_first(self._layer_output(layer)[:count], shape))
        return Passed(logits, dict(self._taken), tensors)

    def pooled(self, name: str, output: Tensor) -> Tensor:
        """A candidate layer's output as N×C, see `pooled`."""
        if name == PENULTIMATE:
            return self.classifier.features_of(output)
        return pooled(output, self.classifier.image_shape, self.classifier.class_tokens)

    def _layer_output(self, name: str) -> Tensor:
        if name not in self._taken:
            raise OodbenchError(
                f"layer '{name}' of {self.classifier.name} was not called in the forward pass; "
                f"name candidate layers that are: Classifier(module, layers=[...])"
            )
        return self._taken[name]

    def _take_features(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._taken[PENULTIMATE] = inputs[0]

    def _layer_taker(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def take(module: nn.Module, _inputs: Any, output: Any) -> None:
            output = tensor_of(output)
            problem = self._unclear(name, module, output)
            if problem is None:
                self._taken[name] = output
            elif name not in self._only_welcome:
                raise OodbenchError(f"{problem}; name other candidate layers: Classifier(module, layers=[...])")

        return take

    def _unclear(self, name: str, module: nn.Module, output: Any) -> str | None:
        """Why a layer's output cannot be read, in words."""
        if not isinstance(output, Tensor):
            return f"layer '{name}' ({type(module).__name__}) gives {type(output).__name__}, not a tensor"
        # Layer normalisation is over the last axis: networks that have it may keep their channels there.
        unsure = output.dim() == 4 and _space(output, self.classifier.image_shape) is None
        if unsure and any(isinstance(part, nn.LayerNorm) for part in module.modules()):
            form = "×".join(map(str, output.shape[1:]))
            return f"layer '{name}' ({type(module).__name__}) gives N×{form}, which may be N×C×H×W or N×H×W×C"
        return None

    @contextmanager
    def _changed(self, changes: Mapping[str, Change]) -> Iterator[None]:
        """The network with other features or maps; before the hooks that take them."""
        with ExitStack() as hooks:
            for name, change in changes.items():
                hooks.callback(self._changing(name, change).remove)
            yield

    def _changing(self, name: str, change: Change) -> Any:
        prefix, _, rest = name.partition(":")
        if name in FREE and self.classifier.head is None:
            raise OodbenchError(f"the penultimate features of {self.classifier.name} are not known")
        if name == "features":

            def other(head: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
                features = change(features_of(head, inputs[0])).to(inputs[0].dtype)
                return entering(head, features, inputs[0]), *inputs[1:]

            return self._head.register_forward_pre_hook(other, prepend=True)
        if name == "head":

            def another(head: nn.Module, inputs: tuple[Tensor, ...], given: Tensor) -> Tensor:
                logits = change(_precise(features_of(head, inputs[0]))).to(given.dtype)
                return entering(head, logits, given)

            return self._head.register_forward_hook(another, prepend=True)
        if prefix != "maps":
            raise OodbenchError(f"'{name}' cannot be changed in a pass; features, head and maps:NAME can")
        layer, shape = layer_of_maps(self.classifier, rest), self.classifier.image_shape

        def changed(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            given = tensor_of(output)
            back = change(channels_first(given, shape))
            back = back.permute(0, 2, 3, 1) if _space(given, shape) == (1, 2) else back
            return back if given is output else (back, *output[1:])

        return self._submodules[layer].register_forward_hook(changed, prepend=True)

    @contextmanager
    def _dropping(self, images: Tensor, seed: int | None) -> Iterator[None]:
        """The network with its dropout on, each image by masks of its own."""
        if seed is None:
            yield
            return
        layers = dropout_layers(self.classifier)
        keys = [hashlib.sha256(one.numpy().tobytes()).digest() for one in images.detach().cpu().float().contiguous()]
        with ExitStack() as hooks:
            for name, layer in layers.items():
                # Before the hooks that take what a layer gives.
                dropping = _Dropping(f"{seed} {name}", keys)
                hooks.callback(layer.register_forward_hook(dropping, prepend=True).remove)
            yield


class _Dropping:
    """A dropout layer's output in which each image loses values by a generator of its own."""

    def __init__(self, what: str, keys: list[bytes]) -> None:
        self.what, self.keys, self.calls = what, keys, 0

    def __call__(self, layer: Any, inputs: tuple[Tensor, ...], _output: Tensor) -> Tensor:
        values = inputs[0]
        if layer.p >= 1:
            return torch.zeros_like(values)
        whole_channels = isinstance(layer, nn.Dropout1d | nn.Dropout2d | nn.Dropout3d)
        shape = (values.shape[1], *(1,) * (values.dim() - 2)) if whole_channels else values.shape[1:]
        masks = []
        for key in self.keys:
            seed = hashlib.sha256(key + f"{self.what} {self.calls}".encode()).digest()[:8]
            generator = torch.Generator().manual_seed(int.from_bytes(seed, "little") >> 1)
            masks.append(torch.rand(shape, generator=generator) >= layer.p)
        self.calls += 1
        kept = torch.stack(masks).to(values.device, values.dtype)
        if isinstance(layer, nn.AlphaDropout):
            # What is dropped is SELU's limit; mean and variance stay (Klambauer et al. 2017, arXiv 1706.02515).
            factor = ((1 - layer.p) * (1 + layer.p * SELU_LIMIT**2)) ** -0.5
            return factor * (values * kept + SELU_LIMIT * (1 - kept - layer.p))
        return values * kept / (1 - layer.p)


def pooled(output: Tensor, image_shape: tuple[int, int, int], class_tokens: int | None = None) -> Tensor:
    """A layer's output as N×C: averaged over space (N×C×H×W, or N×H×W×C as in Swin); of tokens (N×T×C) the class
    token, where there is one, else averaged over them.

    Args:
        image_shape: (C, H, W) of the images. Where its proportions do not tell the axes of space, the output is
            taken for N×C×H×W.
        class_tokens: T, where the first of T tokens is a class token.
    """
    if output.dim() == 4:
        return output.mean(dim=_space(output, image_shape) or (2, 3))
    if output.dim() == 3:
        return output[:, 0] if output.shape[1] == class_tokens else output.mean(dim=1)
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


def _precise(tensor: Tensor) -> Tensor:
    """The tensor with its graph, where float64 exists, which a `Head` computes in."""
    return tensor.cpu() if tensor.device.type == "mps" else tensor


def _filled(images: Tensor) -> Tensor:
    """At least `SMALLEST_PASS` images: these, and copies of the last that no gradient flows through."""
    missing = SMALLEST_PASS - len(images)
    if missing <= 0:
        return images
    return torch.cat([images, images[-1:].detach().expand(missing, *images.shape[1:])])


def channels_first(output: Tensor, image_shape: tuple[int, int, int]) -> Tensor:
    """N×C×H×W of a layer's output of that form, or of N×H×W×C."""
    if output.dim() != 4:
        raise OodbenchError(f"a layer that gives {output.dim()} axes has no maps; name another, maps:NAME")
    return output.permute(0, 3, 1, 2) if _space(output, image_shape) == (1, 2) else output


def refuse_missing(classifier: Classifier, needs: Needs) -> None:
    """Raise OodbenchError where a classifier does not have what is needed, as far as that is known without a pass."""
    Capture(classifier, needs, PassCount())
    if "head" in needs:
        _ = Outputs({}, classifier.head_weights()).head
    if "dropout" in needs:
        dropout_layers(classifier)


def dropout_layers(classifier: Classifier) -> dict[str, nn.Module]:
    """The layers that drop, by name.

    Raises:
        OodbenchError: there is none.
    """
    submodules = classifier.module.named_modules()
    layers: dict[str, nn.Module] = {name: one for name, one in submodules if isinstance(one, DROPOUTS) and one.p > 0}
    if not layers:
        raise OodbenchError(
            f"{classifier.name} has no dropout layer, so there is nothing to be drawn; leave the detector out"
        )
    return layers


def layer_of_maps(classifier: Classifier, name: str) -> str:
    """The candidate layer whose maps are called `maps:name`.

    Raises:
        OodbenchError: there is none.
    """
    if not classifier.map_layers:
        raise OodbenchError(
            f"{classifier.name} has no candidate layer that gives maps (N×C×H×W); name some that do: "
            f"Classifier(module, layers=[...])"
        )
    if name == "last":
        return classifier.map_layers[-1]
    return _wanted(classifier, frozenset({name}), classifier.map_layers)[0]


def _wanted_maps(classifier: Classifier, names: frozenset[str]) -> tuple[str, ...]:
    if names:
        layer_of_maps(classifier, "last")  # says so where no candidate has maps
    return (*(("last",) if "last" in names else ()), *_wanted(classifier, names - {"last"}, classifier.map_layers))


def _wanted(classifier: Classifier, names: frozenset[str], candidates: tuple[str, ...]) -> tuple[str, ...]:
    """The candidates that are to be captured, in order from the input; `*` is every one.

    Candidates only: a detector that chooses among all captured layers must not choose another one because of
    what a detector beside it needs.
    """
    wanted = set(candidates) if "*" in names else names
    for name in wanted:
        if name not in candidates:
            hint = "Classifier(module, layers=[...]) makes other submodules candidates"
            raise unknown_name(f"candidate layer of {classifier.name}", name, candidates, hint)
    return tuple(name for name in candidates if name in wanted)
