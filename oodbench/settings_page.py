"""The page of all settings, docs/parameters.md, made from their declarations: python -m oodbench.settings_page."""

from __future__ import annotations

from collections.abc import Iterator

from tabulate import tabulate

from oodbench.detectors.catalogue import DETECTORS
from oodbench.inversion.settings import InversionSettings, PyramidSettings, ReconstructionSettings
from oodbench.parameters import rows_of
from oodbench.recipes.catalogue import RECIPES

HEAD = """# Settings

Made from the declarations in the code by `python -m oodbench.settings_page`; `oodbench list detectors NAME` and
`oodbench list recipes NAME` show the same. A detector's are set in its spec, `odin(norm=l2,epsilon=0.002)`, or by
`--set odin.epsilon=0.002`; a recipe's by `oodbench train --recipe NAME --set SETTING=VALUE`; those of `oodbench invert`
by options.
"""


def settings_page() -> str:
    """Markdown: of each detector, each recipe and inversion a table of what can be set."""
    return "\n".join([HEAD, *_parts()])


def _parts() -> Iterator[str]:
    yield "## Detectors\n"
    for name, entry in DETECTORS.items():
        yield f"### {name}\n\n{entry.summary} ({entry.paper})\n"
        yield settings_table(entry.load()())
    yield "## Recipes\n"
    for name, recipe in RECIPES.items():
        yield f"### {name}\n\n{recipe.summary}\n"
        yield settings_table(recipe.settings("", "") if recipe.settings else None)
    yield "## `oodbench invert`\n"
    yield settings_table(PyramidSettings())
    yield "### `--by generator`\n"
    yield settings_table(InversionSettings())
    yield "### `--reconstruct`\n"
    yield settings_table(ReconstructionSettings())


def settings_table(settings: object) -> str:
    """Markdown: a row a setting."""
    rows = rows_of(settings) if settings is not None else []
    return tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True) + "\n" if rows else "Nothing.\n"


if __name__ == "__main__":
    print(settings_page(), end="")
