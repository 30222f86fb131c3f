"""Static figures: both forms, all names, the same bytes for the same runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from oodbench.report.comparison import Leaderboard, compare
from oodbench.report.figures import dot_plot, roc_grid, save_figures
from oodbench.run_folder import Result
from oodbench.statistics import delong_interval
from tests.report.conftest import gaussian_scores, write_run

Board = Callable[..., Leaderboard]


@pytest.fixture
def measured(board: Board) -> Leaderboard:
    return board(gaussian_scores({"good": 2.0, "odin(norm=l2)": 1.0, "random": 0.0}, ("near", "far", "farther")))


def test_both_figures_in_both_forms(measured: Leaderboard, tmp_path: Path) -> None:
    paths = save_figures(measured, tmp_path)
    assert {path.name for path in paths} == {
        f"{kind}-shapes-net.{form}" for kind in ("auroc", "roc") for form in ("svg", "png")
    }
    for path in paths:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert min(image.size) > 200
        else:
            words = " ".join(ElementTree.parse(path).getroot().itertext())
            assert "odin(norm=l2)" in words and "farther" in words


def test_the_same_runs_give_the_same_svg(measured: Leaderboard, tmp_path: Path) -> None:
    once, again = (save_figures(measured, tmp_path / name) for name in "ab")
    for path, other in zip(once, again, strict=True):
        assert path.suffix != ".svg" or path.read_bytes() == other.read_bytes()


def test_dots_and_lines_are_the_aurocs_and_their_intervals(measured: Leaderboard) -> None:
    (block,) = measured.blocks
    for ood, axes in zip(block.sets, dot_plot(block).axes, strict=False):
        lines, dots = axes.lines[:-1:2], axes.lines[1:-1:2]
        for detector, line, dot in zip(block.detectors, lines, dots, strict=True):
            one = block.rows[detector, ood].first
            assert np.ravel(dot.get_xdata()) == pytest.approx([one.metrics["auroc"]])
            assert line.get_xdata() == pytest.approx(delong_interval(one.id_scores, one.ood_scores))


@pytest.mark.parametrize("draw", [dot_plot, roc_grid])
def test_the_lowest_panel_of_each_column_has_its_axis_labelled(board: Board, draw: Callable[..., Any]) -> None:
    names = tuple("abcde")
    (block,) = board(gaussian_scores({"good": 2.0}, names)).blocks
    panels = draw(block).axes[: len(names)]
    assert [axes.xaxis.get_tick_params()["labelbottom"] for axes in panels] == [False, True, True, True, True]


def test_the_roc_leaves_controls_out_and_marks_both_95_percent_points(measured: Leaderboard) -> None:
    (block,) = measured.blocks
    axes = roc_grid(block).axes[0]
    assert axes.get_legend_handles_labels()[1] == ["good", "odin(norm=l2)"]
    one = block.rows["good", "near"].first
    (dot, square) = (next(line for line in axes.lines if line.get_marker() == marker) for marker in "os")
    assert np.ravel(dot.get_xdata()) == pytest.approx([one.metrics["fpr_at_95_id_recall"]])
    assert 1 - np.ravel(square.get_ydata()) == pytest.approx([one.metrics["fpr_at_95_ood_recall"]])


def test_repeats_show_each_run(tmp_path: Path) -> None:
    paths = [
        write_run(tmp_path / str(n), gaussian_scores({"a": 1.0}, ("near",), n), content=f"{n:02d}" * 32) for n in (0, 1)
    ]
    (block,) = compare([Result.load(path) for path in paths]).blocks
    strokes = [line.get_xdata() for line in dot_plot(block).axes[0].lines if line.get_marker() == "|"]
    assert np.ravel(strokes) == pytest.approx([one.metrics["auroc"] for one in block.first.repeats])
