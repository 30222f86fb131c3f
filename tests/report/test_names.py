"""Names are data: whatever sets, classifiers and detectors are called, every form of a report shows it as it is."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from markdown_it import MarkdownIt

from oodbench import Benchmark, Classifier, Machine, OodbenchError, Result
from oodbench import console as oodbench_console
from oodbench.data.imageset import ArraySource, ImageSet
from oodbench.detectors.spec import build
from oodbench.plan import make_plan
from oodbench.report.comparison import Leaderboard
from oodbench.report.formats import terminal_tables, to_csv, to_html, to_json, to_latex, to_markdown
from oodbench.report.tex import escaped
from tests.report.conftest import gaussian_scores, write_run

HOSTILE = (
    "scans[a]", "[x](http://y)", "![x](y)", "pipe|d", "=cmd|' /C calc'!A0", "+1", "-1+1", "@SUM(A1)",
    "<script>x</script>", "<b>x", "</td>", "a'b\"c", "$x_1$", "_x_", "*x*", "**x**", "`x`", "a\\b", "\\", "a\\|b",
    "&lt;", ":smile:", "{{ 7 }}", "{% raw %}", "~~x~~", "# 1", "50 %", "\\input{secret}", "bold[/bold]",
    "Größe 日本", "x" * 245,
)  # fmt: skip
BROKEN = ("two\nlines", "a\rb", "\u202egnp", "a\u2066b", "\x1b[31mred", "a\0b", "bad\udcff", "a\u2028b")

Board = Callable[..., Leaderboard]


@pytest.fixture(params=[HOSTILE[number : number + 4] for number in range(0, len(HOSTILE), 4)], ids=lambda part: part[0])
def named(request: pytest.FixtureRequest, board: Board) -> tuple[tuple[str, ...], Leaderboard]:
    """Names of sets, detectors and the classifier, and a leaderboard with all of them."""
    names: tuple[str, ...] = request.param
    planted = gaussian_scores({name: 1.0 + number for number, name in enumerate(names)}, names)
    return names, board(planted, model=names[0], groups={names[0]: names[-1]})


class Cells(HTMLParser):
    """The texts of the cells of tables, row by row, and all tags there are."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self._in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self._in_cell = True
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._in_cell = self._in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.rows[-1][-1] += data


def test_markdown(named: tuple[tuple[str, ...], Leaderboard]) -> None:
    names, made = named
    rendered = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(to_markdown(made))
    found = Cells(rendered)
    assert found.tags <= {"h1", "h2", "h3", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "strong", "p"}
    heads = [row for row in found.rows if row[0] == "detector"]
    assert all(name in heads[0] for name in names) and len(heads) > 3
    assert {name for name in names if [name] in [row[:1] for row in found.rows]} == set(names)


def test_a_terminal(named: tuple[tuple[str, ...], Leaderboard], monkeypatch: pytest.MonkeyPatch) -> None:
    names, made = named
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stdout", shown)
    monkeypatch.setattr(oodbench_console.output, "width", 2000)
    for table in terminal_tables(made, 2000):
        oodbench_console.output.print(table)
    lines = shown.getvalue().splitlines()
    heads = [line for line in lines if line.startswith("detector")]
    assert all(any(name in head for head in heads) for name in names)
    assert all(any(line.startswith(name) for line in lines) for name in names)


def test_a_title_on_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Result.load(write_run(tmp_path / "run", gaussian_scores({"msp": 2.0}), model="net[a]"))
    for table in terminal_tables(run.leaderboard, 2000):
        oodbench_console.output.print(table)
    shown = capsys.readouterr().out
    assert "net[a]" in shown and "\\" not in shown


def test_csv_and_json(named: tuple[tuple[str, ...], Leaderboard]) -> None:
    names, made = named
    rows = [*csv.DictReader(io.StringIO(to_csv(made)))]
    assert not [cell for row in rows for cell in row.values() if re.match(r"[=@\t]|[+-](?![\d.]+(e|$))", cell)]
    assert {row["ood"].removeprefix("'") for row in rows} == {row["detector"].removeprefix("'") for row in rows}
    assert {row["ood"].removeprefix("'") for row in rows} == set(names) and len(rows) == len(names) ** 2
    assert {(row["detector"], row["ood"]) for row in json.loads(to_json(made))} == {
        (a, b) for a in names for b in names
    }


def test_html(named: tuple[tuple[str, ...], Leaderboard]) -> None:
    names, made = named
    page = to_html(made)
    found = Cells(page)
    assert not found.tags & {"b", "img"} and page.count("<script") == 2 and page.count("</td>") == page.count("<td")
    text = {cell for row in found.rows for cell in row}
    assert all(any(name in cell for cell in text) for name in names)


def test_latex(named: tuple[tuple[str, ...], Leaderboard]) -> None:
    names, made = named
    text = "\n".join(line for line in to_latex(made).splitlines() if not line.startswith("%"))
    assert all(escaped(name) in text for name in names)
    bare = re.sub(r"\\[&%$#_{}\\]", "", text)
    assert bare.count("$") % 2 == 0 and bare.count("{") == bare.count("}")
    assert not re.search(r"(?<!\\textbackslash\{\})\\input|%", bare)


def test_files_of_a_run(tmp_path: Path) -> None:
    planted = gaussian_scores({name: 1.0 for name in HOSTILE}, HOSTILE[:2])
    run = Result.load(write_run(tmp_path / "run", planted, model=HOSTILE[0]))
    Result(run.card, run.scores, fitted={(HOSTILE[0], name): build("msp") for name in HOSTILE}).save(tmp_path / "saved")
    again = Result.load(tmp_path / "saved")
    assert {label for _, label in again.fitted} == set(HOSTILE) and again.scores.keys() == run.scores.keys()
    files = [path.name for path in (tmp_path / "saved" / "detectors").iterdir()]
    assert len(files) == len(HOSTILE) + 1
    assert all(re.fullmatch(r"[A-Za-z0-9_.+=,()-]+", name) and len(name) <= 160 for name in files)


@pytest.mark.parametrize("name", BROKEN, ids=ascii)
def test_what_cannot_be_shown_is_refused_before_a_run_and_on_a_card(
    name: str, tmp_path: Path, small_classifier: Classifier
) -> None:
    with pytest.raises(OodbenchError, match="a set cannot be called"):
        ImageSet(name, ArraySource(np.zeros((2, 8, 8), np.uint8)), "made by a test")
    with pytest.raises(OodbenchError, match="a classifier cannot be called"):
        Classifier(small_classifier.module, num_classes=3, image_shape=(1, 8, 8), name=name)
    with pytest.raises(OodbenchError, match="the benchmark's name is"):
        Benchmark(name=name)
    card = write_run(tmp_path, gaussian_scores({"msp": 1.0}), model="net") / "card.json"
    honest = card.read_text()
    for word in ("net", "msp", "near"):
        card.write_text(honest.replace(f'"{word}"', json.dumps(name)))
        with pytest.raises(OodbenchError, match=r"card\.json is not a card"):
            Result.load(tmp_path)


def test_a_detector_whose_parameters_cannot_be_shown_is_refused() -> None:
    broken = Benchmark(ood=("uniform",), detectors=(build("odin(norm=l2)"),))
    make_plan(broken, Machine(device="cpu"))
    with pytest.raises(OodbenchError, match="cannot be called 'oodl"):
        make_plan(Benchmark(ood=("uniform",), detectors=("oodl(layer=a\u202eb)",)), Machine(device="cpu"))
