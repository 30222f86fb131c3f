"""`oodbench list`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from oodbench.cli.options import data_root_option

KINDS = ("detectors", "datasets", "models", "recipes", "benchmarks")


@click.command("list", short_help="Show what there is.")
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="JSON, for programs.")
@data_root_option
def command(kind: str, name: str | None, as_json: bool, data_root: Path | None) -> None:
    """Show the detectors, data sets, models, recipes or benchmarks there are; of a detector or recipe, its settings.

    \b
    oodbench list detectors
    oodbench list detectors odin
    oodbench list recipes garbage
    """
    if name is not None:
        _settings(kind, name, as_json)
        return
    entries = ENTRIES[kind](data_root)
    if as_json:
        click.echo(json.dumps(entries, ensure_ascii=False, indent=1))
        return
    group = ""
    for one in entries:
        if one.get("family", "") != group:
            group = one["family"]
            click.secho(f"\n{group}", bold=True, underline=True)
        aliases = f" (also: {', '.join(one['aliases'])})" if one.get("aliases") else ""
        click.secho(one["name"] + aliases, bold=True)
        for what, text in one.items():
            if what not in ("name", "aliases", "family") and text:
                click.echo(f"    {text}")
    if kind == "models":
        click.echo("and every classification model of torchvision by its name, e.g. resnet50")


def _detectors(data_root: Path | None) -> list[dict[str, Any]]:
    from oodbench.detectors.catalogue import catalogue
    from oodbench.detectors.entry import FAMILIES

    entries = sorted(catalogue().values(), key=lambda one: [*FAMILIES].index(one.family))
    return [
        {
            "name": one.name,
            "aliases": list(one.aliases),
            "family": one.family,
            "summary": one.summary,
            "paper": one.paper,
        }
        for one in entries
    ]


def _datasets(data_root: Path | None) -> list[dict[str, Any]]:
    from oodbench.data.catalogue import DATASETS
    from oodbench.data.load import available
    from oodbench.data.sources import how_to_get

    def where(name: str) -> str:
        return available(name, data_root) or f"not on this machine. {how_to_get(name)}"

    return [
        {"name": name, "title": one.title, "source": one.source, "where": where(name), "note": one.note}
        for name, one in DATASETS.items()
    ]


def _models(data_root: Path | None) -> list[dict[str, Any]]:
    from oodbench.models.catalogue import MODELS

    return [{"name": one.name, "summary": one.summary, "source": one.source} for one in MODELS.values()]


def _recipes(data_root: Path | None) -> list[dict[str, Any]]:
    from oodbench.recipes.catalogue import RECIPES

    return [{"name": name, "summary": one.summary} for name, one in RECIPES.items()]


def _benchmarks(data_root: Path | None) -> list[dict[str, Any]]:
    from oodbench.benchmark import Benchmark, embedded_benchmarks

    found = {name: Benchmark.load(name) for name in embedded_benchmarks()}
    return [
        {
            "name": name,
            "sets": f"ID {one.id}; OOD {', '.join(one.ood)}",
            "detectors": ", ".join(map(str, one.detectors or ["the default detectors"])),
        }
        for name, one in found.items()
    ]


ENTRIES: dict[str, Callable[[Path | None], list[dict[str, Any]]]] = dict(
    zip(KINDS, (_detectors, _datasets, _models, _recipes, _benchmarks), strict=True)
)


def _settings(kind: str, name: str, as_json: bool) -> None:
    """A table of what can be set of a detector or a recipe."""
    from tabulate import tabulate

    from oodbench.parameters import rows_of

    if kind == "detectors":
        from oodbench.detectors.catalogue import find

        entry = find(name)
        about = [entry.name, entry.summary, entry.paper]
        settings: object = entry.load()()
    elif kind == "recipes":
        from oodbench.recipes.catalogue import find_recipe

        recipe = find_recipe(name)
        about = [name, recipe.summary]
        settings = recipe.settings("", "") if recipe.settings else None
    else:
        raise click.UsageError(f"a NAME is of detectors and recipes; `oodbench list {kind}` shows them all")
    rows = rows_of(settings) if settings is not None else []
    if as_json:
        click.echo(json.dumps({"name": about[0], "settings": rows}, ensure_ascii=False, indent=1))
        return
    click.secho(about[0], bold=True)
    for line in filter(None, about[1:]):
        click.echo(f"    {line}")
    click.echo(
        tabulate(rows, headers="keys", disable_numparse=True, maxcolwidths=[None] * 5 + [60])
        if rows
        else "    nothing can be set"
    )
