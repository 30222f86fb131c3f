"""Time of a run of every detector that needs no live batch against a bare pass over the same images.

    python benchmarks/speed/many_detectors.py --data ../shared/data --workload ../shared/peers/workload.npz

The workload and the bare pass are those of one_pass.py; nothing is kept between the runs. CPU seconds count what all
threads take, which other work on the machine disturbs less than the wall time. The seconds of each detector follow.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from pathlib import Path

import torch
from one_pass import (
    RGB,
    bare_pass,
    median,
    parse_arguments,
    passed_images,
    show,
    timed,
    timed_run,
    write_workload,
)
from tabulate import tabulate

from oodbench.detectors.catalogue import DETECTORS
from oodbench.detectors.spec import build
from oodbench.models.load import load_classifier
from oodbench.plan import Machine

LIVE = {"gradient", "live"}


def detectors() -> tuple[str, ...]:
    """Those that read the classifier under test, and of it what one pass leaves."""
    built = {name: build(name) for name in DETECTORS}
    return tuple(
        name
        for name, one in built.items()
        if one.reads is None and not one.reduces and not LIVE & {*one.needs, *one.fit_needs}
    )


def main() -> None:
    """Run and pass in turn, then print ratios and where the rest of the time goes."""
    arguments = parse_arguments()
    weights = arguments.data / "weights" / "resnet20-12fca82f.th"
    classifier = load_classifier(
        f"resnet20={weights}", num_classes=10, image_shape=RGB, mean="imagenet", std="imagenet"
    )
    names, machine = detectors(), Machine(batch_size=arguments.batch_size, store=False)
    print(f"{len(names)} detectors, torch {torch.__version__}, {torch.get_num_threads()} threads")
    runs, passes = [], []
    spent: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        benchmark = write_workload(arguments.workload, arguments.data, Path(folder))
        timed_run(classifier, benchmark, machine, ("msp",))  # warms up
        for _ in range(arguments.repeats):
            seconds, result = timed_run(classifier, benchmark, machine, names)
            images = passed_images(classifier, benchmark, result)
            runs.append(seconds)
            passes.append(timed(lambda images=images: bare_pass(classifier, images, arguments.batch_size))[0])
            for what, taken in result.card.classifiers[0]["seconds"].items():
                spent[what].append(taken)
    show("run", result)
    run, bare = median(runs), median(passes)
    print(f"run {run.wall:.2f} s, CPU {run.cpu:.2f} s; bare pass {bare.wall:.2f} s, CPU {bare.cpu:.2f} s")
    print(f"ratio {run.wall / bare.wall:.3f} by wall, {run.cpu / bare.cpu:.3f} by CPU seconds")
    rows = [
        (name, *(f"{min(spent[f'{what} {name}']):.3f}" for what in ("fit", "score")))
        for name in sorted(names, key=lambda name: -min(spent[f"fit {name}"]) - min(spent[f"score {name}"]))
    ]
    print(tabulate(rows, ("detector", "fit (s)", "score (s)"), tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
