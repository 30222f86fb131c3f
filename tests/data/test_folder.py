"""Folders and archives of image files."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from oodbench import OodbenchError
from oodbench.data.folder import decoded, read_archive, read_folder
from tests.data.forms import pixels, png_bytes, save_png, write_pngs, write_tar


def test_images_come_in_the_order_of_their_paths(tmp_path: Path) -> None:
    images = dict(zip(("b/2.png", "a/10.png", "a/9.png", "a-z/1.png"), pixels(4, 5, 5), strict=True))
    for name, image in images.items():
        save_png(tmp_path / name, image)
    (tmp_path / "a" / "notes.txt").write_text("no image")
    save_png(tmp_path / ".thumbnails" / "x.png", pixels(5, 5))
    read = read_folder("some", tmp_path)
    expected = [images[name] for name in ("a/10.png", "a/9.png", "a-z/1.png", "b/2.png")]
    assert np.array_equal(read.read(0, 4), expected) and len(read) == 4
    assert read.labels is not None and read.labels.tolist() == [0, 0, 1, 2]
    assert "labels are the 3 class folders in alphabetical order (a, a-z, b)" in read.notes


def test_an_empty_class_folder_keeps_its_number(tmp_path: Path) -> None:
    save_png(tmp_path / "a" / "1.png", pixels(5, 5))
    save_png(tmp_path / "c" / "1.png", pixels(5, 5))
    (tmp_path / "b").mkdir()
    labels = read_folder("some", tmp_path).labels
    assert labels is not None and labels.tolist() == [0, 2]


def test_one_subfolder_or_images_beside_subfolders_give_no_labels(tmp_path: Path) -> None:
    save_png(tmp_path / "test" / "1.png", pixels(5, 5))
    assert read_folder("some", tmp_path).labels is None
    save_png(tmp_path / "other" / "1.png", pixels(5, 5))
    save_png(tmp_path / "1.png", pixels(5, 5))
    assert read_folder("some", tmp_path).labels is None


GREY, COLOUR = pixels(6, 7), pixels(6, 7, 3)
ALPHA = np.where(GREY > 99, 255, 0).astype(np.uint8)


@pytest.mark.parametrize(
    ("image", "meant", "note"),
    [
        (Image.fromarray(GREY), GREY, None),
        (Image.fromarray(COLOUR), COLOUR, None),
        (Image.fromarray(np.dstack([COLOUR, ALPHA])), COLOUR, "1 image(s): alpha dropped, RGB kept"),
        (Image.fromarray(np.dstack([GREY, ALPHA])), GREY, "1 image(s): alpha dropped, grey kept"),
        (Image.fromarray(GREY > 99), ALPHA, "1 image(s): black and white to grey"),
        (
            Image.fromarray(GREY.astype(np.uint16) * 257),
            GREY,
            "1 image(s): 16-bit grey to 8-bit (v/257, rounded)",
        ),
    ],
)
def test_modes(tmp_path: Path, image: Image.Image, meant: np.ndarray, note: str | None) -> None:
    image.save(tmp_path / "one.png")
    read = read_folder("some", tmp_path)
    assert np.array_equal(read.read(0, 1)[0], meant)
    assert read.notes == ((note,) if note else ())


def test_palettes_become_rgb(tmp_path: Path) -> None:
    palette = Image.fromarray(COLOUR).quantize(200)
    palette.save(tmp_path / "one.png")
    read = read_folder("some", tmp_path)
    assert np.array_equal(read.read(0, 1)[0], np.array(palette.convert("RGB")))
    assert read.notes == ("1 image(s): palette to RGB",)


def test_16_bit_values_are_rounded_not_clipped(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 256, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "one.png")
    assert decoded(tmp_path / "one.png", "one").tolist() == [[0, 0, 1, 1, 128, 255]]


def test_sizes_that_differ_are_said(tmp_path: Path) -> None:
    save_png(tmp_path / "a.png", pixels(4, 9))
    save_png(tmp_path / "b.png", pixels(8, 3))
    assert read_folder("some", tmp_path).notes == ("images of 2 sizes, from 4×9 to 8×3",)


def test_folders_without_images(tmp_path: Path) -> None:
    with pytest.raises(OodbenchError, match=r"there is no folder .*absent"):
        read_folder("some", tmp_path / "absent")
    (tmp_path / "readme.txt").write_text("hello")
    with pytest.raises(OodbenchError, match=r"has no images \(\.jpg"):
        read_folder("some", tmp_path)
    with pytest.raises(OodbenchError, match="there is no folder"):
        read_folder("some", tmp_path / "readme.txt")


def test_a_file_that_is_no_image_is_named_before_any_is_read(tmp_path: Path) -> None:
    write_pngs(tmp_path, pixels(3, 5, 5))
    for content in (b"", b"hello"):
        (tmp_path / "0001.png").write_bytes(content)
        with pytest.raises(OodbenchError, match=r"0001\.png cannot be read as an image"):
            read_folder("some", tmp_path)


def test_a_floating_point_image_is_refused(tmp_path: Path) -> None:
    Image.fromarray(pixels(5, 5).astype(np.float32)).save(tmp_path / "one.tiff")
    with pytest.raises(OodbenchError, match=r"one\.tiff cannot be read .*mode F"):
        read_folder("some", tmp_path).read(0, 1)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0.05, 1, exclude_max=True), form=st.sampled_from(["png", "jpg", "bmp", "webp", "ppm"]))
def test_an_image_cut_short_raises_or_has_all_its_pixels(tmp_path: Path, share: float, form: str) -> None:
    path = tmp_path / f"one.{form}"
    Image.fromarray(pixels(40, 40, 3)).save(path)
    whole, content = decoded(path, "one"), path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    try:
        found = decoded(path, str(path))
    except OodbenchError as error:
        assert str(error).startswith(f"{path} cannot be read as an image")
    else:
        assert np.array_equal(found, whole)


def test_a_library_that_lets_truncated_images_pass_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pngs(tmp_path, pixels(1, 5, 5))
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(OodbenchError, match="LOAD_TRUNCATED_IMAGES is on"):
        read_folder("some", tmp_path).read(0, 1)


def test_an_archive_reads_like_its_folder(tmp_path: Path) -> None:
    images = pixels(12, 6, 6, 3)
    write_tar(tmp_path / "some.tar.gz", "some/test", images)
    write_pngs(tmp_path / "folder", images)
    archive = read_archive("some", tmp_path / "some.tar.gz")
    assert archive.content_hash == read_folder("some", tmp_path / "folder").content_hash
    assert pickle.loads(pickle.dumps(archive)).content_hash == archive.content_hash
    assert archive.labels is None


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_an_archive_cut_short_raises(tmp_path: Path, share: float) -> None:
    path = tmp_path / "some.tar.gz"
    write_tar(path, "some", pixels(12, 6, 6, 3))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(OodbenchError, match=r"archive .*some\.tar\.gz is damaged"):
        read_archive("some", path)


def test_an_archive_with_a_damaged_image_or_none_raises(tmp_path: Path) -> None:
    import io
    import tarfile

    def write(name: str, content: bytes) -> Path:
        with tarfile.open(tmp_path / "some.tar", "w") as opened:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            opened.addfile(member, io.BytesIO(content))
        return tmp_path / "some.tar"

    cut = png_bytes(pixels(30, 30, 3))[:500]
    with pytest.raises(OodbenchError, match=r"some\.tar: a/1\.png cannot be read as an image"):
        read_archive("some", write("a/1.png", cut)).read(0, 1)
    with pytest.raises(OodbenchError, match="has no images"):
        read_archive("some", write("readme.txt", b"hello"))
