"""Figures for papers: sizes in inches, letters, percent, and what is drawn is what was measured."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from oodbench.errors import OodbenchError
from oodbench.inversion.grids import KEY, read_rows
from oodbench.inversion.pictures import save_grid
from oodbench.report.comparison import Block, Leaderboard, compare
from oodbench.report.curves import roc_at, roc_grid, score_histograms
from oodbench.report.figures import compared, dot_plot, mean_plot, rank_plot, save_figures
from oodbench.report.names import Names
from oodbench.report.paper import PaperTable
from oodbench.report.sheets import sheet_figure
from oodbench.report.style import DOUBLE, FORMS, SINGLE, SMALLEST_LETTERS, styles
from oodbench.run_folder import Result
from oodbench.statistics import delong_interval
from tests.report.conftest import gaussian_scores, write_run
from tests.report.test_html import SHEET, with_sheet

Board = Callable[..., Leaderboard]

SETS = ("cifar100", "near", "far", "farther", "farthest")
GAPS = {"energy": 2.0, "odin(norm=l2)": 1.0, "msp": 0.5, "random": 0.0}
SHOWN = ["energy", "odin(norm=l2)", "msp"]
NAMES = Names.load()


@pytest.fixture
def block(board: Board) -> Block:
    return board(gaussian_scores(GAPS, SETS), groups={"cifar100": "near", "near": "near"}).blocks[0]


def all_figures(block: Block) -> Iterator[Figure]:
    yield dot_plot(block, SHOWN, NAMES)
    yield mean_plot(block, SHOWN, NAMES)
    yield roc_grid(block, SHOWN, NAMES)
    yield score_histograms(block, "msp", NAMES)
    found = compared(block, SHOWN)
    assert found
    yield rank_plot(*found, NAMES)


def test_every_kind_in_every_form_in_a_columns_width_or_two(board: Board, tmp_path: Path) -> None:
    paths = save_figures(board(gaussian_scores(GAPS, SETS)), tmp_path)
    kinds = ["auroc", "means", "ranks", "roc", *(f"scores-{detector}" for detector in SHOWN)]
    assert {path.name for path in paths} == {f"{kind}-shapes-net.{form}" for kind in kinds for form in FORMS}
    for path in paths:
        single = path.name.startswith(("means", "ranks"))
        if path.suffix == ".pdf":
            box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", path.read_bytes())
            assert box and float(box[1]) / 72 == pytest.approx(SINGLE if single else DOUBLE, abs=0.01)
            assert b"/Type0" in path.read_bytes() and b"/Type3" not in path.read_bytes()
        elif path.suffix == ".png":
            with Image.open(path) as image:
                assert image.width / image.info["dpi"][0] == pytest.approx(SINGLE if single else DOUBLE, abs=0.01)
        else:
            root = ElementTree.parse(path).getroot()
            assert float(root.attrib["width"].removesuffix("pt")) / 72 == pytest.approx(SINGLE if single else DOUBLE)
            words = " ".join(root.itertext())
            assert "MSP" in words or (path.name.startswith("scores") and "(%)" in words)


def test_the_same_runs_give_the_same_bytes(board: Board, tmp_path: Path) -> None:
    made = board(gaussian_scores(GAPS, ("near", "far")))
    once, again = (save_figures(made, tmp_path / name, forms=("pdf", "svg")) for name in "ab")
    assert all(path.read_bytes() == other.read_bytes() for path, other in zip(once, again, strict=True))


def test_letters_are_large_enough_and_none_overlaps_the_edge(block: Block) -> None:
    for figure in all_figures(block):
        figure.draw_without_rendering()
        texts = [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
        assert texts and min(text.get_fontsize() for text in texts) >= SMALLEST_LETTERS
        assert figure.get_suptitle() == ""
        edge = figure.bbox.padded(1)
        # Matplotlib keeps labels of ticks beyond the axis, and does not draw them.
        ticks = {label for axes in figure.axes for label in axes.get_xticklabels()}
        for box in [text.get_window_extent() for text in texts if text not in ticks]:
            assert not box.width or (edge.contains(box.x0, box.y0) and edge.contains(box.x1, box.y1))


def test_a_legend_covers_no_label(block: Block) -> None:
    for figure in all_figures(block):
        figure.draw_without_rendering()
        for legend in figure.legends:
            area = legend.get_window_extent()
            for axes in figure.axes:
                if axes.get_visible():
                    assert not axes.xaxis.label.get_text() or not area.overlaps(axes.xaxis.label.get_window_extent())


def test_twelve_detectors_are_told_apart_also_in_grey() -> None:
    twelve = styles(12)

    def grey(colour: str) -> float:
        return float(np.dot(to_rgb(colour), (0.299, 0.587, 0.114)))

    assert len({style.marker for style in twelve}) == len({style.colour for style in twelve}) == 12
    for one, other in itertools.combinations(twelve, 2):
        assert one.dash != other.dash or abs(grey(one.colour) - grey(other.colour)) > 0.1, (one, other)


def test_dots_and_lines_are_the_aurocs_and_their_intervals_in_percent(block: Block) -> None:
    for ood, axes in zip(block.sets, dot_plot(block, SHOWN, NAMES).axes, strict=False):
        lines, dots = axes.lines[:-1:2], axes.lines[1:-1:2]
        for detector, line, dot in zip(SHOWN, lines, dots, strict=True):
            one = block.rows[detector, ood].first
            assert np.ravel(dot.get_xdata()) == pytest.approx([100 * one.metrics["auroc"]])
            assert np.array(line.get_xdata()) / 100 == pytest.approx(delong_interval(one.id_scores, one.ood_scores))


@pytest.mark.parametrize("draw", [dot_plot, roc_grid])
def test_the_lowest_panel_of_each_column_has_its_axis_labelled(block: Block, draw: Callable[..., Any]) -> None:
    axes_of = draw(block, SHOWN, NAMES).axes[: len(SETS)]
    assert [axes.xaxis.get_tick_params()["labelbottom"] for axes in axes_of] == [False, True, True, True, True]
    assert [bool(axes.get_xlabel()) for axes in axes_of] == [False, True, True, True, True]


def test_the_roc_marks_where_95_percent_of_id_is_kept(block: Block) -> None:
    axes = roc_grid(block, SHOWN, NAMES).axes[0]
    assert axes.get_legend_handles_labels()[1] == ["Energy", "ODIN (norm=l2)", "MSP"]
    one = block.rows["energy", block.sets[0]].first
    point = next(line for line in axes.lines if line.get_marker() == styles(1)[0].marker and len(line.get_xdata()) == 1)
    assert np.ravel(point.get_xdata()) == pytest.approx([100 * one.metrics["fpr_at_95_id_recall"]])


def repeated(tmp_path: Path) -> Block:
    paths = [
        write_run(tmp_path / str(n), gaussian_scores({"a": 1.0, "b": 0.4}, SETS[:2], n), content=f"{n:02d}" * 32)
        for n in range(3)
    ]
    return compare([Result.load(path) for path in paths]).blocks[0]


def test_curves_of_several_runs_are_their_mean_and_a_band(tmp_path: Path) -> None:
    """By a definition of its own: at each share of OOD, ID above the score that accepts so much of OOD."""
    block = repeated(tmp_path)
    axes = roc_grid(block, ["a"], NAMES).axes[0]
    row = block.rows["a", block.sets[0]]
    line = next(line for line in axes.lines if len(line.get_xdata()) == 501)
    n = len(row.first.ood_scores)
    for accepted in (0, 9, 45, 81):
        kept = []
        for one in row.repeats:
            falling = -np.sort(-one.ood_scores)
            kept.append(np.mean(one.id_scores > falling[accepted]))
        at = float(np.interp(100 * accepted / n, line.get_xdata(), line.get_ydata()))
        assert at == pytest.approx(100 * np.mean(kept), abs=1.0)
    (band,) = axes.collections
    heights = band.get_paths()[0].vertices[:, 1]
    curves = [roc_at(one.counts.ood_counts, one.counts.id_counts) for one in row.repeats]
    assert heights.max() <= 100 and 100 * np.std(curves, axis=0, ddof=1).max() > 0.5


def test_repeats_show_each_run(tmp_path: Path) -> None:
    block = repeated(tmp_path)
    strokes = [line.get_xdata() for line in dot_plot(block, ["a"], NAMES).axes[0].lines if line.get_marker() == "|"]
    assert np.ravel(strokes) == pytest.approx([100 * one.metrics["auroc"] for one in block.first.repeats])


def test_the_histogram_shows_the_threshold_and_all_images(block: Block) -> None:
    figure = score_histograms(block, "msp", NAMES)
    one = block.rows["msp", block.sets[1]].first
    axes = figure.axes[1]
    (threshold,) = axes.lines
    assert threshold.get_xdata()[0] == pytest.approx(-np.sort(-one.id_scores)[114 - 1])
    for patch in axes.patches:
        assert np.sum(patch.get_data().values) == pytest.approx(100)


def test_means_are_in_percent_and_best_comes_first(block: Block) -> None:
    figure = mean_plot(block, SHOWN, NAMES)
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["Energy", "ODIN (norm=l2)", "MSP"]
    drawn = [np.asarray(bars.lines[0].get_xdata()) for bars in axes.containers]
    for group, values in zip(("near", "far"), drawn, strict=True):
        assert values == pytest.approx([100 * block.means[one, group].metrics["auroc"].value for one in SHOWN])


def sheet(path: Path, rows: int, colour: bool = False) -> np.ndarray:
    """A PNG of `rows` rows of ten images of 8×8, and their pixels."""
    images = np.random.default_rng(0).integers(0, 256, (10 * rows, 3 if colour else 1, 8, 8)) / 255
    save_grid(images, path, 10, [f"class {number}" for number in range(rows)])
    return images


@pytest.mark.parametrize("colour", [False, True])
def test_a_sheet_of_inversions_is_a_figure_of_the_images_alone(tmp_path: Path, colour: bool) -> None:
    images = sheet(tmp_path / "sheet.png", 4, colour)
    found = read_rows((tmp_path / "sheet.png").read_bytes())
    assert found
    shown, rows = found
    assert rows.names == tuple(f"class {number}" for number in range(4)) and rows.label == "class asked for"
    # The middle of every pixel of every image, in its row: nothing is cut off, and nothing else is there.
    pixels, side, gap = np.asarray(shown.convert("RGB")) / 255, 8, 1
    high, wide = (count * (side + gap) - gap for count in (4, 10))
    for number, image in enumerate(images):
        top, left = (place * (side + gap) for place in divmod(number, 10))
        down = ((top + np.arange(side) + 0.5) / high * pixels.shape[0]).astype(int)
        across = ((left + np.arange(side) + 0.5) / wide * pixels.shape[1]).astype(int)
        seen = pixels[np.ix_(down, across)]
        assert np.abs(seen - np.broadcast_to(image.transpose(1, 2, 0), seen.shape)).max() < 0.01
    assert np.allclose(rows.centres, [(row * 9 + 4) / high for row in range(4)])


@pytest.mark.parametrize("rows", [1, 10, 20])
@pytest.mark.parametrize("width", [SINGLE, DOUBLE])
def test_a_sheet_fits_its_columns_with_letters_that_can_be_read(tmp_path: Path, rows: int, width: float) -> None:
    sheet(tmp_path / "sheet.png", rows)
    found = read_rows((tmp_path / "sheet.png").read_bytes())
    assert found
    figure = sheet_figure(*found, width)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert figure.get_figwidth() == width and figure.get_figheight() <= 8.5 and not axes.get_title()
    labels = axes.get_yticklabels()
    assert [label.get_text() for label in labels] == [f"class {number}" for number in range(rows)]
    assert min(text.get_fontsize() for text in [*labels, axes.yaxis.label]) >= SMALLEST_LETTERS
    boxes = [label.get_window_extent() for label in labels]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    assert all(figure.bbox.padded(1).contains(*corner) for box in boxes for corner in (box.min, box.max))


def test_a_run_with_a_sheet_has_its_figures(tmp_path: Path) -> None:
    folder = with_sheet(write_run(tmp_path / "run", gaussian_scores(GAPS, SETS)))
    board = compare([Result.load(folder)])
    assert not [path for path in save_figures(board, tmp_path / "none", forms=["pdf"]) if "inver" in path.name]
    sheet(folder / SHEET["file"], 3)
    paths = save_figures(compare([Result.load(folder)]), tmp_path / "figures")
    names = {path.name for path in paths if "inver" in path.name}
    assert names == {f"inversions-net{ending}.{form}" for ending in ("", "-wide") for form in FORMS}
    with Image.open(tmp_path / "figures" / "inversions-net-wide.png") as image:
        assert image.width / image.info["dpi"][0] == pytest.approx(DOUBLE, abs=0.01)


@pytest.mark.parametrize(
    "said",
    ["", "[]", '{"box": [0, 0, 1, 1]}', '{"box": [0, 0, 9, 1], "names": ["a"], "centres": [0.5], "label": ""}',
     '{"box": [0, 0, 1, 1], "names": [], "centres": [], "label": ""}',
     '{"box": [0, "x", 1, 1], "names": ["a"], "centres": [0.5], "label": ""}'],
)  # fmt: skip
def test_a_picture_that_says_something_else_is_no_sheet(tmp_path: Path, said: str) -> None:
    text = PngInfo()
    text.add_text(KEY, said)
    Image.new("L", (40, 40)).save(tmp_path / "x.png", pnginfo=text)
    assert read_rows((tmp_path / "x.png").read_bytes()) is None


def test_too_few_for_ranks_have_no_diagram(board: Board, tmp_path: Path) -> None:
    two = board(gaussian_scores({"a": 1.0, "b": 0.4}, ("near",)))
    assert {path.name.split("-")[0] for path in save_figures(two, tmp_path, forms=("svg",))} == {
        "auroc",
        "roc",
        "scores",
    }


def test_an_unknown_form_is_refused(board: Board, tmp_path: Path) -> None:
    with pytest.raises(OodbenchError, match="no form of figures 'eps'"):
        save_figures(board(gaussian_scores({"a": 1.0})), tmp_path, PaperTable(), ("eps",))
