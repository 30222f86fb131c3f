"""Published figures stand beside the measured ones, or the file is refused in words."""

from __future__ import annotations

import io
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from oodbench.data.catalogue import DATASETS
from oodbench.errors import OodbenchError
from oodbench.report.comparison import Estimate, Leaderboard, compare
from oodbench.report.formats import to_csv, to_html, to_markdown
from oodbench.report.paper import to_latex
from oodbench.report.published import LITERATURE, read_published, with_published
from oodbench.run_folder import Result
from tests.report.conftest import gaussian_scores, write_run

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
    assert rows["good", "near"].published == {"auroc": Estimate(0.975), "fpr_at_95_id_recall": Estimate(0.123)}
    assert rows["good", "near"].source == "Table 2, someone"
    assert rows["good", "far"].published == {"auroc": Estimate(0.9)}
    assert rows["poor", "near"].published == {} == rows["poor", "far"].published
    assert len(notes) == 1 and notes[0].endswith("published.csv, line 4: no row of the report is about that")


def test_every_format_shows_them(measured: Leaderboard, tmp_path: Path) -> None:
    shown, _ = with_published(measured, write(tmp_path, FILE))
    for text in (to_markdown(shown), to_html(shown)):
        assert "AUROC 97.5, FPR@95 ID recall 12.3 (Table 2, someone)" in text
        assert "AUROC 90.0 (elsewhere)" in text
    latex = to_latex(shown)
    measured_auroc = f"{100 * shown.rows[0].metrics['auroc'].value:.1f}"
    assert rf"good & near & AUROC & {measured_auroc} & 97.5$^{{1}}$ \\" in latex
    assert r"$^{1}$\,Table 2, someone." in latex and r"$^{2}$\,elsewhere." in latex
    assert "ublished" not in to_latex(measured)
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
        ("id,detector,ood,source,auroc\nshapes,good,near,Smith, 2020,0.9\n", "a line has more cells than the head"),
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


def test_a_mean_over_sets_stands_beside_the_mean_over_those_sets(measured: Leaderboard, tmp_path: Path) -> None:
    text = "id,detector,ood,source,auroc,auroc_spread\nshapes,good,near+far,a paper,0.9064,0.002\n"
    shown, notes = with_published(measured, write(tmp_path, text))
    (mean,) = shown.blocks[0].published_means
    aurocs = [row.metrics["auroc"].value for row in shown.rows if row.first.detector == "good"]
    assert notes == [] and mean.metrics["auroc"].value == pytest.approx(np.mean(aurocs))
    assert mean.published == {"auroc": Estimate(0.9064, 0.002)}
    assert rf"good & mean of near, far & AUROC & {100 * np.mean(aurocs):.1f} & 90.6$_{{\pm 0.2}}$" in to_latex(shown)
    assert "90.6 ± 0.2" in to_markdown(shown)
    half = write(tmp_path, text.replace("near+far", "near+svhn"))
    assert with_published(measured, half)[1] == [f"{half}, line 2: no row of the report is about that"]


@pytest.mark.parametrize(("run", "file"), [("msp", "msp"), ("msp", "msp"), ("odin", "odin")])
def test_a_detector_has_any_of_its_names(tmp_path: Path, run: str, file: str) -> None:
    """Whichever the table calls it by."""
    made = compare([Result.load(write_run(tmp_path / "run", gaussian_scores({run: 1.0, "energy": 0.5})))])
    text = f"id,detector,ood,source,auroc\nshapes,{file},near,a paper,0.75\n"
    shown, notes = with_published(made, write(tmp_path, text))
    assert notes == [] and shown.blocks[0].rows[run, "near"].published == {"auroc": Estimate(0.75)}


@pytest.mark.parametrize("name", LITERATURE)
def test_figures_that_come_with_oodbench_can_be_read_and_are_about_sets_it_knows(name: str) -> None:
    table = read_published(Path(str(resources.files("oodbench.report").joinpath("literature", f"{name}.csv"))))
    assert not table.duplicated(["id", "detector", "ood"]).any() and (table["source"] != "").all()
    named = {ood for oods in table["ood"] for ood in oods.split("+")} | set(table["id"])
    assert named <= set(DATASETS)


def test_those_of_odin_are_shown_by_their_name(tmp_path: Path) -> None:
    """As METHODS has them: DenseNet, CIFAR-10, LSUN shrunk: baseline 33.6 % and 95.4 %, ODIN 3.8 % and 99.2 %."""
    scores = gaussian_scores({"msp": 1.0, "odin": 2.0}, ("lsun-resize",))
    path = write_run(tmp_path / "run", {(d, s): v for (d, s), v in scores.items()})
    card = (path / "card.json").read_text().replace('"shapes"', '"cifar10"')
    (path / "card.json").write_text(card)
    arrays = dict(np.load(path / "scores.npz"))
    np.savez(path / "scores.npz", **{key.replace("shapes", "cifar10"): value for key, value in arrays.items()})
    shown, notes = with_published(compare([Result.load(path)]), "odin")
    rows = shown.blocks[0].rows
    assert rows["msp", "lsun-resize"].published == {"auroc": Estimate(0.954), "fpr_at_95_id_recall": Estimate(0.336)}
    assert rows["odin", "lsun-resize"].published == {"auroc": Estimate(0.992), "fpr_at_95_id_recall": Estimate(0.038)}
    assert notes == ["odin: 2 of 28 published lines are about this report's rows"]


def test_an_unknown_name_is_met_with_those_there_are(measured: Leaderboard) -> None:
    with pytest.raises(OodbenchError, match="did you mean openood-cifar10"):
        with_published(measured, "openood-cifar")
