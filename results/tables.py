"""Tables of a page in docs/, each of which stands after its name in a comment."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import pandas as pd

KINDS = {
    "noise": ("gaussian", "uniform", "rademacher", "blobs"),
    "structured": ("structured", "photos", "textures", "scenes"),
    "other data": ("tinyimagenet", "cifar10", "cifar100", "mnist", "fashion-mnist", "notmnist", "omniglot"),
}
"""OOD sets by what they are, whatever the ID set."""


def filled(text: str, tables: Mapping[str, Callable[[], pd.DataFrame]]) -> str:
    """The page with each table made anew."""

    def made(found: re.Match[str]) -> str:
        table = tables[found[1]]().to_markdown(index=False, disable_numparse=True)
        return f"<!-- {found[1]} -->\n{table}\n"

    return re.sub(r"<!-- (\w+) -->\n(?:\|.*\n)*", made, text)
