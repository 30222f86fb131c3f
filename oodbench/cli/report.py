"""`oodbench report`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

FORMATS = ("csv", "md", "html", "latex")


@click.command("report", short_help="Make a leaderboard of runs.")
@click.argument("results", nargs=-1, required=True, metavar="RESULTS…", type=click.Path(path_type=Path))
@click.option("--format", "format", type=click.Choice(FORMATS), help="[default: by the ending of --out, else md]")
@click.option("--intervals", is_flag=True, help="95 % intervals: DeLong for AUROC, bootstrap for FPR@95.")
@click.option("--group", "grouped", is_flag=True, help="Means over the sets of each group.")
@click.option("--apart", is_flag=True, help="Each classifier a row of its own; checkpoints are no repeats.")
@click.option("--published", type=click.Path(path_type=Path), metavar="FILE.csv", help="Published figures to show too.")
@click.option("--figures", type=click.Path(path_type=Path), metavar="FOLDER", help="Also write SVG and PNG figures.")
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="[default: standard output]")
def command(results: tuple[Path, ...], **options: Any) -> None:
    """Make a leaderboard of RESULTS, which are cards or the folders of runs; no network and no data are needed.

    Several checkpoints of one architecture on one ID set are repeats: one row with their spread.

    \b
    oodbench report results/digits-cnn8-1a2b3c --intervals
    oodbench report results/* --group --format html -o leaderboard.html
    """
    from oodbench.console import log
    from oodbench.report.write import write_report
    from oodbench.run_folder import Result

    wrote, notes = write_report(map(Result.load, results), **options)
    for note in notes:
        log.print(note, markup=False, soft_wrap=True)
    click.echo(wrote, nl=False)
