"""Processes that decode: the same bytes as without, each image once, errors in words, and none of them left over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from oodbench import OodbenchError
from oodbench.data import workers
from oodbench.data.damaged import DamagedImages
from oodbench.data.folder import read_folder
from oodbench.data.hashes import hashes_of
from oodbench.data.imageset import ImageSet
from oodbench.data.inputs import Form, brought
from oodbench.data.noise import derived_set
from oodbench.data.preprocess import Preprocess, stretched
from oodbench.data.reading import remembering, shards, side_by_side
from oodbench.data.transform import Transform
from oodbench.data.workers import MOST, SMALL, default_workers, workers_for
from tests.data.forms import pixels, save_png

pytestmark = pytest.mark.skipif(not workers.FORKS, reason="processes are forked on Linux alone")

FORMS: tuple[Form, ...] = (Preprocess(8, 6, "bicubic").form, stretched((1, 5, 7)))


def folder_of(folder: Path, count: int = 70) -> ImageSet:
    """Pictures of several sizes, some grey."""
    for index in range(count):
        shape = (9 + index % 3, 11) + ((3,) if index % 5 else ())
        save_png(folder / f"{index:03}.png", pixels(*shape, seed=index))
    return read_folder("pictures", folder)


def walked(images: ImageSet, count: int | None, forms: tuple[Form, ...] = FORMS) -> list[tuple[Any, ...]]:
    return [
        (shard.hashes.tobytes(), [shard.matched(form) for form in forms], shard.matching(forms[0]))
        for shard in shards(images, 20, count, forms)
    ]


def children() -> set[int]:
    """The processes that this one has started and that are alive."""
    path = Path(f"/proc/{os.getpid()}/task")
    return {int(pid) for task in path.iterdir() for pid in (task / "children").read_text().split()}


@pytest.mark.parametrize("count", [0, 1, 3])
def test_what_they_give_is_what_is_stored_whatever_their_number(tmp_path: Path, count: int) -> None:
    images = folder_of(tmp_path / "pictures").drawn(61, seed=2)
    before = children()
    found = walked(images, count)
    assert len(found) == 4 and children() == before
    stored = list(images.read(0, len(images)))
    assert b"".join(hashes for hashes, _, _ in found) == hashes_of(stored).tobytes()
    for number, form in enumerate(FORMS):
        given = torch.cat([formed[number] for _, formed, _ in found])
        assert torch.equal(given, torch.cat([brought(images, [image], form) for image in stored]))
    assert images.known_hashes is not None and "resized" in found[0][2]
    # Known now: no image is hashed again, and they are the same.
    assert walked(images, count)[2][0] == found[2][0]


def test_functions_of_a_script_reach_them(tmp_path: Path) -> None:
    images = folder_of(tmp_path / "pictures", 30)
    own = Transform(lambda image: torch.full((3, 4, 4), image.size[1] / 255), (3, 4, 4), (0.0,) * 3, (1.0,) * 3, True)
    (first, _), (again, _) = ([one[1] for one in walked(images, count, (own.form,))] for count in (0, 2))
    assert torch.equal(first[0], again[0]) and first[0].dtype == torch.uint8


@dataclass(frozen=True, eq=False)
class Logged:
    """Images that are noted in a file, by whatever process, each time that they are read."""

    log: Path
    count: int = 90
    decodes: ClassVar[bool] = True

    def __len__(self) -> int:
        return self.count

    def read(self, indices: Sequence[int]) -> list[np.ndarray]:
        with open(self.log, "a") as log:
            for index in indices:
                log.write(f"{index} {os.getpid()}\n")
        return [pixels(9, 12, 3, seed=int(index)) for index in indices]

    def identity(self, indices: Sequence[int]) -> None:
        return None

    def read_by(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for line in self.log.read_text().splitlines():
            index, process = map(int, line.split())
            found.setdefault(index, []).append(process)
        return found


@pytest.mark.parametrize("count", [0, 2])
def test_each_image_is_read_once_by_them_also_where_others_are_made_of_it(tmp_path: Path, count: int) -> None:
    source = Logged(tmp_path / "log")
    whole = ImageSet("logged", source, "a test")
    form = Preprocess(8, 6).form
    shared = remembering(whole.drawn(80, seed=1), 30)
    derived = [derived_set(name, shared, 0, form) for name in ("pixel-shuffled", "fourier-phase-scrambled")]
    found: dict[str, list[Any]] = {}
    for shard in side_by_side([shared, *derived], 30, count, [form]):
        assert shard.digest
        found.setdefault(shard.images.name, []).append(shard.matched(form))
    read = source.read_by()
    assert shared.indices is not None and sorted(read) == shared.indices.tolist()
    assert {len(processes) for processes in read.values()} == {1}
    assert (os.getpid() in {process for one in read.values() for process in one}) == (count == 0)
    alone = ImageSet("logged", source, "a test").drawn(80, seed=1)
    for one in derived:
        expected = brought(one, derived_set(one.name, alone, 0, form).read(0, 80), form)
        assert torch.equal(torch.cat(found[one.name]), expected)


def test_they_go_on_with_what_follows_and_no_further_than_a_shard(tmp_path: Path) -> None:
    source = Logged(tmp_path / "log", count=200)
    walk = shards(ImageSet("logged", source, "a test"), 40, 2, [Preprocess(8, 6).form])
    assert next(walk).digest
    time.sleep(1)
    read = source.read_by()
    assert set(range(40)) < set(read) <= set(range(80 + 8))
    before = children()
    walk.close()
    assert len(children()) == len(before) - 2


@pytest.mark.parametrize("count", [0, 2])
def test_what_is_damaged_is_reported_together_from_wherever_it_was_read(tmp_path: Path, count: int) -> None:
    images = folder_of(tmp_path / "pictures", 50)
    for index in (23, 31, 45):
        path = tmp_path / "pictures" / f"{index:03}.png"
        path.write_bytes(path.read_bytes()[:50])
    seen = []
    with pytest.raises(DamagedImages, match=r"^3 images cannot be read: .*023\.png") as raised:
        for shard in shards(images, 10, count, FORMS):
            seen.append((shard.start, shard.digest))
    assert [start for start, _ in seen] == [0, 10]
    assert [Path(where).name for where in raised.value.found] == ["023.png", "031.png", "045.png"]


@dataclass(frozen=True, eq=False)
class Deadly(Logged):
    """Whoever reads image 25 is killed, as when memory runs out."""

    def read(self, indices: Sequence[int]) -> list[np.ndarray]:
        if 25 in indices:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(indices)


def test_one_that_is_killed_ends_the_reading_in_words(tmp_path: Path) -> None:
    before = children()
    with pytest.raises(OodbenchError, match=r"process that read images of deadly has ended.*--workers"):
        walked(ImageSet("deadly", Deadly(tmp_path / "log"), "a test"), 2)
    assert children() == before


SCRIPT = """
import signal, sys, time
from oodbench.data.folder import read_folder
from oodbench.data.preprocess import Preprocess
from oodbench.data.reading import shards
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background has not
print("runs", flush=True)
for shard in shards(read_folder("pictures", sys.argv[1]), 20, 2, [Preprocess(8, 6).form]):
    shard.digest
    print("read", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def script(folder: Path, seconds: float) -> subprocess.Popen[str]:
    """A script without a main guard, which reads pictures by processes."""
    (folder / "script.py").write_text(SCRIPT.replace("sys.argv[1]", "__import__('pathlib').Path(sys.argv[1])"))
    command = [sys.executable, str(folder / "script.py"), str(folder / "pictures"), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_script_needs_no_main_guard(tmp_path: Path) -> None:
    folder_of(tmp_path / "pictures")
    printed, said = script(tmp_path, 0).communicate(timeout=120)
    assert Counter(printed.split()) == {"runs": 1, "read": 4}, said


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_they_end_with_whoever_started_them(tmp_path: Path, number: signal.Signals) -> None:
    folder_of(tmp_path / "pictures")
    process = script(tmp_path, 60)
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["runs\n", "read\n"]
    path = Path(f"/proc/{process.pid}/task")
    started = {int(pid) for task in path.iterdir() for pid in (task / "children").read_text().split()}
    assert len(started) == 2
    process.send_signal(number)
    process.wait(timeout=30)
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in started) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{pid}").exists() for pid in started)


def test_files_that_are_many_are_decoded_by_as_many_as_there_are_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = {decodes: ImageSet("some", Logged(tmp_path / "log", count), "") for decodes, count in ((0, 10), (1, SMALL))}
    assert [workers_for(images, 5) for images in some.values()] == [5, 5]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    assert [workers_for(images, None) for images in some.values()] == [0, MOST]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert default_workers() == 0
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert default_workers() == 3
    in_memory = ImageSet("memory", derived_set("pixel-shuffled", some[1], 0).source, "")
    assert workers_for(in_memory, None) == 0
