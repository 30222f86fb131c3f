"""The command line: each command is a file here that parses, calls one function and prints."""

from __future__ import annotations

import importlib
import os
import sys

import click

from oodbench.cli.ending import ended, tolerate_consoles

# name → (module, one-line help): a command's module is imported when it is run, not to list it.
COMMANDS = {
    "run": "Fit and score detectors on a classifier, write the leaderboard.",
    "tune": "Choose detectors' hyper-parameters without a scored OOD set.",
    "report": "Make a leaderboard of runs: markdown, CSV, HTML, LaTeX.",
    "score": "Score images with a guard, a fitted detector and its threshold.",
    "check": "Compare a run with a stored baseline, score by score.",
    "list": "Show the detectors, data sets, models and benchmarks there are.",
    "train": "Train a classifier on an ID set.",
    "invert": "Make images that a classifier puts into its classes (network inversion).",
    "fetch": "Download data sets.",
    "store": "Show what outputs are kept, or remove them.",
    "completion": "Print what completes names in a shell: bash, zsh, fish.",
    "doctor": "Show versions, device, data and caches of this machine.",
}

COMPLETING = "_OODBENCH_COMPLETE"
"""What a shell sets that asks for completions."""


class _Commands(click.Group):
    """Commands imported on demand; errors that a user can act on are printed without a traceback."""

    def list_commands(self, context: click.Context) -> list[str]:
        # Not list(): a command of that name becomes an attribute of this module.
        return [*COMMANDS]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"oodbench.cli.{name}").command
        if COMPLETING in os.environ:
            from oodbench.cli.completion import with_names

            return with_names(command)
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([*COMMANDS.items()])

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from oodbench.errors import unknown_name

            raise click.UsageError(str(unknown_name("command", args[0], COMMANDS)), context)
        return super().resolve_command(context, args)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="oodbench")
def oodbench() -> None:
    """Which detector tells me when an image is not of the kind my classifier was trained on, and how well?

    `oodbench run` with no arguments runs a complete benchmark on data that come with the package.
    """


def main() -> None:
    """The entry point; `ending.ended` says what it exits with."""
    # Before torch is imported. Threads that wait awake take the cores from other processes, and from each other: beside
    # one busy process on two cores `oodbench run` took 122 s that way, and 9 s with threads that sleep.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    tolerate_consoles()
    sys.exit(ended(lambda: oodbench.main(prog_name="oodbench", standalone_mode=False)))
