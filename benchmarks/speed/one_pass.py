"""Images counted and wall time of the harness against a bare eval-mode pass over the same images.

    python benchmarks/speed/one_pass.py --data ../shared/data --workload ../shared/peers/workload.npz

The workload is that of the peers' figures: 2,000 ID test images, 5,000 fit images and seven OOD sets of 1,000, on a
CIFAR-10 ResNet-20. The bare pass sees the same uint8 images, the proxies that detectors make from ID included, in the
same batches, in the same process, before and after; the harness's time is that of network and scores together, fits
included.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from oodbench.benchmark import Benchmark
from oodbench.classifier import Classifier
from oodbench.data.imageset import ArraySource, ImageSet
from oodbench.data.load import make_proxy
from oodbench.data.matching import match
from oodbench.harness import Result, run
from oodbench.models.load import load_classifier
from oodbench.plan import Machine

FILES = {
    "textures": "textures_32",
    "scenes": "scenes_32",
    "tinyimagenet": "tinyimagenet_32",
    "mnist": "mnist_test",
    "omniglot": "omniglot",
}
ONE_PASS = ("smood", "maxlogit", "energy", "lc", "oodl")
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
    machine = Machine(batch_size=arguments.batch_size)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, batch size {machine.batch_size}")
    with tempfile.TemporaryDirectory() as folder:
        benchmark = write_workload(arguments.workload, arguments.data, Path(folder))
        plain = [timed_run(classifier, benchmark, machine, ONE_PASS) for _ in range(arguments.repeats)]
        images = passed_images(benchmark, plain[0][1])
        bare = [bare_pass(classifier, images, machine.batch_size) for _ in range(arguments.repeats)]
        plain += [timed_run(classifier, benchmark, machine, ONE_PASS) for _ in range(arguments.repeats)]
        bare += [bare_pass(classifier, images, machine.batch_size) for _ in range(arguments.repeats)]
        with_odin = timed_run(classifier, benchmark, machine, (*ONE_PASS, "odin"))
    show("without odin", plain[0][1], statistics.median(seconds for seconds, _ in plain), statistics.median(bare))
    show("with odin", with_odin[1], with_odin[0], statistics.median(bare))
    for what, seconds in plain[-1][1].card.classifiers[0]["seconds"].items():
        print(f"    {what}: {seconds:.3f} s")


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
) -> tuple[float, Result]:
    """Seconds of network, fits and scores, and what the run gave."""
    changed = Benchmark(id=benchmark.id, ood=benchmark.ood, detectors=detectors)
    result = run(changed, [classifier], machine)
    return sum(result.card.classifiers[0]["seconds"].values()), result


def passed_images(benchmark: Benchmark, result: Result) -> list[Tensor]:
    """All images that passed in the run, proxies included, as the network takes them, uint8."""

    def stored(path: str) -> np.ndarray:
        with np.load(path.removeprefix("npz:")) as file:
            images: np.ndarray = file["images"]
        return images

    fit = stored(benchmark.id.replace("_test.npz", "_train.npz"))
    fit_set = ImageSet("fit", ArraySource(fit), "workload")
    proxies = [record["name"] for record in result.card.sets if record["role"] == "proxy"]
    made = [make_proxy(name, fit_set, 0).read(0, len(fit)) for name in proxies]
    return [match(images, RGB) for images in (stored(benchmark.id), fit, *map(stored, benchmark.ood), *made)]


def bare_pass(classifier: Classifier, images: list[Tensor], batch_size: int) -> float:
    """Seconds of one eval-mode pass."""
    started = time.perf_counter()
    with classifier.inference(), torch.no_grad():
        for of_set in images:
            for batch in of_set.split(batch_size):
                classifier(batch.float() / 255)
    return time.perf_counter() - started


def show(title: str, result: Result, seconds: float, bare: float) -> None:
    counts = result.card.classifiers[0]["images"]
    proxies = counts.pop("proxy", {"forward": 0})["forward"]
    forward = sum(count["forward"] for count in counts.values())
    perturbed = sum(count["perturbed"] for count in counts.values())
    gradients = sum(count["gradient"] for count in counts.values())
    print(
        f"{title}: {forward:,} images passed + {proxies:,} proxies made from ID, {gradients:,} gradients, "
        f"{perturbed:,} perturbed; {seconds:.2f} s, bare pass {bare:.2f} s, ratio {seconds / bare:.3f}"
    )


if __name__ == "__main__":
    main()
