"""The wheel, built from this tree, holds what an installation needs: all modules, all data, the entry points."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CACHES = shutil.ignore_patterns("__pycache__", ".*_cache", "*.egg-info")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built in a copy, so that nothing is left in the tree; without a network, by the setuptools that is installed."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "oodbench", folder / "oodbench", ignore=CACHES)
    build = "from setuptools import build_meta; print(build_meta.build_wheel('.'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=folder, capture_output=True, text=True, check=True)
    return zipfile.ZipFile(folder / done.stdout.split()[-1])


def test_all_files_of_the_package_are_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    """What is in the tree and not in the wheel works for developers alone."""
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "oodbench").rglob("*") if path.is_file()}
    wanted = {path for path in files if "__pycache__" not in path}
    assert {"oodbench/py.typed", "oodbench/benchmarks/digits.toml"} < wanted
    assert wanted <= set(wheel.namelist())


def test_nothing_else_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    parts = {name.partition("/")[0] for name in wheel.namelist()}
    (facts,) = parts - {"oodbench"}
    assert facts.endswith(".dist-info")


def test_the_wheel_has_the_licence_and_the_entry_points(wheel: zipfile.ZipFile) -> None:
    (points,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    said = wheel.read(points).decode()
    assert "oodbench = oodbench.cli:main" in said and "oodbench = oodbench.pytest_plugin" in said
    assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())
