"""The tables of the terminal: nothing is cut off, at any width that holds a detector and a mean."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from oodbench.report.comparison import Leaderboard, compare
from oodbench.report.formats import terminal_tables
from oodbench.report.layout import SUMMARY_MEANING
from oodbench.run_folder import Result
from tests.report.conftest import gaussian_scores, write_run

RESULT = Result.load(Path(__file__).parents[2] / "results/digits")


@pytest.mark.parametrize("width", [*range(31, 100), 200])
def test_every_figure_is_shown_whole(width: int) -> None:
    printed = io.StringIO()
    console = Console(file=printed, width=width, highlight=False)
    for table in terminal_tables(RESULT.leaderboard, width):
        console.print(table)
    shown = printed.getvalue()
    assert "…" not in shown and max(map(len, shown.splitlines())) <= width
    for row in RESULT.card.metrics:
        assert f"{100 * row['auroc']:.1f}/{100 * row['fpr_at_95_id_recall']:>5.1f}" in shown, row["ood"]


def printed(leaderboard: Leaderboard, width: int = 200) -> str:
    text = io.StringIO()
    console = Console(file=text, width=width, highlight=False)
    for table in terminal_tables(leaderboard, width):
        console.print(table)
    return text.getvalue()


def test_more_than_five_sets_are_rows_and_no_mean_mixes_groups(board: Callable[..., Leaderboard]) -> None:
    sets = ("n1", "f1", "n2", "f2", "g1", "f3")
    groups = {"n1": "near", "n2": "near", "g1": "noise"}
    made = board(gaussian_scores({"good": 2.0, "poor": 0.5}, sets), groups=groups)
    lines = [line.split() for line in printed(made).splitlines()]
    names = [
        " ".join(line[:3]) if line[:1] == ["mean"] else line[0]
        for line in lines[3:]
        if line[0] not in SUMMARY_MEANING.split()
    ]
    assert names == ["n1", "n2", "mean of near", "f1", "f2", "f3", "mean of far", "g1"]
    near = [row.metrics["auroc"].value for row in made.rows if row.first.ood in ("n1", "n2")][::2]
    assert lines[5][3].startswith(f"{50 * sum(near):.1f}/")


def test_several_models_end_with_their_mean_and_spread(tmp_path: Path) -> None:
    runs = [
        Result.load(write_run(tmp_path / name, gaussian_scores({"a": 2.0}, seed=n), model=name, content=f"{n}e" * 32))
        for n, name in enumerate(("one", "two"))
    ]
    made = compare(runs)
    values = [block.means["a", "far"].metrics["auroc"].value for block in made.blocks]
    told = f"{100 * np.mean(values):.1f} ± {100 * np.std(values, ddof=1):.1f}"
    text = printed(made)
    assert "over 2" in text and text.splitlines()[-2].split(maxsplit=1) == ["a", told]


def test_checkpoints_are_told_apart_by_their_files(tmp_path: Path) -> None:
    """Two of one architecture, in one run; where two files are called alike, by their content."""
    for models, expected in (
        (["net=a/first.pt", "net=b/second.pt"], ["first", "second"]),
        (["net=a/best.pt", "net=b/best.pt"], ["net-a1a1a1", "net-b2b2b2"]),
    ):
        folder = write_run(tmp_path / expected[0], gaussian_scores({"a": 1.0}), model="net-a1a1a1", models=models)
        other = write_run(
            tmp_path / "other", gaussian_scores({"a": 1.5}), model="net-b2b2b2", content="b2" * 32, models=models
        )
        one, two = Result.load(folder), Result.load(other)
        card = replace(
            one.card,
            metrics=one.card.metrics + two.card.metrics,
            classifiers=one.card.classifiers + two.card.classifiers,
            sets=one.card.sets + two.card.sets,
        )
        both = replace(one, card=card, scores={**one.scores, **two.scores})
        assert [block.model for block in compare([both], apart=True).blocks] == expected
