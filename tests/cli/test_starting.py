"""The terminal while a command works: something at once, a bar of the whole, and nothing of it in what is piped."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

pty = pytest.importorskip("pty", reason="pseudo-terminals are of Unix")

ERASE, HOME = "\x1b[2K", "\r"


def begun(arguments: list[str], folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    """A command with a terminal on standard error, of which our side is given too, and a pipe on standard output."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "oodbench", *arguments],
        stdout=subprocess.PIPE,
        stderr=theirs,
        stdin=subprocess.DEVNULL,
        cwd=folder,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"},
    )
    os.close(theirs)
    return process, ours


def on_terminal(arguments: list[str], folder: Path, code: int = 0) -> tuple[str, str]:
    """What a command writes to the terminal and to the pipe."""
    process, ours = begun(arguments, folder)
    shown = b""
    with suppress(OSError):  # Linux says so that the other side is closed
        while part := os.read(ours, 65536):
            shown += part
    os.close(ours)
    piped, _ = process.communicate(timeout=60)
    assert process.returncode == code, shown.decode()
    return shown.decode(), piped.decode()


def screen(shown: str) -> list[str]:
    """The lines that stay: what is erased, or written over, is gone."""
    rows, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", shown):
        if token == "\r":
            column = 0
        elif token == "\n":
            row, column = row + 1, 0
            rows.extend([""] * (row + 1 - len(rows)))
        elif token.endswith("A") and token.startswith("\x1b"):
            row = max(0, row - int(token[2:-1] or 1))
        elif token == ERASE:
            rows[row] = ""
        elif not token.startswith("\x1b"):
            rows[row] = (rows[row].ljust(column)[:column] + token + rows[row][column + len(token) :]).rstrip()
            column += len(token)
    return [line for line in rows if line]


@pytest.fixture
def quick_run(image_files: dict[str, str], tmp_path: Path) -> list[str]:
    options = ["--epochs", "1", "--out", str(tmp_path / "small.safetensors")]
    done = subprocess.run(
        [sys.executable, "-m", "oodbench", "train", "--id", image_files["id"], *options], capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.split() == [str(tmp_path / "small.safetensors")], done.stderr
    assert done.stderr.startswith("oodbench train: starting") and "\r" not in done.stderr and "\x1b" not in done.stderr
    sets = ["--ood", ",".join(image_files[name] for name in ("bright", "dark"))]
    model = ["--model", str(tmp_path / "small.safetensors")]
    return ["run", "--id", image_files["id"], *sets, *model, "--detector", "msp,odin,knn", "--out", str(tmp_path / "r")]


def test_the_first_line_is_there_within_half_a_second(tmp_path: Path) -> None:
    process, ours = begun(["run"], tmp_path)
    first = os.read(ours, 100).decode()
    process.kill()
    _, _, used = os.wait4(process.pid, 0)
    process.returncode = -9
    process.communicate()
    os.close(ours)
    assert first.startswith("oodbench run: starting")
    # Its own seconds, which on an idle machine are those of the clock.
    assert used.ru_utime + used.ru_stime < 0.5


@pytest.mark.slow
def test_a_terminal_shows_the_whole_and_is_left_clean(quick_run: list[str], tmp_path: Path) -> None:
    shown, piped = on_terminal(quick_run, tmp_path)
    assert shown.startswith("oodbench run: starting")
    assert "passing set 3 of 3" in shown and "fitting detector" in shown and re.search(r"\d%, \d+:\d\d min left", shown)
    # The cursor is there again, and all that stays are sentences.
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") > 0
    rest = screen(shown)
    assert not [line for line in rest if "starting" in line or "━" in line or "passing" in line], rest
    assert rest[-1].startswith("wrote scores.npz, ")
    assert "\x1b" not in piped and "starting" not in piped and "passing" not in piped and "AUROC" in piped


def test_an_error_leaves_it_clean_too(image_files: dict[str, str], tmp_path: Path) -> None:
    arguments = ["run", "--id", image_files["id"], "--ood", "npz:missing.npz"]
    shown, _ = on_terminal(arguments, tmp_path, code=2)
    assert "looking for the data" in shown and shown.count("\x1b[?25l") == shown.count("\x1b[?25h")
    rest = screen(shown)
    assert [line for line in rest if line.startswith("Error: ")] and not [line for line in rest if "━" in line], rest


@pytest.mark.parametrize("arguments", [["doctor", "--json"], ["list", "detectors", "--json"]])
def test_json_is_nothing_but_json(arguments: list[str], tmp_path: Path) -> None:
    shown, piped = on_terminal(arguments, tmp_path)
    assert json.loads(piped)
    assert screen(shown) == []
