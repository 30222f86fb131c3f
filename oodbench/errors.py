"""The errors that a user can do something about; the command line prints them without a traceback (exit 2)."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable


class OodbenchError(Exception):
    """Something the user asked for cannot be done; the message names the thing, the reason and the next step."""


NEXT_STEPS = {
    errno.ENOSPC: "make room there, or write elsewhere (--out, for the cache the environment variable OODBENCH_CACHE)",
    errno.EROFS: "nothing can be written there: write elsewhere (--out, the environment variable OODBENCH_CACHE)",
    errno.EACCES: "you may not do that: change the permissions, or use another path",
    errno.EISDIR: "that is a folder: move it away, or use another path",
    errno.ENOTDIR: "a part of that path is no folder: use another path",
    errno.ENAMETOOLONG: "use a shorter name",
    errno.EMFILE: "too many files are open: raise the limit (ulimit -n), or use fewer --workers",
    errno.EIO: "the disk failed: copy the files elsewhere and try again",
    errno.ESTALE: "the network disk went away: try again",
}
NEXT_STEPS[errno.EDQUOT] = NEXT_STEPS[errno.EFBIG] = NEXT_STEPS[errno.ENOSPC]
NEXT_STEPS[errno.EPERM] = NEXT_STEPS[errno.EACCES]
"""What to do, by the number of an operating system's error."""


class NotFittedError(OodbenchError):
    """A detector was asked for a score before `fit`."""


UNSHOWN = "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
"""Characters, as a regular expression has them in brackets: what a terminal obeys, ends lines or turns their direction,
and halves of letters, which no file can hold."""


def printable(text: str) -> str:
    """The text with UNSHOWN characters written out, but line ends and tabs: file names of strangers may hold some."""
    return re.sub(f"[{UNSHOWN}]", lambda found: found[0] if found[0] in "\n\t" else ascii(found[0])[1:-1], text)


def of_system(error: OSError) -> OodbenchError:
    """What the operating system refused, as an error in words, with the next step."""
    where = f"{error.filename}: " if error.filename is not None else ""
    step = NEXT_STEPS.get(error.errno or 0, "look at that path, and try again")
    return OodbenchError(f"{where}{error.strerror or error}; {step}")


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
