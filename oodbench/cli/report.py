"""`oodbench report`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from oodbench.cli.options import split_outside

FORMATS = ("csv", "md", "html", "latex", "json")


@click.command("report", short_help="Make a leaderboard of runs.")
@click.argument("results", nargs=-1, required=True, metavar="RESULTS…", type=click.Path(path_type=Path))
@click.option("--format", "format", type=click.Choice(FORMATS), help="[default: by the ending of --out, else md]")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json: a list of rows, as in CSV.")
@click.option("--intervals", is_flag=True, help="95 % intervals: DeLong for AUROC, bootstrap for FPR@95.")
@click.option("--group", "grouped", is_flag=True, help="Means over the sets of each group.")
@click.option("--apart", is_flag=True, help="Each classifier a row of its own; checkpoints are no repeats.")
@click.option(
    "--published", metavar="NAME|FILE.csv", help="Published figures to show too: openood-cifar10, odin, yours."
)
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="[default: standard output]")
@click.option("--metrics", multiple=True, metavar="LIST", help="LaTeX: of each cell.  [auroc,fpr_at_95_id_recall]")
@click.option(
    "--columns", multiple=True, metavar="LIST", help="LaTeX: sets, groups, mean:GROUP, sets, means.  [groups]"
)
@click.option("--decimals", type=int, help="LaTeX: of percentages.  [default: 1]")
@click.option("--transpose", is_flag=True, default=None, help="LaTeX: sets as rows.")
@click.option(
    "--width", type=float, metavar="INCHES", help="LaTeX: of the text; cut into panels at it.  [default: 6.9]"
)
@click.option("--order", multiple=True, metavar="LIST", help="LaTeX, figures: detectors, * for all others; or best.")
@click.option("--names", type=click.Path(path_type=Path), metavar="FILE.toml", help="LaTeX, figures: display names.")
@click.option("--figures", type=click.Path(path_type=Path), metavar="FOLDER", help="Folder for figures, written too.")
@click.option("--format-figures", "forms", multiple=True, metavar="LIST", help="Of pdf, svg, png.  [default: all]")
def command(results: tuple[Path, ...], as_json: bool, **options: Any) -> None:
    """Make a leaderboard of RESULTS, which are cards or the folders of runs; no network and no data are needed.

    Several checkpoints of one architecture on one ID set are repeats: one row with their spread.

    \b
    oodbench report results/digits-cnn8-1a2b3c --intervals
    oodbench report results/* --group --format html -o leaderboard.html
    oodbench report results/* --order best -o table.tex --figures figures --format-figures pdf
    """
    from oodbench.console import log
    from oodbench.report.names import Names
    from oodbench.report.paper import PaperTable
    from oodbench.report.write import write_report
    from oodbench.run_folder import Result

    if as_json:
        if options["format"] not in (None, "json"):
            raise click.UsageError(f"--json is --format json, so that --format {options['format']} has no meaning")
        options["format"] = "json"
    names = Names.load(options.pop("names"))
    lists = {name: split_outside(options.pop(name)) for name in ("metrics", "columns", "order")}
    given = lists | {name: options.pop(name) for name in ("decimals", "transpose", "width")}
    paper = PaperTable(names=names, **{name: value for name, value in given.items() if value not in (None, ())})
    forms = split_outside(options.pop("forms"))
    wrote, notes = write_report(map(Result.load, results), paper=paper, figure_forms=forms, **options)
    for note in notes:
        log.print(note, soft_wrap=True)
    click.echo(wrote, nl=False)
