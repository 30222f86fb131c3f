"""How commands end: exit statuses, signals, closed and full outputs, as real processes."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from oodbench.cli.ending import Stopped, ended
from oodbench.errors import OodbenchError
from tests.cli.conftest import Ended

COMMAND = [sys.executable, "-m", "oodbench"]


def raising(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (SystemExit(1), 1, ""),
        (SystemExit(None), 0, ""),
        (SystemExit("in words"), 2, "in words"),
        (OodbenchError("thing"), 2, "Error: thing"),
        (OodbenchError("a\x1b[31mb\u202ec\nd"), 2, "Error: a\\x1b[31mb\\u202ec\nd"),
        (click.UsageError("wrong"), 2, "wrong"),
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), 2, "a/b: No space left on device; make room"),
        (PermissionError(errno.EACCES, "Permission denied", "a"), 2, "a: Permission denied; you may not"),
        (OSError(errno.EROFS, "Read-only file system", "a"), 2, "nothing can be written there"),
        (MemoryError(), 2, "not enough memory"),
        (KeyboardInterrupt(), 130, "Interrupted"),
        (Stopped(signal.SIGTERM), 143, "Stopped by a signal"),
        (Stopped(signal.SIGHUP), 129, "Stopped by a signal"),
        (ZeroDivisionError("no"), 70, "fault of oodbench"),
    ],
)
def test_each_end_has_its_status(
    capsys: pytest.CaptureFixture[str], error: BaseException, status: int, words: str
) -> None:
    assert ended(raising(error)) == status
    said = capsys.readouterr().err
    assert words in said and ("Traceback" in said) == (status == 70)


def test_signals_are_as_they_were_afterwards() -> None:
    before = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGHUP)]
    assert ended(lambda: None) == 0
    assert [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGHUP)] == before


WRITING = """
import sys, time
from pathlib import Path
from oodbench.cli.ending import ended
from oodbench.files import atomic_write
def command():
    with atomic_write(Path("out.txt")) as temporary:
        temporary.write_text("half")
        print("writing", flush=True)
        time.sleep(60)
sys.exit(ended(command))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_nothing_half_written(tmp_path: Path, number: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITING],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background, a shell has it ignored.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    assert process.stdout is not None and process.stdout.readline() == "writing\n"
    assert len(list(tmp_path.iterdir())) == 1
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 128 + number and "Traceback" not in said and "no results were written" in said
    assert list(tmp_path.iterdir()) == []


def test_nohup_is_respected(tmp_path: Path) -> None:
    code = WRITING.replace("time.sleep(60)", "time.sleep(1)")
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    assert process.stdout is not None and process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=30) == 0 and (tmp_path / "out.txt").read_text() == "half"


def test_a_closed_output_changes_no_status(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        listed = subprocess.run([*COMMAND, "list", "detectors"], stdout=writer, stderr=subprocess.PIPE, text=True)
        assert (listed.returncode, listed.stderr) == (0, "")
        misused = subprocess.run([*COMMAND, "list", "nothing"], stdout=writer, stderr=writer)
        assert misused.returncode == 2
    finally:
        os.close(writer)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_output_is_said() -> None:
    with open("/dev/full", "w") as full:
        listed = subprocess.run([*COMMAND, "list", "detectors"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert listed.returncode == 2 and "No space left" in listed.stderr and "Traceback" not in listed.stderr


def test_an_ascii_console_gets_everything(tmp_path: Path) -> None:
    code = "from oodbench.cli.ending import *; tolerate_consoles(); print('a\\u2192\\udcffb')"
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"PYTHONIOENCODING": "ascii"}
    )
    assert printed.stdout == "a\\u2192\\udcffb\n", printed.stderr


def test_commands_follow_each_other_in_one_process(oodbench: Callable[..., Ended]) -> None:
    for _ in range(2):
        assert oodbench("list", "models").code == 0
        helped = oodbench("--help")
        assert helped.code == 0 and "doctor" in helped.out
