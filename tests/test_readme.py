"""The README says what is true: its output, its commands, its options and its Python."""

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
from oodbench.report.formats import terminal_tables
from oodbench.run_folder import Result

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


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


def test_every_option_of_a_command_in_the_readme_exists() -> None:
    """In code, as in `oodbench run --id …`, options are those of the command before them."""
    found = re.findall(rf"oodbench ({'|'.join(COMMANDS)})\b([^`\n]*)", README)
    assert {"run", "invert"} <= {name for name, _ in found}
    for name, rest in found:
        assert options_in(rest) <= options_of(name), f"oodbench {name}{rest}"


def test_every_option_in_the_readme_exists() -> None:
    """The table's are those of `run`; in sentences, of some command."""
    rows = [line for line in README.splitlines() if line.startswith("| `--")]
    assert rows and options_in("".join(row.split("|")[1] for row in rows)) <= options_of("run")
    assert options_in(README) <= set().union(*map(options_of, COMMANDS))


def test_every_set_named_for_id_and_ood_exists() -> None:
    row = next(line for line in README.splitlines() if line.startswith("| `--id`"))
    for name in re.findall(r"`([a-z0-9-]+)`", row.split("|")[2]):
        assert DATASETS[name].num_classes is not None
    row = next(line for line in README.splitlines() if line.startswith("| `--ood`"))
    assert set(re.findall(r"`([a-z0-9-]+)`", row.split("|")[2])) == {*GROUPS, "inverted"}


def test_the_python_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    for name, count in (("my_train", 60), ("my_test", 30)):
        images = draw.integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)
        np.savez(tmp_path / f"{name}.npz", images=images, labels=np.arange(count) % 10)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, stride=4), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4 * 8 * 8, 10)
    )
    names: dict[str, Any] = {"network": network, "images": images}
    for example in blocks("python"):
        exec(example, names)
    table = names["result"].table
    assert isinstance(table, pd.DataFrame) and set(table.detector) == {"msp", "odin", "oodl"}
    assert names["guard"].is_ood(images).shape == (30,)


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
    section = README[README.index("## A table for a paper") :]
    commands = re.findall(r"^oodbench (report .*)$", section[: section.index("\n## ", 1)], flags=re.MULTILINE)
    for line in commands:
        ended = CliRunner().invoke(oodbench, shlex.split(line))
        assert ended.exit_code == 0, ended.output
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.suffix in (".tex", ".pdf")}
    figures = {f"figures/{kind}-digits-cnn8.pdf" for kind in ("auroc", "means", "ranks", "roc", "scores-odin")}
    assert len(commands) == 3 and {"table.tex", "means.tex", "rows.tex", *figures} <= written
    assert (
        "Inversion" in (tmp_path / "table.tex").read_text() and "Inversion" not in (tmp_path / "rows.tex").read_text()
    )


def test_files_that_the_readme_links_to_are_there() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
