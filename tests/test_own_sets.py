"""The set `inverted`: images that each classifier under test is sure of, its own rows, in no mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import oodbench
from oodbench import Benchmark, Classifier, Machine, own_sets
from oodbench.errors import OodbenchError
from oodbench.example import make_example
from oodbench.inversion.adversarial import CONFIDENCE, adversarial_images
from oodbench.own_sets import inverted_set
from oodbench.progress import Reporter
from tests.test_store import Heard

CHECKPOINT = str(Path(__file__).parents[1] / "results" / "baselines" / "digits-cnn8.safetensors")


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return make_example().classifier


def test_the_classifier_is_sure_of_the_stored_pixels(classifier: Classifier) -> None:
    images, confidence = adversarial_images(classifier, 4, 60, seed=0)
    assert images.shape == (60, 3, 16, 16) and images.dtype == torch.uint8
    with classifier.inference(), torch.no_grad():
        logits = classifier(images.float() / 255)
    found = logits.double().softmax(dim=1).amax(dim=1)
    torch.testing.assert_close(found, confidence, rtol=0, atol=1e-6)
    assert found.min() >= CONFIDENCE
    assert len(logits.argmax(dim=1).unique()) > 1, "of more than one class"
    assert len(images.flatten(1).unique(dim=0)) == 60


def test_the_seed_decides(classifier: Classifier) -> None:
    first, again, other = (adversarial_images(classifier, 4, 20, seed)[0] for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_classifier_that_is_never_sure_is_refused(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oodbench.inversion.adversarial.BATCHES", 1)
    flat = make_example(head_factor=0.01).classifier
    with pytest.raises(OodbenchError, match="sure of 0 of 256"):
        adversarial_images(flat, 4, 20, 0)


def test_it_is_made_once_of_each_classifier(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Heard()
    first = inverted_set("inverted", classifier, 4, 20, 0, heard)
    assert [text for text in heard.said if "inverting" in text]
    other = make_example().classifier
    with torch.no_grad():
        other.module.head.bias[0] += 0.01
    assert inverted_set("inverted", other, 4, 20, 0, heard).content_hash != first.content_hash
    monkeypatch.setattr(own_sets, "adversarial_images", None)
    assert inverted_set("inverted", classifier, 4, 20, 0, heard).content_hash == first.content_hash


def test_a_damaged_file_is_made_anew(classifier: Classifier) -> None:
    from oodbench.files import cache_folder

    first = inverted_set("inverted", classifier, 4, 20, 5, Reporter())
    for path in (cache_folder() / "inverted").glob("*.npz"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)
    assert inverted_set("inverted", classifier, 4, 20, 5, Reporter()).content_hash == first.content_hash


def test_it_may_be_the_only_set() -> None:
    benchmark = Benchmark(ood=("inverted",), models=(CHECKPOINT,), detectors=("msp", "energy"), limit=20)
    result = oodbench.run(benchmark, machine=Machine(device="cpu"))
    assert set(result.table.ood) == {"inverted"} and set(result.table.n_ood) == {20}
    assert "inverted" in result._repr_html_()


def test_in_a_run_each_model_has_its_own_and_no_mean_counts_it(tmp_path: object) -> None:
    models = [make_example(width=width).classifier.called(name) for width, name in ((12, "small"), (16, "wide"))]
    example = make_example()
    images = {"id": example.id_images, "fit": example.fit_images}
    for name, tensor in images.items():
        labels = np.arange(len(tensor)) % 4
        np.savez(f"{tmp_path}/{name}.npz", images=tensor.permute(0, 2, 3, 1).numpy(), labels=labels)
    benchmark = Benchmark(
        id=f"npz:{tmp_path}/id.npz",
        fit=f"npz:{tmp_path}/fit.npz",
        ood=("uniform", "inverted"),
        detectors=("msp", "energy", "ensemble"),
    )
    result = oodbench.run(benchmark, models, Machine(device="cpu"))
    records = [one for one in result.card.sets if one["name"] == "inverted"]
    assert {one["classifier"] for one in records} == {"small", "wide"}
    assert len({one["content_hash"] for one in records}) == 2
    rows = result.table[result.table.ood == "inverted"]
    assert set(rows.group) == {"adversarial"} and len(rows) == 6
    for block in result.leaderboard.blocks:
        means = {detector: mean for (detector, group), mean in block.means.items() if group == "all"}
        for detector, mean in means.items():
            assert [row.first.ood for row in mean.rows] == ["uniform"], detector
