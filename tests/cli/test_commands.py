"""The commands besides `run`, and the start-up time of those that only talk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from oodbench.benchmark import embedded_benchmarks
from oodbench.data.catalogue import DATASETS
from oodbench.data.noise import noise_set
from oodbench.detectors.catalogue import DETECTORS
from oodbench.detectors.entry import FAMILIES
from oodbench.models.catalogue import MODELS
from oodbench.models.checkpoint import load_checkpoint
from tests.cli.conftest import Ended
from tests.scripts import INSTALLED, ROOT

Command = Callable[..., Ended]


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("detectors", DETECTORS),
        ("datasets", DATASETS),
        ("models", MODELS),
        ("benchmarks", embedded_benchmarks()),
    ],
)
def test_list_names_all(oodbench: Command, kind: str, names: dict[str, object]) -> None:
    ended = oodbench("list", kind)
    assert ended.code == 0
    assert all(name in ended.out for name in names)


def test_every_built_in_detector_has_one_family(oodbench: Command) -> None:
    assert all(entry.family in FAMILIES for entry in DETECTORS.values())
    text = oodbench("list", "detectors").out
    assert text.index("\nlogits\n") < text.index("\nmsp") < text.index("\nfeatures\n") < text.index("\nknn")


def test_json_is_for_programs(oodbench: Command, tmp_path: Path) -> None:
    detectors = json.loads(oodbench("list", "detectors", "--json").out)
    assert {one["name"] for one in detectors} == set(DETECTORS) and detectors[0]["family"] == "logits"
    (epsilon,) = [
        one
        for one in json.loads(oodbench("list", "detectors", "odin", "--json").out)["settings"]
        if "epsilon" in one.values()
    ]
    assert epsilon
    datasets = json.loads(oodbench("list", "datasets", "--json", "--data-root", tmp_path).out)
    assert {one["name"] for one in datasets} == set(DATASETS)
    facts = json.loads(oodbench("doctor", "--json", "--data-root", tmp_path).out)
    assert facts["data_folders"][str(tmp_path)] is True and "digits" in facts["found"]
    rows = json.loads(oodbench("report", Path(__file__).parents[2] / "results/digits", "--json").out)
    assert len(rows) == 4 * 9 and rows[0]["detector"] == "msp"


def test_a_set_that_is_not_here_says_how_to_get_it(oodbench: Command, tmp_path: Path) -> None:
    for one in json.loads(oodbench("list", "datasets", "--json", "--data-root", tmp_path).out):
        if "not on this machine" in one["where"]:
            assert "fetch" in one["where"] or "http" in one["where"] or "Put it there" in one["where"], one


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("oodbench ru", {"run"}),
        ("oodbench run --detector msp,odi", {"msp,odin"}),
        ("oodbench run --ood fash", {"fashion-mnist"}),
        ("oodbench train --model resnet2", {"resnet20"}),
        ("oodbench run --benchmark digi", {"digits"}),
        ("oodbench completion z", {"zsh"}),
    ],
)
def test_names_are_completed(words: str, expected: set[str]) -> None:
    """As bash asks, in a process of its own; nothing waits for torch."""
    asked = {"_OODBENCH_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    code = "import sys; from oodbench.cli import main\ntry: main()\nfinally: assert 'torch' not in sys.modules"
    ended = subprocess.run([sys.executable, "-c", code], env=os.environ | asked, capture_output=True, text=True)
    found = {line.partition(",")[2] for line in ended.stdout.splitlines()}
    assert expected <= found and "Error" not in ended.stderr, ended.stderr
    assert all(one.startswith(words.split()[-1]) for one in found)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_source_that_asks_the_command(oodbench: Command, shell: str) -> None:
    ended = oodbench("completion", shell)
    assert ended.code == 0 and "_OODBENCH_COMPLETE" in ended.out and f"{shell}_complete" in ended.out


def test_list_says_what_is_not_here(oodbench: Command, tmp_path: Path) -> None:
    text = oodbench("list", "datasets", "--data-root", tmp_path).out
    lsun = text[text.index("\nlsun-resize\n") :]
    assert "not on this machine" in lsun[:400] and "2007.08176" in lsun[:800]


def test_list_says_both_readings_of_lc(oodbench: Command) -> None:
    text = oodbench("list", "detectors").out
    assert "learned confidence" in text[text.index("\nlc") :][:400]


def test_doctor_says_what_there_is(oodbench: Command) -> None:
    ended = oodbench("doctor")
    assert ended.code == 0
    for expected in ("torch", "auto", os.environ["OODBENCH_CACHE"], "digits", "lsun", "lmdb"):
        assert expected in ended.out


def test_doctor_counts_what_is_in_the_cache(oodbench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OODBENCH_CACHE", str(tmp_path))
    assert "0 trained classifier(s), hashes of 0 image set(s)" in oodbench("doctor").out
    assert noise_set("uniform", 3, (1, 4, 4), 0).content_hash
    assert "0 trained classifier(s), hashes of 1 image set(s)" in oodbench("doctor").out


def test_train_then_run_with_the_checkpoint(oodbench: Command, tmp_path: Path) -> None:
    checkpoint = tmp_path / "mine.safetensors"
    ended = oodbench("train", "--id", "digits", "--epochs", "3", "--seed", "5", "--out", checkpoint)
    assert ended.code == 0, ended.err
    assert "epoch 3 of 3" in ended.err and "on the ID test images" in ended.err and checkpoint.is_file()
    ended = oodbench(
        "run", "--model", checkpoint, "--detector", "energy", "--ood", "uniform", "--out", tmp_path / "out"
    )
    assert ended.code == 0, ended.err


def test_train_by_the_garbage_recipe_then_run_inversion_on_it(oodbench: Command, tmp_path: Path) -> None:
    checkpoint = tmp_path / "own.safetensors"
    train = ("train", "--id", "digits", "--out", checkpoint)
    ended = oodbench(*train, "--recipe", "garbage", "--epochs", "2", "--set", "steps=1", "--set", "every=10")
    assert ended.code == 0, ended.err
    settings = load_checkpoint(checkpoint).record["settings"]
    assert (settings["every"], settings["training"]["epochs"], settings["inversion"]["steps"]) == (10, 2, 1)
    assert "accuracy on held-out ID images" in ended.err and "on the ID test images" in ended.err
    out = tmp_path / "out"
    run = ("run", "--model", checkpoint, "--ood", "uniform", "--out", out, "--detector")
    ended = oodbench(*run, "inversion")
    assert ended.code == 0, ended.err
    assert "training" not in ended.err and "inversion" in ended.out
    ended = oodbench(*run, "energy", "--force")
    assert ended.code == 2 and "no detector of this run reads such a one" in ended.err
    for option, value in (("--from", checkpoint), ("--calibrate-on", "digits")):
        ended = oodbench(*train, option, value)
        assert ended.code == 2 and "plain" in ended.err
    ended = oodbench(*train, "--set", "steps=2")
    assert ended.code == 2 and "no setting 'steps'" in ended.err


def test_fine_tune_a_trained_classifier(oodbench: Command, tmp_path: Path) -> None:
    plain, own = tmp_path / "plain.safetensors", tmp_path / "own.safetensors"
    assert oodbench("train", "--id", "digits", "--epochs", "3", "--out", plain).code == 0
    tune = ("train", "--id", "digits", "--recipe", "garbage", "--from", plain, "--out", own)
    ended = oodbench(*tune, "--epochs", "1", "--set", "images=8", "--calibrate-on", "digits")
    assert ended.code == 0, ended.err
    assert "before: " in ended.err and load_checkpoint(own).record["held_out"]["images"] == 1197
    report = load_checkpoint(own).record["report"]
    assert report["accuracy_before"] > 0.8 and report["class_accuracy"] > report["accuracy_before"] - 0.1
    ended = oodbench(*tune, "--model", "cnn28")
    assert ended.code == 2 and "--from names a cnn8" in ended.err


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["list", "detectors"], ["run", "--help"], ["invert", "--help"]]
)
def test_what_only_talks_starts_fast(arguments: list[str]) -> None:
    """Under 0.7 s of CPU, measured by the operating system."""
    before = os.times()
    assert subprocess.run([sys.executable, "-m", "oodbench", *arguments], stdout=subprocess.DEVNULL).returncode == 0
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    assert used < 0.7


def test_unknown_command_has_a_guess(oodbench: Command) -> None:
    ended = oodbench("rum")
    assert ended.code == 2 and "did you mean run" in ended.err


def test_fetch_of_an_unknown_set_has_a_guess(oodbench: Command, tmp_path: Path) -> None:
    ended = oodbench("fetch", "mnits", "--data-root", tmp_path)
    assert ended.code == 2 and "did you mean" in ended.err


OWN = """
from helper_beside import SIGN
from oodbench import Detector, Needs

class Mean(Detector):
    needs = Needs("logits")

    def score(self, outputs):
        return SIGN * outputs.logits.double().mean(dim=1)
"""


@pytest.mark.parametrize("command", [[str(INSTALLED)], [sys.executable, "-m", "oodbench"]], ids=["script", "module"])
def test_a_detector_beside_the_user_is_found(command: list[str], tmp_path: Path) -> None:
    """In the current folder, by the installed script as by `python -m`."""
    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / "helper_beside.py").write_text("SIGN = -1")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    asked = [*command, "list", "detectors", "mine:Mean"]
    ended = subprocess.run(asked, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0 and "mine:Mean" in ended.stdout, ended.stderr
