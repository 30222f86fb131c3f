"""Commands run in this process, as the entry point runs them, and what they print."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

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
