"""timm's classifiers by their names there, with the preprocess of timm's data configuration; timm is optional."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from oodbench.data.inputs import Form
from oodbench.data.preprocess import INTERPOLATIONS, Preprocess
from oodbench.data.transform import form_of
from oodbench.errors import OodbenchError, unknown_name
from oodbench.models.foreign import differences, shapes


def timm_network(name: str, state: Mapping[str, Tensor], path: Path) -> tuple[nn.Module, int, Form]:
    """A network of timm with these weights, its number of classes, and the preprocess of that name.

    Raises:
        OodbenchError: timm is not installed or knows no such network, or the weights are of another.
    """
    network = _created(name)
    head = network.pretrained_cfg.get("classifier")  # of some networks there are two
    names = [head] if isinstance(head, str) else list(head or ())
    counts = [len(state[f"{one}.weight"]) for one in names if f"{one}.weight" in state]
    if counts and counts[0] != network.num_classes:
        network = _created(name, num_classes=counts[0])
    unlike = differences(shapes(network.state_dict()), shapes(state))
    if unlike:
        raise OodbenchError(f"{path} does not hold the weights of timm's {name}: {unlike}; name another architecture")
    network.load_state_dict(dict(state))
    return network.eval(), network.num_classes, _preprocess(network, name)


def timm_preprocess(name: str) -> Form:
    """The preprocess that timm has for a name.

    Raises:
        OodbenchError: timm is not installed, or knows no such network.
    """
    with torch.device("meta"):
        return _preprocess(_created(name), name)


def _created(name: str, **options: Any) -> Any:
    timm = _timm()
    if not timm.is_model(name):
        raise unknown_name("network of timm", name, timm.list_models())
    # The weights that it draws are replaced; the caller's random numbers stay as they were.
    with torch.random.fork_rng(devices=[]):
        return timm.create_model(name, pretrained=False, **options)


def _preprocess(network: Any, name: str) -> Form:
    """The record where timm's rule is one, else timm's own function."""
    data = _timm().data
    config = data.resolve_data_config({}, model=network)
    channels, height, width = config["input_size"]
    resize: tuple[int, int] = tuple(math.floor(side / config["crop_pct"]) for side in (height, width))
    is_square = height == width and config["crop_mode"] == "center"
    if config["interpolation"] not in INTERPOLATIONS or not (is_square or config["crop_mode"] == "squash"):
        return form_of(data.create_transform(**config))
    return Preprocess(
        resize[0] if is_square else resize,
        (height, width),
        config["interpolation"],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        channels=channels,
        origin=f"as timm has it for {name}",
    )


def _timm() -> ModuleType:
    try:
        import timm
        import timm.data
    except ImportError as error:
        raise OodbenchError(f"timm cannot be imported ({error}); pip install 'oodbench[timm]'") from error
    module: ModuleType = timm
    return module
