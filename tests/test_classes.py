"""K is the classifier's: labels are checked against it, and may show fewer classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from oodbench import Benchmark, OodbenchError, run
from oodbench.data.load import load_id
from tests.small_runs import linear


def id_set(folder: Path, fit: list[int], test: list[int]) -> str:
    """Grey 8×8 images with these labels."""
    draw = np.random.default_rng(0)
    for name, labels in (("own_train", fit), ("own_test", test)):
        images = draw.integers(0, 256, (len(labels), 8, 8), dtype=np.uint8)
        np.savez(folder / f"{name}.npz", images=images, labels=np.array(labels))
    return f"npz:{folder / 'own_test.npz'}"


def few(reference: str) -> Benchmark:
    return Benchmark(id=reference, ood=("uniform",), detectors=("energy", "lc"))


def test_a_last_class_without_images_is_the_classifiers(tmp_path: Path) -> None:
    reference = id_set(tmp_path, [0, 1, 2] * 8, [0, 1, 2] * 4)
    result = run(few(reference), [linear(5)])
    assert any("tells 5 classes apart; own_test has images of classes 0 to 2" in note for note in result.card.notes)
    # An answer that no image has the label of is wrong, not left out.
    network = linear(5)
    test = np.load(tmp_path / "own_test.npz")
    logits = network(torch.from_numpy(test["images"])[:, None] / 255).detach().numpy()
    assert {row["id_accuracy"] for row in result.card.metrics} == {
        float((logits.argmax(axis=1) == test["labels"]).mean())
    }
    assert {int(row) for row in logits.argmax(axis=1)} - {0, 1, 2}


def test_a_classifier_of_fewer_classes_is_refused_with_the_likely_reason(tmp_path: Path) -> None:
    from_one = id_set(tmp_path, [1, 2, 3] * 8, [1, 2, 3] * 4)
    with pytest.raises(
        OodbenchError, match=r"has 3 classes, but own_test has 4 \(its labels go to 3, and none is 0: .* subtract 1\)"
    ):
        run(few(from_one), [linear(3)])
    assert run(few(from_one), [linear(4)]).card.metrics
    with pytest.raises(OodbenchError, match="has 2 classes, but own_test has 3; give"):
        run(few(id_set(tmp_path, [0, 1, 2] * 8, [0, 1, 2] * 4)), [linear(2)])


def test_a_published_number_of_classes_must_be_the_classifiers() -> None:
    with pytest.raises(OodbenchError, match="12 classes, but digits has 10"):
        run(Benchmark(detectors=("energy",)), [linear(12)])


def test_classifiers_of_two_numbers_of_classes_are_refused(tmp_path: Path) -> None:
    reference = id_set(tmp_path, [0, 1, 2] * 8, [0, 1, 2] * 4)
    with pytest.raises(OodbenchError, match=r"different numbers of classes apart .*'one': 3.*'other': 5.* two runs"):
        run(few(reference), [linear(3, "one"), linear(5, "other")])


@pytest.mark.parametrize("label", [2**40, 10**6])
def test_a_stray_label_is_no_class(tmp_path: Path, label: int) -> None:
    reference = id_set(tmp_path, [0, 1, 2] * 8, [0, 1, 2, label, 1])
    with pytest.raises(
        OodbenchError, match=rf"image 3 of own_test .* has the label {label}: more than 100,000"
    ) as raised:
        load_id(reference, data_root=None, seed=0)
    assert len(str(raised.value)) < 400


def test_a_list_of_classes_without_images_is_cut(tmp_path: Path) -> None:
    loaded = load_id(id_set(tmp_path, [0, 1, 2] * 8, [0, 1, 50_000]), data_root=None, seed=0)
    (note,) = loaded.fit.notes
    assert loaded.num_classes == 50_001 and note.endswith("21, 22 … (49,998 in all)") and len(note) < 200
