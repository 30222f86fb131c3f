"""`oodbench check` as a user meets it: what it prints, what it writes, and how it ends."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from oodbench import Benchmark, Machine, run
from oodbench.check import load_baseline, save_baseline
from oodbench.detectors.logits import Energy
from tests.cli.conftest import Ended
from tests.threads import one_thread as one_thread

Command = Callable[..., Ended]

CHECKPOINT = Path(__file__).parents[2] / "results" / "baselines" / "digits-cnn8.safetensors"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint, a baseline, the run that it was made of, and a run with another seed."""
    folder = tmp_path_factory.mktemp("runs")
    shutil.copy(CHECKPOINT, folder / "mine.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, seed in (("same", 0), ("other", 1)):
            work = Benchmark(
                models=("mine.safetensors",), ood=("uniform",), detectors=("msp", "energy"), limit=40, seed=seed
            )
            run(work, machine=Machine(device="cpu")).save(folder / name)
            if name == "same":
                save_baseline(run(work, machine=Machine(device="cpu")), folder / "mine")
    return folder


def test_a_rerun_ends_with_0_wherever_it_is_started(
    oodbench: Command, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = shutil.copytree(runs, tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    for spelled in ([], ["--rerun"]):
        ended = oodbench("check", "--baseline", moved / "mine", "--device", "cpu", "--batch-size", "7", *spelled)
        assert ended.code == 0, ended.out + ended.err
        assert ended.out.startswith("no drift") and "4 × scores compared" in ended.out


def test_a_drifted_rerun_ends_with_1_and_names_it(
    oodbench: Command, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Energy.score
    monkeypatch.setattr(Energy, "score", lambda self, outputs: honest(self, outputs) + 1)
    before = (runs / "mine" / "scores.npz").read_bytes()
    ended = oodbench("check", "--baseline", runs / "mine", "--device", "cpu")
    assert ended.code == 1
    assert ended.out.startswith("drift: ")
    for expected in ("cnn8/energy/digits", "cnn8/energy/uniform", "+1, ", "40 of 40 moved"):
        assert expected in ended.out
    assert "msp" not in ended.out
    assert (runs / "mine" / "scores.npz").read_bytes() == before


@pytest.mark.parametrize("what", ["", "card.json"])
def test_a_saved_run_is_compared(oodbench: Command, runs: Path, what: str) -> None:
    assert oodbench("check", "--baseline", runs / "mine", "--against", runs / "same" / what).code == 0
    ended = oodbench("check", "--baseline", runs / "mine", "--against", runs / "other" / what)
    assert ended.code == 1
    assert "set uniform (OOD) of cnn8" in ended.out and "content hash" in ended.out


def test_update_shows_the_difference_and_writes(oodbench: Command, runs: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(runs, tmp_path / "copy")
    baseline = folder / "mine"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        ended = oodbench("check", "--baseline", baseline, "--against", "other", "--update")
    assert ended.code == 0, ended.err
    assert ended.out.startswith("drift: ") and f"wrote {baseline}" in ended.out
    assert load_baseline(baseline).card.benchmark["seed"] == 1
    assert oodbench("check", "--baseline", baseline, "--against", folder / "other").code == 0
    assert not [path for path in folder.rglob("*") if path.name.startswith(".")]


def test_update_of_a_rerun_keeps_its_paths(oodbench: Command, runs: Path, tmp_path: Path) -> None:
    baseline = shutil.copytree(runs, tmp_path / "copy") / "mine"
    ended = oodbench("check", "--baseline", baseline, "--device", "cpu", "--update")
    assert ended.code == 0 and ended.out.startswith("no drift"), ended.out + ended.err
    again, before = load_baseline(baseline), load_baseline(runs / "mine")
    assert again.card.benchmark == before.card.benchmark
    for key, scores in before.scores.items():
        np.testing.assert_array_equal(again.scores[key], scores)


def test_update_makes_a_first_baseline_of_a_run(
    oodbench: Command, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs)
    ended = oodbench("check", "--baseline", tmp_path / "deep" / "new", "--against", "same", "--update")
    assert ended.code == 0 and "no baseline to compare with" in ended.out, ended.err
    assert oodbench("check", "--baseline", tmp_path / "deep" / "new", "--device", "cpu").code == 0


MISUSE = {
    "no baseline named": ([], "--baseline"),
    "no such baseline": (["--baseline", "nowhere"], "there is no baseline nowhere"),
    "nothing to rerun": (["--baseline", "nowhere", "--update"], "there is no baseline nowhere"),
    "not a baseline": (["--baseline", "same/scores.npz"], "is no folder, and a baseline is one"),
    "no such run": (["--baseline", "mine", "--against", "nowhere"], "there is no nowhere"),
    "both": (["--baseline", "mine", "--against", "same", "--rerun"], "--rerun has no meaning"),
    "useless option": (["--baseline", "mine", "--against", "same", "--batch-size", "3"], "--batch-size has no"),
    "no such device": (["--baseline", "mine", "--device", "tpu"], "there is no device"),
    "checkpoint gone": (["--baseline", "gone/mine"], "there is no checkpoint file"),
    "unwritable": (["--baseline", "mine.safetensors/new", "--against", "same", "--update"], "cannot write into"),
}


@pytest.mark.parametrize(("arguments", "message"), MISUSE.values(), ids=MISUSE.keys())
def test_misuse_ends_with_2_in_words(
    oodbench: Command, runs: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(runs)
    (runs / "gone").mkdir(exist_ok=True)
    shutil.copytree("mine", "gone/mine", dirs_exist_ok=True)
    ended = oodbench("check", *arguments)
    assert ended.code == 2
    assert message in ended.err and "Traceback" not in ended.err
