"""Photographs of 12 megapixels: a batch of them takes no more memory than one does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

GIB = 1 << 30

MEASURED = """
import resource, sys
from pathlib import Path
import torch
from oodbench import Benchmark, Machine, run
from oodbench.classifier import Classifier
from oodbench.data.preprocess import Preprocess

network = torch.nn.Sequential(
    torch.nn.Conv2d(3, 8, 7, stride=4), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
    torch.nn.Linear(8, 3),
)
classifier = Classifier(network, num_classes=3, preprocess=Preprocess(256, 224), name="small")
folder, workers = sys.argv[1], int(sys.argv[2])
detectors = ("msp", "lc")

def peak():  # not ru_maxrss, in which the process that started this one is too
    (line,) = (one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM"))
    return int(line.split()[1])

before = peak()
work = Benchmark(id=f"folder:{folder}/id", ood=(f"photos=folder:{folder}/ood", "pixel-shuffled"), detectors=detectors)
result = run(work, [classifier], Machine(workers=workers))
own, others = peak(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(max(len(scores) for scores in result.scores.values()))
print((own - before + workers * max(0, others - before)) * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks /proc")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_of_photographs_takes_the_memory_of_one(tmp_path: Path, workers: int) -> None:
    draw = np.random.default_rng(0)
    for number in range(4):
        small = draw.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(small).resize((4000, 3000)).save(tmp_path / f"{number}.jpg", quality=90)
    for place, count in (("id/train/a", 32), ("id/train/b", 32), ("id/test/a", 32), ("id/test/b", 32), ("ood", 64)):
        (tmp_path / place).mkdir(parents=True)
        for number in range(count):
            os.link(tmp_path / f"{number % 4}.jpg", tmp_path / place / f"{number}.jpg")
    command = [sys.executable, "-c", MEASURED, str(tmp_path), str(workers)]
    environment = os.environ | {"OODBENCH_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900)
    assert done.returncode == 0, done.stderr
    images, taken = map(int, done.stdout.split())
    assert images == 64
    # One decoded photograph is 36 MB; all of a set would be 2.3 GB.
    assert taken < 1.5 * GIB, f"{taken / GIB:.2f} GiB"
    print(f"{taken / GIB:.2f} GiB")
