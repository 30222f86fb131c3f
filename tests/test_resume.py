"""Killed runs: what was finished is not computed again, and the scores are those of an undisturbed run, to the byte."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from oodbench import Result
from tests.conftest import SHARED

ROOT = Path(__file__).parents[1]
DATA = SHARED / "data"


@dataclass(frozen=True)
class CountedRuns:
    """`oodbench run` in processes of their own, in a folder, with a store of its own and a log of what is passed."""

    folder: Path
    shard: int
    arguments: Sequence[str | Path]

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def passed(self) -> int:
        """Images that entered the network so far, in all processes."""
        return sum(map(int, self.log.read_text().split())) if self.log.exists() else 0

    def start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.counted_run", self.log, self.shard, "run", *self.arguments]
        environment = os.environ | {"OODBENCH_CACHE": str(self.folder / "cache")}
        return subprocess.Popen(
            [*map(str, command), "--device", "cpu", "--out", str(self.folder / "out")],
            cwd=ROOT,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self) -> Result:
        process = self.start()
        _, said = process.communicate()
        assert process.returncode == 0, said
        return Result.load(self.folder / "out")

    def kill_after(self, more: int, seconds: float) -> None:
        """Begin, and kill a moment after so many further images have passed."""
        before, process = self.passed, self.start()
        while self.passed < before + more and process.poll() is None:
            time.sleep(0.002)
        time.sleep(seconds)
        assert process.poll() is None, "it was to be killed, but had ended"
        process.kill()
        process.communicate()
        assert not (self.folder / "out" / "card.json").exists()


def check_killed(whole: CountedRuns, killed: CountedRuns, kills: int, passes: int, seed: int) -> None:
    """Kill a run at so many random moments; then finish it, and compare it with an undisturbed one.

    Args:
        passes: of a scored image.
    """
    expected = whole.finish()
    draw = random.Random(seed)
    for left in range(kills, 0, -1):
        missing = whole.passed - min(killed.passed, whole.passed)
        killed.kill_after(draw.randrange(max(missing // (left + 1), 1)), draw.uniform(0, 0.05))
    found = killed.finish()
    assert whole.passed <= killed.passed <= whole.passed + kills * passes * killed.shard
    assert found.scores.keys() == expected.scores.keys()
    for key, scores in expected.scores.items():
        assert scores.tobytes() == found.scores[key].tobytes(), key


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    """On the images that come with the package, in shards of 32."""
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    checkpoint = ROOT / "results" / "baselines" / "digits-cnn8.safetensors"
    arguments = ["--model", checkpoint, "--ood", "uniform", "--detector", "lc,odin", "--fit-limit", "200"]
    runs = (CountedRuns(tmp_path / name, 32, arguments) for name in ("whole", "killed"))
    check_killed(*runs, kills=1, passes=2, seed=0)


def test_a_run_that_is_killed_at_80_per_cent_passes_only_the_rest(tmp_path: Path) -> None:
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    checkpoint = ROOT / "results" / "baselines" / "digits-cnn8.safetensors"
    arguments = ["--model", checkpoint, "--ood", "uniform", "--detector", "lc,odin", "--fit-limit", "200"]
    whole, killed = (CountedRuns(tmp_path / name, 32, arguments) for name in ("whole", "killed"))
    expected = whole.finish()
    killed.kill_after(4 * whole.passed // 5, 0)
    before = killed.passed
    found = killed.finish()
    # Of an image there are two passes; the shard that the kill came into is begun again.
    assert whole.passed - before <= killed.passed - before <= whole.passed // 5 + 2 * 32
    for key, scores in expected.scores.items():
        assert scores.tobytes() == found.scores[key].tobytes(), key


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="needs the shared data")
def test_a_run_on_cifar10_that_is_killed_ten_times_goes_on(tmp_path: Path) -> None:
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    arguments = ["--id", f"npz:{DATA / 'cifar10_test.npz'}", "--limit", "3000", "--fit-limit", "3000"]
    arguments += ["--model", f"resnet20={DATA / 'weights' / 'resnet20-12fca82f.th'}"]
    arguments += ["--mean", "imagenet", "--std", "imagenet", "--detector", "lc,energy,odin"]
    arguments += ["--ood", f"npz:{DATA / 'tinyimagenet_32.npz'},npz:{DATA / 'scenes_32.npz'},pixel-shuffled"]
    runs = (CountedRuns(tmp_path / name, 1024, arguments) for name in ("whole", "killed"))
    check_killed(*runs, kills=10, passes=2, seed=1)
