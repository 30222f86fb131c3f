"""npz files: every accepted layout, and every fault in words."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oodbench import OodbenchError, files
from oodbench.data import npz
from oodbench.data.load import load_id, load_images
from oodbench.data.npz import read_npz
from tests.data.forms import pixels


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path / "some.npz", **arrays)
    return path / "some.npz"


def read(path: Path) -> np.ndarray:
    images = read_npz("some", path)
    return np.asarray(images.read(0, len(images)))


GREY, COLOUR = pixels(6, 5, 7), pixels(6, 5, 7, 3)


@pytest.mark.parametrize(
    ("stored", "meant", "note"),
    [
        (GREY, GREY, ""),
        (COLOUR, COLOUR, ""),
        (GREY[..., None], GREY, "images 6×5×7×1 read as grey"),
        (GREY[:, None], GREY, "images 6×1×5×7 read as channels first, grey"),
        (COLOUR.transpose(0, 3, 1, 2), COLOUR, "images 6×3×5×7 read as channels first, RGB"),
        (GREY / 255, GREY, "float64 pixels in [0, 1] converted to uint8 (255·x, rounded)"),
        (
            (COLOUR / 255).astype(np.float32),
            COLOUR,
            "float32 pixels in [0, 1] converted to uint8 (255·x, rounded)",
        ),
        (np.full((1, 1, 1), 0.5), np.full((1, 1, 1), 128, np.uint8), "float64 pixels"),
    ],
)
def test_accepted_layouts(tmp_path: Path, stored: np.ndarray, meant: np.ndarray, note: str) -> None:
    path = save(tmp_path, images=stored, labels=np.arange(len(stored), dtype=np.uint8))
    images = read_npz("some", path)
    assert np.array_equal(read(path), meant) and read(path).dtype == np.uint8
    assert images.labels is not None and images.labels.dtype == np.int64
    assert (images.notes == ()) if not note else images.notes[0].startswith(note)


def test_labels_are_optional_and_further_keys_are_not_read(tmp_path: Path) -> None:
    path = save(tmp_path, images=GREY, provenance=np.array([None, {}], dtype=object))
    assert read_npz("some", path).labels is None and np.array_equal(read(path), GREY)


def with_value(value: float) -> np.ndarray:
    images = np.zeros((6, 5, 7), np.float32)
    images[4, 1, 2] = value
    return images


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"pictures": GREY, "y": GREY}, r"no key 'images', only: pictures, y"),
        ({}, "no key 'images', only: none"),
        ({"images": with_value(np.nan)}, r"image 4 has the value nan"),
        ({"images": with_value(np.inf)}, r"image 4 has the value inf"),
        ({"images": with_value(-0.01)}, r"image 4 has the value -0.0"),
        ({"images": with_value(17.0)}, r"image 4 has the value 17.0.*divide by 255"),
        ({"images": GREY.astype(np.int64)}, "images are int64; save them as uint8"),
        ({"images": GREY > 9}, "images are bool"),
        ({"images": np.zeros((2, 4, 4, 4), np.uint8)}, "shape 2×4×4×4"),
        ({"images": np.zeros((2, 9), np.uint8)}, "shape 2×9"),
        ({"images": np.uint8(3)}, "shape none"),
        ({"images": np.float32(0.5)}, "shape none"),
        ({"images": np.zeros((0, 5, 7), np.uint8)}, "no images"),
        ({"images": np.zeros((0, 5, 7), np.float32)}, "no images"),
        ({"images": np.array([None], dtype=object)}, "cannot be read as an npz"),
        ({"images": GREY, "labels": np.zeros(5, np.int64)}, "int64 of shape 5; save 6 integers"),
        ({"images": GREY, "labels": np.zeros((6, 10), np.int64)}, "int64 of shape 6×10"),
        ({"images": GREY, "labels": np.zeros(6)}, "labels are float64"),
    ],
)
def test_faults_are_named(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    path = save(tmp_path, **arrays)
    with pytest.raises(OodbenchError, match=words) as raised:
        read(path)
    assert str(path) in str(raised.value)


def test_what_needs_no_pixel_is_said_before_one_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Path] = []
    load = npz._load
    monkeypatch.setattr(npz, "_load", lambda path, *more: reads.append(path) or load(path, *more))  # type: ignore[func-returns-value]
    images = read_npz("some", save(tmp_path, images=COLOUR.transpose(0, 3, 1, 2) / 255, labels=np.arange(6)))
    assert len(images) == 6 and images.identity and len(images.notes) == 2 and images.labels is not None
    assert np.array_equal(images.labels, np.arange(6)) and reads == []
    assert np.array_equal(images.read(2, 4), COLOUR[2:4]) and np.array_equal(images.read(0, 6), COLOUR)
    assert len(reads) == 1
    for wrong in (GREY.astype(np.int64), np.zeros((2, 4, 4, 4), np.uint8), GREY[:0]):
        with pytest.raises(OodbenchError):
            read_npz("some", save(tmp_path, images=wrong))
    assert len(reads) == 1


def test_a_file_that_became_another_since_it_was_opened_raises(tmp_path: Path) -> None:
    images = read_npz("some", save(tmp_path, images=GREY))
    save(tmp_path, images=COLOUR)
    with pytest.raises(OodbenchError, match=r"some\.npz has changed since it was opened"):
        images.read(0, 1)


def test_a_header_that_announces_more_than_there_is_raises(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": (9, 50, 50)})
    with zipfile.ZipFile(tmp_path / "some.npz", "w") as written:
        written.writestr("images.npy", buffer.getvalue() + GREY.tobytes())
    with pytest.raises(OodbenchError, match=r"some\.npz cannot be read"):
        read(tmp_path / "some.npz")


def header(shape: tuple[int, ...], dtype: str = "|u1") -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": dtype, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def test_terabytes_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "some.npz"
    with zipfile.ZipFile(path, "w") as written:
        written.writestr("images.npy", header((10**6, 2000, 2000)) + GREY.tobytes())
    with pytest.raises(OodbenchError, match="the header of images promises 4,000,000,000,000 bytes, 210 are there"):
        read_npz("some", path)
    (tmp_path / "some.npy").write_bytes(header((10**6, 2000, 2000)) + GREY.tobytes())
    with pytest.raises(OodbenchError, match=r"some\.npy cannot be read as an npy file"):
        read_npz("some", tmp_path / "some.npy")
    # The labels are asked as well.
    with zipfile.ZipFile(path, "w") as written:
        written.writestr("images.npy", header(GREY.shape) + GREY.tobytes())
        written.writestr("labels.npy", header((10**12,), "<i8"))
    with pytest.raises(OodbenchError, match="the header of labels promises 8,000,000,000,000 bytes"):
        read_npz("some", path)


def test_what_memory_cannot_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz.os, "sysconf", lambda name: 16 if name == "SC_PHYS_PAGES" else 10)
    with pytest.raises(OodbenchError, match=r"needs .* GiB of memory, and this machine has"):
        read_npz("some", save(tmp_path, images=GREY))


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "BOMB_BYTES", 1 << 20)
    np.savez_compressed(tmp_path / "bomb.npz", images=np.zeros((100, 128, 128), np.uint8))
    with pytest.raises(OodbenchError, match=r"images is 1,638,400 bytes packed into .*, which images are not"):
        read_npz("some", tmp_path / "bomb.npz")
    np.savez(tmp_path / "black.npz", images=np.zeros((100, 128, 128), np.uint8))
    assert len(read_npz("some", tmp_path / "black.npz")) == 100


@pytest.mark.parametrize("picture", [pixels(8, 8, 3), pixels(8, 9, 4), pixels(8, 8, 3) / 255])
def test_one_picture_in_colour_is_not_many_grey_ones(tmp_path: Path, picture: np.ndarray) -> None:
    with pytest.raises(OodbenchError, match="which is one picture in colour; save pictures as N×H×W×3"):
        read_npz("some", save(tmp_path, images=picture))
    np.save(tmp_path / "some.npy", picture)
    with pytest.raises(OodbenchError, match="one picture in colour"):
        read_npz("some", tmp_path / "some.npy")


@pytest.mark.parametrize("stored", [GREY, COLOUR, GREY / 255, COLOUR.transpose(0, 3, 1, 2), np.asfortranarray(COLOUR)])
def test_an_npy_file_gives_what_an_npz_gives(tmp_path: Path, stored: np.ndarray) -> None:
    np.save(tmp_path / "some.npy", stored)
    alone, packed = read_npz("some", tmp_path / "some.npy"), read_npz("some", save(tmp_path, images=stored))
    assert alone.content_hash == packed.content_hash and alone.notes == packed.notes and alone.labels is None
    assert pickle.loads(pickle.dumps(alone)).content_hash == packed.content_hash
    assert np.array_equal(alone.source.read([4, 1]), packed.source.read([4, 1]))
    np.save(tmp_path / "some.npy", stored[:-1])
    with pytest.raises(OodbenchError, match="has changed since it was opened"):
        alone.read(0, 1)


def test_grey_pictures_of_three_or_four_pixels_stay_such(tmp_path: Path) -> None:
    for side in (3, 4):
        images = pixels(6, side, side)
        save(tmp_path, images=images)
        assert np.array_equal(read(tmp_path / "some.npz"), images)


def test_an_npy_file_with_a_broken_float_names_the_image(tmp_path: Path) -> None:
    np.save(tmp_path / "some.npy", with_value(17.0))
    images = read_npz("some", tmp_path / "some.npy")
    images.read(0, 4)
    with pytest.raises(OodbenchError, match=r"image 4 has the value 17.0"):
        images.read(2, 6)


def test_arrays_without_a_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "some.npz", COLOUR, np.arange(6))
    images = read_npz("some", tmp_path / "some.npz")
    assert np.array_equal(images.read(0, 6), COLOUR)
    assert images.labels is not None and images.labels.tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("names", "column"),
    [
        ({"fit": ("train_images", "train_labels"), "test": ("test_images", "test_labels")}, True),
        ({"fit": ("x_train", "y_train"), "test": ("x_test", "y_test")}, False),
    ],
)
def test_files_with_splits(tmp_path: Path, names: dict[str, tuple[str, str]], column: bool) -> None:
    splits = {split: (pixels(4, 6, 6, 3, seed=n), np.arange(4) % 2) for n, split in enumerate(names)}
    arrays = {}
    for split, (images, labels) in names.items():
        arrays |= {images: splits[split][0], labels: splits[split][1][:, None] if column else splits[split][1]}
    np.savez(tmp_path / "some.npz", **arrays)
    own = load_id(f"npz:{tmp_path / 'some.npz'}", data_root=tmp_path, seed=0)
    assert np.array_equal(own.fit.read(0, 9), splits["fit"][0]) and np.array_equal(
        own.test.read(0, 9), splits["test"][0]
    )
    assert own.test.labels is not None and own.test.labels.tolist() == [0, 1, 0, 1] and own.num_classes == 2
    only = load_images(f"npz:{tmp_path / 'some.npz'}", data_root=tmp_path)
    assert only.content_hash == own.test.content_hash
    assert only.notes[-1] == f"of the file's splits, {names['test'][0]} was taken"


def test_files_that_are_no_npz(tmp_path: Path) -> None:
    with pytest.raises(OodbenchError, match=r"there is no file .*absent\.npz"):
        read_npz("some", tmp_path / "absent.npz")
    for name, content in (("text.npz", b"hello"), ("empty.npz", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(OodbenchError, match=f"{name} cannot be read"):
            read_npz("some", tmp_path / name)
    with pytest.raises(OodbenchError, match="cannot be read"):
        read_npz("some", tmp_path)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True), packed=st.booleans())
def test_a_file_cut_short_raises(tmp_path: Path, share: float, packed: bool) -> None:
    path = tmp_path / "cut.npz"
    (np.savez_compressed if packed else np.savez)(path, images=GREY)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(OodbenchError, match=r"cut\.npz cannot be read"):
        read_npz("some", path)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), packed=st.booleans(), bit=st.integers(0, 7))
def test_a_flipped_bit_raises_or_changes_nothing(tmp_path: Path, place: float, packed: bool, bit: int) -> None:
    path = tmp_path / "flipped.npz"
    (np.savez_compressed if packed else np.savez)(path, images=GREY)
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    path.write_bytes(content)
    try:
        found = read(path)
    except OodbenchError as error:
        assert str(path) in str(error)
    else:
        assert np.array_equal(found, GREY)
