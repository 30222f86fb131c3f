"""Published figures stand beside the measured ones, or the file is refused in words."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from oodbench.errors import OodbenchError
from oodbench.report.comparison import Leaderboard
from oodbench.report.formats import to_csv, to_html, to_latex, to_markdown
from oodbench.report.published import with_published
from tests.report.conftest import gaussian_scores

Board = Callable[..., Leaderboard]

FILE = """\
id,model,detector,ood,source,auroc,fpr_at_95_id_recall
shapes,,good,near,"Table 2, someone",0.975,0.123
shapes,net,good,far,elsewhere,0.9,
shapes,another,poor,near,elsewhere,0.5,
"""


@pytest.fixture
def measured(board: Board) -> Leaderboard:
    return board(gaussian_scores({"good": 2.0, "poor": 0.3}))


def write(folder: Path, text: str) -> Path:
    path = folder / "published.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_figures_stand_beside_their_rows(measured: Leaderboard, tmp_path: Path) -> None:
    shown, notes = with_published(measured, write(tmp_path, FILE))
    rows = {(row.first.detector, row.first.ood): row for row in shown.rows}
    assert rows["good", "near"].published == {"auroc": 0.975, "fpr_at_95_id_recall": 0.123}
    assert rows["good", "near"].source == "Table 2, someone"
    assert rows["good", "far"].published == {"auroc": 0.9}
    assert rows["poor", "near"].published == {} == rows["poor", "far"].published
    assert len(notes) == 1 and notes[0].endswith("published.csv, line 4: no row of the report is about that")


def test_every_format_shows_them(measured: Leaderboard, tmp_path: Path) -> None:
    shown, _ = with_published(measured, write(tmp_path, FILE))
    for text in (to_markdown(shown), to_html(shown)):
        assert "AUROC 97.5, FPR@95 ID recall 12.3 (Table 2, someone)" in text
        assert "AUROC 90.0 (elsewhere)" in text
    latex = to_latex(shown)
    measured_auroc = f"{100 * shown.rows[0].metrics['auroc'].value:.1f}"
    assert rf"good & near & AUROC & {measured_auroc} & 97.5 & Table 2, someone \\" in latex
    assert (
        r"& FPR@95 ID recall &" in latex and r"good & far & AUROC &" in latex and "ublished" not in to_latex(measured)
    )
    table = pd.read_csv(io.StringIO(to_csv(shown)))
    line = table[(table.detector == "good") & (table.ood == "near")].iloc[0]
    assert (line.auroc_published, line.published_source) == (0.975, "Table 2, someone")
    assert "ublished" not in to_markdown(measured) and "ublished" not in to_csv(measured)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a CSV file"),
        ("id,detector,ood\nshapes,good,near\n", "no column source"),
        ("id,detector,ood,source,aurok\n", "did you mean auroc"),
        ("id,detector,ood,source,auroc\nshapes,good,near,x,97.5\n", "line 2: auroc is '97.5'.*fraction"),
        ("id,detector,ood,source,auroc\nshapes,good,near,x,high\n", "line 2: auroc is 'high'"),
        ("id,detector,ood,source,auroc\nshapes,good,near,x,nan\n", "line 2: auroc is 'nan'"),
        (FILE + "shapes,net,good,near,again,0.9,\n", "lines 2 and 5 are both about good on near"),
    ],
)
def test_a_bad_file_is_refused_in_words(measured: Leaderboard, tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(OodbenchError, match=message):
        with_published(measured, write(tmp_path, text))


def test_a_missing_file_is_named(measured: Leaderboard, tmp_path: Path) -> None:
    with pytest.raises(OodbenchError, match=r"nowhere\.csv"):
        with_published(measured, tmp_path / "nowhere.csv")
