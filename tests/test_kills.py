"""Commands that are ended at random moments and begun again leave what undisturbed ones leave, and nothing else."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from sklearn.datasets import load_digits

from tests.scripts import ROOT

KILLS = 10
"""Of each command by each signal."""

PATIENCE = 60
"""Seconds in which a command ends that was told to."""

COMMANDS = {
    "run": "run --detector odin,inversion --ood uniform --limit 64 --out out",
    "train": "train --epochs 20 --out out/net.safetensors",
    "garbage": "train --recipe garbage --epochs 6 --set every=2 --out out/net.safetensors",
    "invert": "invert --images 100 --steps 20 --out out",
    "tune": "tune --detector odin,energy --grid odin.epsilon=0,0.01 --ood uniform --limit 64 --out out/tuned.toml",
}
TIMES = {"seconds", "inversion_seconds", "inverting_seconds", "created", "checksum"}
"""What files say that two undisturbed runs differ in; a checksum is of the times too."""

COUNTS = {"images", "batch_size"}
"""How many of what passed which network, and how many at a time: what was kept passes none."""


class Forked:
    """Processes of `tests.forked`, one at a time."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.forked"]
        self.server = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, folder: Path, arguments: list[str]) -> int:
        assert self.server.stdin is not None
        self.server.stdin.write(json.dumps([str(folder), *arguments]) + "\n")
        self.server.stdin.flush()
        return self.ended()

    def ended(self) -> int:
        assert self.server.stdout is not None
        return int(self.server.stdout.readline())


@pytest.fixture(scope="module")
def forked() -> Iterator[Forked]:
    forked = Forked()
    yield forked
    assert forked.server.stdin is not None
    forked.server.stdin.close()
    assert forked.server.wait(timeout=PATIENCE) == 0


@dataclass(frozen=True)
class Undisturbed:
    """A command, the seconds that it takes and what it leaves."""

    command: str
    arguments: list[str]
    seconds: float
    left: dict[str, Any]


@pytest.fixture(scope="module", params=COMMANDS)
def undisturbed(
    request: pytest.FixtureRequest, forked: Forked, tmp_path_factory: pytest.TempPathFactory
) -> Undisturbed:
    command, folder = str(request.param), tmp_path_factory.mktemp("whole")
    found, data = load_digits(), folder / "digits.npz"
    np.savez(data, images=(found.images[:200] * 15).astype(np.uint8), labels=found.target[:200])
    arguments = [*COMMANDS[command].split(), "--id", f"npz:{data}", "--device", "cpu"]
    seconds, left = [], []
    for _ in range(2):
        work, began = emptied(folder / "work"), time.monotonic()
        forked.start(work, arguments)
        assert forked.ended() == 0, said(work)
        seconds.append(time.monotonic() - began)
        left.append(left_in(work))
    assert left[0] == left[1], "nothing to compare with"
    return Undisturbed(command, arguments, min(seconds), left[0])


def emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def said(folder: Path) -> str:
    return folder.with_name("said").read_text()


def left_in(folder: Path) -> dict[str, Any]:
    """Path → content, without times and counts, of all files."""
    return {str(path.relative_to(folder)): content(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def content(path: Path) -> Any:
    if path.suffix == ".json":
        return timeless(json.loads(path.read_text()))
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return {name: (array.dtype, array.shape, array.tobytes()) for name, array in arrays.items()}
    if path.suffix == ".safetensors":
        with safe_open(path, "np") as file:
            facts = (file.metadata() or {}).items()
            told = {name: timeless(json.loads(text)) if text.startswith("{") else text for name, text in facts}
            return told, {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118 (it is no dict)
    return path.read_bytes()


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: timeless(one) for name, one in value.items() if name not in TIMES | COUNTS}
    return [timeless(one) for one in value] if isinstance(value, list) else value


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP], ids=lambda how: how.name)
def test_what_was_ended_and_begun_again_is_as_if_it_had_not_been(
    forked: Forked, undisturbed: Undisturbed, tmp_path: Path, how: signal.Signals
) -> None:
    """It is ended ten times, in the same folder until it is done there, and then in another."""
    draw = random.Random(f"{undisturbed.command} {how.name}")
    folder, kills, done = emptied(tmp_path / "work"), 0, 0
    while kills < KILLS or not done:
        process = forked.start(folder, undisturbed.arguments)
        if kills < KILLS:
            time.sleep(draw.uniform(0, undisturbed.seconds))
            with suppress(ProcessLookupError):
                os.kill(process, how)
                kills += 1
        status = forked.ended()
        # Before and after oodbench hears signals they end it as the system has it, which shells show as the same.
        assert status in (0, -how, 128 + how) and "Traceback" not in said(folder), said(folder)
        if status == 0:
            left = left_in(folder)
            assert left.keys() == undisturbed.left.keys()
            assert [name for name, content in undisturbed.left.items() if left[name] != content] == []
            folder, done = emptied(folder), done + 1
    print(
        f"{undisturbed.command}, {how.name}: ended {kills} times, done {done} times, {undisturbed.seconds:.1f} s each"
    )
