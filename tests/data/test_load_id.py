"""ID sets: splits, labels, classes, and what is said about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oodbench import OodbenchError
from oodbench.data import load
from oodbench.data.imageset import ArraySource, ImageSet
from oodbench.data.load import InDistribution, load_id
from oodbench.data.splits import halves
from tests.data.forms import class_folders, pixels, save_png, write_cifar, write_idx


def an_id(reference: str, root: Path, seed: int = 0, **options: Any) -> InDistribution:
    return load_id(reference, data_root=root, seed=seed, **options)


def save(path: Path, count: int, classes: int = 3, seed: int = 0, **more: Any) -> str:
    np.savez(path, **{"images": pixels(count, 6, 6, seed=seed), "labels": np.arange(count) % classes} | more)
    return f"npz:{path}"


def test_digits_are_split_once_for_all(root: Path) -> None:
    from sklearn.datasets import load_digits

    digits = an_id("digits", root)
    assert (len(digits.fit), len(digits.test), digits.num_classes, digits.image_shape) == (
        1197,
        600,
        10,
        (1, 8, 8),
    )
    assert digits.test.labels is not None and set(np.bincount(digits.test.labels)) <= set(range(57, 63))
    assert an_id("digits", root, seed=1).test.content_hash == digits.test.content_hash
    theirs = {np.rint(image * 255 / 16).astype(np.uint8).tobytes() for image in load_digits().images}
    ours = [image.tobytes() for images in (digits.fit, digits.test) for image in np.asarray(images.read(0, 2000))]
    assert set(ours) == theirs and len(ours) == 1797
    # The split that published figures stand on: whoever changes it changes them all.
    assert digits.test.content_hash.startswith(PINNED_DIGITS)


def test_a_named_set_has_its_splits(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = write_cifar(root / "cifar-100-python", "cifar100", monkeypatch)
    cifar = an_id("cifar100", root)
    assert np.array_equal(cifar.fit.read(0, 99), splits["fit"][0])
    assert np.array_equal(cifar.test.read(0, 99), splits["test"][0])
    assert (cifar.name, cifar.num_classes, cifar.image_shape) == ("cifar100", 100, (3, 32, 32))


def test_classes_without_fit_images_are_noted(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(root / "cifar-100-python", "cifar100", monkeypatch)
    assert an_id("cifar100", root).fit.notes[-1].startswith("no image to fit on of class(es) 20, 21, 22")


def test_a_pooled_file_is_refused_in_words(root: Path) -> None:
    save(root / "cifar100_sample.npz", 200, 100)
    for options in ({}, {"fit": save(root / "other.npz", 100, 100)}):
        with pytest.raises(OodbenchError, match=r"cifar100_sample\.npz, which serves as an OOD set only"):
            an_id("cifar100", root, **options)


def test_a_set_without_its_training_split_is_missing(root: Path) -> None:
    save(root / "mnist_test.npz", 20, 10)
    with pytest.raises(OodbenchError, match=r"mnist as the ID set.*not on this machine.*mnist_train\.npz and mnist_"):
        an_id("mnist", root)
    fitted = an_id("mnist", root, fit=save(root / "elsewhere.npz", 50, 10, seed=1))
    assert (len(fitted.fit), len(fitted.test), fitted.num_classes) == (50, 20, 10)


def test_an_incomplete_form_is_an_error_and_not_passed_over(root: Path) -> None:
    write_idx(root / "MNIST" / "raw")
    (root / "MNIST" / "raw" / "t10k-images-idx3-ubyte").unlink()
    write_idx(root / "mnist")
    with pytest.raises(OodbenchError, match="mnist is incomplete"):
        an_id("mnist", root)


def test_a_test_file_is_fitted_on_the_train_file_beside_it(root: Path) -> None:
    save(root / "own_train.npz", 30, seed=1)
    own = an_id(save(root / "own_test.npz", 12), root)
    assert (own.name, own.num_classes, own.image_shape) == ("own_test", 3, (1, 6, 6))
    assert (len(own.fit), len(own.test)) == (30, 12)
    assert own.fit.origin.endswith("own_train.npz") and own.fit.notes == own.test.notes == ()


@pytest.mark.parametrize("test_folder", ["test", "val"])
def test_a_folder_with_splits(root: Path, test_folder: str) -> None:
    class_folders(root / "own" / "train", "abc", 4)
    class_folders(root / "own" / test_folder, "abc", 2, seed=1)
    own = an_id(f"folder:{root / 'own'}", root)
    assert (own.name, len(own.fit), len(own.test), own.num_classes) == ("own", 12, 6, 3)
    assert own.image_shape == (3, 6, 6)


@pytest.mark.parametrize(
    ("train", "test"),
    [("Train", "Test"), ("TRAIN", "VAL"), ("training", "testing"), ("train", "valid"), ("Training", "validation")],
)
def test_splits_are_known_by_every_usual_name(root: Path, train: str, test: str) -> None:
    class_folders(root / "own" / train, "abc", 4)
    class_folders(root / "own" / test, "abc", 2, seed=1)
    own = an_id(f"folder:{root / 'own'}", root)
    assert (len(own.fit), len(own.test), own.num_classes) == (12, 6, 3)
    class_folders(root / "own" / "test", "abc", 1, seed=2)
    if test.casefold() == "test":
        with pytest.raises(OodbenchError, match="has both Test/ and test/"):
            an_id(f"folder:{root / 'own'}", root)
    elif test != "testing":
        assert len(an_id(f"folder:{root / 'own'}", root).test) == 3  # before the validation split


def test_a_stray_label_ends_at_once(root: Path) -> None:
    reference = save(root / "own.npz", 30, labels=np.array([0, 2**40] * 15))
    with pytest.raises(OodbenchError, match="has the label 1099511627776: more than 100,000"):
        an_id(reference, root)
    own = an_id(save(root / "own.npz", 30, labels=np.array([0, 90_000] * 15)), root)
    assert len(own.fit.notes[-1]) < 200 and own.fit.notes[-1].endswith("20 … (89,999 in all)")


def test_class_folders_that_differ_are_refused(root: Path) -> None:
    class_folders(root / "own" / "train", "abc")
    class_folders(root / "own" / "test", "ac", seed=1)
    with pytest.raises(OodbenchError, match=r"class folders .* differ \(b\)"):
        an_id(f"folder:{root / 'own'}", root)
    (root / "own" / "test" / "b").mkdir()
    own = an_id(f"folder:{root / 'own'}", root)
    assert own.test.labels is not None and own.test.labels.tolist() == [0, 0, 2, 2]


def test_a_path_without_splits_is_halved_and_says_so(root: Path) -> None:
    reference = save(root / "own.npz", 31, 3)
    own = an_id(reference, root, seed=5)
    assert (len(own.fit), len(own.test)) == (16, 15)
    for images in (own.fit, own.test):
        assert images.labels is not None and (np.bincount(images.labels) >= 5).all()
        assert "a stratified half to fit on and a half to test on, drawn with seed 5" in images.notes[0]
    assert not set(own.fit.image_hashes) & set(own.test.image_hashes)
    assert an_id(reference, root, seed=5).test.content_hash == own.test.content_hash
    assert an_id(reference, root, seed=6).test.content_hash != own.test.content_hash


@given(labels=st.lists(st.integers(0, 5), min_size=2, max_size=200), seed=st.integers(0, 1000))
def test_halves_are_disjoint_whole_and_in_proportion(labels: list[int], seed: int) -> None:
    array = np.array(labels)
    whole = ImageSet("own", ArraySource(np.zeros((len(labels), 1, 1), np.uint8)), "memory", array)
    fit, test = halves(whole, array, seed)
    assert fit.indices is not None and test.indices is not None
    assert sorted([*fit.indices, *test.indices]) == list(range(len(labels)))
    for label in set(labels):
        assert abs((test.labels == label).sum() - (array == label).mean() * len(test)) <= 1


def test_fit_may_be_another_reference(root: Path) -> None:
    reference, other = save(root / "own.npz", 12), save(root / "more.npz", 20, seed=1)
    own = an_id(reference, root, fit=other)
    assert (len(own.fit), len(own.test), own.name) == (20, 12, "own")
    class_folders(root / "own" / "train", "abc", 4)
    class_folders(root / "own" / "test", "abc", 2, seed=1)
    mixed = an_id(reference, root, fit=f"folder:{root / 'own'}")
    assert (len(mixed.fit), mixed.fit.source.folder) == (12, root / "own" / "train")  # type: ignore[attr-defined]
    digits = an_id(reference, root, fit="digits")
    assert (len(digits.fit), digits.num_classes) == (1197, 10)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0, 1, -1, 2], r"image 2 of own .* has the label -1; an ID set needs labels 0 … 2"),
        ([0, 0, 0, 0], "one class only"),
        ([-1, -1, -1, -1], "has the label -1"),
    ],
)
def test_labels_that_do_not_serve(root: Path, labels: list[int], words: str) -> None:
    reference = save(root / "own.npz", 4, labels=np.array(labels))
    with pytest.raises(OodbenchError, match=words):
        an_id(reference, root, fit=save(root / "fit.npz", 6) if 2 in labels else reference)


def test_labels_of_a_named_set_beyond_its_classes(root: Path) -> None:
    save(root / "mnist_train.npz", 50, 10)
    save(root / "mnist_test.npz", 22, 11, seed=1)
    with pytest.raises(OodbenchError, match=r"image 10 of mnist .* has the label 10; an ID set needs labels 0 … 9"):
        an_id("mnist", root)


def test_an_id_set_needs_labels(root: Path) -> None:
    np.savez(root / "bare.npz", images=pixels(4, 6, 6))
    save_png(root / "flat" / "1.png", pixels(6, 6))
    for reference in (f"npz:{root / 'bare.npz'}", f"folder:{root / 'flat'}"):
        with pytest.raises(OodbenchError, match="has no labels, so it cannot be the ID set"):
            an_id(reference, root)
        with pytest.raises(OodbenchError, match="has no labels"):
            an_id(reference, root, fit="digits")


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("textures", "textures is an OOD set only; as the ID set name one of digits, mnist"),
        ("gaussian", "gaussian is an OOD set only"),
        ("structured", "is a group of OOD sets; name one set"),
        ("group:near", "is a group of OOD sets"),
        ("cifar", "no data set 'cifar'; did you mean cifar10"),
        ("zip:x", "'zip:x' names no data set; write NAME, group:NAME"),
        ("npz:", "names no data set"),
        ("npz:absent.npz", "there is no file absent.npz"),
        ("folder:absent", "there is no folder absent"),
    ],
)
def test_references_that_cannot_be_an_id_set(root: Path, reference: str, words: str) -> None:
    with pytest.raises(OodbenchError, match=words):
        an_id(reference, root)
    with pytest.raises(OodbenchError):
        an_id("digits", root, fit=reference)


def test_debians_package_is_found_last(root: Path) -> None:
    splits = write_idx(load.DEBIAN_DATASETS / "fashion-mnist", packed=True)
    assert np.array_equal(an_id("fashion-mnist", root).test.read(0, 99), splits["test"][0])
    save(root / "fashion-mnist_train.npz", 30, 10)
    save(root / "fashion-mnist_test.npz", 10, 10, seed=1)
    assert len(an_id("fashion-mnist", root).test) == 10


PINNED_DIGITS = "cd279814d3887822"
