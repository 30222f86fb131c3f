"""The direction of imports (DESIGN): no part asks a part above it for anything, and light parts stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "oodbench"

# From the foundation up; a part may import from parts in lower layers, and from its own part.
LAYERS = (
    {"errors"},
    {"files", "progress", "perturbation", "parameters", "metrics", "precision", "tensor_file", "transfer"},
    {"card_fields"},
    {"outputs", "resume", "statistics", "card", "data", "store", "console"},
    {"heads", "layers"},
    {"probe"},
    {"anatomy", "pixels"},
    {"classifier"},
    {"compiled", "memory"},
    {"capture"},
    {"live"},
    {"detectors", "models", "inversion"},
    {"report"},
    {"benchmark", "guard", "training", "worst_seen"},
    {"recipes"},
    {"assignments", "example", "subject", "run_folder", "settings_page", "own_sets"},
    {"catalogue_page"},
    {"plan"},
    {"distributed"},
    {"testing", "measure", "record", "study"},
    {"runner"},
    {"drift"},
    {"check", "tuning"},
    {"pytest_plugin"},
    {"cli"},
    {"__main__", "__init__"},
)
# report reads what a run folder gives it; a run folder asks it for the tables of one run.
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}


def imports_of(path: Path) -> set[str]:
    """The parts of oodbench that a file imports, wherever in the file."""
    parts = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] if node.module != "oodbench" else [f"oodbench.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        parts |= {name.split(".")[1] for name in names if name.startswith("oodbench.")}
    return parts


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    part = part_of(path)
    if part == "benchmarks":
        assert imports_of(path) == set()
        return
    for imported in imports_of(path) - {part}:
        assert LEVEL[imported] < LEVEL[part], f"{path.name} ({part}) must not import {imported}"


def test_every_part_has_its_place_once() -> None:
    parts = {part_of(path) for path in PACKAGE.rglob("*.py")} - {"benchmarks"}
    assert sorted(part for layer in LAYERS for part in layer) == sorted(parts)


def test_detectors_know_no_data_and_no_network() -> None:
    known = {"errors", "files", "metrics", "outputs", "parameters", "perturbation", "tensor_file"}
    for path in (PACKAGE / "detectors").rglob("*.py"):
        assert imports_of(path) - {"detectors"} <= known, path


@pytest.mark.parametrize(
    "module",
    [
        "oodbench",
        "oodbench.cli",
        "oodbench.cli.run",
        "oodbench.cli.invert",
        "oodbench.benchmark",
        "oodbench.parameters",
        "oodbench.detectors.catalogue",
        "oodbench.data.catalogue",
        "oodbench.models.catalogue",
    ],
)
def test_what_help_and_list_need_does_not_import_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit(bool({{'torch', 'pandas', 'sklearn', 'scipy'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_no_file_is_long() -> None:
    long = {str(path): count for path in PACKAGE.rglob("*.py") if (count := len(path.read_text().splitlines())) > 400}
    assert not long
