"""Several processes that share a run: torchrun itself, on CPUs; and how the work is cut."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oodbench import Machine, OodbenchError, Result
from oodbench.data.imageset import ArraySource, ImageSet
from oodbench.data.reading import shards
from oodbench.distributed import ALONE, Cutting, TorchRanks, _remember, launch, part_of
from oodbench.plan import choose_device
from oodbench.store import Store

ROOT = Path(__file__).parents[1]
SHARD = 64
RUN = (
    "run", "--model", str(ROOT / "results" / "baselines" / "digits-cnn8.safetensors"), "--device", "cpu",
    "--detector", "lc,odin,knn,gram", "--ood", "uniform", "--limit", "300", "--fit-limit", "300",
)  # fmt: skip


@dataclass(frozen=True)
class Shared:
    """Runs in a folder, with a store of their own and a log of what is passed."""

    folder: Path

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def passed(self) -> int:
        """Images that entered the network so far, in all processes."""
        log = self.folder / "log"
        return sum(map(int, log.read_text().split())) if log.exists() else 0

    def start(self, processes: int, more: Sequence[str] = ()) -> subprocess.Popen[str]:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        counted = ["-m", "tests.counted_run", self.folder / "log", SHARD, *RUN, *more, "--out", self.out]
        command = [sys.executable, *(launcher if processes > 1 else []), *map(str, counted)]
        environment = os.environ | {"OODBENCH_CACHE": str(self.folder / "cache"), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def finish(self, processes: int, more: Sequence[str] = ()) -> tuple[Result, str]:
        """The result, and what was printed."""
        process = self.start(processes, more)
        printed, said = process.communicate(timeout=600)
        assert process.returncode == 0, said
        return Result.load(self.out), printed


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, int]:
    """The result of one process, and how many images it passed."""
    runs = Shared(tmp_path_factory.mktemp("alone"))
    result, _ = runs.finish(1)
    return result, runs.passed


def check_same_scores(found: Result, expected: Result) -> None:
    assert found.scores.keys() == expected.scores.keys()
    for key, scores in expected.scores.items():
        np.testing.assert_allclose(found.scores[key], scores, rtol=1e-6, atol=1e-9, err_msg=str(key))


def check_same(found: Result, expected: Result) -> None:
    check_same_scores(found, expected)
    for row, other in zip(found.card.metrics, expected.card.metrics, strict=True):
        assert row == pytest.approx(other, abs=1e-6)
    assert found.card.sets == expected.card.sets
    ours, theirs = found.card.classifiers[0], expected.card.classifiers[0]
    assert ours["images"] == theirs["images"]


@pytest.mark.parametrize("more", [(), ("--no-store",)], ids=["store", "no store"])
def test_two_processes_give_what_one_gives(tmp_path: Path, alone: tuple[Result, int], more: Sequence[str]) -> None:
    """And every image passes in one of them, once."""
    expected, passed = alone
    runs = Shared(tmp_path)
    found, printed = runs.finish(2, more)
    check_same(found, expected)
    assert runs.passed == passed
    assert found.card.machine["processes"] == 2
    assert printed.count("AUROC/FPR@95") == 1
    again, _ = runs.finish(2)
    assert runs.passed == (2 * passed if more else passed)
    check_same(found, again) if more else check_same_scores(again, found)


def children(process: subprocess.Popen[str]) -> list[int]:
    """The processes that torchrun started, in their order."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            except OSError:
                continue
            if int(parent) == process.pid:
                found.append(int(entry.name))
    return sorted(found)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the processes in /proc")
@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_dies_ends_the_run_and_leaves_no_result(
    tmp_path: Path, alone: tuple[Result, int], victim: int
) -> None:
    """The same command then goes on where it was."""
    expected, passed = alone
    runs = Shared(tmp_path)
    process = runs.start(2)
    while runs.passed < passed // 4 and process.poll() is None:
        time.sleep(0.005)
    os.kill(children(process)[victim], signal.SIGKILL)
    _, said = process.communicate(timeout=120)
    assert process.returncode != 0 and not runs.out.exists()
    # The one that is left sees it by itself, or is stopped by torchrun before it does.
    words = "another process of this run has ended", "no results were written"
    assert any(one in said for one in words), said
    found, _ = runs.finish(2)
    for key, scores in expected.scores.items():
        np.testing.assert_allclose(found.scores[key], scores, rtol=1e-6, atol=1e-9)
    # Of odin each image passes twice; each process was in the midst of one shard.
    assert passed <= runs.passed <= passed + 2 * 2 * SHARD


