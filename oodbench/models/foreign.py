"""State dicts that others saved: reading them without pickle, and telling which architecture they are of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oodbench.errors import OodbenchError
from oodbench.models.catalogue import MODELS, build, find_model

State = Mapping[str, Tensor]
Shapes = Mapping[str, tuple[int, ...]]

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "module")
"""Keys under which training scripts keep the state dict."""

AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema")
"""Keys under which they keep weights averaged over the training, which are taken where there are no others."""

PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every name."""

ATTRIBUTES = ("model.", "net.", "network.")
"""Under which a module of PyTorch Lightning keeps the network, beside the weights of a loss or a metric."""

MOST_BESIDE = 0.6
"""The share of the tensors that may stand beside the network: a copy with averaged weights, and a loss."""

# BatchNorm's counter of batches does nothing in eval mode, and old checkpoints do not have it.
_COUNTER = "num_batches_tracked"

_ANY_SIZE = (3, 32, 32)


def read_torch_file(path: Path, key: str | None = None) -> tuple[State, list[str]]:
    """The state dict in a file of torch.save, read without pickle, and what was decided, see `plain_state`.

    Raises:
        OodbenchError: the file is no checkpoint, or could be read only by running code from it.
    """
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
    except OSError as error:
        raise OodbenchError(f"{path} cannot be read: {error}") from error
    # What the reader stumbles on in a file that is no checkpoint depends on the file's bytes.
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        if "weights_only" in str(error) and ("GLOBAL" in str(error) or "TorchScript" in str(error)):
            raise OodbenchError(_needs_pickle(path)) from error
        raise OodbenchError(f"{path} is not a checkpoint of torch.save, or is damaged ({reason[0]})") from error
    return plain_state(content, path, key)


def _needs_pickle(path: Path) -> str:
    return (
        f"{path} holds more than tensors and plain values: reading it would run code from the file. "
        f'If you trust it, convert it once: python -c "import torch; '
        f"c = torch.load('{path}', weights_only=False, map_location='cpu'); "
        f"c = c.get('state_dict', c) if isinstance(c, dict) else c.state_dict(); "
        f"torch.save(dict(c), 'converted.pt')\""
    )


def plain_state(content: Any, path: Path, key: str | None = None) -> tuple[State, list[str]]:
    """The state dict inside what a file held, under the network's own names, and what was decided, in sentences.

    Args:
        key: under which it is, where the user says so.

    Raises:
        OodbenchError: there is none.
    """
    notes: list[str] = []
    if key is not None:
        if not isinstance(content, Mapping) or not isinstance(content.get(key), Mapping):
            held = ", ".join(_states_in(content)) or "none"
            raise OodbenchError(f"{path} has no weights under '{key}'; it has some under: {held}")
        content = content[key]
    while isinstance(content, Mapping) and (found := _states_in(content)):
        if others := [other for other in found[1:] if _are_weights(content[other])]:
            ways = " or ".join(f"{path}#{other}" for other in others)
            notes.append(f"{path.name} holds several weights; those under '{found[0]}' are taken, others by {ways}")
        content = content[found[0]]
    if not isinstance(content, Mapping) or not _are_weights(content):
        held = f"the keys {_few(content) or '(none)'}" if isinstance(content, Mapping) else type(content).__name__
        raise OodbenchError(
            f"{path} holds no state dict (it holds: {held}); "
            f"save the network with torch.save(network.state_dict(), PATH)"
        )
    state = {str(name): tensor for name, tensor in content.items()}
    while prefix := _prefix(state):
        beside = [name for name in state if not name.startswith(prefix)]
        if beside:
            notes.append(f"{path.name}: the network is what begins with '{prefix}'; left out: {_few(beside)}")
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name not in beside}
    other = {str(one.dtype).removeprefix("torch.") for one in state.values() if one.is_floating_point()} - {"float32"}
    if other:
        notes.append(f"{path.name} holds weights in {' and '.join(sorted(other))}; the network is run in float32")
    return state, notes


