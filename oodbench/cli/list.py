"""`oodbench list`."""

from __future__ import annotations

from pathlib import Path

import click

from oodbench.cli.options import data_root_option

KINDS = ("detectors", "datasets", "models", "recipes", "benchmarks")


@click.command("list", short_help="Show what there is.")
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("name", required=False)
@data_root_option
def command(kind: str, name: str | None, data_root: Path | None) -> None:
    """Show the detectors, data sets, models, recipes or benchmarks there are; of a detector or recipe, its settings.

    \b
    oodbench list detectors
    oodbench list detectors odin
    oodbench list recipes garbage
    """
    if name is not None:
        _settings(kind, name)
    elif kind == "detectors":
        from oodbench.detectors.catalogue import catalogue

        for detector in catalogue().values():
            aliases = f" (also: {', '.join(detector.aliases)})" if detector.aliases else ""
            _entry(detector.name + aliases, detector.summary, detector.paper)
    elif kind == "recipes":
        from oodbench.recipes.catalogue import RECIPES

        for recipe, facts in RECIPES.items():
            _entry(recipe, facts.summary)
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
            detectors = ", ".join(map(str, benchmark.detectors or ["the default detectors"]))
            _entry(name, f"ID {benchmark.id}; OOD {', '.join(benchmark.ood)}", detectors)


def _settings(kind: str, name: str) -> None:
    """A table of what can be set of a detector or a recipe."""
    from tabulate import tabulate

    from oodbench.parameters import rows_of

    if kind == "detectors":
        from oodbench.detectors.catalogue import find

        entry = find(name)
        _entry(entry.name, entry.summary, entry.paper)
        settings: object = entry.load()()
    elif kind == "recipes":
        from oodbench.recipes.catalogue import find_recipe

        recipe = find_recipe(name)
        _entry(name, recipe.summary)
        settings = recipe.settings("", "") if recipe.settings else None
    else:
        raise click.UsageError(f"a NAME is of detectors and recipes; `oodbench list {kind}` shows them all")
    rows = rows_of(settings) if settings is not None else []
    click.echo(
        tabulate(rows, headers="keys", disable_numparse=True, maxcolwidths=[None] * 5 + [60])
        if rows
        else "    nothing can be set"
    )


def _entry(name: str, *lines: str) -> None:
    click.secho(name, bold=True)
    for line in filter(None, lines):
        click.echo(f"    {line}")
