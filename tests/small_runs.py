"""A small benchmark, its classifiers, and a counter of what passes them, for tests of runs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from oodbench import Benchmark, Classifier, Machine, Result

ONE_PASS = ("msp", "maxlogit", "energy", "lc", "oodl", "constant", "random")
FIT, TEST, BRIGHT, DARK = 90, 41, 23, 17

ANEW = Machine(store=False)
"""Where two runs are compared, neither is served by what the other one stored."""


def benchmark(files: dict[str, str], **changes: Any) -> Benchmark:
    values: dict[str, Any] = {"id": files["id"], "ood": (files["bright"], files["dark"]), "detectors": ONE_PASS}
    return Benchmark(**values | changes)


def linear(classes: int, name: str = "linear") -> Classifier:
    torch.manual_seed(1)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, classes))
    return Classifier(module, num_classes=classes, image_shape=(1, 8, 8), name=name)


def count_entering(classifier: Classifier, work: Any) -> int:
    """How many images enter the network during `work()`, counted by a hook of our own."""
    entered = 0

    def count(_module: Any, inputs: tuple[Tensor, ...]) -> None:
        nonlocal entered
        entered += len(inputs[0])

    hook = classifier.module.register_forward_pre_hook(count)
    try:
        work()
    finally:
        hook.remove()
    return entered


def proxies(result: Result) -> int:
    return sum(record["count"] for record in result.card.sets if record["role"] == "proxy")
