"""What the PNG of a grid of images says of itself, so that figures for papers can be made of it."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass

from PIL import Image

KEY = "oodbench grid"
"""Of the text in the PNG."""


@dataclass(frozen=True)
class Rows:
    """The rows of images in a picture.

    Attributes:
        box: left, top, right and bottom of them all, as shares of the picture's width and height.
        names: one a row.
        centres: one a row, as shares of the box's height, from the top.
        label: what the names are.
    """

    box: tuple[float, float, float, float]
    names: tuple[str, ...]
    centres: tuple[float, ...]
    label: str

    def as_text(self) -> str:
        """For the PNG, under KEY."""
        return json.dumps(asdict(self))


def read_rows(png: bytes) -> tuple[Image.Image, Rows] | None:
    """The images alone as one picture, and what its rows are; None where the PNG does not say."""
    with Image.open(io.BytesIO(png)) as picture:
        try:
            said = json.loads(picture.info[KEY])
            rows = Rows(tuple(said["box"]), tuple(map(str, said["names"])), tuple(said["centres"]), str(said["label"]))
            left, top, right, bottom = rows.box
            inside = 0 <= left < right <= 1 and 0 <= top < bottom <= 1 and all(0 <= one <= 1 for one in rows.centres)
        except (KeyError, TypeError, ValueError):  # of an earlier oodbench, or of somebody else
            return None
        if not inside or not 0 < len(rows.names) == len(rows.centres):
            return None
        width, height = picture.size
        edges = (round(left * width), round(top * height), round(right * width), round(bottom * height))
        return picture.crop(edges), rows
