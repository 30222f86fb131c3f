"""The README, and the page of options, say what is true: output, commands, options and Python."""

from __future__ import annotations

import importlib
import io
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from rich.console import Console

from oodbench.cli import COMMANDS, oodbench
from oodbench.data.catalogue import DATASETS, GROUPS
from oodbench.guard import load_guard
from oodbench.report.formats import terminal_tables
from oodbench.run_folder import Result

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAPER = (ROOT / "docs" / "leaderboards.md").read_text(encoding="utf-8")
OPTIONS = (ROOT / "docs" / "run.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
    return [text for of, text in fenced if of == language]


def test_the_output_shown_is_that_of_the_committed_run() -> None:
    printed = io.StringIO()
    console = Console(file=printed, width=80, highlight=False)
    for table in terminal_tables(Result.load(ROOT / "results/digits").leaderboard, 80):
        console.print(table)
    lines = [line.rstrip() for line in printed.getvalue().splitlines()]
    shown = [line.rstrip() for line in blocks("")[0].splitlines()]
    assert shown == lines


def test_ci_runs_the_test_command() -> None:
    setup, *others = blocks("sh")
    assert "oodbench run" in setup
    (test,) = [one for one in others if "tox" in one]
    assert test.strip() in (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()


def options_of(name: str) -> set[str]:
    command = importlib.import_module(f"oodbench.cli.{name}").command
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}


def options_in(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))


@pytest.mark.parametrize("text", [README, OPTIONS], ids=["README", "run.md"])
def test_every_option_of_a_command_exists(text: str) -> None:
    """In code, as in `oodbench run --id …`, options are those of the command before them."""
    found = re.findall(rf"oodbench ({'|'.join(COMMANDS)})\b([^`\n]*)", text)
    assert "run" in {name for name, _ in found} and len(found) > 2
    for name, rest in found:
        assert options_in(rest) <= options_of(name), f"oodbench {name}{rest}"


def test_every_option_exists() -> None:
    """The table's are those of `run`; in sentences, of some command."""
    rows = [line for line in OPTIONS.splitlines() if line.startswith("| `--")]
    assert rows and options_in("".join(row.split("|")[1] for row in rows)) <= options_of("run")
    assert options_in(README + OPTIONS) <= set().union(*map(options_of, COMMANDS))


def test_every_set_named_for_id_and_ood_exists() -> None:
    row = next(line for line in OPTIONS.splitlines() if line.startswith("| `--id`"))
    for name in re.findall(r"`([a-z0-9-]+)`", row.split("|")[2]):
        assert DATASETS[name].num_classes is not None
    row = next(line for line in OPTIONS.splitlines() if line.startswith("| `--ood`"))
    assert set(re.findall(r"`([a-z0-9-]+)`", row.split("|")[2])) == {*GROUPS, "inverted"}


def test_what_is_shown_of_images_and_classifiers_of_ones_own_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The npz file, the benchmark's file, the commands, and the Python, one after the other, as printed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.safetensors").write_bytes((ROOT / "results/baselines/digits-cnn8.safetensors").read_bytes())
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8)).astype(np.uint8)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, stride=2), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4 * 3 * 3, 10)
    )
    names: dict[str, Any] = {"network": network, "images": images, "labels": np.arange(60) % 10}
    npz, python = blocks("python")
    exec(npz, names)
    (benchmark,) = blocks("toml")
    (tmp_path / "mine.toml").write_text(benchmark, encoding="utf-8")
    (commands,) = [text for text in blocks("sh") if "mine.toml" in text]
    for line in commands.splitlines():
        ended = CliRunner().invoke(oodbench, shlex.split(line)[1:])
        assert ended.exit_code == 0, ended.output
    table = Result.load(tmp_path / "results/mine").table
    assert set(table.detector) == {"msp", "energy", "odin(norm=l2)"} and set(table.ood) == {"uniform", "photos"}
    assert r"\begin{table" in (tmp_path / "table.tex").read_text(encoding="utf-8")
    assert {path.suffix for path in (tmp_path / "figures").iterdir()} == {".pdf", ".svg", ".png"}
    exec(python, names)
    table = names["result"].table
    assert isinstance(table, pd.DataFrame) and set(table.detector) == {"msp", "odin"}
    assert load_guard("guard.safetensors", network).is_ood(images).shape == (60,)


def test_the_page_that_is_shown_is_written_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results/digits").symlink_to(ROOT / "results/digits")
    monkeypatch.chdir(tmp_path)
    (command,) = re.findall(r"`oodbench (report [^`]*page.html)`", README)
    assert CliRunner().invoke(oodbench, shlex.split(command)).exit_code == 0
    assert "Which detector is best" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_the_commands_of_a_paper_run_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results/digits").symlink_to(ROOT / "results/digits")
    monkeypatch.chdir(tmp_path)
    section = PAPER[PAPER.index("## Papers") :]
    commands = re.findall(r"^oodbench (report results/digits .*)$", section, flags=re.MULTILINE)
    for line in commands:
        ended = CliRunner().invoke(oodbench, shlex.split(line))
        assert ended.exit_code == 0, ended.output
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.suffix in (".tex", ".pdf")}
    figures = {f"figures/{kind}-digits-cnn8.pdf" for kind in ("auroc", "means", "ranks", "roc", "scores-odin")}
    assert len(commands) == 3 and {"table.tex", "means.tex", "rows.tex", *figures} <= written
    assert (
        "Inversion" in (tmp_path / "table.tex").read_text() and "Inversion" not in (tmp_path / "rows.tex").read_text()
    )


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 115


def test_files_that_the_readme_links_to_are_there() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
