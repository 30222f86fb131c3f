"""The table of architectures is what is found of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from oodbench.models.architectures_page import QUICK, SIZES, architectures_page, row, table

PAGE = (Path(__file__).parents[2] / "docs" / "architectures.md").read_text(encoding="utf-8")


def cells(text: str) -> list[list[str]]:
    """The rows of a table, whatever the widths of its columns."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


def test_quick_rows_are_those_of_the_page() -> None:
    assert len(SIZES) >= 25
    found = cells(table(QUICK))
    assert found[0] == cells(PAGE)[0] and all(line in cells(PAGE) for line in found[2:])


@pytest.mark.slow
def test_the_page_is_what_is_found() -> None:
    assert architectures_page() == PAGE, "make it anew: python -m oodbench.models.architectures_page"


def test_our_own_networks_are_taken_as_they_declare() -> None:
    found = row("resnet20")
    assert (found["head"], found["D"], found["layers"], found["first"]) == ("`linear`", 64, 4, "`relu`")
