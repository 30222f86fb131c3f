"""Parts CIFAR-10's test images into halves to calibrate and to test on: `python results/inversion/halves.py DATA OUT`.

For networks of others, which have seen all training images: what is held out must come from the test images.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from oodbench.data.load import load_id
from oodbench.data.splits import halves


def write_halves(data_root: Path, out: Path) -> list[Path]:
    """cifar10-calibrate.npz and cifar10-half.npz, drawn with seed 0, every class in both in its share."""
    test = load_id("cifar10", data_root=data_root, seed=0).test
    assert test.labels is not None
    paths = [out / "cifar10-calibrate.npz", out / "cifar10-half.npz"]
    for path, half in zip(paths, halves(test, test.labels, seed=0), strict=True):
        np.savez(path, images=np.concatenate([np.asarray(chunk) for chunk in half.chunks()]), labels=half.labels)
    return paths


if __name__ == "__main__":
    write_halves(*map(Path, sys.argv[1:]))
