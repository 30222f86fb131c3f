"""What the commands print with: decisions and progress on standard error, results on standard output."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from oodbench.errors import printable
from oodbench.progress import Reporter

T = TypeVar("T")

EVERY = 30.0
"""Seconds between two lines on how far something is, where there is no terminal for a bar."""

# Names are data: what stands in brackets is no markup, and :x: is no emoji.
output = Console(highlight=False, markup=False, emoji=False)
log = Console(stderr=True, highlight=False, markup=False, emoji=False)


class ConsoleReporter(Reporter):
    """Prints decisions, and shows a bar a task where standard error is a terminal; else one line a task, and one
    every half a minute on what is read."""

    def __init__(self) -> None:
        self._said: set[str] = set()
        self._begun: dict[str, tuple[float, int]] = {}
        self._told: dict[str, float] = {}

    def say(self, text: str) -> None:
        if text in self._said:
            return
        self._said.add(text)
        log.print(printable(text), markup=False, style="dim", soft_wrap=True)

    def track(self, items: Iterable[T], description: str, total: int) -> Iterator[T]:
        if not log.is_terminal:
            log.print(description, markup=False, style="dim", soft_wrap=True)
            yield from items
            return
        with self._bar() as progress:
            yield from progress.track(items, total=total, description=description)

    def count(self, parts: Iterable[tuple[int, T]], what: str, total: int, done: int) -> Iterator[T]:
        if log.is_terminal:
            with self._bar() as progress:
                task = progress.add_task(what, total=total, completed=done)
                for count, part in parts:
                    progress.advance(task, count)
                    yield part
            return
        for count, part in parts:
            self.so_far(what, done, total)
            yield part
            done += count

    def so_far(self, what: str, done: int, total: int | None = None) -> None:
        now = time.monotonic()
        begun, before = self._begun.setdefault(what, (now, done))
        if now - self._told.setdefault(what, now) < EVERY or done <= before:
            return
        self._told[what] = now
        speed = (done - before) / (now - begun)
        of, left = (f" of {total:,}", f", {_duration((total - done) / speed)} left") if total is not None else ("", "")
        log.print(f"{what}: {done:,}{of}, {_rounded(speed)} a second{left}", markup=False, style="dim", soft_wrap=True)

    def _bar(self) -> Progress:
        described = TextColumn("{task.description}", markup=False)
        columns = (described, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        return Progress(*columns, console=log, transient=True)


def _rounded(speed: float) -> str:
    return f"{speed:,.0f}" if speed >= 10 else f"{speed:.2g}"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02} h" if hours else f"{minutes}:{seconds:02} min"
