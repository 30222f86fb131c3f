"""What a classifier makes of images, as named tensors, and what detectors say they read of it.

| name | tensor |
| --- | --- |
| `logits` | N×K, as the network gave them |
| `features` | N×D, the input of the last linear layer, averaged over space where that is a 1×1 convolution |
| `layer:NAME`, `layer:*` | N×C, a candidate layer's output, averaged over space; of every one |
| `maps:NAME`, `maps:last`, `maps:*` | N×C×H×W, a candidate layer's output; of the last, of every one that has such |
| `images` | N×C×H×W in [0, 1], as the classifier took them |

Of a layer that gives tokens, N×T×C, `layer:NAME` is the class token, where the network goes on with one alone (ViT),
else the mean over the tokens; it has no `maps:NAME`. Maps N×H×W×C (Swin) are turned to N×C×H×W.

A detector may need further: `head`, the last linear layer; `gradient` and `live`, the batch with or without its
autograd graph at hand (see `oodbench.live`); `dropout`, a network that has some, to be on in further passes; and to be
fitted `labels`, the classes of the fit images, `proxy:NAME`, the outputs of a set made from them, and
`validation-proxy:NAME`, the same where the user named no validation set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from oodbench.errors import OodbenchError, unknown_name
from oodbench.perturbation import Norm

PENULTIMATE = "penultimate"
"""The name under which the penultimate features stand among the candidate layers."""

Change = Callable[[Any], Any]
"""What becomes of a quantity: of a tensor, image by image, or of the head, which is a `Head` again; pure."""

FREE = {"features", "head"}
"""What can change without a further pass."""

PLAIN = ("logits", "features", "images", "head", "gradient", "live", "dropout", "labels")
PREFIXES = ("layer", "maps", "proxy", "validation-proxy")


class Needs(frozenset[str]):
    """Names of what a detector reads (see the table above), so that one pass can capture it for all."""

    def __new__(cls, *names: str) -> Needs:
        for name in names:
            prefix, colon, rest = name.partition(":")
            if not (name in PLAIN or (prefix in PREFIXES and colon and rest)):
                raise unknown_name("quantity", name, [*PLAIN, *(f"{prefix}:NAME" for prefix in PREFIXES)])
        return super().__new__(cls, names)

    def __or__(self, other: object) -> Needs:
        return Needs(*super().__or__(other))  # type: ignore[operator]

    def __reduce__(self) -> tuple[type[Needs], tuple[str, ...]]:
        return Needs, tuple(self)  # a set is otherwise copied by a list of its names

    @property
    def stored(self) -> Needs:
        """Those that are small enough to be kept of every image."""
        return Needs(*filter(_is_small, self))

    @property
    def live(self) -> bool:
        """Whether the batch must be at hand when it is scored."""
        return any(name in ("images", "gradient", "live") or name.startswith("maps:") for name in self)

    def among(self, names: Iterable[str]) -> set[str]:
        """Those of the captured names that are read."""
        every = tuple(f"{kind}:" for kind in ("layer", "maps") if f"{kind}:*" in self)
        return {name for name in names if name in self or name.startswith(every)}

    def named(self, prefix: str) -> frozenset[str]:
        """NAME of every `prefix:NAME`."""
        return frozenset(name.partition(":")[2] for name in self if name.startswith(f"{prefix}:"))


class Head(NamedTuple):
    """The last linear layer, in float64: weight K×D and bias K; `head(features) = logits`."""

    weight: Tensor
    bias: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """N×K logits of N×D features, float64."""
        return features.double() @ self.weight.T + self.bias


class Perturbation(NamedTuple):
    """How images are moved, see `Outputs.perturbed`."""

    temperature: float
    epsilon: float
    norm: Norm
    fraction: float
    sign_of_zero: int
    clip: bool


class Outputs:
    """The captured quantities of N images, in their order: a dictionary of tensors, and the head.

    Args:
        tensors: by name; all of N images.
        head: of the classifier; None where its last step is not a linear layer.
    """

    def __init__(self, tensors: Mapping[str, Tensor], head: Head | None = None) -> None:
        self._tensors, self._head = dict(tensors), head

    def __len__(self) -> int:
        return len(next(iter(self._tensors.values()), ()))

    @property
    def logits(self) -> Tensor:
        """N×K, as the network gave them."""
        return self.tensor("logits")

    @property
    def features(self) -> Tensor:
        """N×D, the input of the last linear layer."""
        return self.tensor("features")

    @property
    def images(self) -> Tensor:
        """N×C×H×W in [0, 1], as the classifier took them."""
        return self.tensor("images")

    def layer(self, name: str) -> Tensor:
        """N×C, the layer's output, averaged over space."""
        return self.tensor(f"layer:{name}")

    def maps(self, name: str = "last") -> Tensor:
        """N×C×H×W, the layer's output."""
        return self.tensor(f"maps:{name}")

    @property
    def head(self) -> Head:
        """The last linear layer.

        Raises:
            OodbenchError: the classifier's last step is not one.
        """
        if self._head is None:
            raise OodbenchError(
                "the classifier's last step is not a linear layer, which this detector reads; leave the detector out, "
                "or from Python name a head that was not found: Classifier(module, head='...')"
            )
        return self._head

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The captured layers, in order from the input."""
        return self._names("layer:")

    @property
    def map_names(self) -> tuple[str, ...]:
        """The layers whose maps were captured, in order from the input."""
        return self._names("maps:")

    def tensor(self, name: str) -> Tensor:
        """A quantity by its name.

        Raises:
            OodbenchError: it was not captured.
        """
        if name not in self._tensors:
            captured = ", ".join(self._tensors) or "nothing"
            raise OodbenchError(f"{name} was not captured, but {captured}; the detector must declare it in its needs")
        return self._tensors[name]

    def tensors(self) -> Mapping[str, Tensor]:
        """All that was captured, by name."""
        return MappingProxyType(self._tensors)

    def stored(self) -> Outputs:
        """What is small enough to be kept of every image, without a graph."""
        return Outputs({name: tensor for name, tensor in self._tensors.items() if _is_small(name)}, self._head)

    def only(self, needs: Needs) -> Outputs:
        """What is read of them."""
        read = needs.among(self._tensors)
        return Outputs({name: tensor for name, tensor in self._tensors.items() if name in read}, self._head)

    def replaced(self, **tensors: Tensor) -> Outputs:
        """The same outputs with other tensors, which no further pass goes into."""
        return Outputs(self._tensors | tensors, self._head)

    def edited(self, changes: Mapping[str, Change]) -> Outputs:
        """The outputs of the network in which quantities are changed on their way.

        With `features` or `head` the logits follow, at no cost; `maps:NAME` costs a further pass, on live batches.
        Whatever a detector asks of the result, gradients too, is of the changed network.

        Args:
            changes: by name of the quantity, what becomes of it.

        Raises:
            OodbenchError: the outputs are stored, and something else than `features` and `head` shall change.
        """
        if not changes:
            return self
        if not changes.keys() <= FREE:
            raise _stored(f"the network with other {', '.join(changes)}")
        features, head = (changes.get(name, _same)(getattr(self, name)) for name in ("features", "head"))
        tensors = self._tensors | {"features": features, "logits": head(features)}
        return Outputs(tensors | {name: features for name in tensors if name == f"layer:{PENULTIMATE}"}, head)

    def input_gradient(self, temperature: float) -> Tensor:
        """∇_x CE(z(x)/T, argmax z(x)), N×C×H×W; on live batches only."""
        raise _stored("the input gradient")

    def gradient(self, of: Callable[[Outputs], Tensor], wrt: str = "images") -> Tensor:
        """The gradient of a scalar an image; on live batches only.

        Args:
            of: takes the outputs with their graph and gives (N,), each value of its image alone.
            wrt: `images`, `features`, or `maps:NAME`.
        """
        raise _stored("a gradient")

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
        return self._perturbed(Perturbation(temperature, epsilon, norm, fraction, sign_of_zero, clip))

    def _perturbed(self, how: Perturbation) -> Outputs:
        raise _stored("perturbed outputs")

    def forward(self, images: Tensor | None = None, *, dropout: int | None = None) -> Outputs:
        """The outputs of one more pass; on live batches only.

        Args:
            images: N×C×H×W in [0, 1]; None are the images themselves.
            dropout: a seed; the dropout layers then drop, each image by masks of its own pixels and the seed alone.
        """
        raise _stored("a further pass")

    def select(self, indices: Tensor | slice) -> Outputs:
        """The outputs of some of the images, in the order of `indices`."""
        return Outputs({key: tensor[indices] for key, tensor in self._tensors.items()}, self._head)

    def to(self, device: torch.device | str) -> Outputs:
        """The same outputs on another device."""
        head = self._head and Head(*(part.to(device) for part in self._head))
        return Outputs({key: tensor.to(device) for key, tensor in self._tensors.items()}, head)

    @staticmethod
    def concatenate(parts: Iterable[Outputs]) -> Outputs:
        """One Outputs of the parts in order, without their graphs.

        Raises:
            OodbenchError: there are no parts, or they do not hold the same quantities.
        """
        parts = list(parts)
        if not parts:
            raise OodbenchError("there are no outputs to join: the image set is empty")
        first = parts[0].tensors()
        for part in parts:
            if part.tensors().keys() != first.keys():
                raise OodbenchError(
                    f"outputs that hold {', '.join(first)} cannot be joined with outputs that hold "
                    f"{', '.join(part.tensors())}; capture the same of all"
                )
        return Outputs({key: torch.cat([part.tensors()[key] for part in parts]) for key in first}, parts[0]._head)

    def _names(self, prefix: str) -> tuple[str, ...]:
        return tuple(name.removeprefix(prefix) for name in self._tensors if name.startswith(prefix))


class FitData(NamedTuple):
    """What a detector is fitted on: ID images alone, but for what the user named as validation.

    Attributes:
        outputs: stored outputs of the fit images.
        labels: int64 N, or None where they have none.
        proxies: outputs of OOD proxies made from the fit images, by name.
        validation: outputs of the OOD sets that the user named for choices, by name.
        reduced: what `Detector.reduce` kept of each fit image.
    """

    outputs: Outputs
    labels: Tensor | None = None
    proxies: Mapping[str, Outputs] = MappingProxyType({})
    validation: Mapping[str, Outputs] = MappingProxyType({})
    reduced: Mapping[str, Tensor] = MappingProxyType({})

    def edited(self, changes: Mapping[str, Change]) -> FitData:
        """The same of the network in which quantities are changed, see `Outputs.edited`."""
        return self._replace(
            outputs=self.outputs.edited(changes),
            proxies={name: one.edited(changes) for name, one in self.proxies.items()},
            validation={name: one.edited(changes) for name, one in self.validation.items()},
        )


def _same(value: Any) -> Any:
    return value


def _is_small(name: str) -> bool:
    return name in ("logits", "features") or name.startswith("layer:")


def _stored(what: str) -> OodbenchError:
    return OodbenchError(
        f"these outputs are stored: {what} exists on live batches only; the detector must declare live or gradient "
        f"in its needs"
    )
