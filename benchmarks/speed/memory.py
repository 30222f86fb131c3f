"""Peak memory of a run over 10,000 and over 60,000 images, each in a process of its own, without what the images take.

python benchmarks/speed/memory.py
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile

import numpy as np
import torch

COUNTS = (10_000, 60_000)
SHAPE = (28, 28)


def measure(count: int) -> None:
    """Run six detectors on that many ID test images, and print the peak in MiB."""
    from oodbench import Benchmark, Classifier, Machine, run
    from oodbench.models.small import cnn28

    torch.manual_seed(0)
    classifier = Classifier(cnn28(10, (1, *SHAPE)), num_classes=10, image_shape=(1, *SHAPE), name="cnn28")
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for name, size in (("own_train", 2000), ("own_test", count)):
            images = generator.integers(0, 256, (size, *SHAPE), dtype=np.uint8)
            np.savez(f"{folder}/{name}.npz", images=images, labels=np.arange(size) % 10)
        del images
        detectors = ("msp", "lc", "odin", "energy", "knn", "random")
        run(Benchmark(id=f"npz:{folder}/own_test.npz", ood=("uniform",), detectors=detectors), [classifier], Machine())
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    peaks = []
    for count in COUNTS:
        with tempfile.TemporaryDirectory() as cache:
            command = [sys.executable, __file__, str(count)]
            done = subprocess.run(
                command, capture_output=True, text=True, check=True, env={"OODBENCH_CACHE": cache, "PATH": ""}
            )
        of_images = count * SHAPE[0] * SHAPE[1] / 2**20
        peaks.append(float(done.stdout.split()[-1]) - of_images)
        print(f"{count:,} images: peak {peaks[-1] + of_images:,.0f} MiB, of which the images {of_images:,.0f}")
    print(f"without the images: {peaks[1] / peaks[0]:.3f} × that of {COUNTS[0]:,}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(int(sys.argv[1]))
    else:
        main()
