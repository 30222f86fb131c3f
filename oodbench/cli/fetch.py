"""`oodbench fetch`."""

from __future__ import annotations

from pathlib import Path

import click

from oodbench.cli.options import split_list


@click.command("fetch", short_help="Download data sets.")
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@click.option(
    "--data-root", type=click.Path(path_type=Path, file_okay=False), help="Folder to put them in.  [default: the cache]"
)
def command(names: tuple[str, ...], data_root: Path | None) -> None:
    """Download data sets: resumes, verifies checksums, and passes over mirrors that do not answer."""
    from oodbench.data.fetch import fetch
    from oodbench.files import cache_folder

    root = data_root or cache_folder() / "data"
    for name in split_list(names):
        for path in fetch(name, root):
            click.echo(path)
