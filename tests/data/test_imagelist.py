"""Image lists in OpenOOD's form and layout."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from oodbench import OodbenchError
from oodbench.data.imageset import ImageSet
from oodbench.data.load import load_id, load_images
from tests.data.forms import pixels, save_png, write_pngs

IMAGES = pixels(6, 7, 7, 3)


def write_list(path: Path, *lines: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"list:{path}"


def read(reference: str, root: Path) -> ImageSet:
    return load_images(reference, data_root=root)


def test_a_list_gives_its_images_in_its_order_with_its_labels(root: Path) -> None:
    for index, image in enumerate(IMAGES):
        save_png(root / "lists" / "my pictures" / f"no {index}.png", image)
    lines = [f"my pictures/no {index}.png {label}" for index, label in ((4, 1), (0, 0), (5, -1))]
    images = read(write_list(root / "lists" / "some.txt", *lines, "", "  "), root)
    assert images.name == "some" and np.array_equal(images.read(0, 9), IMAGES[[4, 0, 5]])
    assert images.labels is not None and images.labels.tolist() == [1, 0, -1]
    assert images.file(1) == "my pictures/no 0.png"
    assert pickle.loads(pickle.dumps(images)).content_hash == images.content_hash


def test_a_list_without_a_label_has_none(root: Path) -> None:
    write_pngs(root, IMAGES)
    assert read(write_list(root / "ood.txt", "0000.png -1", "0001.png -1"), root).labels is None


def test_openoods_layout_is_found_below_a_data_root(root: Path) -> None:
    write_pngs(root / "images_classic" / "cifar10" / "test", IMAGES)
    write_pngs(root / "images_largescale" / "ninco" / "images", IMAGES[::-1])
    write_list(root / "benchmark_imglist" / "cifar10" / "test_cifar10.txt", "cifar10/test/0002.png 3")
    write_list(root / "benchmark_imglist" / "imagenet" / "test_ninco.txt", "ninco/images/0000.png -1")
    classic = read("list:benchmark_imglist/cifar10/test_cifar10.txt", root)
    large = read("ninco=list:benchmark_imglist/imagenet/test_ninco.txt", root)
    assert np.array_equal(classic.read(0, 1)[0], IMAGES[2]) and np.array_equal(large.read(0, 1)[0], IMAGES[5])
    assert classic.name == "test_cifar10" and large.name == "ninco"


def test_a_test_list_is_fitted_on_the_train_list_beside_it(root: Path) -> None:
    write_pngs(root, IMAGES)
    write_list(root / "train_own.txt", "0000.png 0", "0001.png 1", "0002.png 1")
    own = load_id(write_list(root / "test_own.txt", "0003.png 0", "0004.png 1"), data_root=root, seed=0)
    assert own.fit.labels is not None and own.fit.labels.tolist() == [0, 1, 1] and len(own.test) == 2
    assert own.fit.name == own.test.name == own.name == "test_own"


@pytest.mark.parametrize("line", ["0001.png", "0001.png cat", "0001.png 1.5", " 3", "0001.png -2", f"0001.png {2**63}"])
def test_a_line_of_another_form_is_named(root: Path, line: str) -> None:
    write_pngs(root, IMAGES)
    with pytest.raises(OodbenchError, match=r"line 2 of .*some\.txt is '.*'; a line is a path, a space and a label"):
        read(write_list(root / "some.txt", "0000.png 1", line), root)


def test_what_is_not_there_is_said_with_its_number(root: Path) -> None:
    with pytest.raises(OodbenchError, match=r"there is no image list gone\.txt, nor below"):
        read("list:gone.txt", root)
    reference = write_list(root / "some.txt", *(f"{index:04d}.png 0" for index in range(9)))
    with pytest.raises(OodbenchError, match=r"the first image of .*some\.txt, 0000\.png, is in none of"):
        read(reference, root)
    write_pngs(root, IMAGES)
    with pytest.raises(
        OodbenchError, match=r"3 of the 9 images of .* are not below .*: 0006\.png, 0007\.png, 0008\.png"
    ):
        read(reference, root)
    with pytest.raises(OodbenchError, match="is in none of"):
        read(write_list(root / "long.txt", f"{'0' * 5000}.png 0"), root)
    with pytest.raises(OodbenchError, match="names no images"):
        read(write_list(root / "empty.txt", ""), root)
    (root / "latin.txt").write_bytes(b"caf\xe9.png 0\n")
    with pytest.raises(OodbenchError, match="is not UTF-8"):
        read(f"list:{root / 'latin.txt'}", root)
