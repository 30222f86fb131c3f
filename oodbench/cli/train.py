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
@click.option("--set", "assignments", multiple=True, metavar="SETTING=VALUE", help="Setting of the recipe garbage.")
@click.option("--from", "start", metavar="PATH|NAME=PATH", help="Classifier that the recipe garbage fine-tunes.")
@click.option("--mean", help="Input mean of that classifier: one number a channel, or e.g. imagenet.")
@click.option("--std", help="Its input standard deviation, likewise.")
@click.option(
    "--calibrate-on",
    metavar="NAME|npz:PATH|folder:PATH",
    help="ID images that decide how readily garbage is said.  [default: a part of the training images]",
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
@click.option("--weight-decay", type=float)
@click.option("--l1", type=float, help="Weight of the L1 norm of the weights in the loss.")
@click.option("--label-smoothing", type=float)
@click.option("--seed", type=click.IntRange(min=0))
def command(
    id: str,
    architecture: str | None,
    recipe: str | None,
    assignments: tuple[str, ...],
    start: str | None,
    mean: str | None,
    std: str | None,
    calibrate_on: str | None,
    out: Path | None,
    data_root: Path | None,
    device: str,
    **given: Any,
) -> None:
    """Train a classifier on an ID set, showing its accuracy on the test split after each epoch.

    The same command goes on where an interrupted one stopped (from CHECKPOINT.resume, written after each epoch). The
    last epoch is kept: the test split decides nothing. What is not given has a default for the set and architecture.

    With --recipe garbage the network is inverted while it is trained, and learns to put what it was inverted to into a
    class of its own; with --from it is a network that is trained already. Such a network has seen its training images
    and is surer of them than of others: give other ID images to --calibrate-on, if there are any. The checkpoint is
    for the detector inversion: oodbench run --detector inversion --model OUT.

    \b
    oodbench train --id mnist --recipe garbage
    oodbench train --id mnist --recipe garbage --set steps=0
    oodbench train --id cifar10 --recipe garbage --from resnet20=PATH --mean imagenet --std imagenet
    """
    from dataclasses import replace

    from oodbench.cli.console import ConsoleReporter, log
    from oodbench.data.load import load_id
    from oodbench.errors import OodbenchError
    from oodbench.files import check_writable
    from oodbench.models.load import default_model, load_classifier
    from oodbench.plan import choose_device
    from oodbench.recipes.obtain import find_recipe
    from oodbench.recipes.settings import finetuning_settings, parse_assignments
    from oodbench.training import EpochReport, default_settings, train

    if (assignments or start or calibrate_on) and recipe != "garbage":
        raise OodbenchError("--set, --from and --calibrate-on are for training with --recipe garbage; give that")
    chosen_device = choose_device(device)
    id_set = load_id(id, data_root=data_root, seed=given["seed"] or 0)
    start_from = None
    if start:
        start_from = load_classifier(
            start, num_classes=id_set.num_classes, image_shape=id_set.image_shape, mean=mean, std=std
        ).to(chosen_device)
        if architecture not in (None, start_from.name):
            raise OodbenchError(f"--from names a {start_from.name}, --model a {architecture}; leave out --model")
        architecture = start_from.name
    architecture = architecture or default_model(id_set.image_shape)
    out = out or Path(f"{'-'.join(filter(None, (id_set.name, architecture, recipe)))}.safetensors")
    check_writable(out.parent)
    chosen = {key: value for key, value in given.items() if value is not None}
    if recipe:
        chosen_recipe = find_recipe(recipe)
        by_recipe = chosen_recipe.settings(id_set.name, architecture, {})
        extra: dict[str, Any] = {}
        if start_from:
            by_recipe = finetuning_settings(id_set.name, architecture)
            extra["start_from"] = start_from
        if calibrate_on:
            extra["calibrate_on"] = load_id(id, data_root=data_root, seed=given["seed"] or 0, fit=calibrate_on).fit
        by_recipe = replace(by_recipe, training=replace(by_recipe.training, **chosen))
        chosen_recipe.train(
            architecture,
            id_set.fit,
            id_set.test,
            num_classes=id_set.num_classes,
            image_shape=start_from.image_shape if start_from else id_set.image_shape,
            settings=by_recipe.replaced(**parse_assignments(assignments)) if assignments else by_recipe,
            checkpoint=out,
            device=chosen_device,
            reporter=ConsoleReporter(),
            **extra,
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
