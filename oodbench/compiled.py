"""Layers of a network that torch.compile has compiled; the hooks that take what they give stay outside, as ever."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from oodbench.classifier import Classifier
from oodbench.errors import OodbenchError
from oodbench.outputs import PENULTIMATE
from oodbench.precision import Precision

BACKEND = "inductor"
TRIALS = (32, 24)
"""Images of the trial passes: in the first layers are compiled, in the second none may be compiled anew."""

Forward = Callable[..., Any]


class Compiled:
    """The innermost candidate layers of a classifier, compiled for passes without a gradient in one precision.

    A layer is left as it is where another layer or the head is in it, where it has no weights, where something in it
    is a ScriptModule or has hooks, which might be passed over, and where torch cannot compile it whole for any size of
    batch. Images are random, so that the code does not depend on whose scores are computed first.

    Attributes:
        names: the layers that are compiled.
        failed: why others are not, in words.
    """

    def __init__(self, classifier: Classifier, precision: Precision) -> None:
        layers = {name: classifier.module.get_submodule(name) for name in _innermost(classifier)}
        whole = {name: one.forward for name, one in layers.items()}
        made = {name: _compiled(name, forward) for name, forward in whole.items()}
        called: set[str] = set()
        self.failed: dict[str, str] = {}

        def tried(name: str) -> Forward:
            def forward(*inputs: Any, **named: Any) -> Any:
                called.add(name)
                if name not in self.failed:
                    try:
                        return made[name](*inputs, **named)
                    except Exception as error:  # torch's, of many kinds
                        self.failed[name] = _reason(error)
                return whole[name](*inputs, **named)

            return forward

        self._forwards = {layers[name]: tried(name) for name in layers}
        generator = torch.Generator().manual_seed(0)
        device = classifier.device
        with classifier.inference(), precision.exact(device), torch.no_grad(), precision.passing(device):
            for number, count in enumerate(TRIALS if layers else ()):
                images = torch.rand((count, *classifier.image_shape), generator=generator)
                # Laid out as those of passes are.
                images = images.to(device, classifier.precision).contiguous(memory_format=classifier.memory_format)
                with torch._dynamo.config.patch(error_on_recompile=number > 0), self.in_place():
                    classifier(images)
        self.names = tuple(name for name in layers if name in called and name not in self.failed)
        self._forwards = {layers[name]: made[name] for name in self.names}

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The network with its compiled layers; afterwards it is as it was."""
        before = {module: vars(module).get("forward") for module in self._forwards}
        try:
            for module, forward in self._forwards.items():
                vars(module)["forward"] = forward
            yield
        finally:
            for module, own in before.items():
                vars(module).pop("forward", None)
                if own is not None:
                    vars(module)["forward"] = own

    def __str__(self) -> str:
        """What is compiled and what is not, in a sentence."""
        done = f"compiled: {', '.join(self.names)}" if self.names else "nothing is compiled: no candidate layer can be"
        return "; ".join([done, *(f"{name} is not: {reason}" for name, reason in self.failed.items())])


def check_compiler(device: torch.device) -> None:
    """Compile something tiny.

    Raises:
        OodbenchError: that does not work here.
    """
    try:
        _compiled("check", torch.tanh)(torch.ones(TRIALS[0], device=device))
    except Exception as error:  # torch's, of many kinds
        raise OodbenchError(
            f"torch.compile does not work here: {_reason(error)}; for CPUs it needs a C++ compiler (g++, clang), for "
            f"NVIDIA GPUs Triton, and a Python that torch {torch.__version__} compiles for; leave out --compile, or "
            f"install what is missing"
        ) from error


def _compiled(name: str, forward: Forward) -> Forward:
    def call(*inputs: Any, **named: Any) -> Any:
        return forward(*inputs, **named)

    # torch keeps what it compiled by code object, few for each, and takes sizes in which calls differ for variable.
    # So that layers do not share one, each has code of its own.
    own = FunctionType(call.__code__.replace(co_name=f"layer {name}"), globals(), closure=call.__closure__)
    # Whole, so that nothing runs uncompiled unsaid.
    compiled = torch.compile(own, fullgraph=True, backend=BACKEND)

    def of_any_count(*inputs: Any, **named: Any) -> Any:
        for one in inputs:
            if isinstance(one, Tensor) and one.dim():
                torch._dynamo.maybe_mark_dynamic(one, 0)
        return compiled(*inputs, **named)

    return of_any_count


def _innermost(classifier: Classifier) -> list[str]:
    """The candidate layers that can be compiled without hooks being passed over."""
    layers = [name for name in classifier.layers if name != PENULTIMATE]
    hooked = {*layers, classifier.head or ""}
    return [
        name
        for name in layers
        if not any(other.startswith(f"{name}.") for other in hooked)
        and any(True for _ in classifier.module.get_submodule(name).parameters())
        and _is_open(classifier.module.get_submodule(name))
    ]


def _is_open(layer: nn.Module) -> bool:
    """Whether all that happens in a layer would be seen."""
    inside = [one for one in layer.modules() if one is not layer]
    hooked = any(one._forward_hooks or one._forward_pre_hooks for one in inside)
    return not hooked and not any(isinstance(one, torch.jit.ScriptModule) for one in (layer, *inside))


def _reason(error: Exception) -> str:
    """The beginning of what torch says, which may be pages, without its advice to those who work on torch."""
    said = str(error).partition("Set TORCHDYNAMO_VERBOSE")[0]
    return " ".join(f"{type(error).__name__}: {said}".split())[:200]
