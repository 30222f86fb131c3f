"""IDX files, plain and packed, against torchvision's reader."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets.mnist import read_image_file, read_label_file

from oodbench import OodbenchError
from oodbench.data.idx import read_idx
from tests.data.forms import idx_bytes, pixels, write_idx


@pytest.mark.parametrize(("packed", "dash"), [(False, "-"), (True, "-"), (False, "."), (True, ".")])
def test_both_splits(root: Path, packed: bool, dash: str) -> None:
    for split, (images, labels) in write_idx(root, packed, dash).items():
        read = read_idx("mnist", root, split)
        assert np.array_equal(read.read(0, len(read)), images)
        assert read.labels is not None and read.labels.dtype == np.int64
        assert np.array_equal(read.labels, labels)


def test_it_agrees_with_torchvision(root: Path) -> None:
    write_idx(root)
    read = read_idx("mnist", root, "test")
    assert np.array_equal(read.read(0, 20), read_image_file(str(root / "t10k-images-idx3-ubyte")).numpy())
    assert np.array_equal(read.labels, read_label_file(str(root / "t10k-labels-idx1-ubyte")).numpy())


def test_a_missing_file_is_named(root: Path) -> None:
    write_idx(root)
    (root / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(OodbenchError, match=r"mnist is incomplete: .* has no train-labels-idx1-ubyte"):
        read_idx("mnist", root, "fit")
    assert len(read_idx("mnist", root, "test")) == 20


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("left", [0, 3, 4, 10, 16, 17, 2000])
def test_a_file_cut_short_raises(root: Path, packed: bool, left: int) -> None:
    write_idx(root, packed)
    path = root / f"t10k-images-idx3-ubyte{'.gz' if packed else ''}"
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(OodbenchError, match=path.name):
        read_idx("mnist", root, "test").read(0, 1)


def test_packed_bytes_that_are_whole_but_too_few_or_too_many_raise(root: Path) -> None:
    write_idx(root, packed=True)
    path, whole = root / "t10k-images-idx3-ubyte.gz", idx_bytes(pixels(20, 28, 28))
    for content in (whole[:-1], whole + b"\0"):
        path.write_bytes(gzip.compress(content))
        with pytest.raises(OodbenchError, match=r"damaged: \d+ bytes after its header instead of 20×28×28"):
            read_idx("mnist", root, "test").read(0, 1)


def test_a_plain_file_of_another_length_is_found_before_a_pixel_is_read(root: Path) -> None:
    write_idx(root)
    path = root / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(OodbenchError, match="15679 bytes after its header instead of 20×28×28"):
        read_idx("mnist", root, "test")


def test_a_file_of_another_type_or_number_of_dimensions_raises(root: Path) -> None:
    write_idx(root)
    for content in (idx_bytes(pixels(20, 28)), b"\0\0\x0d\3" + idx_bytes(pixels(20, 28, 28))[4:]):
        (root / "t10k-images-idx3-ubyte").write_bytes(content)
        with pytest.raises(OodbenchError, match="no IDX file of 3-dimensional unsigned bytes"):
            read_idx("mnist", root, "test")


def test_images_and_labels_must_be_as_many(root: Path) -> None:
    write_idx(root)
    (root / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(19, np.uint8)))
    with pytest.raises(OodbenchError, match="20 images but 19 labels"):
        read_idx("mnist", root, "test")


def test_what_promises_more_than_can_be_packed_is_refused_before_it_is_unpacked(root: Path) -> None:
    write_idx(root, packed=True)
    path = root / "t10k-images-idx3-ubyte.gz"
    honest = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(honest[:8] + b"\xff\xff\xff\xff" * 2 + honest[16:]))
    with pytest.raises(OodbenchError, match="promises 368,934,881,302,392,340,500 bytes"):
        read_idx("mnist", root, "test").read(0, 1)
    # And no more is unpacked than it promises.
    path.write_bytes(gzip.compress(honest + bytes(50 << 20)))
    with pytest.raises(OodbenchError, match="15681 bytes after its header instead of 20×28×28"):
        read_idx("mnist", root, "test").read(0, 1)
