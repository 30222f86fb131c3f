"""The data tests see the folders that they write, and no others of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from oodbench.data import load


@pytest.fixture(autouse=True)
def only_our_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "DEBIAN_DATASETS", tmp_path_factory.mktemp("debian"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty data folder."""
    return tmp_path
