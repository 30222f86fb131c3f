"""For the API reference: `mean, std: …` in a docstring here is of two names; griffe knows them one by one."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

PAIR = re.compile(r"^(?P<indent> +)(?P<names>\w+(?:, \w+)+): (?P<text>.*(?:\n(?P=indent) +\S.*)*)", re.MULTILINE)


class NamesOneByOne(Extension):
    """The first name keeps the text, the others point to it."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = PAIR.sub(_parted, obj.docstring.value)


def _parted(found: re.Match[str]) -> str:
    first, *others = found["names"].split(", ")
    lines = [f"{first}: {found['text']}", *(f"{other}: see `{first}`" for other in others)]
    return "\n".join(found["indent"] + line for line in lines)
