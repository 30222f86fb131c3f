"""Several processes that share one run: each fills its part of the store, the first makes the result of it.

They exchange nothing but files, barriers and what the first one says. `ALONE` stands for the one process of any other
run, so that a run reads the same for one and for many.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
import torch.distributed as dist

from oodbench.capture import PassCount
from oodbench.data.hashes import Hashing
from oodbench.data.imageset import ImageSet
from oodbench.data.inputs import Form
from oodbench.data.reading import Shard, Walk
from oodbench.errors import OodbenchError
from oodbench.plan import Machine, choose_device
from oodbench.progress import Reporter
from oodbench.store import NO_STORE, Store
from oodbench.subject import Subject

T = TypeVar("T")

LONGEST = timedelta(days=7)
"""That the others wait for the first, which may train a classifier meanwhile. Who dies is noticed at once."""

Groups = Sequence[Sequence[ImageSet]]


class Cutting(NamedTuple):
    """How sets are cut into shards: the images of one, who reads them, and the forms they will have (see `Walk`)."""

    size: int
    workers: int | None = None
    forms: tuple[Form, ...] = ()


@dataclass(frozen=True)
class Ranks:
    """The processes of a run: this one alone.

    Attributes:
        rank: which of them this one is, from 0.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process obtains, fits, scores, saves and prints."""
        return self.rank == 0

    def placed(self, machine: Machine) -> Machine:
        """The machine with the device of this process."""
        return machine

    def first(self, work: Callable[[], T]) -> T:
        """What work gives: done by the first process, then by the others, which find in the cache what it left."""
        return work()

    def alike(self, value: object, what: str) -> None:
        """Raise OodbenchError where the value is another one in another process."""

    def store(self, machine: Machine, reporter: Reporter) -> Store:
        """Where outputs are kept."""
        return Store.default(reporter) if machine.store else NO_STORE

    def fill(self, subjects: Sequence[Subject], shared: Groups, how: Cutting, visit: Callable[[Shard], None]) -> None:
        """Have the processes visit all shards of the sets, each shard by one of them, for the first to find them kept.

        Args:
            shared: groups of sets that are read side by side.
            visit: passes a shard and leaves in the store what comes of it.
        """

    def share_fitted(self, detectors: Sequence[tuple[Subject, str]]) -> None:
        """Give what the first process fitted, of these subjects and labels, to the others."""


ALONE = Ranks()


@dataclass(frozen=True)
class TorchRanks(Ranks):
    """Those that torchrun started.

    Attributes:
        on_machine: which of the processes of its machine this one is, and how many those are.
        temporary: folders that are removed in the end.
    """

    on_machine: tuple[int, int] = (0, 1)
    temporary: list[Path] = field(default_factory=list)

    def placed(self, machine: Machine) -> Machine:
        if choose_device(machine.device) != torch.device("cuda"):
            return machine
        return replace(machine, device=f"cuda:{self.on_machine[0]}")

    def first(self, work: Callable[[], T]) -> T:
        if not self.is_first:
            self.wait()
        result = work()
        if self.is_first:
            self.wait()
        return result

    def alike(self, value: object, what: str) -> None:
        for rank, (host, other) in enumerate(self._all((socket.gethostname(), value))):
            if other != value:
                raise OodbenchError(
                    f"process {self.rank} of this run and process {rank} on {host} have not the same {what}; give all "
                    f"of them the same data, and one cache with the environment variable OODBENCH_CACHE"
                )

    def store(self, machine: Machine, reporter: Reporter) -> Store:
        if machine.store:
            store = Store.default(reporter)
        elif self.on_machine[1] == self.count:
            # What the processes hand to the first one has to lie somewhere.
            folder = Path(self._said(tempfile.mkdtemp(prefix="oodbench-") if self.is_first else ""))
            if self.is_first:
                self.temporary.append(folder)
            store = Store(folder, float("inf"), reporter)
        else:
            raise OodbenchError(
                "the processes of several machines hand their outputs to the first one in the store; leave out "
                "--no-store, with OODBENCH_CACHE on a folder that all of the machines share"
            )
        self._check_shared(store)
        return store

    def _check_shared(self, store: Store) -> None:
        """Raise OodbenchError where a process does not see what the first one writes."""
        assert store.folder is not None
        sign = store.folder / f".shared-{self._said(uuid.uuid4().hex)}"
        if self.is_first:
            try:
                store.folder.mkdir(parents=True, exist_ok=True)
                sign.touch()
            except OSError as error:
                raise OodbenchError(
                    f"the store cannot write into {store.folder} ({error.strerror}); make room, or move it with the "
                    f"environment variable OODBENCH_CACHE"
                ) from error
        self.wait()
        blind = [host for host, sees in self._all((socket.gethostname(), sign.exists())) if not sees]
        if self.is_first:
            sign.unlink()
        if blind:
            raise OodbenchError(
                f"the store of the first process, {store.folder}, is not there on {', '.join(sorted(set(blind)))}; set "
                f"OODBENCH_CACHE to a folder that all of the machines share"
            )

    def fill(self, subjects: Sequence[Subject], shared: Groups, how: Cutting, visit: Callable[[Shard], None]) -> None:
        sets = [images for group in shared for images in group]
        found: list[Part] = []
        with closing(part_of(shared, how, self.rank, self.count)) as part:
            for shard in part:
                visit(shard)
                if (hashes := shard.walk.hashing.part(shard.start, shard.stop)) is not None:
                    found.append((sets.index(shard.images), shard.start, hashes))
        _remember(sets, self._all(found))
        for of_rank in self._all([_cost(one) for one in subjects])[1:]:
            for one, cost in zip(subjects, of_rank, strict=True):
                if self.is_first:
                    _add(one, cost)
        if not self.is_first:
            for one in subjects:
                _forget(one)

    def share_fitted(self, detectors: Sequence[tuple[Subject, str]]) -> None:
        states = [one.detectors[label].to("cpu").state for one, label in detectors] if self.is_first else []
        for (one, label), state in zip(detectors, self._said(states), strict=True):
            if not self.is_first:
                one.detectors[label] = one.detectors[label].with_state(state).to(one.classifier.device)

    def wait(self) -> None:
        """Until all processes are here."""
        with _companions(self.rank):
            dist.barrier()

    def _all(self, value: T) -> list[T]:
        """What each process has."""
        values: list[Any] = [None] * self.count
        with _companions(self.rank):
            dist.all_gather_object(values, value)
        return values

    def _said(self, value: T) -> T:
        """What the first process has."""
        values = [value]
        with _companions(self.rank):
            dist.broadcast_object_list(values)
        return values[0]


def part_of(groups: Groups, how: Cutting, rank: int, count: int) -> Generator[Shard, None, None]:
    """The shards of a process: a contiguous range of all shards, those of a group's sets side by side."""
    size, workers, forms = how
    total = sum(-(-len(images) // size) for group in groups for images in group)
    before = 0
    mine: list[tuple[ImageSet, int]] = []
    for group in groups:
        for start in range(0, max(map(len, group)), size):
            there = [images for images in group if start < len(images)]
            if before * count // total == rank:
                mine += [(images, start) for images in there]
            before += len(there)
    stops = {images: start + size for images, start in mine}
    with ExitStack() as stack:
        walks = {
            images: stack.enter_context(closing(Walk(images, size, workers, forms, min(stop, len(images)))))
            for images, stop in stops.items()
        }
        for images, start in mine:
            yield walks[images].shard(start)


Part = tuple[int, int, np.ndarray]
"""Of a set, by its number, the hashes of the images from one on."""


def _remember(sets: Sequence[ImageSet], parts: Sequence[Sequence[Part]]) -> None:
    """What each process found of the sets' hashes, put together."""
    hashings = [Hashing(len(images)) for images in sets]
    for number, start, hashes in chain.from_iterable(parts):
        hashings[number].update(start, hashes)
    for images, hashing in zip(sets, hashings, strict=True):
        if images.known_hashes is None and (found := hashing.finished()) is not None:
            images.remember(found)


@contextmanager
def joined() -> Iterator[Ranks]:
    """The processes that share what is done in the block: those of torchrun, which started this one, or it alone.

    All are there until the last one is done.

    Raises:
        OodbenchError: another process has ended before, or torchrun ends this one.
    """
    if not is_one_of_many():
        yield ALONE
        return
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    ranks = TorchRanks(rank, count, (int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])))

    def ended(*_: object) -> None:
        raise _ended(rank)

    before = signal.signal(signal.SIGTERM, ended)
    # On GPUs too: what they exchange lies in files and in the memory of processors.
    dist.init_process_group("gloo", timeout=LONGEST)
    try:
        yield ranks
        ranks.wait()
        dist.destroy_process_group()
    finally:
        signal.signal(signal.SIGTERM, before)
        for folder in ranks.temporary:
            shutil.rmtree(folder, ignore_errors=True)


