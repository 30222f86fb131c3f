"""How long work tells whoever started it what it is doing; silent unless somebody listens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class Reporter:
    """Hears what is decided and how far things are; this one keeps silent, the command line's one prints."""

    def say(self, text: str) -> None:
        """Something the user should know; who says it of one thing after another need not look whether it was said."""

    def track(self, items: Iterable[T], description: str, total: int) -> Iterator[T]:
        """Pass the items through, showing how many of `total` have come."""
        yield from items