def test_devices_starts_a_process_each(tmp_path: Path, alone: tuple[Result, int]) -> None:
    """`--devices N` is torchrun for those who do not know it."""
    environment = os.environ | {"OODBENCH_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "oodbench", *RUN, "--ood", "inverted", "--devices", "2", "--out", "out"]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    found = Result.load(tmp_path / "out")
    assert found.card.machine["processes"] == 2
    assert {row["ood"] for row in found.card.metrics} == {"uniform", "inverted"}
    for key, scores in alone[0].scores.items():
        np.testing.assert_allclose(found.scores[key], scores, rtol=1e-4, atol=1e-6)
    command[command.index("lc,odin,knn,gram")], command[-1] = "lcc", "other"
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 2 and "lcc" in ended.stderr, ended.stderr


class Second(TorchRanks):
    """The second of two processes, which is told what the other one has."""

    def _all(self, value: Any) -> list[Any]:
        return [("first", OTHER), ("second", value[1])]

    def _said(self, value: Any) -> Any:
        return OTHER

    def wait(self) -> None:
        pass


OTHER = "other"


def test_processes_that_have_other_classifiers_are_told() -> None:
    Second(1, 2).alike(OTHER, "classifiers")
    with pytest.raises(OodbenchError, match="process 0 on first have not the same classifiers"):
        Second(1, 2).alike("hash", "classifiers")


def test_processes_that_do_not_see_the_store_of_the_first_are_told(tmp_path: Path) -> None:
    with pytest.raises(OodbenchError, match="is not there on second; set OODBENCH_CACHE"):
        Second(1, 2)._check_shared(Store(tmp_path))
    (tmp_path / f".shared-{OTHER}").touch()
    Second(1, 2)._check_shared(Store(tmp_path))


@pytest.mark.parametrize("devices", ["two", "0", "0,0", "1,", "-1"])
def test_devices_that_are_none_are_refused(devices: str) -> None:
    with pytest.raises(OodbenchError, match="--devices"):
        launch(devices, ["run"])


def numbered(name: str, count: int) -> ImageSet:
    pixels = np.random.default_rng(count).integers(0, 256, (count, 2, 2), dtype=np.uint8)
    return ImageSet(name, ArraySource(pixels), "drawn")


@given(st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=3), min_size=1, max_size=4), st.integers(1, 9))
def test_every_shard_is_of_one_process_and_shares_are_even(sizes: list[list[int]], count: int) -> None:
    groups = [[numbered(f"{i} {j}", size) for j, size in enumerate(group)] for i, group in enumerate(sizes)]
    parts = [list(part_of(groups, Cutting(8), rank, count)) for rank in range(count)]
    found = [(shard.images.name, shard.start, shard.stop) for part in parts for shard in part]
    expected = {
        (images.name, start, min(start + 8, len(images)))
        for group in groups
        for images in group
        for start in range(0, len(images), 8)
    }
    assert len(found) == len(expected) and set(found) == expected
    # None has more than its share by more than what is read side by side.
    assert max(map(len, parts)) <= len(found) / count + 3
    for part in parts:
        for images in (images for group in groups for images in group):
            starts = [shard.start for shard in part if shard.images is images]
            assert starts == list(range(starts[0], starts[-1] + 1, 8)) if starts else True


def test_a_shard_by_itself_has_the_hash_that_it_has_in_its_set() -> None:
    images, same = numbered("a", 30), numbered("a", 30)
    whole = [shard.digest for shard in shards(images, 8)]
    (part,) = [list(part_of([[same]], Cutting(8), 1, 2))]
    assert [shard.digest for shard in part] == whole[2:]


def test_the_hash_of_a_set_is_put_together_from_what_each_process_read() -> None:
    images, lacking, same = (numbered("a", 30) for _ in range(3))
    parts = [
        [(0, shard.start, shard.hashes) for shard in part_of([[images]], Cutting(8), rank, 3)] for rank in range(3)
    ]
    assert images.known_hashes is None and min(map(len, parts)) > 0
    _remember([lacking], parts[1:])
    assert lacking.known_hashes is None
    _remember([images], parts[::-1])
    assert images.known_hashes is not None and images.content_hash == same.content_hash


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    third = TorchRanks(6, 8, (2, 4))
    placed = {name: third.placed(Machine(device=name)).device for name in ("auto", "cuda", "cuda:1", "cpu")}
    assert placed == {"auto": "cuda:2", "cuda": "cuda:2", "cuda:1": "cuda:1", "cpu": "cpu"}
    assert ALONE.placed(Machine(device="cuda")).device == "cuda"


def test_one_of_several_gpus_is_named_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    for name, message in {
        "cuda:2": "last GPU",
        "cuda:x": "no device",
        "cpu:1": "no device",
        "cuda:": "no device",
    }.items():
        with pytest.raises(OodbenchError, match=message):
            choose_device(name)


def test_no_store_over_several_machines_is_refused() -> None:
    with pytest.raises(OodbenchError, match="--no-store"):
        TorchRanks(3, 4, (1, 2)).store(Machine(store=False), None)  # type: ignore[arg-type]
