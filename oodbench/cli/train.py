"""`oodbench train`."""

from __future__ import annotations

from pathlib import Path

import click

from oodbench.cli.options import assigned, data_root_option, device_option, preprocess_options
from oodbench.cli.starting import starting


@click.command("train", short_help="Train a classifier.")
@click.option("--id", "id", required=True, metavar="NAME|npz:PATH|folder:PATH", help="The ID set to train on.")
@click.option("--model", "architecture", help="An architecture of `oodbench list models`.  [default: by image size]")
@click.option("--recipe", default="plain", show_default=True, help="A recipe of `oodbench list recipes`.")
@click.option(
    "--set", "assignments", multiple=True, metavar="SETTING=VALUE", help="A setting of `oodbench list recipes RECIPE`."
)
@click.option("--from", "start", metavar="PATH|NAME=PATH", help="A classifier that the recipe fine-tunes.")
@preprocess_options
@click.option(
    "--calibrate-on",
    metavar="NAME|npz:PATH|folder:PATH",
    help="ID images that the recipe calibrates on.  [default: a part of the training images]",
)
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
@click.option("--weight-decay", type=float, help="L2 penalty on the weights.")
@click.option("--l1", type=float, help="Weight of the L1 norm of the weights in the loss.")
@click.option("--label-smoothing", type=float, help="Share of the target spread evenly over all classes.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of weights, order and augmentation.")
def command(
    id: str,
    architecture: str | None,
    recipe: str,
    assignments: tuple[str, ...],
    start: str | None,
    mean: str | None,
    std: str | None,
    resize: str | None,
    crop: str | None,
    interpolation: str | None,
    preprocess: str | None,
    calibrate_on: str | None,
    out: Path | None,
    data_root: Path | None,
    device: str,
    **given: float | None,
) -> None:
    """Train a classifier on an ID set, showing its accuracy on the test split.

    The same command goes on where an interrupted one stopped (from CHECKPOINT.resume). The last epoch is kept: the test
    split decides nothing. What is not given has a default for the set and architecture.

    With --recipe garbage the network is inverted while it is trained, and learns to put what it was inverted to into a
    class of its own; with --from it is a network that is trained already. Such a network has seen its training images
    and is surer of them than of others: give other ID images to --calibrate-on, if there are any. The checkpoint is
    for the detector inversion: oodbench run --detector inversion --model OUT.

    \b
    oodbench train --id mnist
    oodbench train --id mnist --recipe garbage --set steps=0
    oodbench train --id cifar10 --recipe garbage --from resnet20=PATH --mean imagenet --std imagenet
    """
    with starting("train"):
        from oodbench.console import ConsoleReporter
        from oodbench.data.load import load_id
        from oodbench.files import check_output
        from oodbench.models.preprocessing import Said
        from oodbench.plan import choose_device
        from oodbench.progress import listening
        from oodbench.recipes.by_hand import Training, train_by_hand

    if out:
        check_output(out)
    seed = int(given["seed"] or 0)
    values = {name: value for name, value in given.items() if value is not None}
    with listening(ConsoleReporter()) as progress:
        progress.doing(f"looking for {id}")
        id_set = load_id(id, data_root=data_root, seed=seed)
        training = Training(
            recipe,
            architecture,
            {**values, **assigned(assignments)},
            start,
            Said(mean, std, resize, crop, interpolation, preprocess),
            load_id(id, data_root=data_root, seed=seed, fit=calibrate_on).fit if calibrate_on else None,
        )
        written = train_by_hand(training, id_set, out, choose_device(device), progress.reporter)
    click.echo(written)
