"""The LaTeX tables of papers: hand-checked cells, marks of every column, hostile names, and pages that compile."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from oodbench.data.catalogue import DATASETS
from oodbench.detectors.catalogue import DETECTORS
from oodbench.errors import OodbenchError
from oodbench.models.catalogue import MODELS
from oodbench.report.comparison import Leaderboard, compare
from oodbench.report.names import Names, same_name
from oodbench.report.panels import SPACE, Body, Panel, pages
from oodbench.report.paper import PaperTable, to_latex
from oodbench.report.standings import standings
from oodbench.report.style import DOUBLE
from oodbench.report.tex import escaped, one_line, text_width
from oodbench.run_folder import Result
from tests.report.conftest import Scores, gaussian_scores, write_run

Board = Callable[..., Leaderboard]

GROUPS = {"cifar100": "near", "tinyimagenet": "near", "mnist": "far", "svhn": "far"}
GAPS = {"msp": 2.0, "odin(norm=l2)": 1.9, "energy": 0.3, "random": 0.0}
CONTEST = gaussian_scores(GAPS, tuple(GROUPS), seed=2)


def lines_of(text: str) -> list[list[str]]:
    """The rows of all tabulars as fields, without the rules."""
    rows = [line.removesuffix(r"\\").strip() for line in text.splitlines() if line.endswith(r"\\")]
    return [[field.strip() for field in re.split(r"(?<!\\)&", row)] for row in rows]


def row_of(text: str, name: str) -> list[str]:
    (row,) = [line for line in lines_of(text) if line[0] == name]
    return row


def marked(value: float, mark: str, decimals: int = 1) -> str:
    return {"best": r"\textbf{%s}", "tied": r"\underline{%s}", "": "%s"}[mark] % f"{100 * value:.{decimals}f}"


def test_rows_are_detectors_and_columns_sets_and_means_with_auroc_and_fpr(board: Board) -> None:
    made = board(CONTEST, groups=GROUPS)
    (block,) = made.blocks
    text = to_latex(made)
    heads = lines_of(text)[:2]
    assert heads[0] == ["", r"\multicolumn{6}{c}{Near-OOD}", r"\multicolumn{6}{c}{Far-OOD}"]
    titles = ["CIFAR-100", "Tiny-ImageNet", "Mean", "MNIST", "SVHN", "Mean"]
    assert heads[1] == ["Detector", *(rf"\multicolumn{{2}}{{c}}{{{title}}}" for title in titles)]
    assert [line[0] for line in lines_of(text)[2:]] == ["MSP", "ODIN (norm=l2)", "Energy"]
    for label, shown in (("msp", "MSP"), ("odin(norm=l2)", "ODIN (norm=l2)"), ("energy", "Energy")):
        expected = []
        for group in ("near", "far"):
            for ood in [name for name, of in GROUPS.items() if of == group]:
                entries = {one: block.rows[one, ood] for one in GAPS}
                marks = [standings(entries, metric)[label].mark for metric in PaperTable().metrics]
                found = [entries[label].metrics[metric].value for metric in PaperTable().metrics]
                expected += map(marked, found, marks)
            means = {one: block.means[one, group] for one in GAPS}
            marks = [standings(means, metric)[label].mark for metric in PaperTable().metrics]
            expected += [
                marked(np.mean([row.metrics[metric].value for row in means[label].rows]), mark)
                for metric, mark in zip(PaperTable().metrics, marks, strict=True)
            ]
        assert row_of(text, shown)[1:] == expected
    assert {"textbf", "underline"} <= set(re.findall(r"\\(\w+)\{", text))
    # A best in every column of every metric, means included.
    assert all(any("textbf" in line[at] for line in lines_of(text)[2:]) for at in range(1, 13))


def test_the_convention_of_fpr_is_said_once_and_details_are_comments(board: Board) -> None:
    text = to_latex(board(CONTEST, groups=GROUPS, accuracy=0.8125))
    seen = re.sub(r"(?m)^%.*$", "", text)
    assert seen.count("the share of OOD accepted where 95") == 1 and "of ID is kept" in seen
    assert "resizebox" not in text and r"\toprule" in text and r"\usepackage{booktabs}" in text
    caption = re.search(r"\\caption\{(.*)\}", text)
    assert caption and len(caption[1]) < 320 and "81.25" in caption[1]
    assert "% net: OOD images, and their share of all: cifar100 90 (42.9 %)" in text
    assert "% net: left out: random" in text and "DeLong" not in seen


def test_wide_tables_span_both_columns_and_narrow_ones_do_not(board: Board) -> None:
    made = board(CONTEST, groups=GROUPS)
    assert r"\begin{table*}" in to_latex(made)
    narrow = to_latex(made, PaperTable(metrics=("auroc",), columns=("means",)))
    assert r"\begin{table}" in narrow and lines_of(narrow)[0] == ["Detector", "Near-OOD", "Far-OOD"]


def test_what_is_wider_than_the_text_stands_in_panels_with_groups_kept_whole(board: Board) -> None:
    text = to_latex(board(CONTEST, groups=GROUPS), PaperTable(width=4.0))
    panels = re.findall(r"\\begin\{tabular\}(.*?)\\end\{tabular\}", text, re.S)
    assert len(panels) == 2 and "Near-OOD" in panels[0] and "Far-OOD" in panels[1] and "Far-OOD" not in panels[0]
    for panel in panels:
        assert [line[0] for line in lines_of(panel)[2:]] == ["MSP", "ODIN (norm=l2)", "Energy"]


def repeats(tmp_path: Path, all_scores: list[Scores], models: list[str]) -> Leaderboard:
    paths = [
        write_run(tmp_path / str(n), scores, content=f"{n:02d}" * 32, model=model, groups=GROUPS)
        for n, (scores, model) in enumerate(zip(all_scores, models, strict=True))
    ]
    return compare([Result.load(path) for path in paths])


def test_seeds_are_one_row_with_mean_and_standard_deviation(tmp_path: Path) -> None:
    seeds = [gaussian_scores({"msp": gap, "energy": 0.2}, ("cifar100",), seed=3) for gap in (1.0, 1.4, 2.1)]
    text = to_latex(repeats(tmp_path, seeds, ["net"] * 3), PaperTable(metrics=("auroc",)))
    aurocs = [np.mean(np.greater.outer(one["msp", "shapes"], one["msp", "cifar100"])) for one in seeds]
    mean = sum(aurocs) / 3
    spread = (sum((one - mean) ** 2 for one in aurocs) / 2) ** 0.5
    assert row_of(text, "MSP")[1] == rf"\textbf{{{100 * mean:.1f}}}$_{{\pm {100 * spread:.1f}}}$"
    assert r"$\pm$: standard deviation over 3 runs." in text


def test_architectures_are_blocks_of_one_table(tmp_path: Path) -> None:
    made = repeats(tmp_path, [CONTEST] * 3, ["resnet20", "resnet32", "resnet44"])
    text = to_latex(made)
    assert text.count(r"\begin{table") == text.count(r"\begin{tabular}") == 1 and text.count(r"\midrule") == 3
    titles = [line[0] for line in lines_of(text) if "textit" in line[0]]
    assert titles == [
        rf"\multicolumn{{13}}{{@{{}}l}}{{\textit{{ResNet-{n} (ID accuracy 90.00\,\%)}}}}" for n in (20, 32, 44)
    ]
    assert [line[0] for line in lines_of(text)].count("MSP") == 3


def test_transposed_rows_are_sets_and_say_the_same(board: Board) -> None:
    made = board(CONTEST, groups=GROUPS)
    plain, turned = to_latex(made), to_latex(made, PaperTable(transpose=True))
    rows = ["CIFAR-100", "Tiny-ImageNet", "Near-OOD, mean", "MNIST", "SVHN", "Far-OOD, mean"]
    assert [line[0] for line in lines_of(turned)] == ["OOD set", *rows]
    for at, detector in enumerate(("MSP", "ODIN (norm=l2)", "Energy")):
        across = [field for row in rows for field in row_of(turned, row)[1 + 2 * at : 3 + 2 * at]]
        assert across == row_of(plain, detector)[1:]


def test_metrics_columns_decimals_and_order_are_as_asked(board: Board) -> None:
    made = board(CONTEST, groups=GROUPS)
    (block,) = made.blocks
    paper = PaperTable(("aupr_in", "auroc", "fpr_at_95_ood_recall"), ("svhn", "mean:all"), 3, False, ("energy", "*"))
    text = to_latex(made, paper)
    assert [line[0] for line in lines_of(text)[2:]] == ["Energy", "MSP", "ODIN (norm=l2)"]
    assert lines_of(text)[0] == ["", r"\multicolumn{3}{c}{Far-OOD}", r"\multicolumn{3}{c}{}"]
    assert lines_of(text)[1] == ["Detector", r"\multicolumn{3}{c}{SVHN}", r"\multicolumn{3}{c}{All sets}"]
    bare = [re.sub(r"\\\w+\{|\}", "", field) for field in row_of(text, "Energy")[1:]]
    entries = (block.rows["energy", "svhn"], block.means["energy", "all"])
    assert bare == [f"{100 * entry.metrics[metric].value:.3f}" for entry in entries for metric in paper.metrics]
    assert "Without a test, so that only the best is marked: AUPR-In." in text
    assert "the share of ID flagged where 95" in text and "OOD accepted" not in text


def test_order_by_rank_and_controls_by_name(board: Board) -> None:
    made = board(CONTEST, groups=GROUPS)
    (block,) = made.blocks
    text = to_latex(made, PaperTable(order=("best",)))
    ranks = {name: block.average_rank(name) for name in GAPS}
    by_rank = sorted((one for one in GAPS if ranks[one] is not None), key=lambda one: ranks[one] or 0)
    assert [line[0] for line in lines_of(text)[2:]] == [PaperTable().names.detector(one) for one in by_rank]
    controls = to_latex(made, PaperTable(order=("random", "msp")))
    assert [line[0] for line in lines_of(controls)[2:]] == ["Random", "MSP"]
    assert not any("textbf" in field for field in row_of(controls, "Random"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": ("nears",)}, "did you mean near"),
        ({"order": ("enrgy",)}, "did you mean energy"),
        ({"metrics": ("auc",)}, "no metric 'auc'"),
        ({"decimals": 9}, "from 0 to 6 decimals"),
    ],
)
def test_what_is_not_there_is_said(board: Board, options: dict, message: str) -> None:
    with pytest.raises(OodbenchError, match=message):
        to_latex(board(CONTEST, groups=GROUPS), PaperTable(**options))


def test_blocks_with_other_sets_have_no_figure_and_no_mean_over_fewer_sets(tmp_path: Path) -> None:
    fewer = {key: values for key, values in CONTEST.items() if key[1] != "svhn"}
    text = to_latex(repeats(tmp_path, [CONTEST, fewer], ["resnet20", "resnet32"]))
    second = [line for line in lines_of(text) if line[0] == "MSP"][1]
    assert second.count(r"\multicolumn{2}{c}{--}") == 2 and len(second) == 11


def test_everything_that_comes_with_oodbench_has_a_display_name() -> None:
    names = Names.load()
    assert {same_name(name) for name in DETECTORS} <= set(names.detectors)
    assert set(DATASETS) <= set(names.sets) and set(MODELS) <= set(names.models)
    assert (names.detector("msp"), names.detector("odin(norm=l2)")) == ("MSP", "ODIN (norm=l2)")
    assert (names.set("cifar100"), names.detector("mine:Mine(k=3)")) == ("CIFAR-100", "mine:Mine(k=3)")


def test_names_of_a_file_go_first(tmp_path: Path) -> None:
    path = tmp_path / "names.toml"
    path.write_text('[detectors]\nsmood = "Softmax"\n"odin(norm=l2)" = "ODIN-2"\n[sets]\nmine = "Mine"\n')
    names = Names.load(path)
    assert [names.detector(one) for one in ("msp", "odin(norm=l2)", "odin")] == ["Softmax", "ODIN-2", "ODIN"]
    assert (names.set("mine"), names.set("svhn")) == ("Mine", "SVHN")


@pytest.mark.parametrize(
    ("text", "message"), [("[detector]\n", "did you mean detectors"), ("[sets]\na = 1\n", "text"), ("[[", "TOML")]
)
def test_a_bad_file_of_names_is_refused_in_words(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "names.toml").write_text(text)
    with pytest.raises(OodbenchError, match=message):
        Names.load(tmp_path / "names.toml")


HOSTILE = [
    "a_b",
    "50 %",
    "R&D",
    "#1",
    "$x$",
    "{a}",
    "x^2",
    "~/x",
    "a\\b",
    "≈ ± – · ×",
    "[1pt]",
    "*",
    "a--b",
    "<|>",
    '"`',
]


@pytest.mark.parametrize("text", HOSTILE)
def test_escaped_text_has_no_bare_special(text: str) -> None:
    bare = re.sub(r"\\[&%$#_{}]|\\text\w+\{\}|\$\\\w+\$|\{[\[\]*]\}|-\{\}", "", escaped(text))
    assert not re.search(r"[&%$#_{}~^\\≈±·×\[\]*<>|`\"]|---?-", bare.replace("--", "") if "–" in text else bare), bare


def test_text_of_several_lines_stays_in_its_comment() -> None:
    assert one_line("evil\n\\input{secret}\x85a\u2028b\r\n") == "evil \\input{secret} a b"


@pytest.mark.parametrize(("sizes", "room"), [((51,), 33), ((3, 3, 3), 40), ((20, 20, 20), 40), ((70, 2), 25)])
@pytest.mark.parametrize("title", ["", r"\textit{net} \\"])
def test_pages_have_every_row_once_and_are_no_taller_than_asked(sizes: tuple[int, ...], room: int, title: str) -> None:
    bodies = [
        Body(title, [SPACE * (at % 7 == 6) + f"{number}-{at}" for at in range(size)])
        for number, size in enumerate(sizes)
    ]
    cut = pages([Panel("l", ["head"], bodies)] * 2, room)
    rows = [row.removeprefix(SPACE) for table in cut for panel in table for body in panel.bodies for row in body.rows]
    assert rows == 2 * [row.removeprefix(SPACE) for body in bodies for row in body.rows]

    def height(body: Body) -> float:
        return 0.5 + bool(title) + sum(1.5 if SPACE in row else 1 for row in body.rows)

    heights = [sum(2.5 + sum(map(height, panel.bodies)) for panel in table) for table in cut]
    assert max(heights) <= room and (len(cut) == 1) is (sum(sizes) < 10)
    for body in (body for table in cut for panel in table for body in panel.bodies):
        # What fits on a page is whole, and nothing begins with a gap.
        assert len(body.rows) == sizes[int(body.rows[0].split("-")[0])] or max(sizes) + 2 > room - 4
        assert not body.rows[0].startswith(SPACE) and body.title == title


def test_many_detectors_are_several_tables_with_one_number(board: Board) -> None:
    draw = np.random.default_rng(0)
    made = board(gaussian_scores({f"d{n:02}": 2 * draw.random() for n in range(51)}, tuple(GROUPS)), groups=GROUPS)
    text = to_latex(made)
    first, second = re.findall(r"\\begin\{table\*\}.*?\\end\{table\*\}", text, re.DOTALL)
    assert [line[0] for line in lines_of(text) if line[0][:1] == "d"] == [f"d{n:02}" for n in range(51)]
    assert lines_of(first)[:2] == lines_of(second)[:2] and abs(len(lines_of(first)) - len(lines_of(second))) <= 1
    assert text.count(r"\label") == 1 and r"\label" in first and r"\addtocounter{table}{-1}" in second
    assert r"\caption{OOD detection with shapes as ID, continued.}" in second


PAGES = {
    "one column": (r"\documentclass{article}", 4.75),
    "two columns": (r"\documentclass[twocolumn]{article}\usepackage[margin=0.8in]{geometry}", DOUBLE),
}


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not on this machine (texlive-latex-recommended)")
@pytest.mark.parametrize(("page", "width"), PAGES.values(), ids=PAGES)
def test_pages_compile_and_nothing_is_too_wide_or_too_tall(tmp_path: Path, page: str, width: float) -> None:
    named = dict(zip(GAPS, HOSTILE, strict=False))
    scores = {(f"{named[d]} {''.join(HOSTILE)[:9]}", name): values for (d, name), values in CONTEST.items()}
    made = repeats(tmp_path, [CONTEST, CONTEST, scores], ["resnet20", "resnet20", "x_y"])
    tables = [
        to_latex(made, PaperTable(width=width)),
        to_latex(made, PaperTable(("auroc",), ("means",), width=width)),
        to_latex(made, PaperTable(transpose=True, width=width, metrics=("fpr_at_95_ood_recall", "auroc"))),
    ]
    many = {(f"d{n:02}", name): CONTEST["energy", name] for n in range(51) for name in ("shapes", *GROUPS)}
    tall = compare([Result.load(write_run(tmp_path / "many", many, groups=GROUPS))])
    tables += [to_latex(tall, PaperTable(width=width, transpose=turned)) for turned in (False, True)]
    (tmp_path / "paper.tex").write_text(
        page + r"\usepackage{booktabs}\begin{document}" + "\n".join(tables) + r"\end{document}", encoding="utf-8"
    )
    ended = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"], cwd=tmp_path, capture_output=True
    )
    assert ended.returncode == 0, ended.stdout.decode(errors="replace")[-2000:]
    assert b"Overfull" not in ended.stdout and b"too large" not in ended.stdout
    assert (tmp_path / "paper.pdf").is_file()


def test_widths_are_those_of_tex() -> None:
    """Computer Modern's: a digit is 5 points, a point 2.8, at 10 points."""
    assert text_width("95.3") == pytest.approx(17.8)
