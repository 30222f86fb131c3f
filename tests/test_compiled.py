"""Compiled layers: they are run, change nothing that hooks see, leave the network as it was, and are kept apart."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from oodbench import Classifier, Machine, OodbenchError, run
from oodbench import compiled as compiling
from oodbench.compiled import Compiled, check_compiler
from oodbench.live import Live, passes
from oodbench.outputs import Needs
from oodbench.precision import FULL, Precision
from tests.small_runs import ANEW, benchmark, count_entering

ALL = Needs("logits", "features", "layer:*", "maps:*", "gradient")
IMAGES = torch.randint(0, 256, (41, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class Backend:
    """Runs what torch traced as it is; counts what it was given to compile, and how often that was called."""

    def __init__(self) -> None:
        self.graphs = self.calls = 0

    def __call__(self, graph: Any, _inputs: Any) -> Callable[..., Any]:
        self.graphs += 1

        def called(*inputs: Any) -> Any:
            self.calls += 1
            return graph.forward(*inputs)

        return called


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    made = Backend()
    monkeypatch.setattr(compiling, "BACKEND", made)
    torch._dynamo.reset()
    yield made
    torch._dynamo.reset()


class Block(nn.Module):
    def __init__(self, inside: int, outside: int, kind: str = "") -> None:
        super().__init__()
        self.convolution, self.kind = nn.Conv2d(inside, outside, 3, padding=1), kind
        self.norm, self.drop = nn.BatchNorm2d(outside), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        given = self.drop(self.norm(self.convolution(x))).relu()
        if self.kind == "breaks" and given.mean().item() < 0:
            return given - 1
        if self.kind == "by size":
            return given + 0 * int(f"{len(x)}")
        return given


def classifier(widths: tuple[int, ...] = (6, 6, 9), kinds: dict[int, str] | None = None) -> Classifier:
    """Blocks of these widths, all candidate layers."""
    torch.manual_seed(0)
    kinds = kinds or {}
    blocks = [Block(a, b, kinds.get(n, "")) for n, (a, b) in enumerate(zip((1, *widths), widths, strict=False))]
    module = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 3))
    module(torch.rand(64, 1, 8, 8))
    layers = [*map(str, range(len(widths))), "penultimate"]
    return Classifier(module, num_classes=3, image_shape=(1, 8, 8), layers=layers, name="blocks")


def one_pass(subject: Classifier, compiled: Compiled | None, images: Tensor = IMAGES, needs: Needs = ALL) -> Live:
    (live,) = passes(subject, [images], needs, compiled=compiled)
    return live


def test_compiled_layers_are_run_and_hooks_see_the_same(backend: Backend) -> None:
    subject = classifier()
    compiled = Compiled(subject, FULL)
    assert compiled.names == ("0", "1", "2") and not compiled.failed
    before = backend.calls
    found = one_pass(subject, compiled)
    assert backend.calls == before + 3 and backend.graphs == 3  # none anew for another size of batch
    for name, tensor in one_pass(subject, None).tensors().items():
        assert torch.equal(found.tensors()[name], tensor), name
    assert not any("forward" in vars(one) for one in subject.module.modules())


@pytest.mark.slow
def test_batches_of_any_size_are_of_one_code_and_layers_do_not_share_a_limit(backend: Backend) -> None:
    widths = tuple(range(4, 13))  # more than torch keeps of one piece of code
    subject = classifier(widths)
    compiled = Compiled(subject, FULL)
    assert len(compiled.names) == len(widths) == backend.graphs
    for count in (1, 16, 17, 40):
        before = backend.calls
        one_pass(subject, compiled, IMAGES[:count])
        assert backend.calls == before + len(widths)
    assert backend.graphs == len(widths)


def test_gradients_dropout_and_changed_networks_pass_uncompiled(backend: Backend) -> None:
    subject = classifier()
    compiled = Compiled(subject, FULL)
    for live in passes(subject, [IMAGES], ALL, compiled=compiled):
        before = backend.calls
        gradient, drawn = live.input_gradient(1000.0), live.forward(dropout=3).logits
        halved = live.edited({"maps:1": half}).logits
        assert backend.calls == before
        live.forward(IMAGES.float() / 255)
        assert backend.calls == before + 3
    for live in passes(subject, [IMAGES], ALL):
        assert torch.equal(gradient, live.input_gradient(1000.0))
        assert torch.equal(drawn, live.forward(dropout=3).logits) and not torch.equal(drawn, live.logits)
        assert torch.equal(halved, live.edited({"maps:1": half}).logits)


def half(maps: Tensor) -> Tensor:
    return maps / 2


@pytest.mark.parametrize("kind", ["breaks", "by size"])
def test_a_layer_that_cannot_be_compiled_for_any_size_is_named_and_left(backend: Backend, kind: str) -> None:
    subject = classifier(kinds={1: kind})
    compiled = Compiled(subject, FULL)
    assert compiled.names == ("0", "2") and set(compiled.failed) == {"1"}
    assert "compiled: 0, 2; 1 is not: " in str(compiled)
    assert torch.equal(one_pass(subject, compiled).logits, one_pass(subject, None).logits)


def test_hooks_inside_a_layer_are_not_passed_over(backend: Backend) -> None:
    subject, seen = classifier(), []
    subject.module.get_submodule("1.norm").register_forward_hook(lambda *_: seen.append(1))
    compiled = Compiled(subject, FULL)
    seen.clear()
    assert compiled.names == ("0", "2")
    one_pass(subject, compiled, needs=Needs("logits"))
    assert seen == [1]


def test_only_the_innermost_layers_are_compiled_and_the_head_is_not_in_one(backend: Backend) -> None:
    module = nn.Sequential(classifier().module)
    subject = Classifier(module, num_classes=3, image_shape=(1, 8, 8), layers=["0", "0.1", "0.1.norm"], head="0.5")
    assert Compiled(subject, FULL).names == ("0.1.norm",)


def test_where_there_is_no_candidate_nothing_is_compiled_and_it_is_said(backend: Backend) -> None:
    scripted = torch.jit.trace(classifier().module.eval(), torch.rand(2, 1, 8, 8))
    subject = Classifier(scripted, num_classes=3, image_shape=(1, 8, 8))
    compiled = Compiled(subject, FULL)
    assert not compiled.names and "nothing is compiled" in str(compiled) and not backend.graphs
    assert torch.equal(*(one_pass(subject, one, needs=Needs("logits")).logits for one in (compiled, None)))


def test_the_network_is_as_it_was_also_after_an_error(backend: Backend) -> None:
    subject = classifier()
    block = subject.module.get_submodule("1")
    own = block.forward
    vars(block)["forward"] = own
    compiled = Compiled(subject, FULL)
    assert compiled.names == ("0", "1", "2")

    def fail(*_: object) -> None:
        raise RuntimeError("planted")

    hook = subject.module.get_submodule("2").register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="planted"):
        one_pass(subject, compiled)
    hook.remove()
    assert vars(block)["forward"] is own
    assert sum("forward" in vars(one) for one in subject.module.modules()) == 1


def test_it_stands_on_the_card_is_kept_elsewhere_and_nothing_hangs_on_who_is_beside(
    backend: Backend, image_files: dict[str, str]
) -> None:
    subject = classifier((6, 9))
    machine = Machine(device="cpu", compile=True)
    alone = benchmark(image_files, detectors=("energy", "knn"))
    plain = run(alone, [subject])
    assert backend.graphs == 0 and plain.card.machine["compile"] is False
    assert count_entering(subject, lambda: run(alone, [subject], machine)) > 0
    assert backend.graphs == 1 + 2  # of the check, and of each layer once for all shards
    assert count_entering(subject, lambda: run(alone, [subject], machine)) == 0
    found = run(alone, [subject], replace(ANEW, device="cpu", compile=True))
    assert found.card.machine["compile"] is True and "blocks: compiled: 0, 1" in found.card.notes
    beside = run(benchmark(image_files, detectors=("energy", "odin")), [subject], replace(machine, store=False))
    for key, scores in plain.scores.items():
        np.testing.assert_array_equal(found.scores[key], scores)
        if "energy" in key:
            np.testing.assert_array_equal(beside.scores[key], scores)
    (record,) = beside.card.classifiers
    assert record["seconds"]["compile"] > 0
    # What is kept comes of the compiled pass; ODIN's gradient of another one.
    assert record["images"]["OOD"]["further"] == record["images"]["OOD"]["forward"] > 0


def test_a_compiler_that_does_not_work_is_said_before_the_first_pass(
    monkeypatch: pytest.MonkeyPatch, image_files: dict[str, str]
) -> None:
    def broken(*_: object) -> None:
        raise FileNotFoundError("no g++ here")

    monkeypatch.setattr(compiling, "BACKEND", broken)
    subject = classifier()

    def refused() -> None:
        with pytest.raises(OodbenchError, match=r"(?s)no g\+\+ here.*leave out --compile"):
            run(benchmark(image_files), [subject], Machine(device="cpu", compile=True))

    assert count_entering(subject, refused) == 0


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_inductors_code_gives_the_same_to_within_rounding(precision: str) -> None:
    check_compiler(torch.device("cpu"))
    subject, how = classifier(), Precision(precision)
    compiled = Compiled(subject, how)
    assert compiled.names == ("0", "1", "2"), str(compiled)
    for count in (7, 41):
        (found,) = passes(subject, [IMAGES[:count]], Needs("logits", "layer:*"), precision=how, compiled=compiled)
        (plain,) = passes(subject, [IMAGES[:count]], Needs("logits", "layer:*"), precision=how)
        for name, tensor in plain.tensors().items():
            close = {"rtol": 1e-5, "atol": 1e-5} if precision == "float32" else {"rtol": 0.05, "atol": 0.05}
            torch.testing.assert_close(found.tensors()[name], tensor, **close)


@pytest.mark.slow
def test_where_there_is_no_compiler_it_is_said(tmp_path: Path) -> None:
    code = "import torch; from oodbench.compiled import check_compiler; check_compiler(torch.device('cpu'))"
    without = {"CXX": str(tmp_path / "none"), "PATH": "", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | without, capture_output=True, text=True)
    assert done.returncode and "OodbenchError: torch.compile does not work here" in done.stderr
