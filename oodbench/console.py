"""What the commands print with: decisions and progress on standard error, results on standard output."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TextColumn
from rich.table import Column

from oodbench.errors import printable
from oodbench.progress import At, Reporter

T = TypeVar("T")

EVERY = 30.0
"""Seconds between two lines on how far something is, where there is no terminal for a bar."""

# Names are data: what stands in brackets is no markup, and :x: is no emoji.
output = Console(highlight=False, markup=False, emoji=False)
log = Console(stderr=True, highlight=False, markup=False, emoji=False)


class ConsoleReporter(Reporter):
    """Prints decisions and where things are: on a terminal a bar of the whole run and one of what is read, elsewhere a
    line every half a minute."""

    def __init__(self) -> None:
        self._said: set[str] = set()
        self._begun: dict[str, tuple[float, int]] = {}
        self._told: dict[str, float] = {}
        self._bars: Progress | None = None

    def say(self, text: str) -> None:
        if text in self._said:
            return
        self._said.add(text)
        _print(text)

    def at(self, at: At) -> None:
        left = "" if at.left is None else f", {_duration(at.left)} left"
        if _animates():
            if self._bars is None:
                self._bars = _bars()
                self._bars.start()
                self._bars.add_task("", total=1.0, figures="")
            run = self._bars.tasks[0]
            is_new = at.what != run.description  # drawn at once, however soon it is over
            self._bars.update(
                run.id, description=at.what, completed=at.share, figures=f"{at.share:.0%}{left}", refresh=is_new
            )
        elif self._is_time("the run"):
            _print(f"{at.share:.0%} done{left}: {at.what}")

    def end(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def track(self, items: Iterable[T], description: str, total: int) -> Iterator[T]:
        if not _animates():
            _print(description)
            yield from items
            return
        yield from self._shown(((1, item) for item in items), description, total, 0)

    def count(self, parts: Iterable[tuple[int, T]], what: str, total: int, done: int) -> Iterator[T]:
        if _animates():
            yield from self._shown(parts, what, total, done)
            return
        for count, part in parts:
            self.so_far(what, done, total)
            yield part
            done += count

    def so_far(self, what: str, done: int, total: int | None = None) -> None:
        if self._bars is not None:
            self._bars.update(self._bars.task_ids[0], description=f"{what}: {done:,}")
            return
        now = time.monotonic()
        begun, before = self._begun.setdefault(what, (now, done))
        self._told.setdefault(what, now)
        if done <= before or not self._is_time(what):
            return
        speed = (done - before) / (now - begun)
        of, left = (f" of {total:,}", f", {_duration((total - done) / speed)} left") if total is not None else ("", "")
        _print(f"{what}: {done:,}{of}, {_rounded(speed)} a second{left}")

    def _is_time(self, what: str) -> bool:
        """Whether a line on it is due; the first is at once, unless it was told of before."""
        now = time.monotonic()
        due = now - self._told.get(what, now - EVERY) >= EVERY
        if due:
            self._told[what] = now
        return due

    def _shown(self, parts: Iterable[tuple[int, T]], what: str, total: int, done: int) -> Iterator[T]:
        """A bar of the parts, below that of the run where there is one, for as long as they last."""
        with _running(self._bars) as bars:
            task = bars.add_task(what, total=total, completed=done, figures="")
            try:
                for count, part in parts:
                    done += count
                    bars.update(task, completed=done, figures=_figures(bars.tasks[-1], done, total))
                    yield part
            finally:
                bars.remove_task(task)


def _print(text: str) -> None:
    log.print(printable(text), markup=False, style="dim", soft_wrap=True)


def _animates() -> bool:
    """Whether a bar can be drawn anew."""
    return log.is_terminal and not log.is_dumb_terminal


def _bars() -> Progress:
    what = TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True))
    figures = TextColumn("{task.fields[figures]}", markup=False, table_column=Column(no_wrap=True))
    return Progress(what, BarColumn(24), figures, console=log, transient=True, expand=True, refresh_per_second=4)


@contextmanager
def _running(bars: Progress | None) -> Iterator[Progress]:
    """Those bars, or, where there are none, some for the block."""
    if bars is not None:
        yield bars
        return
    with _bars() as own:
        yield own


def _figures(task: Task, done: int, total: int) -> str:
    left = "" if task.time_remaining is None else f", {_duration(task.time_remaining)} left"
    return f"{done:,} of {total:,}{left}"


def _rounded(speed: float) -> str:
    return f"{speed:,.0f}" if speed >= 10 else f"{speed:.2g}"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02} h" if hours else f"{minutes}:{seconds:02} min"
