"""CSV, markdown and LaTeX say the same, and what they mark is what the comparison found."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from oodbench.metrics import METRICS
from oodbench.report.comparison import Leaderboard, compare
from oodbench.report.formats import COLUMNS, csv_of, panels, terminal_tables, to_csv, to_html, to_markdown
from oodbench.report.layout import Cell, Grid
from oodbench.report.paper import PaperTable, to_latex
from oodbench.run_folder import Result
from tests.report.conftest import gaussian_scores, write_run

Board = Callable[..., Leaderboard]

CONTEST = gaussian_scores({"good": 2.0, "twin(p=1_0)": 1.9, "poor": 0.3, "random": 0.0}, seed=2)


def read_csv(text: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text))


def several(tmp_path: Path, count: int, **options: bool) -> Leaderboard:
    paths = [
        write_run(tmp_path / str(n), gaussian_scores({"a": 1 + n / 9}, seed=n), content=f"{n:02d}" * 32)
        for n in range(count)
    ]
    return compare([Result.load(path) for path in paths], **options)


def test_csv_begins_with_the_columns_of_a_run(board: Board, tmp_path: Path) -> None:
    made = board(CONTEST)
    table = read_csv(to_csv(made))
    assert tuple(table.columns[: len(COLUMNS)]) == COLUMNS
    pd.testing.assert_frame_equal(
        table[list(COLUMNS)], pd.DataFrame(made.runs[0].card.metrics, columns=list(COLUMNS)), check_dtype=False
    )


def test_csv_has_every_digit_and_the_standings(board: Board) -> None:
    made = board(CONTEST)
    table = read_csv(to_csv(made))
    for (_, line), row in zip(table.iterrows(), made.rows, strict=True):
        assert line["auroc"] == row.metrics["auroc"].value and line["prevalence"] == row.prevalence
        assert (line["standing"] if isinstance(line["standing"], str) else "") == row.standing
        assert line["control"] == row.first.control
    assert table["auroc_spread"].isna().all() and "auroc_low" not in table


def test_csv_has_the_ends_of_intervals(board: Board) -> None:
    table = read_csv(to_csv(board(CONTEST, intervals=True)))
    for name in ("auroc", "fpr_at_95_id_recall", "fpr_at_95_ood_recall"):
        assert (table[f"{name}_low"] <= table[name]).all() and (table[name] <= table[f"{name}_high"]).all()


def test_csv_group_rows_follow_the_sets_and_name_none(board: Board) -> None:
    table = read_csv(to_csv(board(CONTEST, grouped=True, groups={"near": "near"})))
    means = table["ood"].isna()
    assert not means.iloc[:8].any() and means.iloc[8:].all() and len(table) == 8 + 3 * 4
    assert list(table[means]["group"].unique()) == ["near", "far", "all"]
    whole = pd.read_csv(io.StringIO(to_csv(board(CONTEST, grouped=True))), dtype=str)
    assert set(whole["n_id"].dropna()) == {"120"} and set(whole["runs"]) == {"1"}


OWN = {"poor": (0.75, 0.5), "twin(p=1_0)": (0.5, None)}


def test_garbage_share_and_accuracy_are_those_of_the_detectors_own_classifier(board: Board) -> None:
    made = board(CONTEST, accuracy=0.8125, own=OWN, grouped=True)
    table = read_csv(to_csv(made))
    assert set(table[table["detector"] == "poor"]["garbage_share"]) == {0.5}
    assert table[table["detector"] != "poor"]["garbage_share"].isna().all()
    assert dict(zip(table["detector"], table["id_accuracy"].dropna(), strict=False)) == {
        "good": 0.8125, "twin(p=1_0)": 0.5, "poor": 0.75, "random": 0.8125
    }  # fmt: skip
    text = to_markdown(made)
    assert "ID accuracy 81.25 % on" in text and "of their own: twin(p=1_0) 50.00 %, poor 75.00 %" in text
    shares = text[text.index("### Garbage share") : text.index("### Every row")]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in shares.splitlines() if line.startswith("|")]
    assert lines[0] == ["detector", "near", "far", "mean of far"] and lines[2:] == [["poor", *["**50.0**"] * 3]]
    assert "nan" not in text.lower()


def test_the_accuracy_is_the_models_whatever_detector_comes_first(board: Board) -> None:
    text = to_markdown(board(CONTEST, accuracy=0.8125, own={"good": (0.25, None)}))
    assert "ID accuracy 81.25 % on" in text and "of their own: good 25.00 %" in text and "arbage" not in text


def test_where_no_classifier_has_a_garbage_class_none_is_spoken_of(board: Board) -> None:
    made = board(CONTEST)
    assert "arbage" not in to_markdown(made) + to_html(made)
    assert "of their own" not in to_markdown(made)


def test_garbage_shares_of_several_runs_have_a_spread(tmp_path: Path) -> None:
    paths = [
        write_run(
            tmp_path / str(n),
            gaussian_scores({"a": 1.0, "b": 0.5}, seed=n),
            content=f"{n}d" * 32,
            own={"b": (0.9, 0.5 + n / 10)},
        )
        for n in (0, 1)
    ]
    text = to_markdown(compare([Result.load(path) for path in paths], grouped=True))
    assert text.count("55.0 ± 7.1") == 3


def test_csv_spread_of_several_runs(tmp_path: Path) -> None:
    table = read_csv(to_csv(several(tmp_path, 3)))
    assert (table["runs"] == 3).all() and (table[[f"{name}_spread" for name in METRICS]] > 0).all(axis=None)


def test_markdown_marks_the_best_and_the_tied(board: Board) -> None:
    made = board(CONTEST)
    text = to_markdown(made)
    overview = text[text.index("### AUROC") : text.index("### FPR@95 at 95 % ID")]
    cells = {line.split("|")[1].strip(): line.split("|")[2].strip() for line in overview.splitlines() if "|" in line}
    near = {row.first.detector: row for row in made.rows if row.first.ood == "near"}
    shown = {name: f"{100 * row.metrics['auroc'].value:.1f}" for name, row in near.items()}
    assert cells["good"] == f"**{shown['good']}**"
    assert cells["twin(p=1_0)"] == f"{shown['twin(p=1_0)']} ≈"
    assert cells["poor"] == shown["poor"]
    assert cells["random (control)"] == shown["random"]


COLUMNS_OF_GROUPS = ("near", "nearer", "mean of near", "far", "mean of all sets")
TITLES = {"auroc": "AUROC", "fpr_at_95_id_recall": "FPR@95 at 95 % ID", "fpr_at_95_ood_recall": "FPR@95 at 95 % OOD"}
Marks = dict[tuple[str, str], str]
"""(detector, column) → "best", "tied" or ""."""


def marks_of_markdown(text: str, metric: str) -> Marks:
    part = text[text.index(f"### {TITLES[metric]}") :]
    head, _, *lines = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in part[: part.index("\n### ", 1)].splitlines()
        if line[:1] == "|"
    ]
    return {
        (line[0], column): "best" if cell[0] == "*" else "tied" if cell[-1] == "≈" else ""
        for line in lines
        for column, cell in zip(head, line, strict=True)
        if column in COLUMNS_OF_GROUPS
    }


def marks_of_html(text: str, table: str, metric: str) -> Marks:
    """Of the page's table of every row or of the means, whose second cell is the set or the group."""
    rows = re.findall(r"<tr.*?</tr>", text[text.index(f'id="{table}"') :].partition("</table>")[0], re.DOTALL)
    found = {}
    for row in rows[1:]:
        cells = re.findall(r"<t[dh].*?</t[dh]>", row, re.DOTALL)
        name, of, shown = (cells[at] for at in (0, 1, 2 + list(METRICS).index(metric)))
        mark = "best" if "<strong>" in shown else "tied" if "≈" in shown else ""
        found[re.sub("<.*?>", "", name).removesuffix(" control"), re.sub("<.*?>", "", of)] = mark
    return found