def _states_in(content: Any) -> list[str]:
    """The usual names of a state dict that are there, that which is taken first."""
    there = content if isinstance(content, Mapping) else {}
    return [key for key in (*WRAPPERS, *AVERAGED) if isinstance(there.get(key), Mapping)]


def _are_weights(content: Mapping[str, Any]) -> bool:
    """Whether it is a state dict, or holds one under a usual name."""
    if inside := _states_in(content):
        return any(_are_weights(content[key]) for key in inside)
    return bool(content) and all(isinstance(value, Tensor) for value in content.values())


def _prefix(state: State) -> str | None:
    """What stands before the names of the network's tensors."""
    for prefix in (*PREFIXES, *ATTRIBUTES):
        share = sum(name.startswith(prefix) for name in state) / len(state)
        if share == 1 or (prefix in ATTRIBUTES and share >= 1 - MOST_BESIDE):
            return prefix
    return None


def shapes(tensors: State) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor that decides the outputs."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items() if not name.endswith(_COUNTER)}


def template(architecture: str) -> Shapes:
    """The shapes in an architecture's state dict, in its order, for some number of classes and channels."""
    form = find_model(architecture).image_shape or _ANY_SIZE
    if architecture in MODELS:
        with torch.device("meta"):  # shapes without memory, and without drawing random weights
            return shapes(build(architecture, 10, form).state_dict())
    with torch.random.fork_rng(devices=[]):
        return shapes(build(architecture, 10, form).state_dict())


def classes_and_channels(wanted: Shapes, state: State) -> tuple[int, int] | None:
    """K and C of a state dict, from the last tensor and the first convolution of its architecture; None where
    it lacks them."""
    head = list(wanted)[-1]
    stem = next(name for name, shape in wanted.items() if len(shape) == 4)
    if head not in state or stem not in state or state[head].dim() < 1 or state[stem].dim() != 4:
        return None
    return state[head].shape[0], state[stem].shape[1]


def recognise(state: State, path: Path) -> str:
    """The architecture of ours whose state dict has exactly these names and shapes.

    Raises:
        OodbenchError: there is none; the message names the nearest and what differs.
    """
    templates = {name: template(name) for name in MODELS}
    for name, wanted in templates.items():
        found = classes_and_channels(wanted, state)
        if found and wanted.keys() == shapes(state).keys():
            classes, channels = found
            with torch.device("meta"):
                fitted = build(name, classes, (channels, *(MODELS[name].image_shape or _ANY_SIZE)[1:])).state_dict()
            if shapes(fitted) == shapes(state):
                return name
    nearest = max(templates, key=lambda name: _likeness(templates[name], shapes(state)))
    guess = f" The nearest is {nearest}: {differences(templates[nearest], shapes(state))}."
    raise OodbenchError(
        f"{path} is of no architecture that oodbench recognises ({', '.join(MODELS)})."
        f"{guess if _likeness(templates[nearest], shapes(state)) > 0.5 else ''} "
        f"If it is one of torchvision's, name it: ARCHITECTURE={path}"
    )


def _likeness(one: Shapes, other: Shapes) -> float:
    return len(one.keys() & other.keys()) / len(one.keys() | other.keys())


def differences(wanted: Shapes, found: Shapes) -> str:
    """In words, what a state dict has too little, too much or in another shape; empty where nothing."""
    missing = [name for name in wanted if name not in found]
    unexpected = [name for name in found if name not in wanted]
    other = [
        f"{name} is {'×'.join(map(str, found[name]))}, not {'×'.join(map(str, wanted[name]))}"
        for name in wanted
        if name in found and found[name] != wanted[name]
    ]
    parts = [("missing", missing), ("unexpected", unexpected), ("of another shape", other)]
    return "; ".join(f"{what}: {_few(names)}" for what, names in parts if names)


def _few(names: Any) -> str:
    listed = [str(name) for name in names]
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")
