"""`oodbench completion`."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem, get_completion_class

SHELLS = ("bash", "zsh", "fish")

NAMED = {
    "detectors": "detectors",
    "ood": "datasets",
    "id": "datasets",
    "fit": "datasets",
    "validation_ood": "datasets",
    "names": "datasets",
    "models": "models",
    "model": "models",
    "architecture": "models",
    "reference": "benchmarks",
}
"""Parameter of a command → the kind of names that complete it."""


@click.command("completion", short_help="Print what completes names in a shell.")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Source for SHELL that completes commands, options, detectors, data sets and models.

    \b
    bash:  eval "$(oodbench completion bash)"      in ~/.bashrc
    zsh:   eval "$(oodbench completion zsh)"       in ~/.zshrc
    fish:  oodbench completion fish | source       in ~/.config/fish/config.fish
    """
    made = get_completion_class(shell)
    assert made is not None  # SHELLS are those that click knows
    click.echo(made(context.find_root().command, {}, "oodbench", "_OODBENCH_COMPLETE").source())


def with_names(asked: click.Command) -> click.Command:
    """The command, whose parameters complete the names that they take; no torch is imported for it."""
    for one in asked.params:
        if one.name in NAMED and one._custom_shell_complete is None:
            one._custom_shell_complete = _completed
    return asked


def _completed(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """What begins as the last of the names separated by commas does, behind those before it."""
    before, comma, begun = incomplete.rpartition(",")
    known = _known(NAMED[parameter.name or ""])
    return [CompletionItem(before + comma + name) for name in known if name.startswith(begun)]


def _known(kind: str) -> list[str]:
    if kind == "detectors":
        from oodbench.detectors.catalogue import catalogue

        return list(catalogue())
    if kind == "datasets":
        from oodbench.data.catalogue import DATASETS, GROUPS

        return [*GROUPS, *DATASETS]
    if kind == "models":
        from oodbench.models.catalogue import MODELS

        return list(MODELS)
    from oodbench.benchmark import embedded_benchmarks

    return list(embedded_benchmarks())
