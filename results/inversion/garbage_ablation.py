"""What inversion and what the compositions do: `garbage_ablation.py DATA OUT [SEEDS [HALVES WEIGHTS]]`.

Trains each variant on 12,000 drawn images, otherwise by the default settings, and scores it on 3,000 images a set:
cnn28 on Fashion-MNIST for three epochs; or, with HALVES (see halves.py) and the public ResNet-20's weights, that
network fine-tuned on CIFAR-10. Writes OUT/garbage_ablation.csv; what is there already is not done again.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from oodbench import Benchmark, run
from oodbench.data.load import load_id
from oodbench.inversion.pictures import save_table
from oodbench.models.load import load_classifier
from oodbench.parameters import changed
from oodbench.plan import Machine
from oodbench.progress import Reporter
from oodbench.recipes.garbage import train_garbage
from oodbench.recipes.settings import GarbageSettings, default_garbage_settings, finetuning_settings

IMAGES, SCORED = 12_000, 3000
VARIANTS: dict[str, dict[str, Any]] = {
    "noise alone": {"start": "noise", "steps": 0},
    "inversion from noise": {"start": "noise"},
    "compositions, not inverted": {"steps": 0},
    "compositions, inverted by latents": {},
    "compositions, inverted by latents, uncertain ones": {"uncertainty": 0.5},
    "compositions, inverted by a generator": {"by": "generator"},
}


@dataclass(frozen=True)
class Setup:
    """An ID set, the network that is trained on it, and how.

    Attributes:
        id, fit: as `--id` and `--fit`.
        given: further arguments of `train_garbage`.
    """

    id: str
    fit: str
    model: str
    settings: GarbageSettings
    ood: tuple[str, ...]
    given: Mapping[str, Any]


def from_scratch() -> Setup:
    """cnn28 on Fashion-MNIST, three epochs."""
    settings = default_garbage_settings("fashion-mnist", "cnn28")
    settings = replace(settings, training=replace(settings.training, epochs=3))
    return Setup("fashion-mnist", "fashion-mnist", "cnn28", settings, ("mnist", "cifar10", "notmnist", "omniglot"), {})


def fine_tuned(halves: Path, weights: Path, data_root: Path) -> Setup:
    """The public ResNet-20 on CIFAR-10, calibrated on one half of the test images and tested on the other."""
    network = load_classifier(
        f"resnet20={weights}", num_classes=10, image_shape=(3, 32, 32), mean="imagenet", std="imagenet"
    )
    half = load_id(f"npz:{halves / 'cifar10-calibrate.npz'}", fit="cifar10", data_root=data_root, seed=0).test
    ood = ("mnist", "fashion-mnist", "notmnist", "omniglot", "textures", "scenes", "tinyimagenet", "cifar100")
    settings, given = finetuning_settings("cifar10", "resnet20", 25_000), {"start_from": network, "calibrate_on": half}
    return Setup(f"npz:{halves / 'cifar10-half.npz'}", "cifar10", "resnet20", settings, ood, given)


def ablate(setup: Setup, data_root: Path, path: Path, seeds: int) -> None:
    """Add a row for each variant, seed and OOD set."""
    known = load_id(setup.id, fit=setup.fit if setup.fit != setup.id else None, data_root=data_root, seed=0)
    table = pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=["id", "variant", "seed"])
    for seed in range(seeds):
        for variant, changes in VARIANTS.items():
            same = (table["id"] == setup.fit) & (table["variant"] == variant) & (table["seed"] == seed)
            if same.any():
                continue
            settings = changed(setup.settings, changes)
            settings = replace(settings, training=replace(settings.training, seed=seed))
            with tempfile.TemporaryDirectory() as folder:
                checkpoint = Path(folder) / "own.safetensors"
                report = train_garbage(
                    setup.model,
                    known.fit.drawn(IMAGES, seed),
                    known.test,
                    num_classes=known.num_classes,
                    form=known.image_shape,
                    settings=settings,
                    checkpoint=checkpoint,
                    reporter=Reporter(),
                    **setup.given,
                )
                work = Benchmark(
                    id=setup.id,
                    fit=None if setup.fit == setup.id else setup.fit,
                    ood=setup.ood,
                    models=(str(checkpoint),),
                    detectors=("inversion",),
                    limit=SCORED,
                )
                found = run(work, machine=Machine(data_root=data_root, device="cpu", store=False)).table
            rows = found[["ood", "id_accuracy", "garbage_share", "auroc"]].assign(
                id=setup.fit,
                variant=variant,
                seed=seed,
                selection_share=report.mean_share,
                seconds=report.seconds,
                inversion_seconds=report.inversion_seconds,
            )
            table = pd.concat([table, rows], ignore_index=True)
            save_table(table.round(6), path)
            print(rows.to_string(), flush=True)


if __name__ == "__main__":
    data, out, *rest = sys.argv[1:]
    count, *network = rest or ["3"]
    chosen = fine_tuned(Path(network[0]), Path(network[1]), Path(data)) if network else from_scratch()
    ablate(chosen, Path(data), Path(out) / "garbage_ablation.csv", int(count))
