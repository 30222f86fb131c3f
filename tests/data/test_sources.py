"""Finding sets by name: every form, the order of search, and what is said when nothing is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from oodbench import OodbenchError
from oodbench.data import sources
from oodbench.data.catalogue import DATASETS
from oodbench.data.load import available, data_roots
from oodbench.data.reference import parse_reference
from oodbench.data.sources import Form, forms, locate, read_named
from tests.data.forms import (
    pixels,
    save_png,
    write_cifar,
    write_idx,
    write_lmdb,
    write_pngs,
    write_svhn,
    write_tar,
)

SCENES = pixels(4, 32, 32, 3)


@pytest.fixture
def small_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Published sets of four images."""

    def small(form: Form) -> Form:
        return replace(form, count=form.count and 4)

    monkeypatch.setattr(
        sources, "_SPECIAL", {name: list(map(small, these)) for name, these in sources._SPECIAL.items()}
    )


FOLDERS = [
    ("textures", "dtd/images/banded"),
    ("textures", "dtd/dtd/images/banded"),
    ("textures", "textures/dtd/images"),
    ("lsun-crop", "LSUN/test"),
    ("lsun-crop", "lsun-crop/LSUN/test"),
    ("lsun-resize", "LSUN_resize/LSUN_resize"),
    ("lsun-resize", "LSUN_resize"),
    ("isun", "iSUN/iSUN_patches"),
    ("isun", "isun/iSUN/iSUN_patches"),
    ("tinyimagenet-crop", "Imagenet/test"),
    ("tinyimagenet-resize", "Imagenet_resize/Imagenet_resize"),
    ("tinyimagenet", "tiny-imagenet-200/val/images"),
    ("notmnist", "notMNIST_small/A"),
    ("scenes", "scenes/kitchen"),
    ("kmnist", "kmnist"),
    ("svhn", "svhn/test"),
    ("lsun", "LSUN/test"),
    ("lsun", "LSUN_resize"),
    ("lsun", "lsun/of/your/own"),
]
ARCHIVES = [
    ("lsun-crop", "LSUN.tar.gz", "LSUN/test"),
    ("lsun-resize", "LSUN_resize.tar.gz", "LSUN_resize"),
    ("isun", "iSUN.tar.gz", "iSUN/iSUN_patches"),
    ("isun", "isun/iSUN.tar.gz", "iSUN/iSUN_patches"),
    ("tinyimagenet-crop", "Imagenet.tar.gz", "Imagenet/test"),
    ("tinyimagenet-resize", "Imagenet_resize.tar.gz", "Imagenet_resize"),
    ("lsun", "LSUN.tar.gz", "LSUN/test"),
]


@pytest.mark.usefixtures("small_counts")
@pytest.mark.parametrize(("name", "folder"), FOLDERS)
def test_folders(root: Path, name: str, folder: str) -> None:
    assert available(name, root) is None
    write_pngs(root / folder, SCENES)
    assert available(name, root) is not None
    read = read_named(name, [root])
    assert np.array_equal(read.read(0, 4), SCENES) and len(read) == 4 and read.name == name


@pytest.mark.usefixtures("small_counts")
@pytest.mark.parametrize(("name", "archive", "folder"), ARCHIVES)
def test_archives(root: Path, name: str, archive: str, folder: str) -> None:
    write_tar(root / archive, folder, SCENES)
    assert available(name, root) == str(root / archive)
    assert np.array_equal(read_named(name, [root]).read(0, 4), SCENES)


