"""The error for images that cannot be read: all that were found, in one."""

from __future__ import annotations

from collections.abc import Mapping

from oodbench.errors import OodbenchError

SHOWN = 10
"""Damaged images that an error names; it counts the others."""


class DamagedImages(OodbenchError):
    """Images that cannot be read.

    Attributes:
        found: where each is → what is wrong with it.
    """

    found: Mapping[str, str]

    @classmethod
    def of(cls, found: Mapping[str, str], addition: str = "") -> DamagedImages:
        """The error for these images; `addition` says where else was looked."""
        if len(found) == 1:
            ((where, reason),) = found.items()
            words = f"{where} cannot be read as an image ({reason}); get it again, or take it out on purpose"
        else:
            shown = "; ".join(f"{where} ({reason})" for where, reason in list(found.items())[:SHOWN])
            more = f"; and {len(found) - SHOWN:,} more" if len(found) > SHOWN else ""
            words = f"{len(found):,} images cannot be read: {shown}{more}. Get them again, or take them out on purpose"
        error = cls(words + addition)
        error.found = found
        return error
