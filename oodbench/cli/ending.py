"""How a command ends: its exit status, what it says then, and that it ends in order when it is told to stop."""

from __future__ import annotations

import io
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click

from oodbench.errors import OodbenchError, of_system, printable

DRIFT, MISUSE, FAULT, INTERRUPTED = 1, 2, 70, 130
"""Exit statuses: of `check` alone; what the user can mend; a fault of oodbench's own; Ctrl-C."""

# Those that a system sends to end a process; SIGHUP is that its terminal was closed.
_ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Stopped(BaseException):
    """The process was told to stop, by the signal of this number."""

    def __init__(self, number: int) -> None:
        self.number = number


def ended(command: Callable[[], object]) -> int:
    """Do what a command does; the exit status.

    0 when done, 1 if a check found drift, 2 on what the user must change, 70 on a fault of oodbench, 130 on Ctrl-C, 143
    and 129 on SIGTERM and SIGHUP.
    """
    try:
        with _orderly_signals():
            try:
                command()
                status = 0
            except SystemExit as end:
                status = _status(end)
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
            return status
    except click.ClickException as error:
        error.show()
        return MISUSE
    except OodbenchError as error:
        return _said(f"Error: {error}", MISUSE)
    except OSError as error:
        return _said(f"Error: {of_system(error)}", MISUSE)
    except MemoryError:
        return _said("Error: there is not enough memory; use fewer or smaller images, or --batch-size 1", MISUSE)
    except (KeyboardInterrupt, click.Abort):
        return _said("\nInterrupted; no results were written.", INTERRUPTED)
    except Stopped as stop:
        return _said("\nStopped by a signal; no results were written.", 128 + stop.number)
    except Exception:
        # Python itself would end with 1, which is what drift ends with.
        traceback.print_exc()
        return _said("This is a fault of oodbench; please report it with the lines above.", FAULT)


def tolerate_consoles() -> None:
    """Have nobody hurt by what standard output and error cannot do: a pipe that was closed, letters unknown there."""
    if sys.stdout is sys.__stdout__:
        sys.stdout = _tolerant(sys.stdout, 1)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _tolerant(sys.stderr, 2)


class _Output(io.FileIO):
    """A file that takes what nobody reads any more: what a command does and ends with is not its reader's choice."""

    lost = False

    def write(self, data: Any, /) -> int:
        if not self.lost:
            try:
                return super().write(data)
            except BrokenPipeError:
                self.lost = True
            except OSError:
                # Said once; the rest of it would fail again when Python ends.
                self.lost = True
                raise
        return memoryview(data).nbytes


def _tolerant(stream: Any, number: int) -> Any:
    if os.name == "nt" or not isinstance(stream, io.TextIOWrapper) or stream.fileno() != number:
        return stream
    stream.flush()
    raw = _Output(number, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), stream.encoding, "backslashreplace", line_buffering=stream.line_buffering or number == 2
    )


@contextmanager
def _orderly_signals() -> Iterator[None]:
    """Have signals that end a process raise `Stopped`, so that what is half done is undone."""

    def stop(number: int, _: FrameType | None) -> None:
        # A second one ends it at once.
        signal.signal(number, signal.SIG_DFL)
        raise Stopped(number)

    # What is ignored stays so: that is what nohup is for.
    before = {one: signal.getsignal(one) for one in _ENDING}
    heard = [one for one, handler in before.items() if handler == signal.SIG_DFL]
    for one in heard:
        signal.signal(one, stop)
    try:
        yield
    finally:
        for one in heard:
            signal.signal(one, before[one])


def _status(end: SystemExit) -> int:
    if isinstance(end.code, str):
        return _said(end.code, MISUSE)
    return end.code or 0


def _said(text: str, status: int) -> int:
    click.echo(printable(text), err=True)
    return status
