"""Options that several commands share, and the spelling of lists."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from oodbench.errors import OodbenchError

F = TypeVar("F", bound=Callable[..., Any])


def split_list(values: tuple[str, ...]) -> tuple[str, ...]:
    """Repeated options, each with commas inside, as one list; a comma in the path of what is there does not part."""
    items: list[str] = []
    for value in values:
        parts = value.split(",")
        while parts:
            end = next((end for end in range(len(parts), 1, -1) if _is_there(parts[:end])), 1)
            items.append(",".join(parts[:end]).strip())
            del parts[:end]
    return tuple(filter(None, items))


def _is_there(parts: Sequence[str]) -> bool:
    """Whether a reference, its parts joined again, names a file or folder: all of it, or behind a colon or =."""
    starts = [0, *(sign.end() for sign in re.finditer("[:=]", parts[0]))]
    paths = (re.sub("#[^,]*$", "", ",".join(parts)[start:].strip()) for start in starts)
    return any(os.path.exists(os.path.expanduser(path)) for path in paths)


def split_outside(values: tuple[str, ...]) -> tuple[str, ...]:
    """Like `split_list`, of specs: commas inside parentheses do not part."""
    parts, depth = [""], 0
    for character in ",".join(values):
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return tuple(part.strip() for part in parts if part.strip())


def assigned(texts: tuple[str, ...]) -> dict[str, str]:
    """Values by name, of texts like `steps=0`.

    Raises:
        OodbenchError: a text has another form, or a name is there twice.
    """
    values: dict[str, str] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (name and equals and value) or name in values:
            raise OodbenchError(f"--set takes NAME=VALUE, each name once, not '{text}'")
        values[name] = value
    return values


data_root_option = click.option(
    "--data-root",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder that holds the data sets.  [default: $OODBENCH_DATA, ./data, the cache]",
)
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, mps, cuda or cuda:N.")


def preprocess_options(function: F) -> F:
    """--mean, --std, --resize, --crop, --interpolation, --preprocess: how images become a checkpoint's input."""
    options = (
        click.option("--mean", help="The checkpoint's input mean: one number a channel, or e.g. imagenet."),
        click.option("--std", help="The checkpoint's input standard deviation, likewise."),
        click.option("--resize", metavar="N|HxW", help="Its images' shorter side, or height and width."),
        click.option("--crop", metavar="N|HxW", help="The middle that is cut out of them."),
        click.option("--interpolation", help="The kernel of resizing, as PIL has it: bilinear, bicubic …"),
        click.option("--preprocess", metavar="WEIGHTS", help="Published weights whose preprocess it has."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def machine_options(function: F) -> F:
    """--data-root, --device, --batch-size, --workers, --precision, --compile."""
    batch_size = click.option("--batch-size", type=int, help="Images that pass at a time.  [default: by memory]")
    workers = click.option("--workers", type=int, help="Processes that decode images.  [default: by cores, for files]")
    precision = click.option(
        "--precision",
        metavar="float32|tf32|bf16|fp16",
        default="float32",
        show_default=True,
        help="Precision of passes without a gradient.",
    )
    compiled = click.option(
        "--compile", is_flag=True, help="Layers compiled by torch.compile, for passes without a gradient."
    )
    return data_root_option(device_option(batch_size(workers(precision(compiled(function))))))
