"""State on disk: safetensors and JSON, whole or not at all, refused in words when it is something else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from oodbench.detectors.base import WIDTHS, Detector, State
from oodbench.detectors.linear import LinearClassifier
from oodbench.detectors.oodl import OodL
from oodbench.detectors.spec import build, label
from oodbench.detectors.state import load_state, read_state, save_state, state_hash
from oodbench.errors import NotFittedError, OodbenchError
from oodbench.example import make_example
from oodbench.outputs import FitData, Needs, Outputs
from oodbench.tensor_file import read_tensors, sealed
from tests.detectors.sound import Wrapper


def fitted(spec: str) -> Detector:
    return make_example().fitted(build(spec))


def leaves(state: State, prefix: str = "") -> dict[str, Any]:
    """Every value of a state by its path."""
    found = {}
    for name, value in state.items():
        path = f"{prefix}/{name}"
        found |= leaves(value, path) if isinstance(value, Mapping) else {path: value}
    return found


HERE = "tests.detectors.sound"


@pytest.mark.parametrize(
    "spec",
    [
        "oodl",
        "oodl(svm=nystroem,nu=0.01)",
        "lc(C=0.1)",
        "lc(mode=boundary)",
        "odin(norm=l2)",
        f"{HERE}:Nearest(k=3)",
        f"{HERE}:Columns(step=2)",
        f"{HERE}:Wrapper(base=lc(mode=boundary),percentile=95)",
        f"{HERE}:Wrapper(base={HERE}:Wrapper(base=oodl(layer=penultimate)))",
    ],
)
def test_a_detector_comes_back_from_its_file_alone(spec: str, tmp_path: Path) -> None:
    detector = fitted(spec)
    save_state(detector, tmp_path / "a" / "state.safetensors")
    restored = load_state(tmp_path / "a" / "state.safetensors")
    assert restored == detector and label(restored) == label(detector)
    given, back = leaves(detector.state), leaves(restored.state)
    assert back.keys() == given.keys() and bool(given) == detector.learns()
    for name, value in given.items():
        if isinstance(value, Tensor):
            assert torch.equal(back[name], value) and back[name].dtype == value.dtype
        else:
            assert back[name] == value and type(back[name]) is type(value)
    assert state_hash(restored) == state_hash(detector)
    example = make_example()
    assert torch.equal(example.scores(restored, example.id_images), example.scores(detector, example.id_images))


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    save_state(fitted("oodl"), path)
    with safe_open(path, framework="pt") as stored:
        facts = stored.metadata()
    assert facts["label"] == "oodl" and facts["oodbench"] == metadata.version("oodbench")
    values = json.loads(facts["values"])
    assert set(values) == {"layer", "gamma", "curve", WIDTHS} and list(values["curve"]) == [
        "stem",
        "block",
        "penultimate",
    ]
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.safetensors"]


@dataclass(frozen=True)
class Learns(Detector):
    """Learns what the test puts there."""

    fit_needs = Needs("logits")

    def learn(self, data: FitData) -> State:
        logits = data.outputs.logits
        return {
            "shared": logits,
            "again": logits.T,
            "nothing": torch.zeros(0),
            "column": logits[:, 1:2],
            "in": {"shared": logits, "deep": {"row": logits[0], "word": "w", "none": None}, "empty": {}},
        }

    def score(self, outputs: Outputs) -> Tensor:
        return outputs.logits.double().sum(dim=1)


def test_tensors_that_share_memory_or_hold_nothing(tmp_path: Path) -> None:
    logits = torch.arange(6.0).view(2, 3)
    data = FitData(Outputs({"logits": logits}))
    for detector in (Learns().fit(data), Learns().with_state(Learns().learn(data))):
        save_state(detector, tmp_path / "s")
        name, state = read_state(tmp_path / "s")
        assert name == f"{__name__}:Learns"
        assert torch.equal(state["shared"], logits) and torch.equal(state["again"], logits.T)
        assert not len(state["nothing"]) and torch.equal(state["column"], logits[:, 1:2])
        assert torch.equal(state["in"]["shared"], logits) and torch.equal(state["in"]["deep"]["row"], logits[0])
        assert (state["in"]["deep"]["word"], state["in"]["deep"]["none"], state["in"]["empty"]) == ("w", None, {})


def test_the_hash_is_of_every_value_and_its_place(tmp_path: Path) -> None:
    first = {"a": torch.zeros(2), "b": {"c": torch.ones(2), "d": 1}}
    others: list[State] = [
        {"a": torch.zeros(2), "b": {"c": torch.ones(2), "d": 2}},
        {"a": torch.zeros(2), "b": {"c": torch.tensor([1.0, 2.0]), "d": 1}},
        {"a": torch.zeros(2).double(), "b": {"c": torch.ones(2), "d": 1}},
        {"a": torch.zeros(1, 2), "b": {"c": torch.ones(2), "d": 1}},
        {"a": torch.zeros(2), "b": {"e": torch.ones(2), "d": 1}},
        {"a": torch.zeros(2), "c": torch.ones(2), "b": {"d": 1}},
        {"b": {"d": 1, "c": torch.ones(2)}, "a": torch.zeros(2)},
    ]
    hashes = [state_hash(Learns().with_state(state)) for state in (first, *others)]
    assert len(set(hashes[:-1])) == 7 and hashes[-1] == hashes[0], "the order of names does not count"


def test_a_wrapped_detector_keeps_what_the_inner_one_learned(tmp_path: Path) -> None:
    example = make_example()
    detector = example.fitted(Wrapper(base=build("lc")))
    save_state(detector, tmp_path / "s")
    with safe_open(tmp_path / "s", framework="pt") as stored:
        assert set(stored.keys()) == {"limit", "base/weight", "base/bias"}
    restored = load_state(tmp_path / "s")
    assert isinstance(restored, Wrapper) and restored.base == LinearClassifier() and not restored.base.fitted


def test_what_json_cannot_hold_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    save_state(fitted("lc"), path)
    before = path.read_bytes()
    for value in (float("nan"), object()):
        with pytest.raises((ValueError, TypeError)):
            save_state(LinearClassifier().with_state({"value": value}), path)
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
    path.write_bytes(sealed({"weight": torch.zeros(1)}, facts))
    with pytest.raises(OodbenchError, match="no detector 'gone'"):
        load_state(path)
    path.write_bytes(sealed({"weight": torch.zeros(1)}, facts | {"format": "2"}))
    with pytest.raises(OodbenchError, match="format 1"):
        load_state(path)


def test_a_file_that_was_edited_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    save_state(fitted("lc"), path)
    tensors, facts = read_tensors(path)
    assert read_state(path)[0] == "lc" and set(facts) == {"format", "oodbench", "label", "values", "checksum"}
    for name in facts:
        for changed in ({**facts, name: f"{facts[name]} "}, {key: one for key, one in facts.items() if key != name}):
            save_file(tensors, path, metadata=changed)
            with pytest.raises(OodbenchError, match="not, bit by bit, what was saved"):
                load_state(path)
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, path, metadata=facts)
    with pytest.raises(OodbenchError, match="not, bit by bit"):
        load_state(path)


@pytest.mark.parametrize("values", ["", "{", "[]", "3", "null", '{"base": 3}', "[" * 100_000, "{}"])
def test_values_that_are_none_are_refused_although_the_checksum_is_theirs(tmp_path: Path, values: str) -> None:
    path = tmp_path / "state.safetensors"
    for facts in ({"format": "1", "label": "lc", "values": values}, {"format": "1", "label": "lc"}):
        path.write_bytes(sealed({"base/weight": torch.zeros(1)}, facts))
        with pytest.raises(OodbenchError, match="cannot be read as a detector's state"):
            load_state(path)
