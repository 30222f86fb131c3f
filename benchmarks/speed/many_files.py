"""A run over folders of JPEG files against the loop that a user would write, and what the number of files costs.

    python benchmarks/imagenet_tree.py ../shared/data/imagenet_sample TREE 20000 5000
    python benchmarks/speed/many_files.py TREE OOD --images 512 --workers 2

OOD is a folder of pictures. The network is torchvision's resnet18 at 224 pixels with random weights. In one process,
one after the other: `oodbench.run` (msp, energy, knn, mahalanobis; with a store that is empty before) on so many
images each of the training, test and OOD files; and ImageFolder + DataLoader + network on as many images with the
same workers. Then, in a process each, the seconds to the first pass and the peak memory with all files of TREE and
with a quarter.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18

from oodbench.benchmark import Benchmark
from oodbench.classifier import Classifier
from oodbench.data import decoding
from oodbench.data.preprocess import Preprocess
from oodbench.plan import Machine
from oodbench.progress import Reporter
from oodbench.runner import run

T = TypeVar("T")

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLASSES = 40
DETECTORS = ("msp", "energy", "knn", "mahalanobis")


def main() -> None:
    arguments = parse_arguments()
    if arguments.alone:
        run_alone(arguments)
        return
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {os.cpu_count()} cores")
    if arguments.repeats:
        compare(arguments)
    with tempfile.TemporaryDirectory(dir=arguments.tree.parent) as folder:
        quarter = part_of(arguments.tree, Path(folder), every=4)
        for tree in (quarter, arguments.tree):
            command = [sys.executable, __file__, str(tree), str(arguments.ood), "--alone", "--images", "64"]
            print(subprocess.run(command, check=True, capture_output=True, text=True).stdout, end="", flush=True)


def compare(arguments: argparse.Namespace) -> None:
    """Print the seconds of runs and of bare loops."""
    torch.manual_seed(0)
    network = resnet18().eval()
    seconds: dict[str, list[float]] = {"run": [], "bare": []}
    with tempfile.TemporaryDirectory(dir=arguments.tree.parent) as folder:
        # Of so few classes that each has several of the images that detectors are fitted on.
        tree = part_of(arguments.tree, Path(folder), classes=CLASSES)
        for number in range(arguments.repeats):
            for what in ("run", "bare") if number % 2 else ("bare", "run"):
                started = time.perf_counter()
                if what == "bare":
                    bare(network, tree, arguments)
                else:
                    carried_out(network, tree, arguments, Reporter(), DETECTORS)
                seconds[what].append(time.perf_counter() - started)
                print(f"{what}: {seconds[what][-1]:.1f} s", flush=True)
    run_s, bare_s = (statistics.median(seconds[what]) for what in ("run", "bare"))
    print(
        f"median of {arguments.repeats}: run {run_s:.1f} s, bare {bare_s:.1f} s, ratio {run_s / bare_s:.3f}", flush=True
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=Path)
    parser.add_argument("ood", type=Path)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


class OfClasses(ImageFolder):
    """An ImageFolder of some of its subfolders alone."""

    def __init__(self, chosen: list[str] | None, *more: Any) -> None:
        self.chosen = chosen
        super().__init__(*more)

    def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
        classes, numbers = super().find_classes(directory)
        return (classes, numbers) if self.chosen is None else (self.chosen, {self.chosen[0]: 0})


class FirstPass(Reporter):
    """Remembers when images first entered a network."""

    seconds = 0.0

    def __init__(self) -> None:
        self.started = time.perf_counter()

    def track(self, items: Iterable[T], description: str, total: int) -> Iterator[T]:
        self.seconds = self.seconds or time.perf_counter() - self.started
        yield from items


def carried_out(
    network: torch.nn.Module, tree: Path, arguments: argparse.Namespace, reporter: Reporter, detectors: tuple[str, ...]
) -> None:
    """A run with an empty store."""
    form = Preprocess(256, 224, "bilinear", mean=MEAN, std=STD)
    classifier = Classifier(network, num_classes=1000, preprocess=form, name="resnet18")
    count = arguments.images
    benchmark = Benchmark(
        id=f"folder:{tree / 'val'}",
        fit=f"folder:{tree / 'train'}",
        ood=(f"ood=folder:{arguments.ood}",),
        detectors=detectors,
        limit=count,
        fit_limit=count,
    )
    with tempfile.TemporaryDirectory() as cache:
        os.environ["OODBENCH_CACHE"] = cache
        run(benchmark, [classifier], Machine(workers=arguments.workers), reporter)


def bare(network: torch.nn.Module, tree: Path, arguments: argparse.Namespace) -> None:
    """The loop: as many images of each set, listed, decoded and passed."""
    steps = [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    for folder in (tree / "train", tree / "val", arguments.ood.parent):
        classes = [arguments.ood.name] if folder == arguments.ood.parent else None
        images = OfClasses(classes, str(folder), transforms.Compose(steps))
        chosen = torch.randperm(len(images))[: arguments.images].sort().values.tolist()
        loader = DataLoader(Subset(images, chosen), 64, num_workers=arguments.workers)
        with torch.inference_mode():
            for batch, _ in loader:
                network(batch)


def run_alone(arguments: argparse.Namespace) -> None:
    """Print the seconds to the first pass, the images that were decoded, and the peak memory, of a run in a process."""
    with tempfile.NamedTemporaryFile("a+") as log:
        honest = decoding.decoded

        def logged(file: Any, where: str) -> Any:
            os.write(log.fileno(), f"{where}\n".encode())  # by whatever process
            return honest(file, where)

        decoding.decoded = logged
        torch.manual_seed(0)
        network = resnet18().eval()
        reporter = FirstPass()
        carried_out(network, arguments.tree, arguments, reporter, ("msp", "energy", "knn"))
        counts = Counter(Path(log.name).read_text().splitlines())
    files = sum(len(names) for _, _, names in os.walk(arguments.tree))
    # Not ru_maxrss, in which the process that started this one is too.
    (line,) = (one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM"))
    peak = int(line.split()[1]) / 1024
    print(
        f"{files:,} files: first pass after {reporter.seconds:.1f} s; {3 * arguments.images} images drawn, "
        f"{len(counts)} decoded, each {max(counts.values())} time(s) at most; peak {peak:,.0f} MiB"
    )


def part_of(tree: Path, folder: Path, every: int = 1, classes: int | None = None) -> Path:
    """One in so many files of the first classes, as hard links."""
    for split in ("train", "val"):
        for below in sorted((tree / split).iterdir())[:classes]:
            (folder / split / below.name).mkdir(parents=True)
            for path in sorted(below.iterdir())[::every]:
                os.link(path, folder / split / below.name / path.name)
    return folder


if __name__ == "__main__":
    main()
