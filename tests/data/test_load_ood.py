"""OOD sets: groups, names, paths, and proxies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from oodbench import OodbenchError
from oodbench.data import made
from oodbench.data.catalogue import DATASETS
from oodbench.data.imageset import ImageSet
from oodbench.data.load import InDistribution, expand_ood, load_id, load_ood
from oodbench.data.made import make_proxy
from tests.data.forms import pixels, save_png, write_idx, write_lmdb, write_pngs, write_tar

NOISE = [
    "gaussian",
    "uniform",
    "rademacher",
    "blobs",
    "pixel-shuffled",
    "patch-shuffled",
    "fourier-phase-scrambled",
]


def expand(*references: str, id_name: str = "digits", root: Path | None) -> list[str]:
    return expand_ood(references, id_name=id_name, data_root=root)[0]


@pytest.fixture
def digits(root: Path) -> InDistribution:
    return load_id("digits", data_root=root, seed=0)


def an_ood(reference: str, digits: InDistribution, root: Path, shape: tuple[int, int, int] = (1, 8, 8)) -> ImageSet:
    return load_ood(reference, id_set=digits, shape=shape, seed=3, data_root=root)


def test_groups_expand_to_what_is_there(root: Path) -> None:
    assert expand("noise", root=root) == NOISE
    assert expand("structured", root=root) == ["photos", "set:structured"]
    np.savez(root / "textures_32.npz", images=pixels(3, 32, 32, 3))
    assert expand("group:structured", root=root) == ["textures", "photos", "set:structured"]
    write_idx(root / "mnist")
    np.savez(root / "cifar10_test.npz", images=pixels(3, 32, 32, 3))
    assert expand("near", root=root) == ["mnist"] and expand("far", root=root) == ["cifar10"]
    assert expand("near", id_name="mnist", root=root) == ["digits"]
    assert expand("far", id_name="cifar10", root=root) == ["mnist", "textures"]


def test_near_and_far_are_openoods_where_it_has_them(root: Path, digits: InDistribution) -> None:
    for name in ("cifar100_sample", "tinyimagenet_32", "tinyimagenet-crop", "tinyimagenet-resize", "svhn_32"):
        np.savez(root / f"{name}.npz", images=pixels(3, 32, 32, 3))
    for name in ("textures_32", "scenes_32", "cifar10_test", "fashion-mnist_32", "notmnist"):
        np.savez(root / f"{name}.npz", images=pixels(3, 32, 32, 3, seed=1))
    near = expand_ood(["near"], id_name="cifar10", data_root=root)
    far = expand_ood(["far", "textures"], id_name="cifar10", data_root=root)
    assert near.names == ["cifar100", "tinyimagenet"] and far.names == ["svhn", "textures", "scenes"]
    assert expand("near", id_name="cifar100", root=root) == ["cifar10", "tinyimagenet"]
    assert [sentence.split()[0] for sentence in far.left_out] == ["mnist"]
    assert far.expected == {name: {"group": "far"} for name in far.names}
    asked = {"id_set": digits, "shape": (3, 32, 32), "seed": 0, "data_root": root}
    assert load_ood("textures", expected=far.expected, **asked).group == "far"  # type: ignore[arg-type]
    assert load_ood("textures", **asked).group == "structured"  # type: ignore[arg-type]
    # Of an ID set that OpenOOD has no groups for: one form of Tiny-ImageNet, and no digits of 8×8 blown up to 32×32.
    assert expand("far", id_name="svhn", root=root) == [
        "fashion-mnist", "notmnist", "cifar10", "cifar100", "tinyimagenet",
    ]  # fmt: skip
    (root / "tinyimagenet_32.npz").unlink()
    assert "tinyimagenet-crop" in expand("far", id_name="svhn", root=root)
    assert "tinyimagenet-resize" not in expand("far", id_name="svhn", root=root)


def test_the_user_may_name_any_set(root: Path, digits: InDistribution) -> None:
    for folder in ("a", "b"):
        write_pngs(root / folder / "scans", pixels(3, 5, 5))
    first, second = (f"{name}=folder:{root / name / 'scans'}" for name in "ab")
    assert expand(first, second, "mine=set:gaussian", root=root) == [first, second, "mine=set:gaussian"]
    assert [an_ood(one, digits, root).name for one in (first, second)] == ["a", "b"]
    mine = an_ood("mine=set:gaussian", digits, root)
    assert (mine.name, mine.group) == ("mine", "noise")
    assert mine.content_hash == an_ood("gaussian", digits, root).content_hash
    with pytest.raises(OodbenchError, match="called like the ID set"):
        expand(f"digits=folder:{root / 'a'}", root=root)
    write_pngs(root / "lr=0.1,wd" / "1=2", pixels(3, 5, 5))
    assert an_ood(f"folder:{root / 'lr=0.1,wd' / '1=2'}", digits, root).name == "1=2"


def test_a_folder_that_tells_nothing_is_called_by_the_one_above(root: Path, digits: InDistribution) -> None:
    for path, name in (
        ("inaturalist/images", "inaturalist"),
        ("a/test", "a"),
        ("kitchen", "kitchen"),
    ):
        write_pngs(root / path, pixels(3, 5, 5))
        assert an_ood(f"folder:{root / path}", digits, root).name == name
    (root / "link").symlink_to(root / "kitchen")
    assert an_ood(f"folder:{root / 'link'}", digits, root).name == "link"


def test_another_number_of_images_than_the_benchmark_has_is_refused(root: Path, digits: InDistribution) -> None:
    np.savez(root / "own.npz", images=pixels(3, 5, 5))
    asked = {"id_set": digits, "shape": (1, 8, 8), "seed": 0, "data_root": root}
    images = load_ood(f"npz:{root / 'own.npz'}", expected={"own": {"images": 3, "group": "near"}}, **asked)  # type: ignore[arg-type]
    assert images.group == "near"
    with pytest.raises(OodbenchError, match=r"own .* has 3 images where the benchmark has 7,793"):
        load_ood(f"npz:{root / 'own.npz'}", expected={"own": {"images": 7793}}, **asked)  # type: ignore[arg-type]
    with pytest.raises(OodbenchError, match=r"digits .* has 600 images where the benchmark has 9,000"):
        load_id("digits", data_root=root, seed=0, expected={"digits": {"images": 9000}})


def test_what_is_left_out_is_said_with_the_next_step(root: Path) -> None:
    names, left_out, _ = expand_ood(["structured", "noise", "structured"], id_name="digits", data_root=root)
    assert names == ["photos", "set:structured", *NOISE]
    assert "scenes (structured) is left out: not on this machine. It can be had at http://places2" in left_out[1]
    assert any(sentence.endswith("`oodbench fetch textures` gets it.") for sentence in left_out)
    assert {sentence.split()[0] for sentence in left_out} == {
        name for name, entry in DATASETS.items() if entry.group == "structured" and entry.kind == "files"
    }


def test_lsun_is_not_taken_twice(root: Path) -> None:
    write_lmdb(root / "test_lmdb", {"a": pixels(40, 40, 3)})
    names, left_out, _ = expand_ood(["structured"], id_name="digits", data_root=root)
    assert "lsun-scenes" in names and "lsun" not in names
    assert any("lsun (structured) is left out: the same files as lsun-scenes" in sentence for sentence in left_out)
    write_tar(root / "LSUN_resize.tar.gz", "LSUN_resize", pixels(3, 32, 32, 3))
    assert {"lsun-scenes", "lsun-resize"} <= set(expand("structured", root=root))


def test_expanding_twice_changes_nothing(root: Path) -> None:
    once = expand("structured", "noise", "npz:some.npz", "set:structured", "gaussian", root=root)
    assert expand(*once, root=root) == once and len(set(once)) == len(once)


def test_order_is_kept_and_duplicates_are_dropped(root: Path) -> None:
    assert expand("uniform", "set:gaussian", "uniform", "gaussian", root=root) == ["uniform", "gaussian"]
    assert expand("blobs", "noise", root=root) == ["blobs", *[name for name in NOISE if name != "blobs"]]


def test_a_missing_set_named_by_itself_is_kept_so_that_loading_it_raises(root: Path, digits: InDistribution) -> None:
    assert expand("svhn", root=root) == ["svhn"]
    with pytest.raises(OodbenchError, match="svhn is not on this machine"):
        an_ood("svhn", digits, root)


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("gausian", "no data set 'gausian'; did you mean gaussian"),
        ("group:nois", "no group of data sets 'nois'; did you mean noise"),
        ("set:noise", "no data set 'noise'"),
        ("digits", "OOD set 'digits' is called like the ID set"),
        ("set:digits", "is called like the ID set"),
        ("npz:elsewhere/digits.npz", "is called like the ID set"),
        ("folder:elsewhere/digits/", "is called like the ID set"),
        ("far", "group 'far' has no set on this machine for the ID set digits. .*cifar10 .far. is left out"),
        ("gaussian:", "names no data set"),
    ],
)
def test_references_that_are_refused(root: Path, reference: str, words: str) -> None:
    with pytest.raises(OodbenchError, match=words):
        expand(reference, root=root)


def test_near_and_far_need_an_id_set_of_the_catalogue(root: Path) -> None:
    for group in ("near", "far"):
        with pytest.raises(OodbenchError, match=f"which sets are {group} is known only for ID sets of the catalogue"):
            expand(group, id_name="own", root=root)
    assert expand("noise", id_name="own", root=root) == NOISE


@pytest.mark.parametrize("name", [name for name, entry in DATASETS.items() if entry.kind in ("generated", "derived")])
def test_sets_that_are_made_are_as_many_as_the_id_test_set(name: str, root: Path, digits: InDistribution) -> None:
    made = an_ood(name, digits, root)
    assert (len(made), made.name) == (600, name)
    assert made.group == DATASETS[name].group
    assert made.content_hash == an_ood(name, digits, root).content_hash


def test_generated_sets_have_the_shape_that_is_asked_for(root: Path, digits: InDistribution) -> None:
    assert an_ood("gaussian", digits, root, (3, 12, 10)).read(0, 2)[0].shape == (12, 10, 3)
    assert an_ood("photos", digits, root, (3, 12, 10)).read(0, 2)[0].shape == (12, 10, 3)
    assert an_ood("structured", digits, root, (1, 12, 10)).read(0, 2)[0].shape == (12, 10)
    assert an_ood("set:structured", digits, root).name == "structured"


def test_no_more_are_made_than_the_limit(root: Path, digits: InDistribution, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made, "MOST_GENERATED", 50)
    for name in ("gaussian", "photos", "structured", "pixel-shuffled"):
        assert len(an_ood(name, digits, root)) == 50


def test_derived_sets_have_the_pixels_of_the_id_test_images(root: Path, digits: InDistribution) -> None:
    shuffled = np.asarray(an_ood("pixel-shuffled", digits, root).read(0, 600))
    original = np.asarray(digits.test.read(0, 600))
    assert np.array_equal(np.sort(shuffled.reshape(600, -1)), np.sort(original.reshape(600, -1)))
    assert not np.array_equal(shuffled, original)


def test_sets_with_splits_give_their_test_split(root: Path, digits: InDistribution) -> None:
    splits = write_idx(root / "mnist")
    mnist = an_ood("mnist", digits, root)
    assert np.array_equal(mnist.read(0, 99), splits["test"][0]) and mnist.group == "near"
    for split, image in zip(("train", "test"), pixels(2, 5, 5), strict=True):
        write_pngs(root / "own" / split, image[None])
    own = an_ood(f"folder:{root / 'own'}", digits, root)
    assert len(own) == 1 and own.notes[-1] == "of the folder's splits, test/ was taken"
    save_png(root / "plain" / "train" / "1.png", pixels(5, 5))
    assert len(an_ood(f"folder:{root / 'plain'}", digits, root)) == 1


def test_digits_can_be_an_ood_set(root: Path, digits: InDistribution) -> None:
    write_idx(root / "mnist")
    mnist = load_id("mnist", data_root=root, seed=0)
    other = load_ood("digits", id_set=mnist, shape=(1, 28, 28), seed=0, data_root=root)
    assert other.content_hash == digits.test.content_hash and other.group == "near"


def test_paths_bear_the_name_of_their_file_and_the_group_other(
    root: Path, digits: InDistribution, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(root / "my.set.npz", images=pixels(3, 5, 5))
    write_pngs(root / "my.folder", pixels(3, 5, 5))
    monkeypatch.setenv("HOME", str(root))
    for reference, name in (
        (f"npz:{root / 'my.set.npz'}", "my.set"),
        ("npz:~/my.set.npz", "my.set"),
        (f"folder:{root / 'my.folder'}/", "my.folder"),
    ):
        images = an_ood(reference, digits, root)
        assert (images.name, images.group, len(images)) == (name, "other", 3)


def test_a_group_cannot_be_loaded_as_a_set(root: Path, digits: InDistribution) -> None:
    for reference in ("noise", "group:structured"):
        with pytest.raises(OodbenchError, match="is a group of data sets"):
            an_ood(reference, digits, root)


def test_proxies_are_made_from_the_fit_images(digits: InDistribution) -> None:
    for name in ("pixel-shuffled", "patch-shuffled", "patch-shuffled-8", "fourier-phase-scrambled"):
        proxy = make_proxy(name, digits.fit, 0, digits.image_shape)
        assert (len(proxy), proxy.labels) == (1197, None)
        assert not set(proxy.image_hashes) & set(digits.fit.image_hashes)
    with pytest.raises(OodbenchError, match="textures"):
        make_proxy("textures", digits.fit, 0, digits.image_shape)
