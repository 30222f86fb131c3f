"""Silent faults of data in other suites, numbered as in the list of known faults; here each one shows."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oodbench import Benchmark, Classifier, OodbenchError, run
from oodbench.data.catalogue import DATASETS
from oodbench.data.imageset import ImageSet, shared_images_note
from oodbench.data.inputs import brought
from oodbench.data.load import InDistribution, load_id, load_ood
from oodbench.data.loader import batches
from tests.data.forms import pixels, save_png, write_idx, write_pngs

PACKAGE = Path(__file__).parents[2] / "oodbench"


def an_ood(reference: str, id_set: InDistribution, root: Path) -> ImageSet:
    return load_ood(reference, id_set=id_set, shape=id_set.image_shape, seed=0, data_root=root)


@pytest.fixture
def digits(tmp_path: Path) -> InDistribution:
    return load_id("digits", data_root=tmp_path, seed=0)


def matched(images: ImageSet) -> torch.Tensor:
    return torch.cat([pixels for pixels, _ in batches(images, (3, 16, 16), 7)])


def test_fault_44_images_to_fit_on_and_to_score_are_transformed_by_one_function(
    tmp_path: Path, small_classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = pixels(12, 20, 20)
    for name in ("own_train", "own_test", "ood"):
        np.savez(tmp_path / f"{name}.npz", images=images, labels=np.arange(12) % 3)
    write_pngs(tmp_path / "pngs", images)
    own = load_id(f"npz:{tmp_path / 'own_test.npz'}", data_root=tmp_path, seed=0)
    fitted = matched(own.fit)
    for scored in (
        own.test,
        an_ood(f"npz:{tmp_path / 'ood.npz'}", own, tmp_path),
        an_ood(f"folder:{tmp_path / 'pngs'}", own, tmp_path),
    ):
        assert torch.equal(matched(scored), fitted)
    assert torch.equal(matched(own.fit), fitted)

    # And nothing enters the network but by that function, whatever its role.
    entered: list[int] = []

    def counted(images: Any, pixels: Any, form: Any) -> Any:
        entered.append(len(pixels))
        return brought(images, pixels, form)

    monkeypatch.setattr("oodbench.data.reading.brought", counted)
    benchmark = Benchmark(
        id=f"npz:{tmp_path / 'own_test.npz'}",
        ood=(f"folder:{tmp_path / 'pngs'}",),
        detectors=("msp", "lc"),
    )
    result = run(benchmark, [small_classifier])
    # Proxies are made of what came out of it.
    assert sum(entered) == sum(record["count"] for record in result.card.sets if record["role"] != "proxy")
    assert {record["role"] for record in result.card.sets} == {"fit", "proxy", "ID test", "OOD"}


def test_fault_44_no_other_module_resizes_or_augments() -> None:
    for path in PACKAGE.rglob("*.py"):
        names = {
            alias.name if isinstance(node, ast.Import) else f"{node.module}.{alias.name}"
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        if path != PACKAGE / "data" / "matching.py":
            assert not any(name.startswith("torchvision.transforms") for name in names), path


def test_fault_46_test_images_are_not_training_images(tmp_path: Path, digits: InDistribution) -> None:
    assert not set(digits.test.image_hashes) & set(digits.fit.image_hashes)
    splits = write_idx(tmp_path / "mnist")
    mnist = load_id("mnist", data_root=tmp_path, seed=0)
    assert np.array_equal(mnist.test.read(0, 99), splits["test"][0])
    assert np.array_equal(mnist.fit.read(0, 99), splits["fit"][0])
    assert shared_images_note(mnist.fit.image_hashes, mnist.test.image_hashes) == ""


def test_fault_46_images_that_are_in_both_are_counted_and_said(tmp_path: Path) -> None:
    fit, test = pixels(30, 6, 6, seed=1), pixels(12, 6, 6, seed=2)
    test[[0, 5, 11]] = fit[[7, 7, 2]]
    np.savez(tmp_path / "own_train.npz", images=fit, labels=np.arange(30) % 3)
    np.savez(tmp_path / "own_test.npz", images=test, labels=np.arange(12) % 3)
    own = load_id(f"npz:{tmp_path / 'own_test.npz'}", data_root=tmp_path, seed=0)
    said = "3 of the 12 test images are also among the images to fit on"
    assert shared_images_note(own.fit.image_hashes, own.test.image_hashes) == said
    assert shared_images_note(own.fit.hashes.image_hashes, own.test.hashes.image_hashes) == said
    assert shared_images_note(own.fit.image_hashes, own.test.image_hashes[1:5]) == ""
    among = shared_images_note(own.test.image_hashes, own.test.image_hashes, "those of x", "images of y")
    assert among == "12 of the 12 images of y are also among those of x"


@pytest.mark.parametrize("name", [name for name, entry in DATASETS.items() if entry.kind not in ("files", "inverted")])
def test_fault_47_every_set_has_a_count_and_a_hash(name: str, tmp_path: Path, digits: InDistribution) -> None:
    images = digits.test if name == "digits" else an_ood(name, digits, tmp_path)
    assert len(images) == sum(len(part) for part in images.chunks()) == len(images.image_hashes) == 600
    assert len(images.content_hash) == 64 and int(images.content_hash, 16)


def test_fault_47_two_sets_of_one_name_are_told_apart(tmp_path: Path, digits: InDistribution) -> None:
    whole = pixels(9, 8, 8, 3)
    hashes = set()
    for number, kept in enumerate((whole, whole[:8], np.delete(whole, 3, axis=0))):
        folder = tmp_path / str(number)
        folder.mkdir()
        np.savez(folder / "tinyimagenet_32.npz", images=kept)
        images = an_ood("tinyimagenet", digits, folder)
        assert (images.name, len(images)) == ("tinyimagenet", len(kept))
        hashes.add(images.content_hash)
    assert len(hashes) == 3


def test_fault_47_counts_and_hashes_stand_on_the_card(
    image_files: dict[str, str], small_classifier: Classifier
) -> None:
    benchmark = Benchmark(id=image_files["id"], ood=(image_files["bright"], "gaussian"), detectors=("msp",))
    card = run(benchmark, [small_classifier]).card
    for row in card.metrics:
        (record,) = [one for one in card.sets if one["name"] == row["ood"]]
        assert row["n_id"] == 41 and row["n_ood"] == record["count"] > 0
    assert all(len(record["content_hash"]) == 64 for record in card.sets)


def test_fault_48_a_truncated_image_raises(tmp_path: Path, digits: InDistribution) -> None:
    for index, image in enumerate(pixels(5, 30, 30, 3)):
        save_png(tmp_path / "own" / f"{index}.png", image)
    damaged = tmp_path / "own" / "3.png"
    damaged.write_bytes(damaged.read_bytes()[:-400])
    images = an_ood(f"folder:{tmp_path / 'own'}", digits, tmp_path)
    assert len(images) == 5
    for walk in (lambda: images.content_hash, lambda: matched(images)):
        with pytest.raises(OodbenchError, match=r"3\.png cannot be read as an image .*truncated"):
            walk()


def test_fault_48_a_missing_key_raises(tmp_path: Path, digits: InDistribution) -> None:
    np.savez(tmp_path / "own.npz", data=pixels(5, 8, 8), labels=np.arange(5))
    with pytest.raises(OodbenchError, match="no key 'images', only: data, labels"):
        an_ood(f"npz:{tmp_path / 'own.npz'}", digits, tmp_path)


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("textures", "dtd/images/banded"),
        ("lsun-crop", "LSUN/test"),
        ("lsun-resize", "LSUN_resize"),
        ("isun", "iSUN/iSUN_patches"),
        ("tinyimagenet-crop", "Imagenet/test"),
        ("tinyimagenet-resize", "Imagenet_resize"),
        ("tinyimagenet", "tiny-imagenet-200/val/images"),
    ],
)
def test_fault_48_a_half_extracted_folder_raises(
    name: str, folder: str, tmp_path: Path, digits: InDistribution
) -> None:
    write_pngs(tmp_path / folder, pixels(5, 8, 8, 3))
    with pytest.raises(OodbenchError, match=r"has 5 images where [0-9]+,[0-9]+ are published: .* not wholly extracted"):
        an_ood(name, digits, tmp_path)
    assert len(an_ood(f"folder:{tmp_path / folder}", digits, tmp_path)) == 5


@pytest.mark.parametrize(
    ("name", "folder"), [("svhn", "svhn"), ("cifar10", "cifar-10-batches-py"), ("kmnist", "kmnist")]
)
def test_fault_48_an_empty_folder_is_not_taken_as_complete(
    name: str, folder: str, tmp_path: Path, digits: InDistribution
) -> None:
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "readme.txt").write_text("to be downloaded")
    with pytest.raises(OodbenchError, match=folder):
        an_ood(name, digits, tmp_path)
