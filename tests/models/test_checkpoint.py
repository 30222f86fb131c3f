"""Checkpoints: ours round trip, those of others in their forms, and what is said of files that are none."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from oodbench.classifier import Classifier
from oodbench.errors import OodbenchError
from oodbench.models.catalogue import MODELS
from oodbench.models.checkpoint import FORMAT, load_checkpoint, save_checkpoint
from oodbench.models.foreign import recognise

Make = Callable[..., Classifier]
RECORD = {"id": "digits", "accuracy": 0.5, "settings": {"epochs": 3}}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_own_checkpoint_round_trip(make_classifier: Make, tmp_path: Path) -> None:
    classifier = make_classifier()
    classifier.module.to(memory_format=torch.channels_last)
    path = tmp_path / "new folder" / "c.safetensors"
    save_checkpoint(classifier, "cnn8", path, RECORD)
    loaded = load_checkpoint(path)
    assert same(dict(loaded.state), classifier.module.state_dict())
    assert (loaded.architecture, loaded.num_classes, loaded.image_shape) == ("cnn8", 10, (1, 8, 8))
    assert (loaded.mean, loaded.std, loaded.record) == ((0.3,), (0.25,), RECORD)
    assert [file.name for file in path.parent.iterdir()] == ["c.safetensors"]


def test_own_checkpoint_is_plain_safetensors_with_json(own_checkpoint: Path) -> None:
    with safe_open(own_checkpoint, "pt") as file:
        facts = json.loads(file.metadata()["oodbench"])
    assert facts["format"] == FORMAT and facts["record"]["id"] == "digits" and facts["oodbench"]


def test_a_failed_save_leaves_the_old_file(make_classifier: Make, own_checkpoint: Path) -> None:
    before = own_checkpoint.read_bytes()
    with pytest.raises(TypeError):
        save_checkpoint(make_classifier(), "cnn8", own_checkpoint, {"not JSON": object()})
    assert own_checkpoint.read_bytes() == before
    assert len(list(own_checkpoint.parent.iterdir())) == 1


def test_newer_format_is_refused(own_checkpoint: Path) -> None:
    state = load_file(own_checkpoint)
    save_file(state, own_checkpoint, {"oodbench": json.dumps({"format": FORMAT + 1, "oodbench": "9.0"})})
    with pytest.raises(OodbenchError, match=r"written by a newer oodbench \(9\.0\).*update"):
        load_checkpoint(own_checkpoint)


def metadata_of(path: Path) -> dict[str, Any]:
    with safe_open(path, "pt") as file:
        facts: dict[str, Any] = json.loads(file.metadata()["oodbench"])
    return facts


WRONG: list[Any] = [None, "text", [], {}, 10**400, -1, 1.5, True, [None], [[]], {"a": None}]


def test_whatever_it_says_of_itself_is_an_error_in_words_or_is_read(own_checkpoint: Path) -> None:
    """Every value by every wrong one, and none; without the checksum, as in files of earlier versions."""
    state, facts = load_file(own_checkpoint), metadata_of(own_checkpoint)
    assert load_checkpoint(own_checkpoint).verified
    del facts["checksum"]
    refused = 0
    for name in facts:
        for value in (*WRONG, ...):
            changed = {key: one for key, one in facts.items() if key != name} | ({} if value is ... else {name: value})
            save_file(state, own_checkpoint, {"oodbench": json.dumps(changed)})
            try:
                assert not load_checkpoint(own_checkpoint).verified
            except OodbenchError:
                refused += 1
    assert refused > 50


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"a"', "[" * 100_000, '{"format": NaN}'])
def test_metadata_that_are_none_are_refused(own_checkpoint: Path, text: str) -> None:
    save_file(load_file(own_checkpoint), own_checkpoint, {"oodbench": text})
    with pytest.raises(OodbenchError, match="is damaged"):
        load_checkpoint(own_checkpoint)


def test_a_weight_that_was_changed_by_hand_is_noticed(own_checkpoint: Path) -> None:
    facts, state = metadata_of(own_checkpoint), load_file(own_checkpoint)
    next(iter(state.values())).view(-1)[0] += 1
    save_file(state, own_checkpoint, {"oodbench": json.dumps(facts)})
    with pytest.raises(OodbenchError, match="bit by bit"):
        load_checkpoint(own_checkpoint)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "net", "model_state_dict"])
@pytest.mark.parametrize("suffix", [".th", ".pt", ".pth", ".pth.tar", ".safetensors"])
def test_forms_of_others_checkpoints(
    make_classifier: Make, tmp_path: Path, suffix: str, wrapper: str | None, prefix: str
) -> None:
    state = make_classifier().module.state_dict()
    named = {prefix + name: tensor for name, tensor in state.items()}
    path = tmp_path / f"other{suffix}"
    if suffix == ".safetensors":
        save_file(named, path)
    else:
        torch.save({wrapper: named, "epoch": 3, "best_prec1": 91.7} if wrapper else named, path)
    loaded = load_checkpoint(path)
    assert same(dict(loaded.state), dict(state))
    assert (loaded.architecture, loaded.mean, loaded.image_shape, dict(loaded.record)) == (
        None,
        None,
        None,
        {},
    )


def test_old_format_of_torch_save(make_classifier: Make, tmp_path: Path) -> None:
    state = make_classifier().module.state_dict()
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert same(dict(load_checkpoint(tmp_path / "old.pth").state), dict(state))


@pytest.mark.parametrize("name", MODELS)
def test_every_architecture_is_recognised(make_classifier: Make, name: str) -> None:
    for classes, shape in ((7, (3, 16, 16)), (12, (1, 16, 16))):
        state = make_classifier(name, classes, shape).module.state_dict()
        assert recognise(state, Path("x.pt")) == name
        # Checkpoints older than BatchNorm's counter do not have it.
        old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
        assert recognise(old, Path("x.pt")) == name


def test_what_is_not_recognised_is_compared_with_the_nearest(make_classifier: Make) -> None:
    state = dict(make_classifier("resnet32", shape=(3, 16, 16)).module.state_dict())
    del state["layer3.4.conv2.weight"]
    state["extra.weight"] = torch.zeros(2)
    with pytest.raises(OodbenchError, match=r"resnet32: missing: layer3.4.conv2.weight; unexpected: extra.weight"):
        recognise(state, Path("x.pt"))
    wider = dict(make_classifier("cnn8").module.state_dict())
    wider["block2.0.weight"] = torch.zeros(64, 32, 5, 5)
    with pytest.raises(OodbenchError, match=r"cnn8: of another shape: block2.0.weight is 64×32×5×5, not 64×32×3×3"):
        recognise(wider, Path("x.pt"))
    with pytest.raises(OodbenchError, match=r"recognises \(cnn8, .*resnet18-32\)\. If it is one of torchvision's"):
        recognise(nn.Linear(3, 4).state_dict(), Path("x.pt"))


def contents(folder: Path) -> dict[str, Path]:
    """Files that are no checkpoints."""
    files = {name: folder / f"{name}.pt" for name in ("empty", "text", "npz", "list", "optimiser", "truncated")}
    files["empty"].write_bytes(b"")
    files["text"].write_text("<html>404: not found</html>\n")
    with files["npz"].open("wb") as file:
        np.savez(file, images=np.zeros((2, 8, 8), np.uint8))
    torch.save([torch.zeros(2)], files["list"])
    torch.save({"epoch": 3, "optimizer": {"lr": 0.1}, "state_dict": {}}, files["optimiser"])
    torch.save({"weight": torch.zeros(1000)}, files["truncated"])
    files["truncated"].write_bytes(files["truncated"].read_bytes()[:1500])
    for suffix in ("empty", "text"):
        files[f"{suffix} safetensors"] = folder / f"{suffix}.safetensors"
        files[f"{suffix} safetensors"].write_bytes(files[suffix].read_bytes())
    return files


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("empty", "is not a checkpoint"),
        ("text", "is not a checkpoint"),
        ("npz", "is not a checkpoint"),
        ("truncated", "is not a checkpoint"),
        ("list", r"holds no state dict \(it holds: list\)"),
        ("optimiser", r"holds no state dict \(it holds: the keys \(none\)\)"),
        ("empty safetensors", "is not a safetensors file"),
        ("text safetensors", "is not a safetensors file"),
    ],
)
def test_files_that_are_no_checkpoints(tmp_path: Path, name: str, words: str) -> None:
    path = contents(tmp_path)[name]
    with pytest.raises(OodbenchError, match=f"{re.escape(str(path))} {words}"):
        load_checkpoint(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"\x80\x02", b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."]),
)
def test_no_bytes_make_anything_but_an_error_in_words(tmp_path: Path, content: bytes, magic: bytes) -> None:
    path = tmp_path / "bytes.pth"
    path.write_bytes(magic + content)
    with pytest.raises(OodbenchError):
        load_checkpoint(path)


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str, bytes]]:
        return Path.write_bytes, (self.target, b"")  # type: ignore[return-value]


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    target, path = tmp_path / "was run", tmp_path / "trap.pt"
    torch.save({"state_dict": {"weight": torch.zeros(1)}, "trap": Trap(target)}, path)
    with pytest.raises(OodbenchError, match="would run code"):
        load_checkpoint(path)
    path.write_bytes(pickle.dumps(Trap(target), protocol=2))
    with pytest.raises(OodbenchError):
        load_checkpoint(path)
    assert not target.exists()


def test_the_conversion_that_is_proposed_works(make_classifier: Make, tmp_path: Path) -> None:
    module = make_classifier().module
    path = tmp_path / "whole.pt"
    torch.save(module, path)
    with pytest.raises(OodbenchError, match="would run code from the file") as caught:
        load_checkpoint(path)
    found = re.search(r'python -c "(.*)"$', str(caught.value))
    assert found
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r}); {found[1]}"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert same(dict(load_checkpoint(tmp_path / "converted.pt").state), module.state_dict())
