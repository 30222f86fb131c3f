"""`oodbench check`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from oodbench.cli.ending import DRIFT
from oodbench.cli.options import machine_options
from oodbench.cli.starting import starting

FOLDER = click.Path(path_type=Path)


@click.command("check", short_help="Compare a run with a stored baseline, score by score.")
@click.option("--baseline", type=FOLDER, required=True, metavar="FOLDER", help="The stored baseline.")
@click.option("--against", type=FOLDER, metavar="FOLDER|card.json", help="A run that was saved.")
@click.option("--rerun", "again", is_flag=True, help="Run the baseline's benchmark again: done without --against.")
@click.option("--update", is_flag=True, help="Show the difference, then make the run the new baseline.")
@machine_options
@click.pass_context
def command(
    context: click.Context, baseline: Path, against: Path | None, again: bool, update: bool, **options: Any
) -> None:
    """Compare sets, classifiers, detectors, scores and metrics of a run with a baseline; better is drift too.

    Exits with 0 where all agree within the tolerance of the device, 1 on drift, 2 on misuse. With --update it exits
    with 0 after writing.

    \b
    oodbench run --model mine.safetensors --out runs/today
    oodbench check --baseline baselines/mine --against runs/today --update
    oodbench check --baseline baselines/mine
    """
    if against:
        useless = [name for name in options if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
        if again or useless:
            named = "--rerun" if again else f"--{useless[0].replace('_', '-')}"
            raise click.UsageError(f"--against compares a run that was saved, so {named} has no meaning", context)

    with starting("check"):
        from oodbench.check import compare, is_baseline, load_baseline, rerun, save_baseline
        from oodbench.console import ConsoleReporter
        from oodbench.files import check_writable
        from oodbench.plan import Machine
        from oodbench.run_folder import Result

    stored = None if update and against and not is_baseline(baseline) else load_baseline(baseline)
    if update:
        check_writable(baseline)
    if against:
        now = Result.load(against)
    else:
        assert stored is not None  # a baseline that is not there ends the command above
        now = rerun(stored, Machine(**options), ConsoleReporter())
    comparison = compare(stored, now) if stored else None
    click.echo(comparison or "there was no baseline to compare with")
    if update:
        save_baseline(now, baseline)
        click.echo(f"wrote {baseline}")
    elif comparison and comparison.drifts:
        sys.exit(DRIFT)
