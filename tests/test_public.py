"""What `import oodbench` offers: all of it is there, plain arguments do, and wrong ones are told what to pass."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import oodbench
from oodbench.errors import OodbenchError


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 10))


def test_every_public_name_is_there_and_documented() -> None:
    for name in oodbench.__all__:
        assert name == "__version__" or getattr(oodbench, name).__doc__, name
    assert set(oodbench._PUBLIC) == set(oodbench.__all__) - {"__version__"}
    assert oodbench.__version__[0].isdecimal() and {"tune", "passes", "check_detector"} <= set(dir(oodbench))


def test_importing_it_waits_for_no_torch() -> None:
    code = "import sys, oodbench; dir(oodbench); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_from_a_network_to_a_served_score_in_six_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    lines = """
result = oodbench.run(oodbench.Benchmark(id="digits", ood="uniform", detectors="msp", limit=40), network)
result.guard("msp").save("guard.safetensors")
guard = oodbench.load_guard("guard.safetensors", network)
scores, flagged = guard(images), guard.is_ood(images)
""".strip()
    names: dict[str, Any] = {"oodbench": oodbench, "network": network(), "images": draw.random((7, 8, 8))}
    exec(lines, names)
    assert len(lines.splitlines()) + 1 <= 6  # with the import
    assert names["scores"].shape == (7,)
    assert (names["flagged"] == (names["scores"] < names["guard"].threshold)).all()
    assert len(repr(names["result"])) < 300


def test_a_plain_network_is_the_classifier_that_it_would_be() -> None:
    work = oodbench.Benchmark(id="digits", ood="uniform", detectors=("msp", "energy"), limit=40)
    plain = oodbench.run(work, network())
    made = oodbench.run(work, [oodbench.Classifier(network(), num_classes=10, image_shape=(1, 8, 8))])
    assert plain.card.metrics == made.card.metrics
    assert any("normalise by itself" in note for note in plain.card.notes)
    assert not any("normalise by itself" in note for note in made.card.notes)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: oodbench.run("digits"), r"run takes a Benchmark, not str: oodbench\.Benchmark"),
        (
            lambda: oodbench.run(classifiers=[3]),
            r"a int is no classifier; pass a torch module",
        ),
        (
            lambda: oodbench.run(oodbench.Benchmark(detectors="msp"), nn.Sequential(nn.Flatten(), nn.Linear(64, 3))),
            r"10 classes of digits .*pass oodbench\.Classifier\(network, num_classes=K",
        ),
        (lambda: oodbench.fit("msp", network(), np.zeros((3, 8, 8))), r"fit takes a Classifier, not Sequential"),
    ],
)
def test_wrong_arguments_are_told_what_to_pass(call: Any, message: str) -> None:
    with pytest.raises(OodbenchError, match=message):
        call()
