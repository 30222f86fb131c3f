"""How many images may enter a network at a time, by the memory that there is."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import torch

from oodbench.classifier import Classifier

LARGEST = 128
"""Images at a time where memory does not matter: on CPUs 64 to 256 take the same time, to a few percent."""

LARGEST_OF_WIDE = 256
"""The same of a network that is wide beside its images: its weights are laid out anew for every batch."""

WIDE = 32
"""From here on one is: its weights take the bytes of what its layers give for so many images."""

LARGEST_ON_GPU = 512
"""The same where more work at a time is faster."""

SHARE = 0.5
"""Of the memory that is free, what a pass may take."""

# Estimates: of the outputs of a network's layers, with a graph all are kept, and as much again may be made between
# them; without one only a few are there at a time.
WITH_GRAPH = 2
WITHOUT = 4

_EXHAUSTED = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")


def bytes_an_image(classifier: Classifier, gradient: bool) -> int:
    """What an image takes while it passes, about.

    Args:
        gradient: whether the pass keeps its graph.
    """
    total, largest = classifier.layer_bytes
    return WITH_GRAPH * total if gradient else min(WITHOUT * largest, WITH_GRAPH * total)


def fitting_batch(classifier: Classifier, gradient: bool) -> int:
    """The most images at a time, a power of two, whose pass takes no more than half of the memory that is free."""
    device = classifier.device
    free, largest = free_memory(device), _largest(classifier)
    if free is None:
        return largest
    fitting = max(int(SHARE * free / max(bytes_an_image(classifier, gradient), 1)), 1)
    return min(1 << (fitting.bit_length() - 1), largest)


def _largest(classifier: Classifier) -> int:
    """The most images at a time, whatever the memory."""
    if classifier.device.type == "cuda":
        return LARGEST_ON_GPU
    weights = sum(one.nbytes for one in classifier.module.parameters())
    return LARGEST_OF_WIDE if weights > WIDE * classifier.layer_bytes[0] else LARGEST


def free_memory(device: torch.device) -> int | None:
    """Bytes that a process may still take on a device; None where nobody knows.

    On a CPU the processes of one run share what is free, of which each has an equal part.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type != "cpu":
        return None
    found = [one for one in (_available(), _of_container(), _of_process()) if one is not None]
    return min(found) // int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if found else None


def is_exhausted(error: BaseException) -> bool:
    """Whether an error says that memory ran out, of a processor or of a GPU."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in said for words in _EXHAUSTED)
    )


def _available() -> int | None:
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    with suppress(AttributeError, OSError, ValueError):
        # Where the system does not say what is free, half of what there is.
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return None


def _of_container() -> int | None:
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        with suppress(OSError, ValueError):
            root = Path("/sys/fs/cgroup")
            return max(int((root / limit).read_text()) - int((root / used).read_text()), 0)
    return None


def _of_process() -> int | None:
    """What `ulimit -v` leaves."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    with suppress(OSError, ValueError):
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        return None if limit == resource.RLIM_INFINITY else max(limit - taken, 0)
    return None
