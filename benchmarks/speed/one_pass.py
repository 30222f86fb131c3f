"""Images counted and time of a run against a bare eval-mode pass over the same images; without and with the store.

    python benchmarks/speed/one_pass.py --data ../shared/data --workload ../shared/peers/workload.npz

The workload is that of the peers' figures: 2,000 ID test images, 5,000 fit images and seven OOD sets of 1,000, on a
CIFAR-10 ResNet-20. The bare pass sees the same uint8 images, the proxies that detectors make from ID included, in the
same batches, in the same process, before and after. A run's time is that of the whole call: reading, hashing, network,
fits, scores and metrics. The first run with the store has an empty one, the second that of the first. Wall time and CPU
seconds are both shown.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from oodbench.benchmark import Benchmark
from oodbench.classifier import Classifier
from oodbench.data.imageset import ArraySource, ImageSet
from oodbench.data.made import make_proxy
from oodbench.data.matching import match
from oodbench.models.load import load_classifier
from oodbench.plan import Machine
from oodbench.runner import Result, run

FILES = {
    "textures": "textures_32",
    "scenes": "scenes_32",
    "tinyimagenet": "tinyimagenet_32",
    "mnist": "mnist_test",
    "omniglot": "omniglot",
}
ONE_PASS = ("msp", "maxlogit", "energy", "lc", "oodl")
RGB = (3, 32, 32)


def main() -> None:
    arguments = parse_arguments()
    classifier = load_classifier(
        f"resnet20={arguments.data / 'weights' / 'resnet20-12fca82f.th'}",
        num_classes=10,
        image_shape=RGB,
        mean="imagenet",
        std="imagenet",
    )
    batch_size = arguments.batch_size
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, batch size {batch_size}")
    with tempfile.TemporaryDirectory() as folder:
        benchmark = write_workload(arguments.workload, arguments.data, Path(folder))
        os.environ["OODBENCH_CACHE"] = f"{folder}/cache"
        timed_run(classifier, benchmark, Machine(batch_size=batch_size, store=False), ONE_PASS)  # warms up
        rounds = [one_round(classifier, benchmark, Path(folder), batch_size, n) for n in range(arguments.repeats)]
    bare = median([one["bare"] for one in rounds])
    for name in rounds[0]:
        seconds = median([one[name] for one in rounds])
        ratio = f"{seconds.wall / bare.wall:.3f} by wall, {seconds.cpu / bare.cpu:.3f} by CPU seconds"
        print(f"{name}: {seconds.wall:.2f} s, CPU {seconds.cpu:.2f} s; against bare {ratio}")


class Seconds(NamedTuple):
    wall: float
    cpu: float


def one_round(
    classifier: Classifier, benchmark: Benchmark, folder: Path, batch_size: int, number: int
) -> dict[str, Seconds]:
    """Every variant once, the bare pass in the middle."""
    os.environ["OODBENCH_CACHE"] = f"{folder}/cache{number}"
    off, on = (Machine(batch_size=batch_size, store=store) for store in (False, True))
    found: dict[str, Seconds] = {}
    found["run, no store"], result = timed_run(classifier, benchmark, off, ONE_PASS)
    images = passed_images(classifier, benchmark, result)
    found["bare"], _ = timed(lambda: bare_pass(classifier, images, batch_size))
    found["first run with the store"], result = timed_run(classifier, benchmark, on, ONE_PASS)
    show("first run", result)
    found["second run"], result = timed_run(classifier, benchmark, on, ONE_PASS)
    show("second run", result)
    found["run with odin, no store"], result = timed_run(classifier, benchmark, off, (*ONE_PASS, "odin"))
    show("with odin", result)
    return found


def timed(work: Callable[[], Any]) -> tuple[Seconds, Any]:
    """Wall and CPU seconds of some work, and what it gave."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu), result


def median(seconds: list[Seconds]) -> Seconds:
    return Seconds(*(statistics.median(part) for part in zip(*seconds, strict=True)))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--workload", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=128)
    return parser.parse_args()


def write_workload(workload: Path, data: Path, folder: Path) -> Benchmark:
    """The workload's sets as npz files in `folder`, and the benchmark that reads them."""
    with np.load(workload) as chosen:
        for split, file, labels in (("test", "cifar10_test", "id_labels"), ("train", "cifar10_train", "fit_labels")):
            index = chosen["idx_id" if split == "test" else "idx_fit"]
            with np.load(data / f"{file}.npz") as stored:
                np.savez(folder / f"w_{split}.npz", images=stored["images"][index], labels=chosen[labels])
        for name, file in FILES.items():
            with np.load(data / f"{file}.npz") as stored:
                np.savez(folder / f"{name}.npz", images=stored["images"][chosen[f"idx_{name}"]])
    gaussian = np.random.default_rng(3).normal(0.5, 1, (1000, 32, 32, 3)).clip(0, 1)
    uniform = np.random.default_rng(4).uniform(0, 1, (1000, 32, 32, 3))
    for name, values in (("gaussian", gaussian), ("uniform", uniform)):
        np.savez(folder / f"{name}.npz", images=np.rint(255 * values).astype(np.uint8))
    ood = tuple(f"npz:{folder / name}.npz" for name in (*FILES, "gaussian", "uniform"))
    return Benchmark(id=f"npz:{folder / 'w_test.npz'}", ood=ood, detectors=ONE_PASS)


def timed_run(
    classifier: Classifier, benchmark: Benchmark, machine: Machine, detectors: tuple[str, ...]
) -> tuple[Seconds, Result]:
    """Seconds of a run, and what it gave."""
    changed = Benchmark(id=benchmark.id, ood=benchmark.ood, detectors=detectors)
    return timed(lambda: run(changed, [classifier], machine))


def passed_images(classifier: Classifier, benchmark: Benchmark, result: Result) -> list[Tensor]:
    """All images that passed in the run, proxies included, as the network takes them, uint8."""

    def stored(path: str) -> np.ndarray:
        with np.load(path.removeprefix("npz:")) as file:
            images: np.ndarray = file["images"]
        return images

    fit = stored(benchmark.id.replace("_test.npz", "_train.npz"))
    fit_set = ImageSet("fit", ArraySource(fit), "workload")
    proxies = [record["name"] for record in result.card.sets if record["role"] == "proxy"]
    made = [make_proxy(name, fit_set, 0, classifier.form).read(0, len(fit)) for name in proxies]
    return [match(images, RGB) for images in (stored(benchmark.id), fit, *map(stored, benchmark.ood), *made)]


def bare_pass(classifier: Classifier, images: list[Tensor], batch_size: int) -> None:
    """One eval-mode pass."""
    with classifier.inference(), torch.no_grad():
        for of_set in images:
            for batch in of_set.split(batch_size):
                classifier(batch.float() / 255)


def show(title: str, result: Result) -> None:
    counts = dict(result.card.classifiers[0]["images"])
    proxies = counts.pop("proxy", {"forward": 0})["forward"]
    total = {what: sum(count[what] for count in counts.values()) for what in ("forward", "gradient", "perturbed")}
    print(
        f"{title}: {total['forward']:,} images passed + {proxies:,} proxies made from ID, {total['gradient']:,} "
        f"gradients, {total['perturbed']:,} perturbed"
    )


if __name__ == "__main__":
    main()
