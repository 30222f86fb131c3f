"""Real files, where they are present: every set by its name, and its count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from oodbench import OodbenchError
from oodbench.data import load
from oodbench.data.load import available, load_id
from oodbench.data.sources import read_named

DATA = Path(__file__).parents[2].parent / "shared" / "data"
# Taken before the tests' fixture hides it.
DEBIAN = load.DEBIAN_DATASETS

shared = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
debian = pytest.mark.skipif(not (DEBIAN / "fashion-mnist").is_dir(), reason="dataset-fashion-mnist is not installed")


@shared
@pytest.mark.parametrize(
    ("name", "count", "shape"),
    [
        ("cifar10", 9_975, (32, 32, 3)),
        ("cifar100", 3_000, (32, 32, 3)),
        ("mnist", 10_000, (28, 28)),
        ("notmnist", 3_000, (28, 28)),
        ("omniglot", 3_000, (28, 28)),
        ("textures", 1_187, (32, 32, 3)),
        ("scenes", 1_925, (32, 32, 3)),
        ("tinyimagenet", 3_000, (32, 32, 3)),
    ],
)
def test_every_file_is_found_by_its_name(name: str, count: int, shape: tuple[int, ...]) -> None:
    images = read_named(name, [DATA])
    assert (len(images), np.asarray(images.read(0, 2)).shape[1:]) == (count, shape)
    assert images.labels is not None and available(name, DATA) == images.origin
    # The files promise that no image is in them twice.
    assert len(set(images.image_hashes)) == count


@shared
def test_cifar10_has_its_splits_and_no_image_in_both() -> None:
    cifar = load_id("cifar10", data_root=DATA, seed=0)
    assert (len(cifar.fit), len(cifar.test)) == (25_000, 9_975)
    assert (cifar.num_classes, cifar.image_shape) == (10, (3, 32, 32))
    assert cifar.fit.notes == cifar.test.notes == ()
    # The files are sorted by class: a drawn part must have them all.
    drawn = cifar.test.drawn(500, 0)
    assert drawn.labels is not None and (np.bincount(drawn.labels, minlength=10) > 25).all()


@shared
def test_cifar100_pooled_is_no_id_set() -> None:
    with pytest.raises(OodbenchError, match=r"cifar100_sample\.npz, which serves as an OOD set only"):
        load_id("cifar100", data_root=DATA, seed=0)


@debian
def test_debians_fashion_mnist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(load, "DEBIAN_DATASETS", DEBIAN)
    fashion = load_id("fashion-mnist", data_root=tmp_path, seed=0)
    for images, per_class in ((fashion.fit, 6_000), (fashion.test, 1_000)):
        assert images.labels is not None and set(np.bincount(images.labels)) == {per_class}
    # Ankle boot, T-shirt, T-shirt, dress … as the publisher's page shows them; mean pixel 72.94.
    assert fashion.fit.labels is not None and fashion.fit.labels[:4].tolist() == [9, 0, 0, 3]
    assert np.asarray(fashion.fit.read(0, 60_000)).mean() == pytest.approx(72.94, abs=0.01)
