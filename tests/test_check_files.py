"""Baselines as files: they hold every bit of a run and find what they name, and what is no baseline is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from oodbench import OodbenchError
from oodbench.check import load_baseline, load_run, rerun, save_baseline
from tests.stored_baseline import CHECKPOINT, CPU, OF_INVERSION, Stored, with_card
from tests.stored_baseline import stored as stored
from tests.threads import one_thread as one_thread


def test_a_baseline_holds_every_bit_of_a_run(stored: Stored, tmp_path: Path) -> None:
    stored.baseline.save(tmp_path / "run")
    saved = load_run(tmp_path / "run")
    for result in (stored.baseline, load_run(tmp_path / "run" / "card.json")):
        assert result.card == saved.card and result.scores.keys() == saved.scores.keys()
        for key, scores in saved.scores.items():
            np.testing.assert_array_equal(scores, result.scores[key])


def test_paths_are_kept_relative_to_the_baseline(
    stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stored.baseline.card.benchmark["models"] == ["mine.safetensors"]
    assert stored.baseline.card.benchmark["ood"] == ["set:structured", "npz:squares.npz"]
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(stored.folder)
    save_baseline(stored.baseline, tmp_path / "a" / "b" / "other.npz")
    benchmark = load_baseline(tmp_path / "a" / "b" / "other.npz").card.benchmark
    assert (tmp_path / "a" / "b" / benchmark["models"][0]).samefile(stored.folder / "mine.safetensors")
    models = ["cnn8=mine.safetensors", "resnet20", str(CHECKPOINT.resolve())]
    changed = stored.baseline.card.benchmark | {"models": models, "fit": "npz:squares.npz"}
    named = with_card(stored.baseline, benchmark=changed)
    save_baseline(named, stored.folder / "sub" / "named.npz")
    benchmark = load_baseline(stored.folder / "sub" / "named.npz").card.benchmark
    assert benchmark["models"] == ["cnn8=../mine.safetensors", "resnet20", str(CHECKPOINT.resolve())]
    assert benchmark["fit"] == "npz:../squares.npz"


def test_a_path_that_leads_nowhere_is_refused(stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OodbenchError, match=r"mine\.safetensors, which is not there"):
        save_baseline(stored.baseline, tmp_path / "new.npz")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("models", [[], ["cnn8"], ["mine.safetensors", "cnn8"]])
def test_a_classifier_that_would_be_trained_anew_is_refused(stored: Stored, models: list[str]) -> None:
    benchmark = stored.baseline.card.benchmark | {"models": models}
    trained = with_card(stored.baseline, benchmark=benchmark)
    with pytest.raises(OodbenchError, match="names no checkpoint of the classifier"):
        rerun(trained, stored.folder, CPU)


def test_a_detectors_own_classifier_that_would_be_trained_anew_is_refused(stored: Stored) -> None:
    benchmark = stored.baseline.card.benchmark | {"detectors": ["smood", "inversion"]}
    with pytest.raises(OodbenchError, match="names no checkpoint of the classifier of inversion, so"):
        rerun(with_card(stored.baseline, benchmark=benchmark), stored.folder, CPU)
    alone = benchmark | {"models": [str(OF_INVERSION.resolve())]}
    with pytest.raises(OodbenchError, match="names no checkpoint of the classifier, so"):
        rerun(with_card(stored.baseline, benchmark=alone), stored.folder, CPU)


def test_files_that_are_no_baseline_are_refused(stored: Stored, tmp_path: Path) -> None:
    whole = stored.path.read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    middle = len(whole) // 2
    (tmp_path / "flipped.npz").write_bytes(whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :])
    np.savez(tmp_path / "other.npz", images=np.zeros(3))
    np.save(tmp_path / "array.npz.npy", np.zeros(3))
    (tmp_path / "empty.npz").touch()
    for name in ("half.npz", "flipped.npz", "other.npz", "array.npz.npy", "empty.npz"):
        with pytest.raises(OodbenchError, match="is not a baseline"):
            load_baseline(tmp_path / name)
    with pytest.raises(OodbenchError, match="there is no baseline"):
        load_baseline(tmp_path / "nowhere.npz")


def test_another_format_is_refused(stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(stored.folder)
    save_baseline(with_card(stored.baseline, format=99), tmp_path / "future.npz")
    with pytest.raises(OodbenchError, match="format 99"):
        load_baseline(tmp_path / "future.npz")


def test_a_run_without_scores_is_refused(stored: Stored, tmp_path: Path) -> None:
    stored.baseline.save(tmp_path)
    (tmp_path / "scores.npz").write_bytes(b"PK")
    with pytest.raises(OodbenchError, match="damaged"):
        load_run(tmp_path)
    (tmp_path / "scores.npz").unlink()
    with pytest.raises(OodbenchError, match="the check compares scores"):
        load_run(tmp_path / "card.json")
