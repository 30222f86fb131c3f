"""Which layers of a network are candidates for detectors that read a layer, where nobody says."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from oodbench.outputs import PENULTIMATE

IMAGES = 2
"""So many are passed to see how a network is built."""

NEARLY_ALL = 0.9
"""A container with this share of the weights holds the blocks, whatever stands beside it. The last stage of a ResNet,
which doubles its width three times, has three quarters."""

Shapes = Mapping[str, tuple[int, ...] | None]


def core_of(module: nn.Module, shapes: Shapes, head: str | None) -> str:
    """The name of the network inside wrappers, "" or NAME: while one child does all that has weights, that child; or
    one that holds the head and declares its `candidate_layers`."""
    core = ""
    while not hasattr(module.get_submodule(core), "candidate_layers"):
        parts = _parts(module, core, shapes)
        holding = [one for one in parts if head is not None and head.startswith(f"{one}.")]
        declaring = [one for one in holding if hasattr(module.get_submodule(one), "candidate_layers")]
        inside = declaring or (parts if len(parts) == 1 else [])
        if not inside or not _parts(module, inside[0], shapes):
            break
        core = inside[0]
    return core


def candidate_layers(module: nn.Module, shapes: Shapes, head: str | None) -> tuple[str, ...]:
    """Those that the network declares as `candidate_layers`, else its blocks in the order in which they are called.

    Its blocks are its children that have weights, come before the head and are called. Where one alone of them holds
    blocks itself, or nearly all weights (an encoder, a list of stages), its children are taken instead of it.
    """
    if isinstance(module, torch.jit.ScriptModule):  # in which nothing is seen
        return ()
    core = core_of(module, shapes, head)
    declared = getattr(module.get_submodule(core), "candidate_layers", None)
    if declared is not None:
        return tuple(name if name == PENULTIMATE else _below(core, name) for name in declared)
    order = list(shapes)
    before = [
        one
        for one in _parts(module, core, shapes)
        # What the head is a part of comes after the penultimate features.
        if head is None or not (f"{head}.".startswith(f"{one}.") or order.index(one) > order.index(head))
    ]
    blocks = _expanded(module, before, shapes)
    return (*blocks, PENULTIMATE) if head else tuple(blocks)


def _expanded(module: nn.Module, blocks: list[str], shapes: Shapes) -> list[str]:
    """The blocks, with those inside in place of a container that holds them, and of what gives no tensor."""
    for block in blocks:
        if not _is_block(shapes[block]):
            return _expanded(module, _replaced(blocks, block, _parts(module, block, shapes)), shapes)
    holding = [one for one in blocks if _holds_blocks(module, one, shapes)]
    if len(holding) > 1:
        sizes = {one: _size(module, one) for one in blocks}
        holding = [one for one in holding if sizes[one] > NEARLY_ALL * sum(sizes.values())]
    elif not holding:
        holding = [one for one in blocks if len(_inside(module, one, shapes)) > 1]
    if len(holding) != 1:
        return blocks
    return _expanded(module, _replaced(blocks, holding[0], _inside(module, holding[0], shapes)), shapes)


def _replaced(blocks: list[str], block: str, others: list[str]) -> list[str]:
    index = blocks.index(block)
    return [*blocks[:index], *others, *blocks[index + 1 :]]


def _parts(module: nn.Module, name: str, shapes: Shapes) -> list[str]:
    """The children that have weights and are called; in place of those that are not, as a ModuleList, theirs."""
    found: list[str] = []
    for child, submodule in module.get_submodule(name).named_children():
        below = _below(name, child)
        if any(True for _ in submodule.parameters()):
            found += [below] if below in shapes else _parts(module, below, shapes)
    order = list(shapes)
    return sorted(found, key=order.index)


def _inside(module: nn.Module, name: str, shapes: Shapes) -> list[str]:
    """The parts of a container, or of the one part that it has."""
    parts = _parts(module, name, shapes)
    while len(parts) == 1:
        parts = _parts(module, parts[0], shapes)
    return parts


def _holds_blocks(module: nn.Module, name: str, shapes: Shapes) -> bool:
    parts = _inside(module, name, shapes)
    return len(parts) > 1 and any(len(_inside(module, part, shapes)) > 1 for part in parts)


def _is_block(shape: tuple[int, ...] | None) -> bool:
    return shape is not None and len(shape) > 1 and shape[0] == IMAGES


def _size(module: nn.Module, name: str) -> int:
    return sum(weights.numel() for weights in module.get_submodule(name).parameters())


def _below(name: str, child: str) -> str:
    return f"{name}.{child}" if name else child
