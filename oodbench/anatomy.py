"""How a network is built, as far as detectors must know it: found, and checked, by one pass of random images."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from oodbench.errors import OodbenchError
from oodbench.heads import Seen, find_logits, gives, is_linear, last_step, precedes
from oodbench.layers import IMAGES, candidate_layers
from oodbench.outputs import PENULTIMATE
from oodbench.probe import Probe, probe, refuse_broken_weights

HALVES = (torch.float16, torch.bfloat16)


class Anatomy(NamedTuple):
    """What was found.

    Attributes:
        head: the submodule that the penultimate features enter; None where none is known.
        is_linear: whether it is a linear layer with `head(features) = logits`.
        ends_early: whether the logits are what the head gives, since a softmax comes after it.
        layers: the candidate layers, in order from the input.
        map_layers: those that give maps.
        class_tokens: T, where the first of T tokens is a class token.
        memory_format: of the images that it takes.
        layer_bytes: of an image's outputs of the innermost submodules: of all, and of the largest.
        notes: what was decided, in sentences.
    """

    head: str | None
    is_linear: bool
    ends_early: bool
    layers: tuple[str, ...]
    map_layers: tuple[str, ...]
    class_tokens: int | None
    memory_format: torch.memory_format
    layer_bytes: tuple[int, int]
    notes: tuple[str, ...]


def runnable(module: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """The module itself in which layers can be read, and what was done, in sentences.

    Of data-parallel and compiled networks the one inside. Of one in half precision a copy in float32, which has the
    same weights and whose gradients do not underflow.
    """
    notes: list[str] = []
    while (inside := _inside(module)) is not None:
        notes.append(f"the network inside {type(module).__name__} is run, on one device")
        module = inside
    tensors = [*module.parameters(), *module.buffers()]
    if halves := sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors if tensor.dtype in HALVES}):
        notes.append(f"its weights are {' and '.join(halves)}; it is run as a copy in float32")
        module = copy.deepcopy(module).float()
    return module, tuple(notes)


def _inside(module: nn.Module) -> nn.Module | None:
    if isinstance(module, torch.jit.ScriptModule):
        return None
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        inner: nn.Module = module.module
        return inner
    if type(module).forward is nn.Module.forward and [name for name, _ in module.named_children()] == ["module"]:
        return module.get_submodule("module")  # an average of weights that cannot be called itself
    compiled = getattr(module, "_orig_mod", None)
    return compiled if isinstance(compiled, nn.Module) else None


def examine(
    module: nn.Module,
    normalise: Callable[[Tensor], Tensor],
    images: Tensor,
    *,
    num_classes: int,
    name: str,
    head: str | None,
    layers: Sequence[str] | None,
) -> Anatomy:
    """Pass images and see.

    Args:
        images: `IMAGES` random ones, in [0, 1].
        name: how messages call the network.
        head, layers: as the user named them.

    Raises:
        OodbenchError: the network does not take the images, does not return N×K logits, ends in a softmax, has weights
            that are NaN, or what was named is not there or not the head.
    """
    submodules = dict(module.named_modules())
    for wanted in (*(layers or ()), *([] if head is None else [head])):
        if wanted not in submodules and wanted != PENULTIMATE:
            raise OodbenchError(f"{name} has no submodule '{wanted}'; it has: {', '.join(filter(None, submodules))}")
        if isinstance(submodules.get(wanted), torch.jit.ScriptModule):
            raise OodbenchError(f"'{wanted}' of {name} is a ScriptModule, in which nothing is seen; name another")
    seen = _probe(module, normalise, images, num_classes, name, head)
    logits, notes = _logits(seen, num_classes, name)
    refuse_broken_weights(module, name, logits)
    step = None if getattr(module, "returns_log_probabilities", False) else last_step(logits)
    if step is not None:
        logits = _before(seen, logits, step, name, head)
    found = next((one for one, of in seen.heads.items() if is_linear(of, logits)), None)
    linear = found is not None
    found = found or next((one for one, of in seen.heads.items() if one != head and gives(of, logits)), None)
    if head is not None and head != found:
        _check_named(seen, head, found, logits, name)
        found, linear = head, is_linear(seen.heads[head], logits)
    chosen = tuple(layers) if layers is not None else candidate_layers(module, seen.shapes, found)
    maps = tuple(one for one in chosen if len(seen.shapes.get(one) or ()) == 4)
    tokens = any(len(seen.shapes.get(one) or ()) == 3 for one in chosen)
    notes += _of_head(module, name, found, linear) + ([_of_tokens(seen.class_tokens)] if tokens else [])
    return Anatomy(
        found,
        linear,
        step is not None,
        chosen,
        maps,
        seen.class_tokens,
        seen.memory_format,
        (sum(seen.sizes), max(seen.sizes, default=0)),
        tuple(notes),
    )


def _probe(
    module: nn.Module,
    normalise: Callable[[Tensor], Tensor],
    images: Tensor,
    num_classes: int,
    name: str,
    head: str | None,
) -> Probe:
    try:
        return probe(module, lambda given: module(normalise(given)), images, num_classes, [head] if head else [])
    # Somebody's network raises what it likes.
    except Exception as error:
        channels, height, width = images.shape[1:]
        raise OodbenchError(
            f"{name} does not take images of {channels} channel(s), {height}×{width} pixels: {error}. "
            "Give the image form that it was trained on."
        ) from error


def _logits(seen: Probe, num_classes: int, name: str) -> tuple[Tensor, list[str]]:
    found, where = find_logits(seen.returned, (IMAGES, num_classes))
    if not isinstance(found, Tensor) or found.shape != (IMAGES, num_classes):
        shape = tuple(found.shape) if isinstance(found, Tensor) else _described(found)
        raise OodbenchError(
            f"{name} should return one row of {num_classes} logits per image, but returned {shape} "
            f"for {IMAGES} images; give the number of classes that it was trained on"
        )
    return found, [f"its logits are {where} ({type(seen.returned).__name__})"] if where else []


def _described(returned: Any) -> str:
    held = returned.values() if isinstance(returned, dict) else returned
    if not isinstance(returned, dict | tuple | list):
        return type(returned).__name__
    parts = [str(tuple(one.shape)) if isinstance(one, Tensor) else type(one).__name__ for one in held]
    return f"a {type(returned).__name__} of {', '.join(parts) or 'nothing'}"


def _before(seen: Probe, returned: Tensor, step: str, name: str, head: str | None) -> Tensor:
    """What the head gives, before the softmax that is the network's last step, where the user named the head."""
    giving = [one for one, of in seen.heads.items() if precedes(of, returned, step)]
    if head in giving:
        return seen.heads[head].gave
    what = "probabilities" if step == "softmax" else "logarithms of probabilities"
    remedy = f", or take what comes before it: Classifier(module, head='{giving[0]}')" if giving else ""
    raise OodbenchError(
        f"{name} returns {what}: its last step is a {step}, but detectors read logits; leave out that step{remedy}"
    )


def _check_named(seen: Probe, head: str, found: str | None, logits: Tensor, name: str) -> None:
    of: Seen | None = seen.heads.get(head)
    if of is None or not (is_linear(of, logits) or gives(of, logits)):
        reason = "is not called" if head not in seen.shapes else "does not give the logits"
        instead = f"it is '{found}', leave out head" if found else "leave it out, or name the layer that does"
        raise OodbenchError(f"'{head}' is not the head of {name}: it {reason} in a forward pass; {instead}")


def _of_head(module: nn.Module, name: str, head: str | None, linear: bool) -> list[str]:
    if linear:
        return []
    if head is not None:
        return [f"the logits of {name} are no linear function of its features, the input of '{head}'"]
    scripted = isinstance(module, torch.jit.ScriptModule)
    inside = ", nor its layers: nothing is seen in a ScriptModule; give the module that it was made of"
    what = f"no linear layer of {name} is seen to give its logits, so its penultimate features are not known"
    return [what + inside if scripted else what]


def _of_tokens(class_tokens: int | None) -> str:
    if class_tokens is None:
        return "layers of tokens are averaged over the tokens"
    return f"layers of {class_tokens} tokens are read at the first, the class token"