def marks_of_latex(text: str, detectors: list[str]) -> Marks:
    lines = [line.split(" & ") for line in text.splitlines() if line.endswith("\\\\")][2:]
    kinds = {"textbf": "best", "underline": "tied"}
    return {
        (detector, column): kinds.get(cell.partition("{")[0].strip("\\"), "")
        for detector, line in zip(detectors, lines, strict=True)
        for column, cell in zip(COLUMNS_OF_GROUPS, line[1:], strict=True)
    }


def test_all_formats_mark_the_same_in_every_column(board: Board) -> None:
    gaps = {"good": 2.0, "twin": 1.9, "third": 1.6, "poor": 0.3}
    scores = gaussian_scores({**gaps, "random": 0.0}, ("near", "nearer", "far"), seed=2)
    made = board(scores, grouped=True, groups={"near": "near", "nearer": "near"})
    markdown, page, table = to_markdown(made), to_html(made), read_csv(to_csv(made)).fillna({"standing": "", "ood": ""})
    for metric in TITLES:
        expected = {key: mark for key, mark in marks_of_markdown(markdown, metric).items() if "control" not in key[0]}
        assert len(expected) == 20 and set(expected.values()) == {"best", "tied", ""}
        groups = {"near": "mean of near", "all": "mean of all sets", "far": "far"}
        html = marks_of_html(page, "every-row", metric) | {
            (of, groups[column]): mark for (of, column), mark in marks_of_html(page, "group-means", metric).items()
        }
        assert {key: mark for key, mark in html.items() if key[0] != "random"} == expected
        assert {mark for key, mark in html.items() if key[0] == "random"} == {""}
        paper = PaperTable((metric,), columns=("set:near", "nearer", "mean:near", "set:far", "mean:all"), width=99)
        assert marks_of_latex(to_latex(made, paper), list(gaps)) == expected
        if metric == "auroc":
            in_csv = {(line.detector, line.ood or groups[line.group]): line.standing for line in table.itertuples()}
            assert {key: mark for key, mark in in_csv.items() if key[0] != "random"} == expected


