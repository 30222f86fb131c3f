"""`oodbench run`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from oodbench.cli.options import assigned, machine_options, preprocess_options, split_list
from oodbench.cli.starting import starting

if TYPE_CHECKING:
    from oodbench.benchmark import Benchmark
    from oodbench.plan import Machine
    from oodbench.run_folder import Result

DATA = {"id", "fit", "ood", "validation_ood", "limit", "fit_limit", "seed"}
"""Options that change which images a benchmark has."""


@click.command("run", short_help="Fit and score detectors, write the leaderboard.")
@click.option("--benchmark", "reference", metavar="NAME|FILE.toml", help="A benchmark; other options override it.")
@click.option("--detector", "detectors", multiple=True, metavar="NAME[(PARAMETER=VALUE)]", help="Detectors to run.")
@click.option("--id", "id", metavar="NAME|npz:PATH|folder:PATH|…", help="The ID set.")
@click.option("--fit", metavar="NAME|npz:PATH|folder:PATH|…", help="Fit images, if not the ID set's training split.")
@click.option("--ood", multiple=True, metavar="NAME|GROUP|npz:PATH|folder:PATH|…", help="The OOD sets.")
@click.option("--validation-ood", multiple=True, metavar="NAME|…", help="OOD sets that detectors may choose on.")
@click.option("--model", "models", multiple=True, metavar="NAME|PATH|NAME=PATH", help="Classifiers.")
@click.option("--retrain", is_flag=True, default=None, help="Classifiers that come with oodbench trained here.")
@preprocess_options
@click.option("--set", "parameters", multiple=True, metavar="DETECTOR.PARAMETER=VALUE", help="A hyper-parameter.")
@click.option("--limit", type=int, help="Draw at most so many images of each set.")
@click.option("--fit-limit", type=int, help="Draw at most so many fit images.  [default: 5000]")
@click.option("--seed", type=int, help="Of all draws and generated images.  [default: 0]")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder of the results.  [default: results/ID-MODEL-HASH, the hash of the benchmark]",
)
@click.option("--force", is_flag=True, help="A run of another benchmark in that folder replaced.")
@click.option("--partial", is_flag=True, default=None, help="OOD sets of the benchmark that are not here left out.")
@click.option("--store/--no-store", default=True, help="Outputs kept and reused, or not.  [default: kept]")
@machine_options
@click.option("--devices", metavar="N|0,1", help="Processes that share the run, one a device; or the GPUs.")
def command(
    reference: str | None,
    out: Path | None,
    force: bool,
    devices: str | None,
    detectors: tuple[str, ...],
    parameters: tuple[str, ...],
    **options: Any,
) -> None:
    """Fit and score detectors on a classifier, and write leaderboard.csv, leaderboard.md, card.json and scores.npz.

    Without arguments it runs the benchmark `digits` on data that come with the package. Lists are separated by
    commas or repeated; `--ood` takes the groups noise, structured, near and far. Your own images are npz:FILE,
    npy:FILE, folder:FOLDER, list:FILE (`path label` a line), hf:FILE or tar:FILE; CALLED=folder:FOLDER names them.

    \b
    oodbench run --detector msp,lc,odin,oodl --ood noise
    oodbench run --detector odin --detector "odin(norm=l2)" --set odin.epsilon=0.002
    oodbench run --id cifar10 --model resnet20=resnet20.th --mean imagenet --std imagenet --ood textures,scenes
    """
    with starting("run"):
        from oodbench.console import ConsoleReporter
        from oodbench.distributed import is_one_of_many, joined, launch
        from oodbench.files import check_cache
        from oodbench.progress import Reporter
        from oodbench.run_folder import check_folder, check_replaced
        from oodbench.runner import run_among

    if devices and not is_one_of_many():
        sys.exit(launch(devices, sys.argv[1:]))
    benchmark, machine = wanted(reference, detectors, parameters, options)
    with joined() as ranks:
        reporter = ConsoleReporter() if ranks.is_first else Reporter()
        if ranks.is_first:
            check_folder(out or Path("results"))
            if machine.store:
                check_cache()
            if out and not force and (note := check_replaced(out, benchmark.as_dict())):
                reporter.say(note)
        result = run_among(ranks, benchmark, machine=machine, reporter=reporter)
        if result is not None:
            _write(result, out, benchmark)


def _write(result: Result, out: Path | None, benchmark: Benchmark) -> None:
    from oodbench.console import log, output
    from oodbench.files import safe_name
    from oodbench.report.formats import terminal_tables

    if out is None:
        models = "+".join(dict.fromkeys(row["model"] for row in result.card.metrics))
        out = Path("results") / safe_name(f"{result.card.metrics[0]['id']}-{models}-{benchmark.short_hash()}")
    paths = result.save(out)
    for table in terminal_tables(result.leaderboard, output.width):
        output.print(table)
    names = dict.fromkeys(f"{path.parts[0]}/" if len(path.parts) > 1 else path.name for path in _below(out, paths))
    log.print(f"wrote {', '.join(names)} in {out}", soft_wrap=True)


def wanted(
    reference: str | None, detectors: tuple[str, ...], parameters: tuple[str, ...], options: dict[str, Any]
) -> tuple[Benchmark, Machine]:
    """The benchmark and the machine that the options ask for."""
    from dataclasses import fields, replace

    from oodbench.benchmark import DEFAULT, Benchmark
    from oodbench.detectors.spec import split_specs
    from oodbench.plan import Machine

    machine = Machine(**{one.name: options.pop(one.name) for one in fields(Machine)})
    base = Benchmark.load(reference or DEFAULT)
    given = {key: value for key, value in options.items() if value not in (None, ())}
    given = {key: split_list(value) if isinstance(value, tuple) else value for key, value in given.items()}
    if detectors:
        given["detectors"] = split_specs(",".join(detectors))
    if parameters:
        given["parameters"] = {**base.parameters, **assigned(tuple(split_specs(",".join(parameters))))}
    # A named benchmark keeps its name while its data stay; the default one is its network and detectors too.
    same = not given or (base.name != DEFAULT and not DATA & given.keys())
    return replace(base, **given, name=base.name if same else ""), machine


def _below(folder: Path, paths: list[Path]) -> list[Path]:
    return [path.relative_to(folder) for path in paths]
