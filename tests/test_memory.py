"""How much memory a run takes: one live batch at a time, and as many images in it as there is memory for."""

from __future__ import annotations

import subprocess
import sys
import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from oodbench import Classifier, Machine, OodbenchError, run
from oodbench import memory as memory_module
from oodbench.console import ConsoleReporter
from oodbench.memory import bytes_an_image, fitting_batch, free_memory, is_exhausted
from tests.small_runs import ANEW, benchmark
from tests.test_store import Heard

CPU = torch.device("cpu")


@pytest.mark.parametrize("detector", ["odin", "gradnorm", "rankfeat", "react(base=odin)", "gram", "mcd"])
def test_no_graph_of_a_batch_is_alive_when_the_next_one_enters(
    small_classifier: Classifier, image_files: dict[str, str], detector: str
) -> None:
    """Found by weak references to all that the layers give with a graph."""
    graphs: list[weakref.ref[Tensor]] = []
    entered, alive, last = 0, 0, torch.empty(0)

    def entering(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal entered, alive, last
        images = inputs[0].detach().clone()
        # A changed network has a graph of its own, of the same images.
        if inputs[0].requires_grad and not (images.shape == last.shape and torch.equal(images, last)):
            entered += 1
            alive += sum(one() is not None for one in graphs)
            last = images

    def given(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        if output.requires_grad:
            graphs.append(weakref.ref(output))

    hooks = [small_classifier.module.register_forward_pre_hook(entering)]
    hooks += [part.register_forward_hook(given) for part in small_classifier.module.children()]
    work = benchmark(image_files, detectors=(detector, "odin(epsilon=0.01)"))
    run(work, [small_classifier], replace(ANEW, batch_size=16), ConsoleReporter())
    for hook in hooks:
        hook.remove()
    assert entered > 3 and len(graphs) > 3 * entered and alive == 0


PEAK = """
import resource, sys, torch
from torchvision.models import resnet18
from oodbench import Classifier
from oodbench.data.imageset import ArraySource, ImageSet
from oodbench.data.reading import shards
from oodbench.detectors.odin import Odin
from oodbench.store import NO_STORE
from oodbench.subject import Subject

torch.manual_seed(0)
batch, batches = map(int, sys.argv[1:])
classifier = Classifier(resnet18(), num_classes=1000, image_shape=(3, 224, 224))
pixels = torch.randint(0, 256, (batch * batches, 224, 224, 3), dtype=torch.uint8).numpy()
(shard,) = shards(ImageSet("noise", ArraySource(pixels), ""), 1024)
shard.matched((3, 224, 224))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
Subject(classifier, ("resnet18",), {"odin": Odin()}, 1000, NO_STORE, batch).score(shard, "OOD")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_odin_on_a_resnet_at_224_pixels_takes_the_memory_of_one_batch() -> None:
    peaks = []
    for batches in (1, 4):
        command = [sys.executable, "-c", PEAK, "16", str(batches)]
        ended = subprocess.run(command, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        peaks.append(1024 * int(ended.stdout))
    assert peaks[1] < 1.25 * peaks[0], peaks


class Narrow(nn.Module):
    """Passes no more than so many images at a time, as if memory ran out."""

    def __init__(self, most: int, error: str) -> None:
        super().__init__()
        self.most, self.error = most, error
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))

    def forward(self, images: Tensor) -> Tensor:
        # An empty place among the first 16 is filled up, whatever the batch.
        if len(images) > max(self.most, 16) or (self.most == 0 and len(images) > 2):
            raise RuntimeError(self.error)
        return self.body(images)


WORDS = (
    "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
)


def narrow(most: int, error: str = WORDS) -> Classifier:
    torch.manual_seed(0)
    return Classifier(Narrow(most, error), num_classes=3, image_shape=(1, 8, 8), name="narrow", head="body.3")


def test_where_memory_runs_out_batches_are_halved_and_nothing_else_changes(image_files: dict[str, str]) -> None:
    work, heard = benchmark(image_files, detectors=("odin", "energy", "oodl")), Heard()
    expected = run(work, [narrow(1000)], ANEW)
    found = run(work, [narrow(30)], ANEW, heard)
    for key, scores in expected.scores.items():
        torch.testing.assert_close(torch.from_numpy(found.scores[key]), torch.from_numpy(scores), rtol=1e-5, atol=1e-6)
    record, whole = found.card.classifier("narrow"), expected.card.classifier("narrow")
    assert record["images"] == whole["images"]
    # 90 fit images passed in batches of 45, and then of 23.
    assert (whole["batch_size"], record["batch_size"]) == (128, 32)
    said = [text for text in found.card.notes if "memory ran out" in text]
    assert len(said) == 2 and set(said) <= set(heard.said)


def test_a_batch_size_of_the_users_is_halved_too(image_files: dict[str, str]) -> None:
    found = run(benchmark(image_files, detectors=("energy",)), [narrow(30)], replace(ANEW, batch_size=90))
    assert found.card.classifier("narrow")["batch_size"] == 22


def test_a_single_image_that_does_not_fit_is_said(image_files: dict[str, str]) -> None:
    with pytest.raises(OodbenchError, match="memory runs out where a single image"):
        run(benchmark(image_files, detectors=("energy",)), [narrow(0)], ANEW)


def test_other_errors_are_not_taken_for_it(image_files: dict[str, str]) -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        run(benchmark(image_files, detectors=("energy",)), [narrow(30, "shapes differ")], ANEW)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(WORDS),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB."),
        MemoryError(),
    ],
)
def test_what_says_that_memory_ran_out(error: BaseException) -> None:
    assert is_exhausted(error)
    assert not is_exhausted(ValueError(str(error)))


def test_torch_says_so_when_it_really_runs_out() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_exhausted(raised.value)


def test_the_bytes_of_a_pass_are_those_of_the_layers(small_classifier: Classifier) -> None:
    """Conv, batch-norm, ReLU and dropout give 6×8×8 floats, pooling and flattening 24, the head 3."""
    maps, rest = 4 * 6 * 8 * 8, 4 * (24 + 24 + 3)
    assert small_classifier.layer_bytes == (4 * maps + rest, maps)
    assert bytes_an_image(small_classifier, gradient=True) == 2 * (4 * maps + rest)
    assert bytes_an_image(small_classifier, gradient=False) == 4 * maps


@pytest.mark.parametrize(
    ("images", "batch"), [(0.5, 1), (1, 1), (2, 1), (3.9, 1), (4, 2), (17, 8), (255, 64), (256, 128), (9999, 128)]
)
def test_a_batch_takes_half_of_what_is_free(
    small_classifier: Classifier, monkeypatch: pytest.MonkeyPatch, images: float, batch: int
) -> None:
    each = bytes_an_image(small_classifier, gradient=True)
    monkeypatch.setattr(memory_module, "free_memory", lambda _: int(images * each))
    assert fitting_batch(small_classifier, gradient=True) == batch


def test_a_network_of_large_weights_has_a_larger_batch() -> None:
    """512×512×3×3 weights for 4×4 maps: laid out anew for every batch, they take longer than the images."""
    network = nn.Sequential(nn.Conv2d(1, 512, 3), nn.Conv2d(512, 512, 3, padding=1), nn.Flatten(), nn.Linear(8192, 3))
    wide = Classifier(network, num_classes=3, image_shape=(1, 6, 6), mean=0.5, std=0.5)
    assert fitting_batch(wide, gradient=False) == 256


def test_processes_of_a_run_share_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_module, "_available", lambda: 8_000_000)
    monkeypatch.setattr(memory_module, "_of_container", lambda: None)
    alone = free_memory(CPU)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    shared = free_memory(CPU)
    assert (alone, shared) == (8_000_000, 2_000_000)


def test_a_small_network_has_the_largest_batch(small_classifier: Classifier, image_files: dict[str, str]) -> None:
    found = run(benchmark(image_files), [small_classifier], Machine())
    assert found.card.classifier("small")["batch_size"] == 128 and found.card.machine["batch_size"] is None
