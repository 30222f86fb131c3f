"""How figures for papers look: column widths, letters of at least 7 points, styles that are told apart in grey."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import wraps
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec

from oodbench.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMS = ("pdf", "svg", "png")

SINGLE, DOUBLE = 3.3, 6.9
"""Inches: of a column of a paper, and of two with what parts them."""

SMALLEST_LETTERS = 7
"""Points."""

PER_LINE = 4
"""Panels side by side, at most."""

RESOLUTION = 300
"""Dots an inch, of PNG."""

GREY = "0.45"
"""Of controls and auxiliary lines."""

LETTERS: Any = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": SMALLEST_LETTERS,
    "ytick.labelsize": SMALLEST_LETTERS,
    "legend.fontsize": SMALLEST_LETTERS,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    # Text stays text, in PDF as TrueType, which publishers ask for; and the same runs give the same bytes.
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "oodbench",
}


class Style(NamedTuple):
    """Of a detector's line: no two of the first twelve share a marker, and those that share a dash differ in grey."""

    colour: str
    dash: Any
    marker: str


# Of Okabe & Ito and of Tol, which colour-blind readers tell apart; each dash has a dark, a medium and a light one.
_COLOURS = (
    "#000000", "#0072B2", "#E69F00", "#882255", "#D55E00", "#56B4E9",
    "#332288", "#009E73", "#CC79A7", "#117733", "#888888", "#DDCC77",
)  # fmt: skip
_DASHES = ("-", "-", "-", "--", "--", "--", "-.", "-.", "-.", ":", ":", ":")
_MARKERS = "os^Dv*XP<>hp"

P = ParamSpec("P")


def styles(count: int) -> list[Style]:
    """As many styles; they begin anew after twelve."""
    return list(islice(cycle(map(Style, _COLOURS, _DASHES, _MARKERS)), count))


def drawn(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """The function, with LETTERS in force while it draws."""

    @wraps(draw)
    def in_style(*arguments: P.args, **named: P.kwargs) -> Figure:
        import matplotlib

        with matplotlib.rc_context(LETTERS):
            return draw(*arguments, **named)

    return in_style


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that size in inches."""
    # Only now: importing matplotlib takes long. Its Figure, not pyplot, since pyplot keeps global state.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def panels(count: int, height: float, extra: float, share_x: bool = True) -> tuple[Figure, list[Axes]]:
    """A figure of one column's width for one panel or two, else of two columns'; panels PER_LINE a line.

    Args:
        height: of a line of panels, in inches.
        extra: of what stands below them all.
    """
    columns = min(count, PER_LINE)
    lines = -(-count // columns)
    figure = new_figure(SINGLE if count <= 2 else DOUBLE, height * lines + extra)
    grid = figure.subplots(lines, columns, squeeze=False, sharex=share_x, sharey=True)
    made: list[Axes] = list(grid.flat)
    for empty in made[count:]:
        empty.set_visible(False)
    # The lowest of each column, also where the last line of panels is not full.
    for axes in made[max(0, count - columns) : count]:
        axes.tick_params(labelbottom=True)
    return figure, made[:count]


def label_below(axes_of: list[Axes], text: str) -> None:
    """The label of the horizontal axis, under the lowest panel of each column."""
    for axes in axes_of[max(0, len(axes_of) - PER_LINE) :]:
        axes.set_xlabel(text)


def legend_below(figure: Figure, handles: Iterable[Any]) -> None:
    """A legend below everything, as broad as the figure."""
    shown = list(handles)
    longest = max(len(str(handle.get_label())) for handle in shown)
    fitting = int(figure.get_figwidth() / (0.45 + 0.06 * longest))
    figure.legend(handles=shown, loc="outside lower center", ncols=max(1, min(len(shown), fitting)), columnspacing=1.2)


def legend_height(labels: Iterable[str], width: float) -> float:
    """Inches that `legend_below` takes, about."""
    shown = list(labels)
    fitting = max(1, int(width / (0.45 + 0.06 * max(map(len, shown)))))
    return 0.15 * -(-len(shown) // fitting) + 0.1


def save(figure: Figure, folder: Path, name: str, forms: Iterable[str]) -> list[Path]:
    """Write `name` in each of the forms, in the figure's own size; returns the paths."""
    import matplotlib

    paths = [folder / f"{re.sub(r'[^A-Za-z0-9_.=,()-]+', '-', name)}.{form}" for form in forms]
    for path in paths:
        dates: dict[str, Any] = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}.get(path.suffix, {})
        with atomic_write(path) as temporary, matplotlib.rc_context(LETTERS):
            figure.savefig(temporary, format=path.suffix.removeprefix("."), dpi=RESOLUTION, metadata=dates)
    return paths
