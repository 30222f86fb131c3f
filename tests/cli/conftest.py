"""Commands run in this process, as the entry point runs them, and what they print; and commands interrupted."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from oodbench.cli import main


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def oodbench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """`oodbench("run", "--seed", "1")` → how it ended."""

    def call(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["oodbench", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as exit:
            code = int(exit.code or 0)
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return call


def check_interrupted(arguments: Sequence[str], awaited: str, folder: Path) -> None:
    """Ctrl-C, pressed when a command in an empty folder prints what is awaited, ends it with 130; it leaves nothing."""
    process = subprocess.Popen(
        [sys.executable, "-m", "oodbench", *arguments],
        cwd=folder,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        # Where the tests run in the background, a shell has it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    for line in process.stderr:
        if awaited in line:
            break
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    rest = process.stderr.read()
    assert "Interrupted" in rest and "Traceback" not in rest
    assert list(folder.iterdir()) == []
