"""The errors that a user can do something about; the command line prints them without a traceback (exit 2)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class OodbenchError(Exception):
    """Something the user asked for cannot be done; the message names the thing, the reason and the next step."""


class NotFittedError(OodbenchError):
    """A detector was asked for a score before `fit`."""


def unknown_name(kind: str, name: str, known: Iterable[str], hint: str = "") -> OodbenchError:
    """The error for a name that is not in a catalogue, with the nearest names that are.

    Args:
        kind: what was looked up, in words ("detector", "data set").
        name: what the user wrote.
        known: the names there are.
        hint: the next step, e.g. "oodbench list detectors shows them all".
    """
    known = sorted(known)
    nearest = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    guess = f"; did you mean {' or '.join(nearest)}?" if nearest else f"; there are: {', '.join(known)}."
    return OodbenchError(f"there is no {kind} '{name}'{guess}" + (f" ({hint})" if hint else ""))
