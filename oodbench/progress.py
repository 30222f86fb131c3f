"""How long work tells whoever started it what it is doing; silent unless somebody listens."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

T = TypeVar("T")

TRAINING_PASS = 3.0
"""What a training step costs an image, in passes: one forward, and one back that takes twice as long."""

FIT = 100.0
"""What fitting a detector counts for, in passes, until one was fitted and its time is known."""


class At(NamedTuple):
    """Where a run is.

    Attributes:
        what: what is being done.
        share: of the whole that is done, in [0, 1].
        left: seconds, estimated by those that the rest of it took so far; None where nothing was measured yet.
    """

    what: str
    share: float
    left: float | None


class Reporter:
    """Hears what is decided and how far things are; this one keeps silent, the command line's one prints."""

    def say(self, text: str) -> None:
        """Something the user should know; who says it of one thing after another need not look whether it was said."""

    def at(self, at: At) -> None:
        """Where the run is: whenever something is begun, and whenever a batch is done."""

    def end(self) -> None:
        """The run is over, however it ended."""

    def track(self, items: Iterable[T], description: str, total: int) -> Iterator[T]:
        """Pass the items through, showing how many of `total` have come."""
        yield from items

    def count(self, parts: Iterable[tuple[int, T]], what: str, total: int, done: int) -> Iterator[T]:
        """Pass the parts through, each of so many images, showing how many of `total` there are; `done` were before."""
        for _, part in parts:
            yield part

    def so_far(self, what: str, done: int, total: int | None = None) -> None:
        """How far something is, which is said now and then."""


@dataclass
class Stage:
    """Work of one kind, in passes of an image: what there is of it, what of it is done, and what of that was work."""

    total: float = 0.0
    done: float = 0.0
    worked: float = 0.0
    seconds: float = 0.0


@dataclass
class Whole:
    """How far a run is, over all that is known of it beforehand.

    What is found done (outputs in the store, a classifier trained earlier) counts as done, and not as time: the rest is
    estimated by what was worked at, each stage by its own speed, and by that of all where it has not begun.
    """

    reporter: Reporter
    stages: dict[str, Stage] = field(default_factory=dict)
    what: str = ""
    _step: tuple[Stage, float, float] | None = None
    _inside: float = 0.0

    def expect(self, stage: str, passes: float) -> None:
        """There is so much to be done of it, more than was known before."""
        self.stages.setdefault(stage, Stage()).total += passes

    def doing(self, what: str) -> None:
        """This is being done from now on."""
        self.what = what
        self._tell()

    @contextmanager
    def step(self, stage: str, amount: float, each: float = 1.0) -> Iterator[None]:
        """A part of what is expected of a stage, of so many images (`advance`) that each cost so many passes."""
        if stage not in self.stages:
            self.expect(stage, amount * each)
        self._step, self._inside = (self.stages[stage], each, time.monotonic()), 0.0
        yield
        of, _, began = self._step
        if self._inside > 0:
            of.worked += self._inside
            of.seconds += time.monotonic() - began
        of.done += amount * each
        self._step = None
        self._tell()

    def advance(self, images: float) -> None:
        """So many images more of the step were worked at."""
        if self._step is not None:
            self._inside += images * self._step[1]
            self._tell()

    def _tell(self) -> None:
        stages = [self._now(stage) for stage in self.stages.values()]
        total = sum(stage.total for stage in stages)
        # A stage may turn out longer than was known: what is in several stores is asked for again.
        done = sum(min(stage.done, stage.total) for stage in stages)
        worked, seconds = (sum(getattr(stage, name) for stage in stages) for name in ("worked", "seconds"))
        left = None
        if worked > 0:
            left = 0.0
            for stage in stages:
                of = stage if stage.worked > 0 else Stage(worked=worked, seconds=seconds)
                left += max(stage.total - stage.done, 0.0) * of.seconds / of.worked
        self.reporter.at(At(self.what, done / total if total else 0.0, left))

    def _now(self, stage: Stage) -> Stage:
        """The stage with what is done of the step that is under way."""
        if self._step is None or self._step[0] is not stage or not self._inside:
            return stage
        inside, took = self._inside, time.monotonic() - self._step[2]
        return Stage(stage.total, stage.done + inside, stage.worked + inside, stage.seconds + took)


_WHOLE: ContextVar[Whole] = ContextVar("whole", default=Whole(Reporter()))  # noqa: B039


@contextmanager
def listening(reporter: Reporter) -> Iterator[Whole]:
    """Have it hear how far all that is that is done in the block."""
    before = _WHOLE.set(Whole(reporter))
    try:
        yield _WHOLE.get()
    finally:
        _WHOLE.reset(before)
        reporter.end()


def whole() -> Whole:
    """The run that is under way; one that nobody hears where there is none."""
    return _WHOLE.get()


def counted(parts: Iterable[tuple[int, T]], what: str, total: int, done: int = 0) -> Iterator[T]:
    """See `Reporter.count`, of whoever listens."""
    return whole().reporter.count(parts, what, total, done)


def so_far(what: str, done: int, total: int | None = None) -> None:
    """See `Reporter.so_far`, of whoever listens."""
    whole().reporter.so_far(what, done, total)
