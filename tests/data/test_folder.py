"""Folders and archives of image files."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from oodbench import OodbenchError
from oodbench.data.damaged import DamagedImages
from oodbench.data.decoding import decoded
from oodbench.data.folder import FolderSource, read_archive, read_folder
from oodbench.data.loader import batches
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


def test_folders_that_are_numbers_are_in_their_order(tmp_path: Path) -> None:
    for number in range(12):
        save_png(tmp_path / str(number) / "1.png", pixels(5, 5))
    images = read_folder("some", tmp_path)
    assert images.labels is not None and isinstance(images.source, FolderSource)
    assert [(images.source.files[i].parts[0], int(label)) for i, label in enumerate(images.labels)] == [
        (str(number), number) for number in sorted(range(12), key=str)
    ]
    assert images.notes == ("labels are the 12 class folders in numeric order (0, 1, 2 …)",)


def test_links_are_followed_and_loops_ended(tmp_path: Path) -> None:
    write_pngs(tmp_path / "store" / "cat", pixels(3, 5, 5))
    save_png(tmp_path / "store" / "one.png", pixels(5, 5, seed=1))
    linked = tmp_path / "linked"
    write_pngs(linked / "dog", pixels(2, 5, 5, seed=2))
    (linked / "cat").symlink_to(tmp_path / "store" / "cat")
    (linked / "dog" / "9.png").symlink_to(tmp_path / "store" / "one.png")
    (linked / "dog" / "loop").symlink_to(linked)
    images = read_folder("some", linked)
    assert images.labels is not None and images.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert np.array_equal(images.read(5, 6)[0], pixels(5, 5, seed=1))
    assert images.notes[-1] == "left out: 1 link(s) to a folder above"
    (linked / "dog" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(OodbenchError, match=r"gone\.png leads to no file"):
        read_folder("some", linked)


def test_a_folder_that_cannot_be_listed_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        save_png(tmp_path / name / "1.png", pixels(5, 5))
    scan = os.scandir

    def refused(path: str | Path) -> Any:
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied")  # what mode 000 gives to all but root
        return scan(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(OodbenchError, match=r"folder .*b cannot be listed \(Permission denied\)"):
        read_folder("some", tmp_path)


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    write_pngs(tmp_path, pixels(2, 5, 5))
    for name in ("a.txt", "b.txt", "Thumbs.db", "noending", ".DS_Store", ".hidden.png"):
        (tmp_path / name).write_text("no image")
    write_pngs(tmp_path / "__MACOSX", pixels(2, 5, 5))
    images = read_folder("some", tmp_path)
    assert len(images) == 2
    assert images.notes == ("left out: 4 file(s) that are no images (.db, .txt, no ending), 3 hidden",)


def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    write_pngs(tmp_path, pixels(2, 5, 5))
    os.rename(tmp_path / "0001.png", os.fsencode(tmp_path) + b"/caf\xe9.png")
    with pytest.raises(OodbenchError, match=r"the name of .*caf\\xe9\.png is not UTF-8"):
        read_folder("some", tmp_path)


@pytest.mark.parametrize("names", [("train", "valid"), ("Test", "extra"), ("TRAINING", "a", "b")])
def test_splits_do_not_become_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        for kind in ("cats", "dogs"):
            write_pngs(tmp_path / name / kind, pixels(2, 5, 5))
    with pytest.raises(OodbenchError, match="has folders called like splits"):
        read_folder("some", tmp_path)


def test_a_class_may_be_called_like_a_split_among_others(tmp_path: Path) -> None:
    for name in ("bus", "train", "tram"):  # CIFAR-100 has trains
        write_pngs(tmp_path / name, pixels(2, 5, 5))
    assert read_folder("some", tmp_path).labels is not None


def test_an_eps_called_png_starts_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    started: list[Any] = []
    monkeypatch.setattr(subprocess, "Popen", lambda *given, **more: started.append(given))
    monkeypatch.setattr(subprocess, "check_call", lambda *given, **more: started.append(given))
    (tmp_path / "photo.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    with Image.open(tmp_path / "photo.png") as image:  # Pillow by itself takes it for what it is
        assert image.format == "EPS"
    with pytest.raises(OodbenchError, match=r"photo\.png cannot be read as an image \(it is none of JPEG, PNG"):
        read_folder("some", tmp_path)
    with pytest.raises(OodbenchError, match="it is none of JPEG, PNG"):
        decoded(tmp_path / "photo.png", "photo")
    assert started == []


def test_bombs_are_refused_in_words(tmp_path: Path) -> None:
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    for side, words in ((10_000, "promises 10,000×10,000 pixels"), (60_000, "promises more than 89,000,000 pixels")):
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
        body = chunk(b"IDAT", zlib.compress(bytes(1000)))
        (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + body + chunk(b"IEND", b""))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with pytest.raises(OodbenchError, match=words):
                read_folder("some", tmp_path)


def test_an_archive_of_impossible_size_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tar(tmp_path / "some.tar.gz", "some", pixels(12, 6, 6, 3))
    monkeypatch.setattr("oodbench.data.folder.MOST_BYTES", 1000)
    with pytest.raises(OodbenchError, match="holds more than 0 GiB of images; unpack it"):
        read_archive("some", tmp_path / "some.tar.gz")


def test_an_archive_that_is_packed_to_a_hundredth_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oodbench.files.BOMB_BYTES", 1 << 20)
    with tarfile.open(tmp_path / "bomb.tar.gz", "w:gz") as opened:
        member = tarfile.TarInfo("a.bmp")
        member.size = 2 << 20
        opened.addfile(member, io.BytesIO(bytes(member.size)))
    with pytest.raises(OodbenchError, match="unpacks to more than 2,097,152 bytes"):
        read_archive("some", tmp_path / "bomb.tar.gz")


@pytest.mark.parametrize("packing", ["gz", "bz2", "xz"])
def test_a_damaged_archive_is_said_however_it_is_packed(tmp_path: Path, packing: str) -> None:
    save_png(tmp_path / "a.png", pixels(40, 40))
    archive = tmp_path / f"some.tar.{packing}"
    with tarfile.open(archive, f"w:{packing}") as opened:
        opened.add(tmp_path / "a.png", "a.png")
    assert len(read_archive("some", archive)) == 1
    content = bytearray(archive.read_bytes())
    for place in range(len(content) // 3, len(content), 5):
        content[place] ^= 0xA5
    archive.write_bytes(content)
    with pytest.raises(OodbenchError, match=r"some\.tar\.\w+"):
        read_archive("some", archive)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def test_damaged_images_are_reported_together(tmp_path: Path) -> None:
    write_pngs(tmp_path, pixels(300, 20, 20, 3))
    for index in (3, 70, 71, 299):
        cut_short(tmp_path / f"{index:04d}.png")
    images = read_folder("some", tmp_path)
    assert np.array_equal(images.read(0, 3), pixels(300, 20, 20, 3)[:3])
    with pytest.raises(DamagedImages, match="4 images cannot be read") as raised:
        images.read(0, 64)
    assert [Path(where).name for where in raised.value.found] == ["0003.png", "0070.png", "0071.png", "0299.png"]
    for index in (3, 70, 71, 299):
        assert f"{index:04d}.png" in str(raised.value)
    # Those of a draw alone, also when read ahead by threads.
    drawn = images.subset(np.arange(60, 299), "some of them")
    with pytest.raises(DamagedImages, match="2 images cannot be read"):
        list(batches(drawn, (3, 20, 20), 32, workers=3))


def test_more_damaged_images_than_are_named_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pngs(tmp_path, pixels(60, 20, 20, 3))
    for index in range(60):
        cut_short(tmp_path / f"{index:04d}.png")
    with pytest.raises(OodbenchError, match=r"60 images cannot be read: .*0009\.png .*; and 50 more\. Get them again"):
        read_folder("some", tmp_path).read(0, 10)
    monkeypatch.setattr("oodbench.data.imageset.LOOKED_AT", 20)
    with pytest.raises(OodbenchError, match=r"30 images cannot be read: .*\(images from 30 on were not tried\)"):
        read_folder("some", tmp_path).read(0, 10)
    assert pickle.loads(pickle.dumps(DamagedImages.of({"a": "cut"}))).found == {"a": "cut"}


def test_files_that_are_no_images_are_reported_together(tmp_path: Path) -> None:
    write_pngs(tmp_path, pixels(4, 5, 5))
    for index in (1, 3):
        (tmp_path / f"{index:04d}.png").write_bytes(b"hello")
    with pytest.raises(OodbenchError, match=r"2 images cannot be read: .*0001\.png .*0003\.png"):
        read_folder("some", tmp_path)
