"""`oodbench score`."""

from __future__ import annotations

from pathlib import Path

import click

from oodbench.cli.options import data_root_option, device_option
from oodbench.cli.starting import starting


@click.command("score", short_help="Score images with a guard.")
@click.argument("images", metavar="NAME|npz:PATH|folder:PATH")
@click.option("--guard", "path", type=click.Path(path_type=Path), required=True, help="File that `Guard.save` wrote.")
@click.option("--model", required=True, metavar="PATH|NAME=PATH", help="The classifier that the guard belongs to.")
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="[default: standard output]")
@data_root_option
@device_option
def command(images: str, path: Path, model: str, out: Path | None, data_root: Path | None, device: str) -> None:
    """Score IMAGES with a fitted detector, and say which of them are OOD, as CSV: image, score, is_ood.

    \b
    oodbench score --guard odin.safetensors --model resnet20=resnet20.th folder:pictures -o scores.csv
    """
    with starting("score", logged=False):
        import pandas as pd

        from oodbench.console import log
        from oodbench.data.inputs import from_facts
        from oodbench.data.load import load_images
        from oodbench.files import check_output, write_whole
        from oodbench.guard import read_guard
        from oodbench.models.load import load_classifier
        from oodbench.plan import choose_device
        from oodbench.report.formats import csv_of

    if out:
        check_output(out)
    guard = read_guard(path)
    facts = guard.facts
    classifier = load_classifier(
        model,
        num_classes=facts["num_classes"],
        image_shape=tuple(facts["image_shape"]),
        preprocess=from_facts(facts),
    )
    guard = guard.attached(classifier.to(choose_device(device)))
    chosen = load_images(images, data_root=data_root)
    scores = guard(chosen)
    table = pd.DataFrame(
        {
            "image": [chosen.file(index) or index for index in range(len(chosen))],
            "score": scores,
            "is_ood": scores < guard.threshold,
        }
    )
    text = csv_of(table)
    if out is None:
        click.echo(text, nl=False)
        return
    write_whole(out, text.encode())
    found = f"{int(table.is_ood.sum()):,} of {len(table):,} images are OOD"
    log.print(f"{found} (score below {guard.threshold:.6g}); wrote {out}", soft_wrap=True)
