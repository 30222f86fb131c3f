"""`oodbench doctor`."""

from __future__ import annotations

from pathlib import Path

import click

from oodbench.cli.options import data_root_option


@click.command("doctor", short_help="Show versions, device, data and caches.")
@data_root_option
def command(data_root: Path | None) -> None:
    """Show what this machine has: versions, device, data sets found and missing, caches."""
    import importlib.util
    import os

    import torch

    from oodbench.card import recorded_versions
    from oodbench.data.catalogue import DATASETS
    from oodbench.data.load import available, data_roots
    from oodbench.files import cache_folder
    from oodbench.plan import choose_device

    _section("Versions", recorded_versions())
    lmdb = "there" if importlib.util.find_spec("lmdb") else "not there; LSUN's own files need it: oodbench[lmdb]"
    _section("Optional packages", {"lmdb": lmdb})
    device = choose_device("auto")
    cuda = torch.cuda.get_device_name() if device.type == "cuda" else "no GPU that torch can use"
    _section("Device", {"auto": str(device), "gpu": cuda, "processors": str(os.cpu_count())})
    roots = data_roots(data_root)
    _section("Data folders", {str(root): "there" if root.is_dir() else "not there" for root in roots})
    found = {name: available(name, data_root) for name in DATASETS}
    _section("Data sets found", {name: where for name, where in found.items() if where})
    missing = [name for name, where in found.items() if not where]
    _section("Data sets missing", dict.fromkeys(missing, "oodbench list datasets says where it can be had"))
    cache = cache_folder()
    classifiers = sorted((cache / "classifiers").glob("*.safetensors"))
    hashed = len(list((cache / "hashes").glob("*.safetensors")))
    _section("Cache", {str(cache): f"{len(classifiers)} trained classifier(s), hashes of {hashed} image set(s)"})


def _section(title: str, lines: dict[str, str]) -> None:
    click.secho(title, bold=True)
    width = max(map(len, lines), default=0)
    for name, text in lines.items():
        click.echo(f"    {name:<{width}}  {text}")
