"""How a classifier was trained, as its card records it, in a form to be read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from oodbench.report.layout import Cell, Grid

HEAD = 12
"""Characters shown of a content hash."""


def facts(record: Mapping[str, Any], title: str = "") -> Iterator[tuple[str, str]]:
    """(what, value): a line each value of the record, and a line each record inside it."""
    plain = {words(name): text(value) for name, value in record.items() if not _has_parts(value) and value != []}
    if not title:
        yield from plain.items()
    elif plain:
        yield title, ", ".join(f"{name} {value}" for name, value in plain.items())
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from facts(value, f"{title}, {words(name)}" if title else words(name))


def tables(record: Mapping[str, Any]) -> list[Grid]:
    """What the record says of each round, or whatever else there are several records of."""
    lists = {name: value for name, value in record.items() if isinstance(value, list) and _has_parts(value)}
    return [_table(words(name), value) for name, value in lists.items()]


def words(name: str) -> str:
    """`batch size` of `batch_size`."""
    return name.replace("_", " ")


def text(value: Any) -> str:
    """A plain value, or a list of such; numbers with four digits, of a hash its head."""
    if isinstance(value, list):
        return ", ".join(map(text, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return value[:HEAD] if isinstance(value, str) and len(value) == 64 else str(value)


def _has_parts(value: Any) -> bool:
    return isinstance(value, Mapping) or (isinstance(value, list) and any(isinstance(one, Mapping) for one in value))


def _table(title: str, records: list[Mapping[str, Any]]) -> Grid:
    """A line each record; a record inside becomes a column each of its values."""
    lines = [dict(_columns(record)) for record in records]
    header = list(dict.fromkeys(name for line in lines for name in line))
    return Grid(title, header, [[Cell(line.get(name, "")) for name in header] for line in lines])


def _columns(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from ((f"{words(name)}: {words(key)}", text(one)) for key, one in value.items())
        else:
            yield words(name), text(value)
