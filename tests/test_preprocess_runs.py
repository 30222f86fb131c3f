"""A classifier's preprocess in a run: proxies after it, nothing twice, nothing reused for something else, guards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import v2

from oodbench import Benchmark, Classifier, Machine, Preprocess, Result, fit, load_guard, run
from oodbench.data import reading
from oodbench.data.folder import read_folder
from oodbench.data.imageset import ArraySource, ImageSet
from oodbench.data.load import load_id, load_ood
from oodbench.data.loader import batches
from oodbench.data.made import make_proxy
from oodbench.data.noise import derived_set
from oodbench.data.reading import shards
from oodbench.errors import OodbenchError
from oodbench.pixels import to_unit
from tests.test_store import passed

PREPROCESS = Preprocess(20, 16, "bicubic", mean=(0.4,), std=(0.3,))


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 3)
    ).eval()


def cropping(preprocess: Any = PREPROCESS) -> Classifier:
    return Classifier(network(), num_classes=3, preprocess=preprocess, name="cropping", layers=["0", "penultimate"])


def grainy(count: int, seed: int) -> list[np.ndarray]:
    """Photographs of many sizes with much fine detail, which shrinking takes away where pixels were shuffled."""
    generator = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        height, width = generator.integers(60, 110, 2)
        down, across = np.mgrid[:height, :width] / 100
        wave = np.sin(
            2 * np.pi * (generator.uniform(1, 3, 3) * down[..., None] + generator.random(3) * across[..., None])
        )
        images.append(np.clip(127 + 100 * wave + generator.normal(0, 5, wave.shape), 0, 255).astype(np.uint8))
    return images


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, str]:
    """An ID set of three classes with train and test, and an OOD set."""
    for place, count, seed in (("id/train", 60, 0), ("id/test", 36, 1), ("ood", 20, 2)):
        for number, image in enumerate(grainy(count, seed)):
            folder = tmp_path / place / ("" if place == "ood" else "abc"[number % 3])
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{number:03}.png")
    return {"id": f"folder:{tmp_path / 'id'}", "ood": f"folder:{tmp_path / 'ood'}"}


def work(folders: dict[str, str], **changes: Any) -> Benchmark:
    values: dict[str, Any] = {"id": folders["id"], "ood": (folders["ood"], "pixel-shuffled", "gaussian")}
    return Benchmark(**values | {"detectors": ("msp", "energy", "lc", "oodl")} | changes)


class ListSource:
    def __init__(self, images: list[np.ndarray]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Any) -> Any:
        return [self.images[index] for index in indices]

    def identity(self, indices: Any) -> None:
        return None


def entering(images: ImageSet, form: Any) -> torch.Tensor:
    return torch.cat([batch for batch, _ in batches(images, form, 7)])


def test_proxies_have_the_contrast_of_the_images_that_they_are_made_of() -> None:
    images = ImageSet("grainy", ListSource(grainy(30, 5)), "a test")
    of_id = entering(images, PREPROCESS)
    after = entering(make_proxy("pixel-shuffled", images, 0, PREPROCESS), PREPROCESS)
    # The very values of each image, so that every statistic of single pixels is that of ID.
    for mine, theirs in zip(after, of_id, strict=True):
        np.testing.assert_array_equal(
            np.sort(mine.flatten(1).numpy(), axis=None), np.sort(theirs.flatten(1), axis=None)
        )
    before = entering(derived_set("pixel-shuffled", images, 0), PREPROCESS)
    deviation = [float(one.double().std()) for one in (of_id, after, before)]
    assert deviation[1] == pytest.approx(deviation[0]) and deviation[2] < 0.6 * deviation[0]
    for name in ("patch-shuffled", "patch-shuffled-8"):
        made = entering(make_proxy(name, images, 0, PREPROCESS), PREPROCESS)
        assert float(made.double().std()) == pytest.approx(deviation[0])
    scrambled = entering(make_proxy("fourier-phase-scrambled", images, 0, PREPROCESS), PREPROCESS)
    assert float(scrambled.double().std()) == pytest.approx(deviation[0], rel=0.1)


def test_what_is_made_in_the_form_is_not_cropped_again(folders: dict[str, str]) -> None:
    id_set = load_id(folders["id"], data_root=None, seed=0)
    for name in ("gaussian", "blobs", "structured", "photos", "pixel-shuffled"):
        made = load_ood(name, id_set=id_set, shape=PREPROCESS, seed=0, data_root=None)
        stored = torch.from_numpy(np.stack(list(made.read(0, 9)))).permute(0, 3, 1, 2)
        assert made.prepared and torch.equal(entering(made, PREPROCESS)[:9], stored), name
        # The same pixels as a user's own pictures are photographs like any other.
        own = ImageSet("own", ArraySource(np.asarray(made.read(0, 9))), "a test")
        assert not torch.equal(entering(own, PREPROCESS), stored)


def test_a_run_is_what_is_computed_by_hand(folders: dict[str, str]) -> None:
    classifier = cropping()
    result = run(work(folders), [classifier], Machine(device="cpu", store=False))
    images = grainy(20, 2)
    by_hand = torch.cat([to_unit(PREPROCESS([image]), "cpu") for image in images])
    with torch.no_grad():
        logits = network()((by_hand - 0.4) / 0.3).double()
    scores = result.scores["cropping", "energy", "ood"]
    np.testing.assert_allclose(scores, logits.logsumexp(dim=1), rtol=0, atol=1e-5)
    matching = {record["name"]: record["matching"] for record in result.card.sets}
    assert "cropped to the middle 16×16" in matching["ood"] and matching["pixel-shuffled"] == matching["gaussian"] == ""
    assert result.card.classifier("cropping")["preprocess"] == PREPROCESS.facts()
    (drawn,) = (one for one in result.card.sets if one["name"] == "pixel-shuffled" and one["role"] == "OOD")
    assert "cropped to the middle 16×16" in drawn["origin"]
    assert result.pictures["cropping", "ood"].pixels.shape[1:3] == (16, 16)


OTHERS = [
    replace(PREPROCESS, resize=19),
    replace(PREPROCESS, resize=(20, 20)),
    replace(PREPROCESS, interpolation="bilinear"),
    replace(PREPROCESS, kernel="tensor"),
    replace(PREPROCESS, mean=(0.5,) * 3),
    replace(PREPROCESS, std=(0.2,) * 3),
    replace(PREPROCESS, crop=15),
]


def test_each_change_is_another_classifier_whose_outputs_are_passed_anew(folders: dict[str, str]) -> None:
    benchmark = work(folders, detectors=("energy",), ood=(folders["ood"],))
    hashes = {cropping().content_hash()}
    first, entered = passed(benchmark, cropping())
    assert entered == 56
    assert passed(benchmark, cropping())[1] == 0
    for other in OTHERS:
        classifier = cropping(other)
        hashes.add(classifier.content_hash())
        assert passed(benchmark, classifier)[1] == 56, other
    assert len(hashes) == 1 + len(OTHERS)
    transforms = [v2.Compose([v2.Resize(20), v2.CenterCrop(size), v2.ToImage()]) for size in (16, 15)]
    for transform in transforms:
        given = Classifier(network(), num_classes=3, transform=transform)
        assert given.content_hash() not in hashes and passed(benchmark, given)[1] == 56
        assert passed(benchmark, given)[1] == 0
        hashes.add(given.content_hash())
    assert first.scores.keys()


def test_what_cannot_be_told_apart_is_not_kept(folders: dict[str, str]) -> None:
    space: dict[str, Any] = {"preprocess": PREPROCESS, "np": np}
    exec("def unseen(picture): return preprocess([np.asarray(picture)])[0]", space)
    given = Classifier(network(), num_classes=3, transform=space["unseen"])
    benchmark = work(folders, detectors=("energy",), ood=(folders["ood"],))
    assert passed(benchmark, given)[1] == passed(benchmark, given)[1] == 56


def test_two_classifiers_of_two_preprocesses_have_sets_of_their_own(folders: dict[str, str]) -> None:
    stretching = Classifier(network(), num_classes=3, image_shape=(3, 16, 16), name="stretching")
    together = run(work(folders), [cropping(), stretching], Machine(device="cpu"))
    for one in (cropping(), stretching):
        alone = run(work(folders), [one], Machine(device="cpu", store=False))
        for key, scores in alone.scores.items():
            np.testing.assert_allclose(together.scores[key], scores, rtol=0, atol=1e-6)


@pytest.mark.parametrize("detector", ["energy", "lc"])
def test_a_guard_keeps_the_preprocess(folders: dict[str, str], tmp_path: Path, detector: str) -> None:
    result: Result = run(work(folders), [cropping()], Machine(device="cpu"))
    path = result.guard(detector).save(tmp_path / "guard.safetensors")
    guard = load_guard(path, network())
    assert guard.scorer is not None and guard.scorer.classifier.preprocess == PREPROCESS
    images = read_folder("ood", tmp_path / "ood")
    np.testing.assert_allclose(guard(images), result.scores["cropping", detector, "ood"], rtol=0, atol=1e-6)
    with pytest.raises(OodbenchError, match="belongs to"):
        load_guard(path, cropping(OTHERS[0]))


def test_a_guard_asks_for_a_transform_again(folders: dict[str, str], tmp_path: Path) -> None:
    def given() -> Classifier:
        transform = v2.Compose(
            [v2.Resize(20), v2.CenterCrop(16), v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
             v2.Normalize([0.4] * 3, [0.3] * 3)]
        )  # fmt: skip
        return Classifier(network(), num_classes=3, transform=transform, name="own", layers=["0", "penultimate"])

    result = run(work(folders), [given()], Machine(device="cpu"))
    path = result.guard("lc").save(tmp_path / "guard.safetensors")
    with pytest.raises(OodbenchError, match=r"function of yours.*transform=FUNCTION"):
        load_guard(path, network())
    guard = load_guard(path, given())
    scores = guard(read_folder("ood", tmp_path / "ood"))
    np.testing.assert_allclose(scores, result.scores["own", "lc", "ood"], rtol=0, atol=1e-6)
    # The proxies of a callable too are made of its pixels.
    by_record = run(work(folders), [cropping(replace(PREPROCESS, interpolation="bilinear"))], Machine(device="cpu"))
    np.testing.assert_allclose(scores, by_record.scores["cropping", "lc", "ood"], rtol=0, atol=1e-4)


def test_fitting_by_hand_is_fitting_in_a_run(folders: dict[str, str], tmp_path: Path) -> None:
    result = run(work(folders), [cropping()], Machine(device="cpu"))
    fitted = fit("lc", cropping(), read_folder("id", tmp_path / "id" / "train"))
    by_hand = fitted.score(read_folder("ood", tmp_path / "ood"))
    np.testing.assert_allclose(by_hand, result.scores["cropping", "lc", "ood"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("bound", [0, 100_000])
def test_large_images_are_read_once_and_only_what_is_made_of_them_is_kept(
    bound: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = ImageSet("grainy", ListSource(grainy(150, 5)), "a test")
    (expected,) = [(one.digest, one.matched(PREPROCESS)) for one in shards(images, 200)]
    monkeypatch.setattr(reading, "KEPT_BYTES", bound)
    reads: list[int] = []

    class Counted(ListSource):
        def read(self, indices: Any) -> Any:
            reads.extend(indices)
            return super().read(indices)

    again = ImageSet("grainy", Counted(grainy(150, 5)), "a test")
    for shard in shards(again, 200, forms=[PREPROCESS.form]):
        assert shard.digest == expected[0]
        assert torch.equal(shard.matched(PREPROCESS), expected[1])
        assert "cropped" in shard.matching(PREPROCESS) and shard.is_read and shard._pixels is None
    assert sorted(reads) == [*range(150)]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "image_shape"),
        ({"preprocess": PREPROCESS, "mean": 0.5}, "leave out mean"),
        ({"preprocess": PREPROCESS, "transform": v2.ToImage()}, "leave out mean, std and transform"),
        ({"preprocess": PREPROCESS, "image_shape": (3, 15, 16)}, r"not \(3, 15, 16\)"),
        ({"image_shape": (3, 16, 16), "mean": 123.7, "std": 58.4}, "divide by 255, mean 0.4851"),
    ],
)
def test_contradictions_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(OodbenchError, match=words):
        Classifier(network(), num_classes=3, **given)
