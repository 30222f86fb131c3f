"""Baselines as files: they hold every bit of a run and find what they name, and what is no baseline is refused."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from oodbench import OodbenchError
from oodbench.check import compare, load_baseline, rerun, save_baseline
from tests.stored_baseline import CHECKPOINT, CPU, OF_INVERSION, Stored, with_card
from tests.stored_baseline import stored as stored
from tests.threads import one_thread as one_thread


def test_a_baseline_holds_every_bit_of_a_run(stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    again = rerun(stored.baseline, CPU)
    save_baseline(again, tmp_path / "again")
    read = load_baseline(tmp_path / "again")
    moved = replace(again.card, benchmark=read.card.benchmark)
    assert read.card == moved and read.scores.keys() == again.scores.keys()
    for key, scores in again.scores.items():
        assert scores.dtype == np.float64
        np.testing.assert_array_equal(scores, read.scores[key])


def test_paths_are_kept_relative_to_the_baseline(
    stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stored.baseline.card.benchmark["models"] == ["../mine.safetensors"]
    assert stored.baseline.card.benchmark["ood"] == ["set:structured", "npz:../squares.npz"]
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(stored.path)
    save_baseline(stored.baseline, tmp_path / "a" / "b")
    benchmark = load_baseline(tmp_path / "a" / "b").card.benchmark
    assert (tmp_path / "a" / "b" / benchmark["models"][0]).samefile(stored.folder / "mine.safetensors")
    models = ["cnn8=../mine.safetensors", "resnet20", str(CHECKPOINT.resolve())]
    changed = stored.baseline.card.benchmark | {"models": models, "fit": "npz:../squares.npz"}
    named = with_card(stored.baseline, benchmark=changed)
    save_baseline(named, tmp_path / "named")
    benchmark = load_baseline(tmp_path / "named").card.benchmark
    up = os.path.relpath(stored.folder, tmp_path / "named")
    assert benchmark["models"] == [f"cnn8={up}/mine.safetensors", "resnet20", str(CHECKPOINT.resolve())]
    assert benchmark["fit"] == f"npz:{up}/squares.npz"


def test_a_path_that_leads_nowhere_is_refused(stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OodbenchError, match=r"mine\.safetensors, which is not there"):
        save_baseline(stored.baseline, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("models", [[], ["cnn8"], ["../mine.safetensors", "cnn8"]])
def test_a_classifier_that_would_be_trained_anew_is_refused(stored: Stored, models: list[str]) -> None:
    benchmark = stored.baseline.card.benchmark | {"models": models, "retrain": True}
    trained = with_card(stored.baseline, benchmark=benchmark)
    with pytest.raises(OodbenchError, match="names no checkpoint of the classifier"):
        rerun(trained, CPU)


def test_a_detectors_own_classifier_that_would_be_trained_anew_is_refused(stored: Stored) -> None:
    benchmark = stored.baseline.card.benchmark | {"detectors": ["msp", "inversion"], "retrain": True}
    with pytest.raises(OodbenchError, match="names no checkpoint of the classifier of inversion, so"):
        rerun(with_card(stored.baseline, benchmark=benchmark), CPU)
    alone = benchmark | {"models": [str(OF_INVERSION.resolve())]}
    with pytest.raises(OodbenchError, match="names no checkpoint of the classifier, so"):
        rerun(with_card(stored.baseline, benchmark=alone), CPU)


def test_what_is_no_baseline_is_refused(stored: Stored, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("old.npz", "file"):
        with pytest.raises(OodbenchError, match=r"is no folder, and a baseline .* oodbench check --baseline FOLDER"):
            load_baseline(tmp_path / name)
        with pytest.raises(OodbenchError, match="is no folder"):
            save_baseline(stored.baseline, tmp_path / name)
    with pytest.raises(OodbenchError, match=r"there is no baseline .*nowhere; make one of a run: oodbench check"):
        load_baseline(tmp_path / "nowhere")
    with pytest.raises(OodbenchError, match="there is no baseline"):
        load_baseline(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_baseline_holds_no_images_and_any_run_may_be_one(stored: Stored, tmp_path: Path) -> None:
    names = ["card.json", "leaderboard.csv", "leaderboard.md", "scores.npz"]
    assert sorted(path.name for path in stored.path.iterdir()) == names
    for name in names[:1] + names[3:]:
        shutil.copy(stored.path / name, tmp_path)
    assert not compare(load_baseline(tmp_path), stored.baseline).drifts


def test_another_format_is_refused(stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(stored.path)
    save_baseline(with_card(stored.baseline, format=99), tmp_path / "future")
    with pytest.raises(OodbenchError, match="format 99"):
        load_baseline(tmp_path / "future")
