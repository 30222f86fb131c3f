"""`oodbench report` as a user meets it, on real runs of a tiny classifier."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from oodbench import Benchmark, Classifier, run
from oodbench.report.formats import COLUMNS
from tests.cli.conftest import Ended

Command = Callable[..., Ended]

BEGINNINGS = {
    "csv": "id,model,detector",
    "json": "[",
    "md": "# OOD detection",
    "html": "<!doctype html>",
    "latex": "% Written by",
}


@pytest.fixture
def folder(small_classifier: Classifier, image_files: dict[str, str], tmp_path: Path) -> Path:
    """The folder of a run."""
    detectors = ("msp", "energy(temperature=2)", "lc", "constant")
    benchmark = Benchmark(id=image_files["id"], ood=(image_files["bright"], image_files["dark"]), detectors=detectors)
    run(benchmark, [small_classifier]).save(tmp_path / "run")
    return tmp_path / "run"


def test_markdown_on_standard_output_unless_asked_otherwise(oodbench: Command, folder: Path) -> None:
    ended = oodbench("report", folder)
    assert ended.code == 0 and ended.err == ""
    assert ended.out.startswith("# OOD detection") and "energy(temperature=2)" in ended.out
    assert "constant (control)" in ended.out and "runs: 1" in ended.out


@pytest.mark.parametrize("format", BEGINNINGS)
def test_every_format(oodbench: Command, folder: Path, format: str) -> None:
    ended = oodbench("report", folder / "card.json", "--format", format, "--intervals", "--group")
    assert ended.code == 0 and ended.out.startswith(BEGINNINGS[format])


@pytest.mark.parametrize(
    ("name", "format"),
    [("a.csv", "csv"), ("a.MD", "md"), ("a.htm", "html"), ("deep/a.html", "html"), ("a.tex", "latex")],
)
def test_a_file_is_written_in_the_format_of_its_ending(
    oodbench: Command, folder: Path, tmp_path: Path, name: str, format: str
) -> None:
    ended = oodbench("report", folder, "-o", tmp_path / name)
    assert ended.code == 0 and ended.out == "" and str(tmp_path / name) in ended.err
    assert (tmp_path / name).read_text().startswith(BEGINNINGS[format])


def test_the_same_runs_give_the_same_page(oodbench: Command, folder: Path, tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        oodbench("report", folder, "--intervals", "-o", tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_csv_agrees_with_that_of_the_run(oodbench: Command, folder: Path, tmp_path: Path) -> None:
    oodbench("report", folder, "-o", tmp_path / "again.csv")
    again = pd.read_csv(tmp_path / "again.csv")[list(COLUMNS)]
    pd.testing.assert_frame_equal(again, pd.read_csv(folder / "leaderboard.csv"))


def test_figures_and_published(oodbench: Command, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "known.csv").write_text("id,detector,ood,source,auroc\nrot_test,msp,dark,a paper,0.75\n,x,y,z,\n")
    ended = oodbench("report", folder, "--published", tmp_path / "known.csv", "--figures", tmp_path / "figures")
    assert ended.code == 0, ended.err
    assert "known.csv, line 3: no row of the report is about that" in ended.err
    written = sorted((tmp_path / "figures").iterdir())
    assert [path.suffix for path in written[:3]] == [".pdf", ".png", ".svg"] and str(written[0]) in ended.err
    assert "AUROC 75.0 (a paper)" in ended.out


def test_a_paper_in_one_command(oodbench: Command, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "names.toml").write_text('[detectors]\n"energy(temperature=2)" = "Energy at 2"\n')
    options = "--order", "energy(temperature=2),msp", "--columns", "bright", "--metrics", "auroc", "--decimals", "2"
    names = "--names", tmp_path / "names.toml", "--figures", tmp_path / "figures", "--format-figures", "pdf"
    ended = oodbench("report", folder, *options, *names, "-o", tmp_path / "table.tex")
    assert ended.code == 0, ended.err
    text = (tmp_path / "table.tex").read_text()
    table = pd.read_csv(folder / "leaderboard.csv").query("ood == 'bright'").set_index("detector")["auroc"]
    rows = [line for line in text.splitlines() if line.startswith(("Energy at 2 & ", "MSP & "))]
    shown = [re.sub(r"\\\\|\\\w+{|}|&", " ", row).split()[-1] for row in rows]
    assert [row.split(" & ")[0] for row in rows] == ["Energy at 2", "MSP"]
    labels = ["energy(temperature=2)", next(one for one in table.index if one in ("msp", "msp"))]
    assert shown == [f"{100 * table[label]:.2f}" for label in labels]
    assert {path.suffix for path in (tmp_path / "figures").iterdir()} == {".pdf"}


BAD = {
    "nothing to report": ([], "RESULTS"),
    "missing folder": (["nowhere"], "nowhere"),
    "unknown format": (["RUN", "--format", "pdf"], "pdf"),
    "unknown ending": (["RUN", "-o", "OUT/table.pdf"], "--format"),
    "the same run twice": (["RUN", "RUN"], "is there twice"),
    "unknown metric": (["RUN", "--format", "latex", "--metrics", "aurok"], "did you mean auroc"),
    "unknown column": (["RUN", "--format", "latex", "--columns", "brigt"], "did you mean bright"),
    "unknown detector": (["RUN", "--format", "latex", "--order", "energi,*"], "there is no detector in these runs"),
    "an option of LaTeX": (["RUN", "--transpose"], "add --format latex"),
    "unknown form of figures": (
        ["RUN", "--figures", "OUT/f", "--format-figures", "gif"],
        "there is no form of figures",
    ),
    "names that are missing": (["RUN", "--names", "nowhere.toml"], "nowhere.toml"),
    "missing published": (["RUN", "--published", "nowhere.csv", "-o", "OUT/a.md"], "nowhere.csv"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused_in_words(
    oodbench: Command, folder: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    places = {"RUN": str(folder), "OUT": str(tmp_path / "out")}
    ended = oodbench("report", *[places.get(one, one.replace("OUT", places["OUT"])) for one in arguments])
    assert ended.code == 2
    assert message in ended.err and "Traceback" not in ended.err and ended.out == ""
    assert not (tmp_path / "out").exists(), "something was left behind"


def test_a_place_that_cannot_be_written_is_refused(oodbench: Command, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = oodbench("report", folder, "-o", tmp_path / "file" / "a.md")
    assert ended.code == 2 and "cannot write into" in ended.err


def test_a_reader_that_has_enough_is_no_error(folder: Path) -> None:
    """`oodbench report … | head` ends quietly."""
    command = [sys.executable, "-m", "oodbench", "report", folder, "--format", "html"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""


def test_a_report_needs_no_network_library() -> None:
    """Cards and scores are enough: torch is never imported, so a report is made in a second or two."""
    parts = "oodbench.run_folder, oodbench.report.write, oodbench.report.figures"
    code = f"import sys, {parts}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
