"""Progress where there is no terminal: a line now and then, and the last truth of it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from oodbench import console
from oodbench.console import ConsoleReporter
from oodbench.data.folder import read_folder
from oodbench.data.preprocess import Preprocess
from oodbench.data.reading import shards
from oodbench.progress import At, counted, listening
from tests.data.forms import pixels, write_pngs


class Clock:
    """Time that passes as it is told."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    text = io.StringIO()
    monkeypatch.setattr(console, "log", Console(file=text, force_terminal=False, width=200, emoji=False))
    return text


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("oodbench.console.time.monotonic", clock)
    return clock


def test_reading_is_told_twice_a_minute_with_its_speed_and_what_is_left(printed: io.StringIO, clock: Clock) -> None:
    with listening(ConsoleReporter()):
        for part in counted(((100, number) for number in range(20)), "reading mine", 2000):
            assert part == len(printed.getvalue().splitlines()) * 4 + part % 4
            clock.now += 8  # 12.5 images a second; a line after 32, 64 … seconds
    lines = printed.getvalue().splitlines()
    assert lines[0] == "reading mine: 400 of 2,000, 12 a second, 2:08 min left"
    assert lines[-1] == "reading mine: 1,600 of 2,000, 12 a second, 0:32 min left" and len(lines) == 4


def test_a_set_is_told_as_one_over_its_shards(printed: io.StringIO, clock: Clock) -> None:
    reporter = ConsoleReporter()
    for done in (0, 1000):
        for _ in reporter.count([(500, 0), (500, 1)], "reading mine", 100_000, done):
            clock.now += 20
    (line,) = printed.getvalue().splitlines()
    assert line == "reading mine: 1,000 of 100,000, 25 a second, 1:06:00 h left"


def test_what_a_terminal_would_obey_is_written_out(printed: io.StringIO) -> None:
    ConsoleReporter().say("scans[red] of \x1b[31m\u202egnp.exe :smile:\nand more")
    assert printed.getvalue() == "scans[red] of \\x1b[31m\\u202egnp.exe :smile:\nand more\n"


def test_what_is_short_is_not_told_and_what_is_listed_is(printed: io.StringIO, clock: Clock) -> None:
    reporter = ConsoleReporter()
    assert list(reporter.count([(1, "a"), (2, "b")], "reading mine", 3, 0)) == ["a", "b"]
    reporter.so_far("listing folder", 0)
    clock.now += 60
    reporter.so_far("listing folder", 1_200_000)
    assert printed.getvalue() == "listing folder: 1,200,000, 20,000 a second\n"


def test_who_listens_hears_how_far_a_set_is_read(tmp_path: Path, printed: io.StringIO, clock: Clock) -> None:
    write_pngs(tmp_path, pixels(30, 9, 9))
    images = read_folder("pictures", tmp_path)
    with listening(ConsoleReporter()):
        for shard in shards(images, 16, 0, [Preprocess(8, 6).form]):
            assert shard.digest
            clock.now += 31
    assert printed.getvalue() == "reading pictures: 16 of 30, 0.52 a second, 0:27 min left\n"


def test_where_a_run_is_is_told_at_once_and_then_twice_a_minute(printed: io.StringIO, clock: Clock) -> None:
    reporter = ConsoleReporter()
    for number in range(9):
        left = 90.0 - 10 * number if number else None
        reporter.at(At(f"passing set {number + 1} of 9", number / 9, left))
        clock.now += 10
    reporter.end()
    assert printed.getvalue().splitlines() == [
        "0% done: passing set 1 of 9",
        "33% done, 1:00 min left: passing set 4 of 9",
        "67% done, 0:30 min left: passing set 7 of 9",
    ]


def test_a_terminal_has_one_bar_of_the_run_and_one_of_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    monkeypatch.setattr(console, "log", Console(file=text, force_terminal=True, width=90, _environ={}))
    reporter = ConsoleReporter()
    reporter.at(At("passing set 3 of 9, textures: resnet20", 0.25, 128.0))
    for _ in reporter.count([(60, 0), (60, 1)], "reading textures", 120, 0):
        reporter.say("something decided")
    reporter.so_far("listing pictures", 12_000)
    reporter.at(At("working out the figures", 1.0, 0.0))
    reporter.end()
    shown = text.getvalue()
    assert "passing set 3 of 9, textures: resnet20" in shown and "25%, 2:08 min left" in shown
    assert shown.count("something decided") == 1 and shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1
    assert "100%, 0:00 min left" in shown
