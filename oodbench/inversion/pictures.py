"""Figures of inversions: generated images class by class, training curves, the ablation, the sweeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from oodbench.files import atomic_write
from oodbench.inversion.ablation import DOCUMENT_SETTINGS
from oodbench.inversion.generator import Generator
from oodbench.inversion.grids import KEY, Rows
from oodbench.inversion.invert import Inversion, generate
from oodbench.inversion.settings import LOSSES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe & Ito's palette, which colour-blind readers can tell apart."""

STYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
"""Line styles that go with the colours, so that a figure survives a grey printer."""

RESOLUTION = 150


def save_class_grid(
    generator: Generator, path: Path, seed: int, per_class: int = 10, names: Sequence[str] | None = None
) -> None:
    """Write a PNG of generated images, one row a class.

    Args:
        names: of the classes; by default their numbers.
    """
    targets = torch.arange(generator.num_classes).repeat_interleave(per_class)
    images = generate(generator, targets, seed).images.cpu().numpy()
    save_grid(images, path, per_class, names or [str(number) for number in range(generator.num_classes)])


def save_grid(
    images: np.ndarray,
    path: Path,
    per_class: int,
    names: Sequence[str],
    title: str = "Generated images",
    label: str = "class asked for",
) -> None:
    """Write a PNG of N×C×H×W images in [0, 1], `per_class` a row, each row called by its name; it says where they are
    (see `grids`)."""
    sheet, centres = tiles(images, per_class)
    height, width = sheet.shape[:2]
    figure = _figure(width * 8 / max(height, width) + 1, height * 8 / max(height, width) + 0.7)
    axes = figure.subplots()
    axes.imshow(sheet, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_yticks(centres, names)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_ylabel(label)
    axes.set_title(title, fontsize=11)
    figure.draw_without_rendering()
    place = axes.get_position()
    rows = Rows(
        (place.x0, 1 - place.y1, place.x1, 1 - place.y0),
        tuple(names),
        tuple((centre + 0.5) / height for centre in centres),
        label,
    )
    _save(figure, path, {KEY: rows.as_text()})


def save_pairs(made: np.ndarray, real: np.ndarray, path: Path, per_row: int = 10, rows: int = 4) -> None:
    """Write a PNG of pairs of images, N×C×H×W in [0, 1], the real one below the made one; the first rows of them."""
    kept = min(len(made), per_row * rows)
    # Filled up with white, so that images of one kind do not slip into rows of the other.
    fill = [(0, -kept % per_row)] + [(0, 0)] * 3
    by_row = [
        np.pad(part[:kept], fill, constant_values=1).reshape(-1, per_row, *part.shape[1:]) for part in (made, real)
    ]
    pairs = np.stack(by_row, axis=1)
    images = pairs.reshape(-1, *made.shape[1:])
    save_grid(
        images, path, per_row, ["made", "training"] * len(pairs), "Made images, and the nearest training images", ""
    )


def tiles(images: np.ndarray, per_row: int) -> tuple[np.ndarray, list[float]]:
    """N×C×H×W images side by side, `per_row` a row, as H'×W' (grey) or H'×W'×3; and the rows' centres."""
    count, channels, height, width = images.shape
    gap = max(1, height // 14)
    rows = -(-count // per_row)
    sheet = np.ones((rows * (height + gap) - gap, per_row * (width + gap) - gap, channels), dtype=images.dtype)
    for number, image in enumerate(images):
        top, left = number // per_row * (height + gap), number % per_row * (width + gap)
        sheet[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    centres = [row * (height + gap) + (height - 1) / 2 for row in range(rows)]
    return (sheet[..., 0] if channels == 1 else sheet), centres


def save_curves(inversion: Inversion, path: Path) -> None:
    """Write accuracy and weighted losses by epoch as a PNG at `path`, and `Inversion.curves` as a CSV beside."""
    curves = inversion.curves()
    figure = _figure(7, 6.4)
    above, below = figure.subplots(2, sharex=True)
    above.plot(curves["epoch"], curves["inversion_accuracy"], color=COLOURS[0], marker="o", markersize=3)
    _accuracy_axis(above)
    weighted = [name for name in LOSSES if inversion.settings.value(name)]
    below.plot(curves["epoch"], curves["loss"], label="sum", color="black", linewidth=2)
    for number, name in enumerate(weighted):
        weight = inversion.settings.value(name)
        below.plot(curves["epoch"], weight * curves[name], label=f"{weight:g} × {_words(name)}", **_style(number))
    below.set_ylabel("loss")
    below.set_xlabel("epoch")
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    _quiet(above, below)
    _save(figure, path)
    save_table(curves, path.with_suffix(".csv"))


def save_ablation(curves: pd.DataFrame, path: Path) -> None:
    """Write a PNG of inversion accuracy against epoch: each variant's mean over the seeds, and their range.

    Args:
        curves: of `ablation.ablate`.
    """
    figure = _figure(7.5, 4.2)
    axes = figure.subplots()
    for number, (variant, runs) in enumerate(curves.groupby("variant", sort=False)):
        over_seeds = runs.groupby("epoch")["inversion_accuracy"].agg(["mean", "min", "max"])
        style = _style(number)
        axes.plot(over_seeds.index, over_seeds["mean"], label=_words(str(variant)), linewidth=2, **style)
        axes.fill_between(
            over_seeds.index,
            over_seeds["min"],
            over_seeds["max"],
            color=style["color"],
            alpha=0.15,
            linewidth=0,
        )
    seeds = curves["seed"].nunique()
    axes.set_xlabel(f"epoch (line: mean over {seeds} seeds, band: their range)" if seeds > 1 else "epoch")
    _accuracy_axis(axes)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    _quiet(axes)
    _save(figure, path)


def save_sweeps(table: pd.DataFrame, folder: Path, chosen: Mapping[str, Any]) -> list[Path]:
    """Write one PNG for each swept parameter, `sweep_<parameter>.png`; returns the paths.

    Each shows the inversion accuracy and the epochs to 0.8 for every value and seed, and the means over the
    seeds; the value in use and those of the source document are marked.

    Args:
        table: of `ablation.sweep`.
        chosen: the value in use, by parameter.
    """
    paths = []
    for parameter, runs in table.groupby("parameter", sort=False):
        path = folder / f"sweep_{parameter}.png"
        _save_sweep(str(parameter), runs, path, chosen.get(str(parameter)))
        paths.append(path)
    return paths


def _save_sweep(parameter: str, runs: pd.DataFrame, path: Path, chosen: Any) -> None:
    values = list(dict.fromkeys(runs["value"]))
    document = DOCUMENT_SETTINGS.get(parameter, ())
    note = f"\n(source document: {', '.join(f'{value:g}' for value in document)})" if document else ""
    figure = _figure(max(7.5, 2 * len(values)), 3.8)
    axes = figure.subplots(1, 2)
    # Values are set side by side: they are often spaced by factors, and may be 0 or words.
    at = runs["value"].map(values.index)
    ticks = [
        f"{value:g}" + "\nin use" * (value == chosen) + "\ndocument" * (value in document)
        if isinstance(value, int | float)
        else str(value) + "\nin use" * (value == chosen)
        for value in values
    ]
    for number, column in enumerate(("final_inversion_accuracy", "epochs_to_0.8")):
        axes[number].plot(at, runs[column], "o", color=COLOURS[number], alpha=0.5, markersize=5, label="one seed")
        # A mean without the seeds that never got there would flatter the value.
        means = runs[column].groupby(at).agg(lambda seeds: seeds.mean(skipna=False))
        axes[number].plot(means.index, means, color=COLOURS[number], marker="_", markersize=14, label="mean")
        axes[number].set_xticks(range(len(values)), ticks, fontsize=8)
        axes[number].set_xlim(-0.5, len(values) - 0.5)
        axes[number].set_xlabel(_words(parameter) + note)
    _accuracy_axis(axes[0])
    axes[1].set_ylabel("epochs to 0.8 (absent: not reached)")
    axes[1].set_ylim(bottom=0)
    axes[0].legend(frameon=False, fontsize=8)
    _quiet(*axes)
    _save(figure, path)


def _figure(width: float, height: float) -> Figure:
    # Only now: importing matplotlib takes long. Its Figure, not pyplot, since pyplot keeps global state.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _style(number: int) -> dict[str, Any]:
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": STYLES[number % len(STYLES)]}


def _accuracy_axis(axes: Axes) -> None:
    axes.set_ylabel("inversion accuracy")
    axes.set_ylim(-0.02, 1.02)


def _quiet(*all_axes: Axes) -> None:
    for axes in all_axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="0.9")
        axes.set_axisbelow(True)


def _words(name: str) -> str:
    return {"no_ce": "no cross-entropy", "kl": "KL", "no_kl": "no KL", "l1": "L1"}.get(name, name.replace("_", " "))


def _save(figure: Figure, path: Path, texts: Mapping[str, str] | None = None) -> None:
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=RESOLUTION, metadata=texts)


def save_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV, whole or not at all."""
    with atomic_write(path) as temporary:
        table.to_csv(temporary, index=False)
