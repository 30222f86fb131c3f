"""State on disk: safetensors and JSON, whole or not at all, refused in words when it is something else."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from oodbench.detectors.base import Detector, State
from oodbench.detectors.linear import LinearClassifier
from oodbench.detectors.oodl import OodL
from oodbench.detectors.spec import build, label
from oodbench.detectors.state import load_state, read_state, save_state
from oodbench.errors import NotFittedError, OodbenchError
from oodbench.example import make_example
from oodbench.outputs import Outputs


def fitted(spec: str) -> Detector:
    detector = build(spec)
    return detector.fit(make_example().fit_outputs(detector.needs))


@pytest.mark.parametrize(
    "spec", ["oodl", "oodl(svm=nystroem,nu=0.01)", "lc(C=0.1)", "lc(mode=boundary)", "odin(norm=l2)"]
)
def test_a_detector_comes_back_from_its_file_alone(spec: str, tmp_path: Path) -> None:
    detector = fitted(spec)
    save_state(detector, tmp_path / "a" / "state.safetensors")
    restored = load_state(tmp_path / "a" / "state.safetensors")
    assert restored == detector and label(restored) == label(detector)
    assert restored.state.keys() == detector.state.keys()
    for name, value in detector.state.items():
        if isinstance(value, Tensor):
            assert torch.equal(restored.state[name], value) and restored.state[name].dtype == value.dtype
        else:
            assert restored.state[name] == value and type(restored.state[name]) is type(value)


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    save_state(fitted("oodl"), path)
    with safe_open(path, framework="pt") as stored:
        facts = stored.metadata()
    assert facts["label"] == "oodl" and facts["oodbench"] == metadata.version("oodbench")
    values = json.loads(facts["values"])
    assert set(values) == {"layer", "gamma", "curve"} and list(values["curve"]) == ["stem", "block", "penultimate"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.safetensors"]


@dataclass(frozen=True)
class Learns(Detector):
    """Learns what the test puts there."""

    def learn(self, outputs: Outputs) -> State:
        return {"shared": outputs.logits, "again": outputs.logits.T, "nothing": torch.zeros(0)}

    def score(self, outputs: Outputs) -> Tensor:
        return outputs.logits.double().sum(dim=1)


def test_tensors_that_share_memory_or_hold_nothing(tmp_path: Path) -> None:
    logits = torch.arange(6.0).view(2, 3)
    save_state(Learns().fit(Outputs(logits=logits)), tmp_path / "s")
    name, state = read_state(tmp_path / "s")
    assert name.endswith(":Learns")
    assert torch.equal(state["shared"], logits) and torch.equal(state["again"], logits.T) and not len(state["nothing"])


def test_what_json_cannot_hold_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    save_state(fitted("lc"), path)
    before = path.read_bytes()
    for value in (float("nan"), object()):
        with pytest.raises((ValueError, TypeError)):
            save_state(LinearClassifier().load_state({"value": value}), path)
    with pytest.raises(NotFittedError):
        save_state(OodL(), path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_files_that_are_none_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    with pytest.raises(OodbenchError, match="cannot be read as a detector's state"):
        load_state(path)
    path.write_bytes(b"not safetensors")
    with pytest.raises(OodbenchError, match="cannot be read as a detector's state"):
        load_state(path)
    save_file({"weight": torch.zeros(1)}, path)
    with pytest.raises(OodbenchError, match="fit the detector again"):
        load_state(path)
    facts = {"format": "1", "oodbench": "9", "label": "gone(k=1)", "values": "{}"}
    save_file({"weight": torch.zeros(1)}, path, metadata=facts)
    with pytest.raises(OodbenchError, match="no detector 'gone'"):
        load_state(path)
    save_file({"weight": torch.zeros(1)}, path, metadata=facts | {"format": "2"})
    with pytest.raises(OodbenchError, match="format 1"):
        load_state(path)
