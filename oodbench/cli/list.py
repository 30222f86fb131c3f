"""`oodbench list`."""

from __future__ import annotations

from pathlib import Path

import click

from oodbench.cli.options import data_root_option

KINDS = ("detectors", "datasets", "models", "benchmarks")


@click.command("list", short_help="Show what there is.")
@click.argument("kind", type=click.Choice(KINDS))
@data_root_option
def command(kind: str, data_root: Path | None) -> None:
    """Show the detectors, data sets, models or benchmarks there are."""
    if kind == "detectors":
        from oodbench.detectors.catalogue import catalogue

        for detector in catalogue().values():
            aliases = f" (also: {', '.join(detector.aliases)})" if detector.aliases else ""
            _entry(detector.name + aliases, detector.summary, detector.paper)
    elif kind == "datasets":
        from oodbench.data.catalogue import DATASETS
        from oodbench.data.load import available

        for name, dataset in DATASETS.items():
            found = available(name, data_root)
            _entry(name, dataset.title, dataset.source, found or "not on this machine", dataset.note)
    elif kind == "models":
        from oodbench.models.catalogue import MODELS

        for model in MODELS.values():
            _entry(model.name, model.summary, model.source)
        click.echo("and every classification model of torchvision by its name, e.g. resnet50")
    else:
        from oodbench.benchmark import Benchmark, embedded_benchmarks

        for name in embedded_benchmarks():
            benchmark = Benchmark.load(name)
            _entry(name, f"ID {benchmark.id}; OOD {', '.join(benchmark.ood)}", ", ".join(benchmark.detectors))


def _entry(name: str, *lines: str) -> None:
    click.secho(name, bold=True)
    for line in filter(None, lines):
        click.echo(f"    {line}")
