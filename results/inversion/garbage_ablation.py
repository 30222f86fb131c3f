"""What inversion and what the compositions do: `python results/inversion/garbage_ablation.py DATA OUT [SEEDS]`.

Trains each variant on 12,000 drawn Fashion-MNIST images for three epochs, otherwise by the default settings, and scores
it on 3,000 images a set. Writes OUT/garbage_ablation.csv; what is there already is not done again.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pandas as pd

from oodbench import Benchmark, run
from oodbench.data.load import load_id
from oodbench.inversion.pictures import save_table
from oodbench.plan import Machine
from oodbench.progress import Reporter
from oodbench.recipes.garbage import train_garbage
from oodbench.recipes.settings import default_garbage_settings

IMAGES, EPOCHS, SCORED = 12_000, 3, 3000
ID, MODEL = "fashion-mnist", "cnn28"
OOD = ("mnist", "cifar10", "notmnist", "omniglot")
VARIANTS = {
    "noise alone": {"start": "noise", "steps": 0},
    "inversion from noise": {"start": "noise"},
    "compositions, not inverted": {"steps": 0},
    "compositions, inverted by latents": {},
    "compositions, inverted by a generator": {"by": "generator"},
}


def ablate(data_root: Path, path: Path, seeds: int) -> None:
    """Add a row for each variant, seed and OOD set."""
    known = load_id(ID, data_root=data_root, seed=0)
    table = pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=["variant", "seed"])
    for seed in range(seeds):
        for variant, changes in VARIANTS.items():
            if ((table["variant"] == variant) & (table["seed"] == seed)).any():
                continue
            settings = default_garbage_settings(ID, MODEL).replaced(**changes)
            settings = replace(settings, training=replace(settings.training, epochs=EPOCHS, seed=seed))
            with tempfile.TemporaryDirectory() as folder:
                checkpoint = Path(folder) / "own.safetensors"
                report = train_garbage(
                    MODEL,
                    known.fit.drawn(IMAGES, seed),
                    known.test,
                    num_classes=known.num_classes,
                    form=known.image_shape,
                    settings=settings,
                    checkpoint=checkpoint,
                    reporter=Reporter(),
                )
                work = Benchmark(id=ID, ood=OOD, models=(str(checkpoint),), detectors=("inversion",), limit=SCORED)
                found = run(work, machine=Machine(data_root=data_root, device="cpu")).table
            rows = found[["ood", "id_accuracy", "garbage_share", "auroc"]].assign(
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
    ablate(Path(sys.argv[1]), Path(sys.argv[2]) / "garbage_ablation.csv", int(sys.argv[3]) if len(sys.argv) > 3 else 3)
