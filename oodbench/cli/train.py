"""`oodbench train`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from oodbench.cli.options import data_root_option, device_option


@click.command("train", short_help="Train a classifier.")
@click.option("--id", "id", required=True, metavar="NAME|npz:PATH|folder:PATH", help="The ID set to train on.")
@click.option("--model", "architecture", help="An architecture of `oodbench list models`.  [default: by image size]")
@click.option("--recipe", help="garbage or confidence: for the detectors inversion and confidence.")
@click.option("--rounds", type=click.IntRange(min=1), help="Of the recipe garbage, at most.")
@click.option("--inversion-epochs", type=click.IntRange(min=1), help="Of the recipe garbage, 15 steps each, a round.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The checkpoint.  [default: ID-MODEL[-RECIPE].safetensors]",
)
@data_root_option
@device_option
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the training images.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Images a step.")
@click.option("--learning-rate", type=float, help="The highest of the schedule.")
@click.option("--weight-decay", type=float)
@click.option("--l1", type=float, help="Weight of the L1 norm of the weights in the loss.")
@click.option("--label-smoothing", type=float)
@click.option("--seed", type=click.IntRange(min=0))
def command(
    id: str,
    architecture: str | None,
    recipe: str | None,
    rounds: int | None,
    inversion_epochs: int | None,
    out: Path | None,
    data_root: Path | None,
    device: str,
    **given: Any,
) -> None:
    """Train a classifier on an ID set, showing its accuracy on the test split after each epoch.

    The same command goes on where an interrupted one stopped (from CHECKPOINT.resume, written after each epoch). The
    last epoch is kept: the test split decides nothing. What is not given has a default for the set and architecture.

    With --recipe garbage each round trains, inverts the network, and adds the inverted images to the garbage class; the
    options are those of a round. The folder OUT.rounds has every round's network, images and figures. The checkpoint
    is for the detector inversion: oodbench run --detector inversion --model OUT.
    """
    from dataclasses import replace

    from oodbench.cli.console import ConsoleReporter, log
    from oodbench.data.load import load_id
    from oodbench.errors import OodbenchError
    from oodbench.files import check_writable
    from oodbench.models.load import default_model
    from oodbench.plan import choose_device
    from oodbench.recipes.obtain import find_recipe
    from oodbench.training import EpochReport, default_settings, train

    chosen_device = choose_device(device)
    id_set = load_id(id, data_root=data_root, seed=given["seed"] or 0)
    architecture = architecture or default_model(id_set.image_shape)
    out = out or Path(f"{'-'.join(filter(None, (id_set.name, architecture, recipe)))}.safetensors")
    check_writable(out.parent)
    chosen = {key: value for key, value in given.items() if value is not None}
    of_garbage = {"rounds": rounds, "inversion_epochs": inversion_epochs}
    of_garbage = {key: value for key, value in of_garbage.items() if value}
    if of_garbage and recipe != "garbage":
        raise OodbenchError(
            "--rounds and --inversion-epochs are for training with --recipe garbage; give that, or --epochs alone"
        )
    if recipe:
        chosen_recipe = find_recipe(recipe)
        by_recipe = chosen_recipe.settings(id_set.name, architecture, of_garbage)
        chosen_recipe.train(
            architecture,
            id_set.fit,
            id_set.test,
            num_classes=id_set.num_classes,
            image_shape=id_set.image_shape,
            settings=replace(by_recipe, training=replace(by_recipe.training, **chosen)),
            checkpoint=out,
            device=chosen_device,
            reporter=ConsoleReporter(),
        )
        click.echo(out)
        return
    settings = replace(default_settings(id_set.name, architecture), **chosen)

    def show(report: EpochReport) -> None:
        log.print(
            f"epoch {report.epoch}/{report.epochs}  loss {report.loss:.4f}  "
            f"test accuracy {100 * report.accuracy:.2f} %  {report.seconds:.0f} s"
        )

    train(
        architecture,
        id_set.fit,
        id_set.test,
        num_classes=id_set.num_classes,
        image_shape=id_set.image_shape,
        settings=settings,
        checkpoint=out,
        device=chosen_device,
        progress=show,
    )
    click.echo(out)
