"""A pytest plug-in: the fixture `oodbench_baseline` and the option --oodbench-update.

pytest loads it in every project of the environment that oodbench is installed in, so it imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from oodbench.run_folder import Result

UPDATED = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare --oodbench-update."""
    parser.getgroup("oodbench").addoption(
        "--oodbench-update",
        action="store_true",
        help="write the baselines of oodbench_baseline anew, after showing what changed",
    )


@pytest.fixture
def oodbench_baseline(request: pytest.FixtureRequest) -> Callable[[str | Path, Result], None]:
    """`oodbench_baseline(path, result)` fails where a result has drifted from the baseline in the folder `path`.

    The path is relative to pytest's root folder. With --oodbench-update the result becomes the baseline, and what
    changed stands at the end of pytest's output.

    Raises:
        AssertionError: the scores, metrics, sets, classifiers or detectors drifted; it holds the table.
        OodbenchError: there is no baseline, or it is damaged.
    """

    def check(path: str | Path, result: Result) -> None:
        __tracebackhide__ = True
        from oodbench.check import compare, is_baseline, load_baseline, save_baseline

        baseline = request.config.rootpath / path
        if request.config.getoption("--oodbench-update"):
            changed = str(compare(load_baseline(baseline), result)) if is_baseline(baseline) else "a new baseline"
            save_baseline(result, baseline)
            request.config.stash.setdefault(UPDATED, []).append(f"wrote {baseline}: {changed}")
            return
        comparison = compare(load_baseline(baseline), result)
        if comparison.drifts:
            raise AssertionError(f"{baseline}\n{comparison}")

    return check


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show the baselines that were written."""
    written = config.stash.get(UPDATED, [])
    if written:
        terminalreporter.section("oodbench baselines")
        for line in written:
            terminalreporter.write_line(line)
