"""`oodbench invert`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from oodbench.cli.options import data_root_option, device_option, preprocess_options
from oodbench.inversion.settings import SETTINGS


def _setting_options(function: Callable[..., None]) -> Callable[..., None]:
    """An option for everything that can be set of an inversion."""
    for one in reversed(list(SETTINGS.values())):
        name = f"--{one.name.replace('_', '-')}"
        kind = click.Choice(one.choices) if one.choices else one.type
        function = click.option(name, type=kind, default=one.default, show_default=True, help=one.help)(function)
    return function


@click.command("invert", short_help="Make images that a classifier puts into its classes.")
@click.option("--id", "id", required=True, metavar="NAME|npz:PATH|folder:PATH", help="The ID set.")
@click.option("--model", metavar="NAME|PATH|NAME=PATH", help="The classifier.  [default: by image size, trained once]")
@preprocess_options
@click.option("--ablate", is_flag=True, help="Leave out each loss in turn, and compare.")
@click.option(
    "--sweep", "sweeps", multiple=True, metavar="SETTING=VALUE,…", help="Try values of a setting; repeatable."
)
@click.option("--seeds", type=int, help="Of --ablate and --sweep: so many, from --seed upwards.  [default: 3]")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder of the results.  [default: results/inversion/ID-MODEL]"
)
@data_root_option
@device_option
@_setting_options
def command(
    id: str,
    model: str | None,
    mean: str | None,
    std: str | None,
    resize: str | None,
    crop: str | None,
    interpolation: str | None,
    preprocess: str | None,
    ablate: bool,
    sweeps: tuple[str, ...],
    seeds: int | None,
    out: Path | None,
    data_root: Path | None,
    device: str,
    **values: Any,
) -> None:
    """Train a generator of images that a frozen classifier puts into the class asked for (network inversion).

    Writes generated images of each class, curves, the generator and a record. The inversion accuracy is the share of
    fresh images that the classifier gives the class asked for.

    \b
    oodbench invert --id mnist
    oodbench invert --id mnist --ablate --epochs 10
    oodbench invert --id mnist --sweep learning_rate=0.001,0.003 --sweep label_smoothing=0,0.01,0.1
    """
    from oodbench.benchmark import Benchmark
    from oodbench.console import ConsoleReporter, log
    from oodbench.inversion.settings import InversionSettings
    from oodbench.plan import Machine
    from oodbench.study import Question, parse_sweeps, study

    settings = InversionSettings().replaced(**values)
    question = Question(settings, ablate, parse_sweeps(sweeps), seeds)
    benchmark = Benchmark(
        id=id,
        models=(model,) if model else (),
        mean=mean,
        std=std,
        resize=resize,
        crop=crop,
        interpolation=interpolation,
        preprocess=preprocess,
        seed=settings.seed,
    )
    outcome = study(benchmark, question, Machine(data_root, device), ConsoleReporter(), out)
    click.echo(outcome.summary.to_markdown(index=False, floatfmt=".3f"))
    log.print(f"wrote {', '.join(outcome.names)} in {outcome.folder}", markup=False, soft_wrap=True)
