"""Memory that fitting takes above the features, and its CPU seconds, of every detector of logits, features and layers.

    python benchmarks/speed/fit_memory.py [--images 50000] [--features 2048] [--classes 1000] [--detectors knn,vim]

Features are drawn: a mean of each class's own and noise around it; logits are a linear head's, and the features are the
one layer too. Proxies are as many images around other means. Each detector is fitted in a process of its own, a fork of
the one that holds all this, of which the kernel keeps the peak (Linux).
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import time
from pathlib import Path

import torch

from oodbench.detectors.catalogue import DETECTORS
from oodbench.detectors.spec import build, split_specs
from oodbench.outputs import FitData, Head, Needs, Outputs

GIB = 2**30
READ = Needs("logits", "features", "head", "labels", "layer:*")
PROXIES = ("pixel-shuffled", "patch-shuffled")


def resident(what: str) -> int:
    """Bytes of this process in memory: VmRSS is now, VmHWM the peak since this was asked last."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    Path("/proc/self/clear_refs").write_text("5")
    return 1024 * int(found[1])


def drawn(images: int, features: int, classes: int, seed: int) -> Outputs:
    """Outputs of so many images of a set."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(classes, features, generator=generator)
    weight = torch.randn(classes, features, generator=torch.Generator().manual_seed(0))
    made = torch.empty(images, features)
    for rows in torch.arange(images).split(4096):
        made[rows] = torch.randn(len(rows), features, generator=generator) + 0.3 * means[rows % classes]
    head = Head(0.02 * weight.double(), torch.zeros(classes).double())
    return Outputs({"features": made, "logits": made @ weight.T * 0.02, "layer:penultimate": made}, head)


def fit(name: str, data: FitData) -> None:
    """Print a line: peak above the memory before, and seconds."""
    detector = build(name)
    before, started = resident("VmRSS"), time.process_time()
    detector.fit(data)
    took = time.process_time() - started
    print(f"{name}: {(resident('VmHWM') - before) / GIB:.2f} GiB above the features, {took:.1f} CPU s", flush=True)


def reads_stored(name: str) -> bool:
    """Whether a detector learns, from nothing but logits, features and layers."""
    one = build(name)
    read = {need for need in one.fit_needs if "proxy:" not in need}
    return one.reads is None and one.learns() and read <= set(READ) and not one.needs.live


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--features", type=int, default=2048)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--detectors", default=",".join(name for name in DETECTORS if reads_stored(name)))
    arguments = parser.parse_args()
    size = arguments.images, arguments.features, arguments.classes
    print("{:,} images, {:,} features, {:,} classes".format(*size), flush=True)
    torch.set_num_threads(1)  # a process that used several may not fork
    labels = torch.arange(arguments.images) % arguments.classes
    proxies = {name: drawn(*size, seed) for seed, name in enumerate(PROXIES, start=1)}
    data = FitData(drawn(*size, 0), labels, proxies)
    for name in split_specs(arguments.detectors):
        process = multiprocessing.get_context("fork").Process(target=fit, args=(name, data))
        process.start()
        process.join()


if __name__ == "__main__":
    main()
