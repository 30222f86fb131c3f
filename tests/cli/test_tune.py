"""`oodbench tune` as a user meets it, on small files and a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from oodbench import Benchmark
from oodbench.models.catalogue import build
from oodbench.models.checkpoint import save_checkpoint
from tests.cli.conftest import Ended

Command = Callable[..., Ended]


@pytest.fixture
def options(image_files: dict[str, str], tmp_path: Path) -> list[str]:
    from oodbench import Classifier

    classifier = Classifier(build("cnn8", 3, (1, 8, 8)), num_classes=3, image_shape=(1, 8, 8), mean=0.5, std=0.5)
    save_checkpoint(classifier, "cnn8", tmp_path / "own.safetensors", {})
    ood = ",".join((image_files["bright"], image_files["dark"]))
    return ["--id", image_files["id"], "--ood", ood, "--model", str(tmp_path / "own.safetensors"), "--device", "cpu"]


def test_what_it_writes_is_run(oodbench: Command, options: list[str], tmp_path: Path) -> None:
    path = tmp_path / "new" / "tuned.toml"
    grid = ["--grid", "odin.epsilon=0,0.01", "--grid", "odin.temperature=1,10"]
    ended = oodbench("tune", "--detector", "odin,knn(k=3),msp", *grid, *options, "-o", path)
    assert ended.code == 0, ended.err
    assert "pixel-shuffled, patch-shuffled" in ended.out and f"--benchmark {path}" in ended.err
    tuned = Benchmark.load(str(path))
    assert tuned.detectors is not None and len(tuned.detectors) == 3 and {"knn(k=3)", "msp"} < set(tuned.detectors)
    assert [one["asked"] for one in tuned.tuning] == ["odin", "knn(k=3)", "msp"]
    assert [len(one["trials"]) for one in tuned.tuning] == [5, 1, 1]
    ended = oodbench("run", "--benchmark", path, "--device", "cpu", "--out", tmp_path / "run")
    assert ended.code == 0, ended.err
    assert tuned.detectors[0] in (tmp_path / "run" / "card.json").read_text()


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--detector", "odin", "--oracle", "-o", "tuned.toml"], "for comparison only"),
        ([], "--detector odin,knn"),
        (["--detector", "odin", "--grid", "odin.epsilon"], "NAME=VALUE"),
        (["--detector", "odin", "--grid", "odin.steps=1,2"], "parameter of odin"),
        (["--detector", "odin", "--grid", "knn.k=1,2"], "knn"),
    ],
)
def test_what_is_refused(oodbench: Command, options: list[str], more: list[str], reason: str) -> None:
    ended = oodbench("tune", *options, *more)
    assert ended.code == 2 and reason in ended.err and "Traceback" not in ended.err


def test_an_oracle_is_called_one(oodbench: Command, options: list[str]) -> None:
    ended = oodbench("tune", "--detector", "energy", "--oracle", *options)
    assert ended.code == 0 and "the scored OOD sets, as an oracle" in " ".join(ended.out.split())
