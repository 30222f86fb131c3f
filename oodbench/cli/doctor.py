"""`oodbench doctor`."""

from __future__ import annotations

from pathlib import Path

import click

from oodbench.cli.options import data_root_option
from oodbench.cli.starting import starting


@click.command("doctor", short_help="Show versions, device, data and caches.")
@click.option("--json", "as_json", is_flag=True, help="JSON, for programs.")
@data_root_option
def command(data_root: Path | None, as_json: bool) -> None:
    """Show what this machine has: versions, device, data sets found and missing, caches."""
    with starting("doctor", logged=False):
        import importlib.util
        import json
        import os

        import torch

        from oodbench.card import recorded_versions
        from oodbench.data.catalogue import DATASETS
        from oodbench.data.load import available, data_roots
        from oodbench.files import cache_folder
        from oodbench.plan import choose_device

    device = choose_device("auto")
    found = {name: available(name, data_root) for name in DATASETS}
    there = {name: where for name, where in found.items() if where}
    cache = cache_folder()
    kept = {what: len(list((cache / what).glob("*.safetensors"))) for what in ("classifiers", "hashes")}
    facts = {
        "versions": recorded_versions(),
        "lmdb": bool(importlib.util.find_spec("lmdb")),
        "device": str(device),
        "gpu": torch.cuda.get_device_name() if device.type == "cuda" else None,
        "processors": os.cpu_count(),
        "data_folders": {str(root): root.is_dir() for root in data_roots(data_root)},
        "found": there,
        "missing": [name for name in found if name not in there],
        "cache": str(cache),
        "kept": kept,
    }
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    files = {name: where for name, where in there.items() if where != "built in"}
    lines = {
        "versions": ", ".join(f"{name} {version}" for name, version in recorded_versions().items()),
        "lmdb": "there" if facts["lmdb"] else "not there; LSUN's own files need it: oodbench[lmdb]",
        "device": f"auto is {device}, {facts['gpu'] or 'no GPU that torch can use'}, {os.cpu_count()} processors",
        "data folders": ", ".join(f"{root}{'' if root.is_dir() else ' (not there)'}" for root in data_roots(data_root)),
        "built in": ", ".join(name for name in there if name not in files),
        "missing": ", ".join(name for name in found if name not in there)
        + " (oodbench list datasets: how to get each)",
        "cache": f"{cache}: {kept['classifiers']} trained classifier(s), hashes of {kept['hashes']} image set(s)",
        **{f"found {name}": where for name, where in files.items()},
    }
    width = max(map(len, lines))
    for name, text in lines.items():
        click.echo(f"{name:<{width}}  {text}")
