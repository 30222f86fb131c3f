"""How long work tells whoever started it what it is doing; silent unless somebody listens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")


class Reporter:
    """Hears what is decided and how far things are; this one keeps silent, the command line's one prints."""

    def say(self, text: str) -> None:
        """Something the user should know; who says it of one thing after another need not look whether it was said."""

    def track(self, items: Iterable[T], description: str, total: int) -> Iterator[T]:
        """Pass the items through, showing how many of `total` have come."""
        yield from items

    def count(self, parts: Iterable[tuple[int, T]], what: str, total: int, done: int) -> Iterator[T]:
        """Pass the parts through, each of so many images, showing how many of `total` there are; `done` were before."""
        for _, part in parts:
            yield part

    def so_far(self, what: str, done: int, total: int | None = None) -> None:
        """How far something is, which is said now and then."""


_LISTENS: ContextVar[Reporter] = ContextVar("listens", default=Reporter())  # noqa: B039


@contextmanager
def listening(reporter: Reporter) -> Iterator[None]:
    """Have it hear how far the listing and reading of images is that is done in the block."""
    before = _LISTENS.set(reporter)
    try:
        yield
    finally:
        _LISTENS.reset(before)


def counted(parts: Iterable[tuple[int, T]], what: str, total: int, done: int = 0) -> Iterator[T]:
    """See `Reporter.count`, of whoever listens."""
    return _LISTENS.get().count(parts, what, total, done)


def so_far(what: str, done: int, total: int | None = None) -> None:
    """See `Reporter.so_far`, of whoever listens."""
    _LISTENS.get().so_far(what, done, total)
