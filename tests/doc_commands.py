"""Command lines that a page shows: found in its code, and parsed by the commands themselves without being run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

import click

from oodbench.benchmark import embedded_benchmarks
from oodbench.cli import oodbench
from oodbench.cli.options import split_list
from oodbench.data.catalogue import DATASETS, GROUPS
from oodbench.detectors.catalogue import find
from oodbench.detectors.spec import build, split_specs

OWN = ("set:", "npz:", "npy:", "folder:", "list:", "hf:", "tar:")
"""What begins the reference of a set that is no name."""


def commands(text: str) -> list[str]:
    """The calls of oodbench in shell code, each as a line that begins with `oodbench`."""
    found = []
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        for part in re.split(r"&&|\|\s|;|>\s*\S+\s*$", line):
            call = re.search(r"(?:^|[\s/])(oodbench [a-z].*)$", part.partition(" #")[0].rstrip())
            if call and not re.search(r"\b(pip|import|git)\b", part):
                found.append(call[1])
    return found


def parsed(line: str) -> None:
    """Parse one.

    Raises:
        click.UsageError: a command, an option or a choice that does not exist, or an argument too many or too few.
        OodbenchError: a detector or one of its parameters that does not exist.
        AssertionError: a data set or a benchmark that does not exist.
    """
    words = shlex.split(line)[1:]
    group = click.Context(oodbench, info_name="oodbench")
    name, command, arguments = oodbench.resolve_command(group, words)
    assert command is not None
    context = command.make_context(name, arguments, parent=group)
    said = context.params
    for spec in split_specs(",".join(said["detectors"])) if said.get("detectors") else ():
        _ = find(spec) if ":" in spec else build(spec)  # a class of the reader's is nowhere to be found
    _check_sets(one for option in ("id", "fit", "ood", "validation_ood") for one in _listed(said.get(option)))
    benchmark = said.get("reference")
    assert benchmark is None or benchmark.endswith(".toml") or benchmark in embedded_benchmarks(), benchmark


def _listed(values: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return split_list((values,) if isinstance(values, str) else values or ())


def _check_sets(references: Iterable[str]) -> None:
    for reference in references:
        name = re.sub(r"^[\w-]+=", "", reference)
        assert name.startswith(OWN) or name in (*DATASETS, *GROUPS, "inverted"), f"no set is called {reference}"
