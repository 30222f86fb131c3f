"""`oodbench store`."""

from __future__ import annotations

import click


@click.command("store", short_help="Show what outputs are kept, or remove them.")
@click.option("--clear", is_flag=True, help="Removal of what is shown.")
@click.option("--classifier", metavar="NAME", help="Only what this classifier made.")
@click.option("--set", "image_set", metavar="NAME", help="Only what was made of this image set.")
def command(clear: bool, classifier: str | None, image_set: str | None) -> None:
    """Show which outputs of which classifiers on which image sets are kept, so that no image passes a network again.

    The store lies in the cache (the environment variable OODBENCH_CACHE moves it) and takes at most 20 GB
    (OODBENCH_STORE_GB): what was longest unused goes first.
    """
    from collections import defaultdict

    from tabulate import tabulate

    from oodbench.store import Store

    store = Store.default()
    wanted = {"classifier": classifier, "set": image_set}
    sizes: dict[tuple[str, str], int] = defaultdict(int)
    for entry in store.entries():
        if any(value is not None and entry.facts.get(name) != value for name, value in wanted.items()):
            continue
        sizes[entry.facts.get("classifier", "?"), entry.facts.get("set", "?")] += entry.size
        if clear:
            entry.path.unlink(missing_ok=True)
    rows = [(*key, f"{size / 1e6:,.1f}") for key, size in sorted(sizes.items())]
    table = tabulate(rows, ("classifier", "set", "MB"), disable_numparse=True, colalign=("left", "left", "right"))
    click.echo(table if rows else "nothing is kept")
    done, total = "removed" if clear else "in all", sum(sizes.values()) / 1e9
    click.echo(f"{done} {total:.3f} GB, in {store.folder}; the limit is {store.limit / 1e9:g} GB")
