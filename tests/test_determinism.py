"""What docs/determinism.md promises to be equal is equal, bit by bit."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from oodbench import Benchmark, Machine, Result, run
from tests.stored_baseline import CHECKPOINT

WORK = Benchmark(
    models=(str(CHECKPOINT),),
    ood=("uniform", "set:structured"),
    detectors=("msp", "lc", "odin", "oodl", "knn", "gradnorm"),
    limit=60,
    fit_limit=200,
)
ALONE = Machine(device="cpu", store=False)


def bits(result: Result) -> dict[tuple[str, str, str], bytes]:
    return {key: scores.tobytes() for key, scores in result.scores.items()}


@pytest.fixture(scope="module")
def first() -> Result:
    return run(WORK, machine=ALONE)


CHANGES = {
    "the same again": (WORK, ALONE),
    "detectors the other way round": (replace(WORK, detectors=WORK.detectors[::-1]), ALONE),  # type: ignore[index]
    "OOD sets the other way round": (replace(WORK, ood=WORK.ood[::-1]), ALONE),
    "threads that read images": (WORK, replace(ALONE, workers=3)),
}


@pytest.mark.parametrize(("work", "machine"), CHANGES.values(), ids=CHANGES)
def test_scores_are_equal_bit_by_bit(first: Result, work: Benchmark, machine: Machine) -> None:
    assert bits(run(work, machine=machine)) == bits(first)


def test_scores_do_not_hang_on_pythons_hash_seed(tmp_path: Path, first: Result) -> None:
    options = ["--model", str(CHECKPOINT), "--ood", "uniform,set:structured", "--limit", "60", "--fit-limit", "200"]
    options += ["--detector", ",".join(WORK.detectors or ()), "--device", "cpu", "--no-store"]
    found = []
    for seed in ("1", "2"):
        command = [sys.executable, "-m", "oodbench", "run", *options, "--out", seed]
        subprocess.run(
            command, cwd=tmp_path, check=True, capture_output=True, env=os.environ | {"PYTHONHASHSEED": seed}
        )
        found.append(bits(Result.load(tmp_path / seed)))
    assert found[0] == found[1] and found[0].keys() == bits(first).keys()
