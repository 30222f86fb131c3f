"""What the commands print with: decisions and progress on standard error, results on standard output."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from oodbench.progress import Reporter

T = TypeVar("T")

output = Console(highlight=False)
log = Console(stderr=True, highlight=False)


class ConsoleReporter(Reporter):
    """Prints decisions, and shows a bar a task where standard error is a terminal; else one line a task."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def say(self, text: str) -> None:
        if text in self._said:
            return
        self._said.add(text)
        log.print(text, markup=False, style="dim", soft_wrap=True)

    def track(self, items: Iterable[T], description: str, total: int) -> Iterator[T]:
        if not log.is_terminal:
            log.print(description, markup=False, style="dim", soft_wrap=True)
            yield from items
            return
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=log, transient=True) as progress:
            yield from progress.track(items, total=total, description=description)
