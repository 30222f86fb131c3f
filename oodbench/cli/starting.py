"""What is said before torch is imported, which takes seconds: nothing waits in silence."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def starting(command: str, logged: bool = True) -> Iterator[None]:
    """Show on standard error that a command has begun, while the block imports what it needs.

    On a terminal the line is gone afterwards.

    Args:
        logged: whether it is said where standard error is no terminal, too.
    """
    text = f"oodbench {command}: starting (importing torch)"
    shown = sys.stderr is not None and os.environ.get("RANK", "0") == "0"  # of torchrun's processes one speaks
    erased = shown and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    if erased or (shown and logged):
        sys.stderr.write(text if erased else f"{text}\n")
        sys.stderr.flush()
    try:
        yield
    finally:
        if erased:
            sys.stderr.write("\r" + " " * len(text) + "\r")
            sys.stderr.flush()
