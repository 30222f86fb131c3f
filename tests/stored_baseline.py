"""A baseline of a small run, for tests of the regression check."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oodbench import Benchmark, Machine, Result, run
from oodbench.check import Comparison, compare, load_baseline, rerun, save_baseline
from tests.scripts import ROOT

BASELINES = ROOT / "results/baselines"
CHECKPOINT = BASELINES / "digits-cnn8.safetensors"
OF_INVERSION = BASELINES / "digits-cnn8-garbage.safetensors"
CPU = Machine(device="cpu", store=False)
"""Without a store, which does not see faults that are planted in the running process."""


@dataclass(frozen=True)
class Stored:
    """A baseline of a small run, its checkpoint and one of its sets, side by side."""

    folder: Path
    baseline: Result

    @property
    def path(self) -> Path:
        return self.folder / "mine"

    def check(self, machine: Machine = CPU) -> Comparison:
        """What a rerun differs in."""
        return compare(self.baseline, rerun(load_baseline(self.path), machine))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    folder = tmp_path_factory.mktemp("baseline")
    shutil.copy(CHECKPOINT, folder / "mine.safetensors")
    squares = np.random.default_rng(0).integers(0, 256, (40, 8, 8)).astype(np.uint8)
    np.savez(folder / "squares.npz", images=squares)
    benchmark = Benchmark(
        models=("mine.safetensors",), ood=("set:structured", "npz:squares.npz"), limit=60, fit_limit=200
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        save_baseline(run(benchmark, machine=CPU), folder / "mine")
    return Stored(folder, load_baseline(folder / "mine"))


def with_card(result: Result, **changes: Any) -> Result:
    return replace(result, card=replace(result.card, **changes))
