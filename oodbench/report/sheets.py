"""Pictures of inversions: PNG files beside a run's card, which names them and says what they show, and as figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from oodbench.files import safe_name
from oodbench.inversion.grids import Rows, read_rows
from oodbench.report.style import DOUBLE, SINGLE, SMALLEST_LETTERS, drawn, new_figure, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHEETS_FOLDER = "pictures"

TALLEST = 8.5
"""Inches of a figure: what a page holds beside a caption."""

NAMES_WIDTH = 0.4
"""Inches that the rows' names take, about."""


def sheet_file(name: str, classifier: str, content_hash: str) -> str:
    """Where it lies beside the card: `pictures/inversions-cnn8+inversion-7bb57d.png`, with the head of the hash."""
    return f"{SHEETS_FOLDER}/{name}-{safe_name(classifier)}-{content_hash[:6]}.png"


def save_sheets(sheets: Mapping[str, bytes], folder: Path, forms: Iterable[str]) -> list[Path]:
    """Write each PNG that knows its rows as figures, `NAME` in a column's width and `NAME-wide` in two; returns the
    paths.

    Args:
        sheets: file name → PNG.
        forms: of `style.FORMS`.
    """
    paths = []
    for file, png in sheets.items():
        if found := read_rows(png):
            for ending, width in (("", SINGLE), ("-wide", DOUBLE)):
                paths += save(sheet_figure(*found, width), folder, PurePosixPath(file).stem + ending, forms)
    return paths


@drawn
def sheet_figure(images: Image.Image, rows: Rows, width: float) -> Figure:
    """Rows of images with their names, that many inches wide."""
    height = min((width - NAMES_WIDTH) * images.height / images.width + 0.1, TALLEST)
    figure = new_figure(width, height)
    axes = figure.subplots()
    pixels = np.asarray(images.convert("RGB"))
    grey = (pixels == pixels[..., :1]).all()
    axes.imshow(pixels[..., 0] if grey else pixels, cmap="gray", vmin=0, vmax=255, interpolation="none")
    axes.set_yticks([share * len(pixels) - 0.5 for share in rows.centres], rows.names, fontsize=SMALLEST_LETTERS)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_ylabel(rows.label)
    return figure