@pytest.mark.parametrize("ending", ["_test", "_32", "_sample", ""])
def test_npz_files(root: Path, ending: str) -> None:
    np.savez(root / f"scenes{ending}.npz", images=SCENES)
    assert np.array_equal(read_named("scenes", [root]).read(0, 4), SCENES)


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("mnist", "MNIST/raw"),
        ("fashion-mnist", "FashionMNIST/raw"),
        ("kmnist", "KMNIST/raw"),
        ("kmnist", "kmnist/KMNIST/raw"),
        ("mnist", "mnist"),
        ("fashion-mnist", "fashion-mnist"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_idx_folders(root: Path, name: str, folder: str, packed: bool) -> None:
    for split, (images, labels) in write_idx(root / folder, packed).items():
        read = read_named(name, [root], split, ("fit", "test"))
        assert np.array_equal(read.read(0, len(read)), images) and np.array_equal(read.labels, labels)


@pytest.mark.parametrize("place", ["", "cifar10", "svhn", "SVHN", "cifar100"])
def test_torchvision_layouts(root: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    writers: dict[str, Callable[[], dict[str, tuple[np.ndarray, np.ndarray]]]] = {
        "cifar10": lambda: write_cifar(root / place / "cifar-10-batches-py", "cifar10", monkeypatch),
        "cifar100": lambda: write_cifar(root / place / "cifar-100-python", "cifar100", monkeypatch),
        "svhn": lambda: write_svhn(root / place, monkeypatch),
    }
    for name in writers if not place else [place.lower()]:
        for split, (images, labels) in writers[name]().items():
            read = read_named(name, [root], split, ("fit", "test"))
            assert np.array_equal(read.read(0, len(read)), images) and np.array_equal(read.labels, labels)


@pytest.mark.parametrize("place", ["", "lsun", "LSUN", "lsun-scenes"])
def test_lmdb_files_test_before_val_before_train(root: Path, place: str) -> None:
    def write(name: str, seed: int) -> np.ndarray:
        images = pixels(3, 32, 32, 3, seed=seed)
        write_lmdb(root / place / name, {f"{seed}{index}": image for index, image in enumerate(images)})
        return images

    for names in (["church_train_lmdb"], ["bedroom_val_lmdb", "tower_val_lmdb"], ["test_lmdb"]):
        images = np.concatenate([write(name, seed) for seed, name in enumerate(names)])
        for called in ("lsun-scenes", "lsun"):
            read = read_named(called, [root])
            assert np.array_equal(read.read(0, 6), images) and len(read) == len(images)


def test_named_folders_with_splits(root: Path) -> None:
    images = {split: pixels(4, 5, 5, seed=seed) for seed, split in enumerate(("train", "val", "test"))}
    for split in ("train", "val"):
        write_pngs(root / "svhn" / split, images[split])
    assert np.array_equal(read_named("svhn", [root], "fit", ("fit", "test")).read(0, 4), images["train"])
    assert np.array_equal(read_named("svhn", [root]).read(0, 4), images["val"])
    write_pngs(root / "svhn" / "test", images["test"])
    assert np.array_equal(read_named("svhn", [root]).read(0, 4), images["test"])


def test_the_first_data_folder_wins_and_in_it_the_first_form(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for number, folder in enumerate((first, second)):
        folder.mkdir()
        write_pngs(folder / "scenes", SCENES[number : number + 1])
    np.savez(second / "scenes_32.npz", images=SCENES[2:3])
    assert np.array_equal(read_named("scenes", [first, second]).read(0, 1), SCENES[:1])
    assert np.array_equal(read_named("scenes", [second, first]).read(0, 1), SCENES[2:3])
    assert np.array_equal(read_named("scenes", [tmp_path / "absent", second]).read(0, 1), SCENES[2:3])


def test_pooled_files_have_no_splits(root: Path) -> None:
    np.savez(root / "cifar100_sample.npz", images=SCENES, labels=np.arange(4))
    assert locate("cifar100", [root]) is not None
    assert locate("cifar100", [root], ("fit", "test")) is None
    assert locate("cifar100", [root], ("test",)) is None


def test_where_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OODBENCH_CACHE", str(tmp_path / "cache"))
    cache = tmp_path / "cache" / "data"
    assert data_roots(tmp_path)[:2] == [tmp_path, cache]
    assert data_roots(None)[:2] == [Path("data"), cache]
    monkeypatch.setenv("OODBENCH_DATA", str(tmp_path / "mine"))
    assert data_roots(None)[:3] == [tmp_path / "mine", Path("data"), cache]
    np.savez(tmp_path / "scenes.npz", images=SCENES)
    assert available("scenes", None) is None
    save_png(cache / "scenes" / "1.png", SCENES[0])
    assert available("scenes", None) == str(cache / "scenes")
    assert available("scenes", tmp_path) == str(tmp_path / "scenes.npz")


def test_built_in_sets_are_always_available(root: Path) -> None:
    for name, entry in DATASETS.items():
        assert (available(name, root) == "built in") == (entry.kind != "files")


@pytest.mark.parametrize("name", [name for name, entry in DATASETS.items() if entry.kind == "files"])
def test_a_set_that_is_missing(root: Path, name: str) -> None:
    from oodbench.data.fetch import FETCHABLE

    with pytest.raises(OodbenchError) as raised:
        read_named(name, [root, root / "absent"])
    message = str(raised.value)
    assert message.startswith(f"{name} is not on this machine. Looked in {root}, {root / 'absent'} (not there) for: ")
    assert all(form.test in message for form in forms(name))
    assert (f"`oodbench fetch {name}`" if name in FETCHABLE else DATASETS[name].url) in message
    # Another one of its group that is there, as for `--ood lsun`.
    assert (": photos, " in message) is (DATASETS[name].group == "structured")


def test_a_file_with_brackets_in_its_name_gives_its_own_name(tmp_path: Path) -> None:
    for name in ("scans[a]", "scans[b]", "what?"):
        (tmp_path / f"{name}.npz").touch()
        assert parse_reference(f"npz:{tmp_path / name}.npz").name == name
    assert parse_reference(f"tar:{tmp_path}/part-*.tar").name == tmp_path.name
