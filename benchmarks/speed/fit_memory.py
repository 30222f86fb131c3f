"""Memory that fitting takes above the features, and its seconds, of every detector of logits and features.

    python benchmarks/speed/fit_memory.py [--images 50000] [--features 2048] [--classes 1000] [--detectors knn,vim]

Features are drawn: a mean of each class's own and noise around it; logits are a linear head's. Each detector is fitted
in a process of its own, in which the memory is read 50 times a second, so that what lasts shorter may be missed. Of
Linux only, as it forks and reads /proc.
"""

from __future__ import annotations

import argparse
import multiprocessing
import threading
import time
from pathlib import Path

import torch

from oodbench.detectors.catalogue import DETECTORS
from oodbench.detectors.spec import build
from oodbench.outputs import FitData, Head, Needs, Outputs

GIB = 2**30
READ = Needs("logits", "features", "head", "labels")


def resident() -> int:
    """Bytes of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def fit_data(images: int, features: int, classes: int) -> FitData:
    """What detectors are fitted on; by one thread, as a process that used several may not fork."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(classes, features, generator=generator)
    labels = torch.arange(images) % classes
    drawn = torch.empty(images, features)
    for rows in torch.arange(images).split(4096):
        noise = torch.randn(len(rows), features, generator=generator)
        drawn[rows] = noise + 0.3 * weight[labels[rows]]
    logits = drawn @ weight.T * 0.02
    head = Head(0.02 * weight.double(), torch.zeros(classes).double())
    return FitData(Outputs({"features": drawn, "logits": logits}, head), labels)


def fit(name: str, data: FitData) -> None:
    """Print a line: peak above the memory before, and seconds."""
    detector, before, done = build(name), resident(), threading.Event()
    peak = [before]

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.perf_counter()
    try:
        detector.fit(data)
    finally:
        done.set()
        watcher.join()
    above, seconds = (peak[0] - before) / GIB, time.perf_counter() - started
    print(f"{name}: {above:.2f} GiB above the features, {seconds:.1f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--features", type=int, default=2048)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--detectors", default=",".join(name for name in DETECTORS if reads_stored(name)))
    arguments = parser.parse_args()
    size = arguments.images, arguments.features, arguments.classes
    print("{:,} images, {:,} features, {:,} classes".format(*size), flush=True)
    data, context = fit_data(*size), multiprocessing.get_context("fork")
    for name in arguments.detectors.split(","):
        process = context.Process(target=fit, args=(name, data))
        process.start()
        process.join()


def reads_stored(name: str) -> bool:
    """Whether a detector learns, from nothing but logits and features."""
    one = build(name)
    return one.reads is None and one.learns() and set(one.fit_needs) <= set(READ) and "live" not in one.needs


if __name__ == "__main__":
    main()
