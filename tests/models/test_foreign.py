"""Checkpoints as trainings leave them: several weights in one file, losses beside, other precisions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from oodbench.classifier import Classifier
from oodbench.errors import OodbenchError
from oodbench.models.load import load_classifier

Make = Callable[..., Classifier]
State = dict[str, Tensor]


def states(make: Make) -> tuple[State, State]:
    """The weights of a cnn8 as trained, and averaged."""
    state = dict(make().module.state_dict())
    averaged = {name: value / 2 if value.is_floating_point() else value.clone() for name, value in state.items()}
    return state, averaged


def load(path: Path | str) -> Classifier:
    return load_classifier(str(path), num_classes=10, image_shape=(1, 8, 8), mean="0.3", std="0.25")


def holds(classifier: Classifier, state: State) -> bool:
    loaded = classifier.module.state_dict()
    return loaded.keys() == state.keys() and all(torch.equal(loaded[name], state[name]) for name in state)


@pytest.mark.parametrize("raw", ["state_dict", "model"])
@pytest.mark.parametrize("key", ["state_dict_ema", "model_ema", "ema"])
@pytest.mark.parametrize("nested", [False, True])
def test_of_several_weights_it_is_said_which_are_taken_and_how_to_take_others(
    make_classifier: Make, tmp_path: Path, raw: str, key: str, nested: bool
) -> None:
    state, averaged = states(make_classifier)
    path = tmp_path / "both.pt"
    torch.save({"epoch": 3, raw: state, key: {"module": averaged} if nested else averaged}, path)
    taken = load(path)
    assert holds(taken, state)
    assert taken.notes == (f"both.pt holds several weights; those under '{raw}' are taken, others by {path}#{key}",)
    for reference in (f"{path}#{key}", f"cnn8={path}#{key}"):
        assert holds(load(reference), averaged) and not load(reference).notes
    assert holds(load(f"{path}#{raw}"), state)


def test_averaged_weights_alone_are_taken(make_classifier: Make, tmp_path: Path) -> None:
    _, averaged = states(make_classifier)
    torch.save(
        {"state_dict_ema": averaged, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}}, tmp_path / "e.pt"
    )
    assert holds(load(tmp_path / "e.pt"), averaged) and not load(tmp_path / "e.pt").notes


def test_a_key_that_is_not_there_is_said(make_classifier: Make, tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    torch.save({"state_dict": states(make_classifier)[0]}, path)
    with pytest.raises(OodbenchError, match=r"c\.pt has no weights under 'ema'; it has some under: state_dict$"):
        load(f"{path}#ema")
    with pytest.raises(OodbenchError, match=r"there is no checkpoint file .*missing\.pt;"):
        load(tmp_path / "missing.pt#ema")


def test_a_path_may_have_the_mark_in_it(make_classifier: Make, tmp_path: Path) -> None:
    state, averaged = states(make_classifier)
    path = tmp_path / "run#2.pt"
    torch.save({"state_dict": state, "model_ema": averaged}, path)
    assert holds(load(path), state) and holds(load(f"{path}#model_ema"), averaged)


@pytest.mark.parametrize("prefix", ["model.", "net.", "network.", "model.module.", "net._orig_mod."])
@pytest.mark.parametrize("safetensors", [False, True])
def test_lightning_keeps_the_network_under_an_attribute(
    make_classifier: Make, tmp_path: Path, prefix: str, safetensors: bool
) -> None:
    state, averaged = states(make_classifier)
    attribute = prefix.partition(".")[0]
    beside = {"criterion.weight": torch.ones(10), "accuracy.total": torch.zeros(1)}
    others = {f"ema_{attribute}.{name}": value for name, value in averaged.items()}
    content: State = {**{prefix + name: value for name, value in state.items()}, **beside, **others}
    path = tmp_path / ("l.safetensors" if safetensors else "l.ckpt")
    if safetensors:
        save_file(content, path)
    else:
        more: dict[str, Any] = {"pytorch-lightning_version": "2.4.0", "hyper_parameters": {"lr": 0.1}, "epoch": 9}
        torch.save({"state_dict": content, "optimizer_states": [{"state": {}}], **more}, path)
    taken = load(path)
    assert holds(taken, state)
    (note,) = taken.notes
    count = len(beside) + len(others) - 3
    assert f"begins with '{attribute}.'; left out: " in note and f"and {count} more" in note


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_precisions_are_taken_and_it_is_said(
    make_classifier: Make, tmp_path: Path, precision: torch.dtype
) -> None:
    state, _ = states(make_classifier)
    stored = {name: value.to(precision) if value.is_floating_point() else value for name, value in state.items()}
    torch.save(stored, tmp_path / "h.pt")
    taken = load(tmp_path / "h.pt")
    assert {tensor.dtype for tensor in taken.module.parameters()} == {torch.float32}
    assert holds(taken, {name: value.to(state[name].dtype) for name, value in stored.items()})
    assert taken.notes == (
        f"h.pt holds weights in {str(precision).removeprefix('torch.')}; the network is run in float32",
    )


def test_weights_that_are_nan_are_named(make_classifier: Make, tmp_path: Path) -> None:
    state, _ = states(make_classifier)
    state["block1.0.weight"] = torch.full_like(state["block1.0.weight"], float("nan"))
    torch.save(state, tmp_path / "nan.pt")
    with pytest.raises(OodbenchError, match=r"cnn8 has weights that are NaN .*first: block1\.0\.weight"):
        load(tmp_path / "nan.pt")
