"""LSUN's lmdb files."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import lmdb
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as tvf

from oodbench import OodbenchError
from oodbench.data.loader import batches
from oodbench.data.lsun import read_lmdb
from tests.data.forms import pixels, write_lmdb


def scenes(count: int, height: int = 48, width: int = 64, seed: int = 0) -> dict[str, np.ndarray]:
    return {f"{seed}{index:03d}": image for index, image in enumerate(pixels(count, height, width, 3, seed=seed))}


def test_images_come_file_by_file_and_key_by_key(tmp_path: Path) -> None:
    first, second = scenes(5, 32, 32, seed=1), scenes(4, 32, 32, seed=2)
    write_lmdb(tmp_path / "a_val_lmdb", dict(reversed(first.items())))
    write_lmdb(tmp_path / "b_val_lmdb", second)
    read = read_lmdb("lsun-scenes", [tmp_path / "a_val_lmdb", tmp_path / "b_val_lmdb"])
    assert np.array_equal(read.read(0, 9), [*first.values(), *second.values()])
    assert np.array_equal(read.source.read([8, 0, 8]), np.asarray(read.read(0, 9))[[8, 0, 8]])
    assert pickle.loads(pickle.dumps(read)).content_hash == read.content_hash
    assert "shorter side to 32 (bilinear, antialias), centre crop 32×32" in read.notes


@pytest.mark.parametrize(("height", "width"), [(48, 64), (100, 64), (32, 90), (20, 20), (256, 341)])
def test_scenes_are_shrunk_and_cropped_as_torchvision_does(tmp_path: Path, height: int, width: int) -> None:
    images = scenes(3, height, width)
    write_lmdb(tmp_path / "a_val_lmdb", images)
    read = np.asarray(read_lmdb("lsun-scenes", [tmp_path / "a_val_lmdb"]).read(0, 3))
    expected = [np.array(tvf.center_crop(tvf.resize(Image.fromarray(i), 32), [32, 32])) for i in images.values()]
    assert np.array_equal(read, expected)


def test_missing_empty_and_shortened_files_raise(tmp_path: Path) -> None:
    with pytest.raises(OodbenchError, match="absent cannot be read as an lmdb"):
        read_lmdb("lsun-scenes", [tmp_path / "absent"])
    (tmp_path / "half").mkdir()
    with pytest.raises(OodbenchError, match="half cannot be read as an lmdb"):
        read_lmdb("lsun-scenes", [tmp_path / "half"])
    lmdb.open(str(tmp_path / "empty"), map_size=2**20).close()
    with pytest.raises(OodbenchError, match="empty holds no images"):
        read_lmdb("lsun-scenes", [tmp_path / "empty"])
    write_lmdb(tmp_path / "cut", scenes(40))
    data = tmp_path / "cut" / "data.mdb"
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    with pytest.raises(OodbenchError, match=r"cut is cut short: [0-9,]+ of [0-9,]+ bytes"):
        read_lmdb("lsun-scenes", [tmp_path / "cut"])


def test_a_damaged_image_is_named_by_its_key(tmp_path: Path) -> None:
    write_lmdb(tmp_path / "a_val_lmdb", scenes(2))
    with (
        lmdb.open(str(tmp_path / "a_val_lmdb"), map_size=2**24) as database,
        database.begin(write=True) as writing,
    ):
        writing.put(b"0001", b"no image")
    with pytest.raises(OodbenchError, match=r"a_val_lmdb: b'0001' cannot be read as an image"):
        read_lmdb("lsun-scenes", [tmp_path / "a_val_lmdb"]).read(0, 2)


def test_threads_may_read_one_file_at_once(tmp_path: Path) -> None:
    write_lmdb(tmp_path / "a_val_lmdb", scenes(40))
    images = read_lmdb("lsun-scenes", [tmp_path / "a_val_lmdb"])
    one, many = (torch.cat([batch for batch, _ in batches(images, (3, 32, 32), 2, workers)]) for workers in (0, 4))
    assert torch.equal(one, many)


def test_without_lmdb_everything_else_works_and_its_files_say_what_to_install(tmp_path: Path) -> None:
    write_lmdb(tmp_path / "a_val_lmdb", scenes(2))
    np.savez(tmp_path / "textures.npz", images=pixels(2, 4, 4))
    program = f"""
import sys
from pathlib import Path

sys.modules["lmdb"] = None  # what Python does for a module that cannot be imported
import oodbench.cli.run, oodbench.runner
from oodbench import OodbenchError
from oodbench.data.sources import read_named

root = Path({str(tmp_path)!r})
print(len(read_named("textures", [root])))
try:
    read_named("lsun-scenes", [root])
except OodbenchError as error:
    print(error)
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told.splitlines() == [
        "2",
        f"{tmp_path / 'a_val_lmdb'} is an lmdb file, which needs the package lmdb: pip install 'oodbench[lmdb]'",
    ]


@pytest.mark.parametrize("part", range(4))
def test_a_damaged_file_neither_ends_nor_holds_up_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    """Heads of pages overwritten at random: an error in words, or images."""
    monkeypatch.setattr("oodbench.data.lsun.PATIENCE", 5.0)
    write_lmdb(tmp_path / "a_val_lmdb", scenes(30))
    data = tmp_path / "a_val_lmdb" / "data.mdb"
    honest, draw = data.read_bytes(), np.random.default_rng(part)
    refused = 0
    for _ in range(3):
        content = bytearray(honest)
        for _ in range(20):
            # Where lmdb keeps its own numbers: at the beginning of pages.
            at = 4096 * int(draw.integers(0, len(content) // 4096)) + int(draw.integers(0, 60))
            content[at : at + 4] = draw.bytes(4)
        data.write_bytes(content)
        try:
            read = read_lmdb("lsun-scenes", [tmp_path / "a_val_lmdb"])
            read.read(0, len(read))
        except OodbenchError as error:
            assert "a_val_lmdb" in str(error)
            refused += 1
    assert refused


@pytest.mark.parametrize(
    ("reader", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended the process that read it"),
        ("import time; time.sleep(60)", "comes to no end"),
    ],
)
def test_a_reader_that_dies_or_hangs_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str, words: str
) -> None:
    write_lmdb(tmp_path / "a_val_lmdb", scenes(2))
    (tmp_path / "reader.py").write_text(reader)
    monkeypatch.setattr("oodbench.data.lmdb_reader.__file__", str(tmp_path / "reader.py"))
    monkeypatch.setattr("oodbench.data.lsun.PATIENCE", 1.0)
    with pytest.raises(OodbenchError, match=f"{words}; get it again"):
        read_lmdb("lsun-scenes", [tmp_path / "a_val_lmdb"])