def is_one_of_many() -> bool:
    """Whether torchrun started this process and others."""
    return dist.is_available() and dist.is_torchelastic_launched() and int(os.environ["WORLD_SIZE"]) > 1


def launch(devices: str, arguments: Sequence[str]) -> int:
    """Run `oodbench` with these arguments in a process a device, by torchrun; the exit status.

    Args:
        devices: how many, or the numbers of GPUs, `0,1`.

    Raises:
        OodbenchError: it is neither.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    names = [part.strip() for part in devices.split(",")]
    if not all(name.isdecimal() for name in names) or len(set(names)) < len(names) or names == ["0"]:
        raise OodbenchError(f"--devices takes a number of devices, or the numbers of GPUs, 0,1, not '{devices}'")
    count = int(names[0]) if len(names) == 1 else len(names)
    if len(names) > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(names)
    os.environ.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // count, 1)))
    started = parse_args(["--standalone", "--nproc-per-node", str(count), "-m", "oodbench", *arguments])
    try:
        run(started)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        return failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode
    except SignalException as stop:
        return 128 + int(stop.sigval)
    return 0


@contextmanager
def _companions(rank: int) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # of gloo, whose connection to another one is gone
        raise _ended(rank) from error


def _ended(rank: int) -> OodbenchError:
    return OodbenchError(
        f"another process of this run has ended, or the run was told to stop, so process {rank} stops too; nothing was "
        f"written. The same command goes on where it was, with what is in the store"
    )


Cost = tuple[Mapping[str, PassCount], Mapping[str, float], int, set[str], list[str], "int | None"]


def _cost(one: Subject) -> Cost:
    """What a subject cost in this process so far, and what it left."""
    return dict(one.counts), dict(one.seconds), one.from_store, one.asked, one.notes, one.batch_size


def _add(one: Subject, cost: Cost) -> None:
    counts, seconds, from_store, asked, notes, batch_size = cost
    for role, count in counts.items():
        one.counts[role].add(count)
    for what, taken in seconds.items():
        one.seconds[what] += taken
    one.from_store += from_store
    one.asked |= asked
    one.notes += [note for note in notes if note not in one.notes]
    sizes = [size for size in (one.batch_size, batch_size) if size is not None]
    one.batch_size = min(sizes, default=None)


def _forget(one: Subject) -> None:
    """What the first process was told."""
    one.counts.clear()
    one.seconds.clear()
    one.notes.clear()
    one.from_store = 0
