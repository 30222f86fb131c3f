"""`oodbench invert`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from oodbench.cli.options import data_root_option, device_option, preprocess_options
from oodbench.cli.starting import starting
from oodbench.errors import OodbenchError
from oodbench.inversion.settings import InversionSettings, PyramidSettings, ReconstructionSettings
from oodbench.parameters import Parameter, all_parameters, changed, rows_of

WAYS: dict[str, Any] = {
    "latents": PyramidSettings(),
    "generator": InversionSettings(),
    "--reconstruct": ReconstructionSettings(),
}
"""The settings of each way to invert, with its defaults."""


def _setting_options(function: Callable[..., None]) -> Callable[..., None]:
    """An option for everything that can be set of any way to invert; its help says the default of each."""
    declared: dict[str, Parameter] = {}
    defaults: dict[str, dict[str, str]] = {}
    for way, settings in WAYS.items():
        declared = dict(_declared(way)) | declared
        for row in rows_of(settings):
            defaults.setdefault(row["name"], {})[way] = row["default"]
    for one in reversed(list(declared.values())):
        name = f"--{one.name.replace('_', '-')}"
        kind = click.Choice(one.choices) if one.choices else one.type
        by_way = ", ".join(f"{way} {value}" for way, value in defaults[one.name].items())
        function = click.option(name, type=kind, help=f"{one.help}  [default: {by_way}]")(function)
    return function


def _settings(way: str, values: dict[str, Any]) -> Any:
    given = {name: value for name, value in values.items() if value is not None}
    known = _declared(way)
    for name in given:
        if name not in known:
            others = [other for other in WAYS if name in _declared(other)]
            raise OodbenchError(
                f"--{name.replace('_', '-')} is no setting of {_option(way)}; leave it out, or give "
                f"{' or '.join(map(_option, others))}"
            )
    return changed(WAYS[way], given)


def _declared(way: str) -> Mapping[str, Parameter]:
    kind: type = type(WAYS[way])
    return all_parameters(kind)


def _option(way: str) -> str:
    return way if way.startswith("--") else f"--by {way}"


@click.command("invert", short_help="Make images that a classifier puts into its classes.")
@click.option("--id", "id", required=True, metavar="NAME|npz:PATH|folder:PATH", help="The ID set.")
@click.option("--model", metavar="NAME|PATH|NAME=PATH", help="The classifier.  [default: by image size, trained once]")
@preprocess_options
@click.option("--by", type=click.Choice(["latents", "generator"]), help="What is moved: each image's latents, or one "
    "generator of all.  [default: latents; of --ablate and --sweep: generator]")  # fmt: skip
@click.option("--reconstruct", is_flag=True, help="Seek the training images, and compare with them; by latents.")
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
    by: str | None,
    reconstruct: bool,
    ablate: bool,
    sweeps: tuple[str, ...],
    seeds: int | None,
    out: Path | None,
    data_root: Path | None,
    device: str,
    **values: Any,
) -> None:
    """Make images that a frozen classifier puts into the class asked for (network inversion).

    By latents each image is moved by itself, so that all differ; by a generator (Suhail & Sethi) one network is
    trained that makes as many as are wanted. Writes images of each class, a record, and the images or the generator.
    The inversion accuracy is the share of images that the classifier gives the class asked for.

    With --reconstruct the images are compared with the training images; --overfit 200 trains a network on 200 images
    until it knows them by heart, and inverts that.

    \b
    oodbench invert --id mnist
    oodbench invert --id mnist --reconstruct --overfit 200
    oodbench invert --id mnist --by generator --epochs 60
    oodbench invert --id mnist --ablate --epochs 10
    oodbench invert --id mnist --sweep learning_rate=0.001,0.003 --sweep label_smoothing=0,0.01,0.1
    """
    with starting("invert"):
        from oodbench.benchmark import Benchmark
        from oodbench.console import ConsoleReporter, log
        from oodbench.plan import Machine
        from oodbench.study import Question, parse_sweeps, study

    if reconstruct and by == "generator":
        raise OodbenchError("--reconstruct is by latents; leave out --by generator")
    way = "--reconstruct" if reconstruct else by or ("generator" if ablate or sweeps else "latents")
    settings = _settings(way, values)
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
    log.print(f"wrote {', '.join(outcome.names)} in {outcome.folder}", soft_wrap=True)
