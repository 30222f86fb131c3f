"""`oodbench tune`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from oodbench.cli.options import assigned
from oodbench.cli.run import command as run_command
from oodbench.cli.run import wanted
from oodbench.cli.starting import starting
from oodbench.errors import OodbenchError

if TYPE_CHECKING:
    from oodbench.tuning import Tuned


@click.option(
    "--grid",
    "grids",
    multiple=True,
    metavar="DETECTOR.PARAMETER=VALUE,VALUE",
    help="Values to be tried, instead of those declared (`oodbench list detectors NAME`).",
)
@click.option(
    "--oracle", is_flag=True, help="Choice on the scored OOD sets themselves: for comparison, never a result."
)
@click.option(
    "--out", "-o", type=click.Path(path_type=Path, dir_okay=False), help="File of the benchmark with what was picked."
)
def tune(
    reference: str | None,
    grids: tuple[str, ...],
    oracle: bool,
    out: Path | None,
    detectors: tuple[str, ...],
    parameters: tuple[str, ...],
    **options: Any,
) -> None:
    """Choose detectors' hyper-parameters on ID images held out from fitting, against proxies made of them.

    With --validation-ood the sets named there take the place of the proxies; none of them may share an image with
    the scored sets, --ood, which decide nothing. The file is one that `oodbench run --benchmark` takes.

    \b
    oodbench tune --detector odin,knn -o tuned.toml
    oodbench tune --detector odin --grid odin.epsilon=0,0.0014,0.01 --grid odin.temperature=1,1000
    oodbench run --benchmark tuned.toml
    """
    with starting("tune"):
        from dataclasses import replace

        from oodbench.console import ConsoleReporter, log
        from oodbench.files import check_output, write_whole
        from oodbench.tuning import tune as search

    if oracle and out:
        raise OodbenchError("what an oracle picks is for comparison only; leave out --out, or --oracle")
    if not detectors:
        raise OodbenchError("name the detectors that are to be tuned: --detector odin,knn")
    benchmark, machine = wanted(reference, detectors, parameters, options)
    if out:
        check_output(out)
    values = {name: text.split(",") for name, text in assigned(grids).items()}
    found = search(benchmark, machine=machine, reporter=ConsoleReporter(), grids=values, oracle=oracle)
    _show(found)
    if out:
        tuned = replace(
            benchmark,
            detectors=tuple(one.picked for one in found),
            parameters={},
            validation_ood=(),
            tuning=tuple(one.as_dict() for one in found),
            name="",
        )
        write_whole(out, tuned.to_toml())
        log.print(f"wrote {out}: oodbench run --benchmark {out}", soft_wrap=True)


# All that says what is run, and on what, is as for `oodbench run`.
command = click.command("tune", short_help="Choose detectors' hyper-parameters without a scored OOD set.")(tune)
command.params = [one for one in run_command.params if one.name not in ("out", "force", "devices")] + command.params


def _show(found: tuple[Tuned, ...]) -> None:
    from rich.table import Table
    from rich.text import Text

    from oodbench.console import output

    on = "the scored OOD sets, as an oracle" if found[0].kind == "oracle" else ", ".join(found[0].sets)
    table = Table(title=f"mean AUROC in percent on {on}")
    for name in ("detector", "as given", "picked", "AUROC", "trials", "remark"):
        table.add_column(name, overflow="fold")
    for one in found:
        edge = f"at the edge of its grid: {', '.join(one.at_edge)}" if one.at_edge else ""
        without = f"without effect: {', '.join(one.no_effect)}" if one.no_effect else ""
        remark = "; ".join(filter(None, (edge, without)))
        trials = str(len(one.trials)) + (f", drawn of {one.grid}" if one.grid > len(one.trials) else "")
        before, after = (one.trial(name).auroc for name in (one.asked, one.picked))
        cells = (one.asked, f"{100 * before:.2f}", one.picked, f"{100 * after:.2f}", trials, remark)
        table.add_row(*map(Text, cells))
    output.print(table)