def test_markdown_shows_what_a_figure_depends_on(board: Board) -> None:
    text = to_markdown(board(CONTEST, accuracy=0.8125))
    assert "ID accuracy 81.25 % on 120 images; runs: 1 (classifier a1a1a1, seed 0)" in text
    assert "near 90 (42.9 %)" in text and "n OOD" in text and "prevalence" in text
    assert "FPR@95 at 95 % ID recall" in text and "FPR@95 at 95 % OOD recall" in text
    assert "average rank" in text and "mean of" not in text and "±" not in text and "[ ]" not in text
    assert "mean of all sets" in to_markdown(board(CONTEST, grouped=True, groups={"near": "near"}))


def test_markdown_interval_and_spread(tmp_path: Path) -> None:
    text = to_markdown(several(tmp_path, 2, intervals=True))
    assert re.search(r"\*\*\d\d\.\d ± \d\.\d \[\d\d\.\d, \d\d\.\d\]\*\*", text)
    assert "what other trainings would change" in text and "what other images of the same sets would change" in text


def test_a_detector_without_a_set_has_a_dash_there(board: Board) -> None:
    scores = {key: values for key, values in CONTEST.items() if key != ("poor", "far")}
    text = to_markdown(board(scores, grouped=True, groups={"near": "near"}))
    (line,) = [line for line in text[: text.index("### FPR")].splitlines() if line.startswith("| poor")]
    assert [cell.strip() for cell in line.split("|")[3:-1]] == ["–", line.split("|")[4].strip(), "–", "–", "–"]


@given(st.lists(st.integers(1, 12), min_size=2, max_size=9), st.integers(1, 40))
def test_panels_have_every_column_once_and_are_no_wider_than_asked(lengths: list[int], width: int) -> None:
    header = [f"{number}{'x' * (length - 1)}" for number, length in enumerate(lengths)]
    grid = Grid("title", header, [[Cell(title * 2, "best") for title in header]])
    cut = panels(grid, width)
    assert [title for panel in cut for title in panel.header[1:]] == header[1:]
    for panel in cut:
        assert panel.header[0] == header[0] and panel.title == "title"
        assert [cell.text for cell in panel.lines[0]] == [title * 2 for title in panel.header]
        assert len(panel.header) == 2 or sum(2 * len(title) + 2 for title in panel.header) <= width
    for panel, later in itertools.pairwise(cut):
        together = [*panel.header, later.header[1]]
        assert sum(2 * len(title) + 2 for title in together) > width


def test_no_name_is_carried_out_by_a_spreadsheet() -> None:
    table = pd.DataFrame(
        {"ood": ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "plain", None], "auroc": [-1.5, 0, 1, 2, 3, 4, 5]}
    )
    read = pd.read_csv(io.StringIO(csv_of(table)))
    assert list(read["ood"][:6]) == ["'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\tx", "plain"] and pd.isna(read["ood"][6])
    assert read["auroc"][0] == -1.5 and table["ood"][0] == "=1+1"


def test_names_stay_apart_whatever_signs_are_in_them(board: Board) -> None:
    """rich reads [a] as markup, markdown reads | as the next column."""
    sets = ("scans[a]", "scans[b]", "pipe|d", "[red]x[/red]")
    made = board(gaussian_scores({"good": 2.0, "poor": 0.3}, sets), model="[b]|net")
    printed = io.StringIO()
    console = Console(file=printed, width=200, highlight=False)
    for shown in terminal_tables(made, 200):
        console.print(shown)
    assert all(name in printed.getvalue() for name in sets)
    tables = [
        list(lines)
        for inside, lines in itertools.groupby(to_markdown(made).splitlines(), lambda line: line.startswith("|"))
        if inside
    ]
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
    assert len(tables) > 2 and all(name.replace("|", r"\|") in tables[0][0] for name in sets)
    assert set(read_csv(to_csv(made))["ood"]) >= set(sets)
