"""Time network inversion, and the share of its time that is not network arithmetic, and print a table.

    python benchmarks/speed/inversion.py [--device cuda] [--batch-size 128]

Network arithmetic is the generator's and the classifier's forward and backward pass. It is timed alone, on inputs
drawn beforehand and with the mean of the logits as loss, in turn with whole calls of `invert`; what these take
beyond it is drawing, losses, optimiser, set-up and bookkeeping. On a CPU the shares are of processor time, which
other work on the machine disturbs less. Medians over several rounds. Weights are random: they do not matter here.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from tabulate import tabulate

from oodbench.classifier import Classifier
from oodbench.inversion.conditioning import draw, seeded
from oodbench.inversion.invert import invert, new_generator
from oodbench.inversion.live import live_features
from oodbench.inversion.settings import InversionSettings
from oodbench.models.catalogue import build
from oodbench.progress import Reporter

NETWORKS = (("cnn8", (1, 8, 8)), ("cnn28", (1, 28, 28)), ("cnn32", (3, 32, 32)))
STEPS = 10
REPEATS = 5


def main() -> None:
    """Time each network in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, default=InversionSettings().batch_size)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    rows = []
    for name, shape in NETWORKS:
        classifier = Classifier(build(name, 10, shape), num_classes=10, image_shape=shape).to(device)
        rows.append((name, *timings(classifier, device, arguments.batch_size)))
    headers = (
        "classifier",
        "steps/s",
        "classifier images/s",
        "generator images/s",
        "not network arithmetic: a step",
        "the same: all of invert",
    )
    print(f"batch size {arguments.batch_size}, {device}, {torch.get_num_threads()} threads")
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))


def timings(classifier: Classifier, device: torch.device, batch_size: int) -> tuple[str, ...]:
    """One row of the table, without the classifier's name."""
    steps_alone = InversionSettings(epochs=1, steps_per_epoch=STEPS, batch_size=batch_size, accuracy_images=1)
    whole = InversionSettings(epochs=1, batch_size=batch_size)
    generator = new_generator(classifier, whole).to(device)
    random = seeded(0, "speed")
    conditions = draw(whole.conditioning, batch_size, 10, random, device)
    noise = torch.randn(batch_size, whole.noise_size, generator=random).to(device)
    images = torch.rand(batch_size, *classifier.image_shape, device=device)

    with live_features(classifier) as passes:

        def arithmetic() -> None:
            generator.train()
            generator.zero_grad()
            passes(generator(conditions, noise)).logits.mean().backward()

        @torch.no_grad()
        def forward() -> None:
            generator.eval()
            passes(generator(conditions, noise))

        @torch.no_grad()
        def classify() -> None:
            passes(images)

        @torch.no_grad()
        def generate() -> None:
            generator.eval()
            generator(conditions, noise)

        calls = {
            "steps": (lambda: invert(classifier, steps_alone, device, Reporter(), generator), 1),
            "whole": (lambda: invert(classifier, whole, device, Reporter(), generator), 1),
            "arithmetic": (arithmetic, STEPS),
            "forward": (forward, STEPS),
            "classify": (classify, STEPS),
            "generate": (generate, STEPS),
        }
        # The first round warms up.
        rounds = [{name: seconds(*call, device) for name, call in calls.items()} for _ in range(REPEATS + 1)][1:]
    wall, busy = ({name: np.median([r[name][clock] for r in rounds]) for name in calls} for clock in (0, 1))
    arithmetic_of_whole = (
        whole.steps_per_epoch * busy["arithmetic"] + whole.accuracy_images / batch_size * busy["forward"]
    )
    return (
        f"{STEPS / wall['steps']:.1f}",
        f"{batch_size / wall['classify']:,.0f}",
        f"{batch_size / wall['generate']:,.0f}",
        f"{1 - STEPS * busy['arithmetic'] / busy['steps']:.1%}",
        f"{1 - arithmetic_of_whole / busy['whole']:.1%}",
    )


def seconds(function: Callable[[], object], times: int, device: torch.device) -> tuple[float, float]:
    """How long one of so many calls takes: on the clock, and of processor time (on a GPU the clock again)."""
    synchronise(device)
    wall, busy = time.perf_counter(), time.process_time()
    for _ in range(times):
        function()
    synchronise(device)
    wall, busy = time.perf_counter() - wall, time.process_time() - busy
    return wall / times, (busy if device.type == "cpu" else wall) / times


def synchronise(device: torch.device) -> None:
    """Wait until a GPU is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
