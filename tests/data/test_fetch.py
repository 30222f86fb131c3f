"""Sets that can be fetched: archives unpacked, progress shown, and the table of what there is."""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from oodbench.data.catalogue import DATASETS
from oodbench.data.download import RemoteFile
from oodbench.data.fetch import FETCHABLE, Fetchable, fetch
from oodbench.data.sources import locate, read_named
from oodbench.errors import OodbenchError
from tests.data.web import CONTENT, Offer, Said, Server, md5, names_in

# Archives


def archive_of(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


PEBBLES = {"round/a.png": b"a" * 3000, "round/deep/b.png": b"b" * 10, "LICENSE": b"free"}


def test_an_archive_is_unpacked(server: Server, offer: Offer, tmp_path: Path, capsys: Said) -> None:
    packed = archive_of(PEBBLES)
    offer(server.page("/a", content=packed), checksum=md5(packed), unpacks_to="round")
    stones = tmp_path / "stones"
    assert fetch("pebbles", tmp_path) == [stones / "pebbles.bin", stones / "round"]
    assert (stones / "round" / "deep" / "b.png").read_bytes() == b"b" * 10
    assert names_in(stones) == ["pebbles.bin", "round"]
    capsys.readouterr()
    assert fetch("pebbles", tmp_path) == [stones / "pebbles.bin", stones / "round"]
    assert "with every file" in capsys.readouterr().err
    assert len(server.requests) == 1


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_folder_that_is_not_whole_is_refused(damage: str, server: Server, offer: Offer, tmp_path: Path) -> None:
    packed = archive_of(PEBBLES)
    offer(server.page("/a", content=packed), checksum=md5(packed), unpacks_to="round")
    fetch("pebbles", tmp_path)
    file = tmp_path / "stones" / "round" / "deep" / "b.png"
    file.unlink() if damage == "missing" else file.write_bytes(b"b" * 9)
    with pytest.raises(OodbenchError, match=r"deep/b.png is missing or cut off.*move"):
        fetch("pebbles", tmp_path)


@pytest.mark.parametrize(
    ("packed", "reason"),
    [
        (archive_of({"round/a": b"a", "../evil": b"e"}), "cannot be unpacked"),
        (archive_of({"square/a": b"a"}), "no folder 'round'"),
        (archive_of({"round/a": CONTENT})[:20_000], "cannot be unpacked"),
        (b"no archive at all", "cannot be unpacked"),
    ],
    ids=["a path outside", "another folder", "half of it", "no archive"],
)
def test_a_bad_archive_leaves_nothing_unpacked(
    packed: bytes, reason: str, server: Server, offer: Offer, tmp_path: Path
) -> None:
    offer(server.page("/a", content=packed), checksum=md5(packed), unpacks_to="round")
    with pytest.raises(OodbenchError, match=reason):
        fetch("pebbles", tmp_path)
    assert names_in(tmp_path / "stones") == ["pebbles.bin"]
    assert names_in(tmp_path) == ["stones"]


# What the user sees


def test_a_bar_on_a_terminal(server: Server, offer: Offer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "stderr", terminal)
    offer(server.page("/a"))
    fetch("pebbles", tmp_path)
    assert "━" in terminal.getvalue()
    assert "50.0/50.0 kB" in terminal.getvalue()


def test_no_bar_in_a_log(server: Server, offer: Offer, tmp_path: Path, capsys: Said) -> None:
    offer(server.page("/a"))
    fetch("pebbles", tmp_path)
    assert capsys.readouterr().err.splitlines() == [
        f"pebbles.bin: downloading from {FETCHABLE['pebbles'].files[0].mirrors[0]}"
    ]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mnits", "did you mean mnist"),
        ("gaussian", "not a download"),
        ("digits", "not a download"),
        ("omniglot", "get it at https://github.com/brendenlake/omniglot"),
        ("scenes", "cannot be fetched automatically"),
    ],
)
def test_what_cannot_be_fetched(name: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(OodbenchError, match=reason):
        fetch(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_importing_it_is_light() -> None:
    heavy = ("torch", "requests", "rich", "scipy", "sklearn", "pandas")
    code = f"import sys, oodbench.data.fetch; print([name for name in {heavy} if name in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed.strip() == "[]"


# The table


def test_the_table_agrees_with_torchvision() -> None:
    from torchvision import datasets

    for name, known in (
        ("mnist", datasets.MNIST),
        ("fashion-mnist", datasets.FashionMNIST),
        ("kmnist", datasets.KMNIST),
    ):
        files = FETCHABLE[name].files
        assert [(file.name, file.checksum) for file in files] == [
            (file, f"md5:{sum_}") for file, sum_ in known.resources
        ]
        assert FETCHABLE[name].into == f"{known.__name__}/raw"
        for file in files:
            assert {f"{mirror}{file.name}" for mirror in known.mirrors} <= set(file.mirrors)
    for name, known in (("cifar10", datasets.CIFAR10), ("cifar100", datasets.CIFAR100)):
        (file,) = FETCHABLE[name].files
        assert (file.name, file.checksum, file.mirrors) == (
            known.filename,
            f"md5:{known.tgz_md5}",
            (known.url,),
        )
        assert file.unpacks_to == known.base_folder
    for file, split in zip(FETCHABLE["svhn"].files, ("train", "test"), strict=True):
        url, known_name, sum_ = datasets.SVHN.split_list[split]
        assert (file.name, file.checksum, file.mirrors) == (known_name, f"md5:{sum_}", (url,))
    (textures,) = FETCHABLE["textures"].files
    assert textures.checksum == f"md5:{datasets.DTD._MD5}"
    assert datasets.DTD._URL in textures.mirrors


@pytest.mark.parametrize("name", FETCHABLE)
def test_what_is_fetched_lies_where_the_loaders_look(name: str, tmp_path: Path) -> None:
    assert name in DATASETS
    folder = tmp_path / FETCHABLE[name].into
    for file in FETCHABLE[name].files:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file.name).touch()
        if file.unpacks_to:
            (folder / file.unpacks_to / "images").mkdir(parents=True)
    assert locate(name, [tmp_path], ("fit", "test") if DATASETS[name].num_classes else ()) is not None


@pytest.mark.parametrize("name", FETCHABLE)
def test_every_file_has_mirrors_and_a_checksum(name: str) -> None:
    for file in FETCHABLE[name].files:
        assert file.mirrors
        assert file.checksum is not None
        kind, digest = file.checksum.split(":")
        assert len(bytes.fromhex(digest)) == hashlib.new(kind).digest_size


def test_fetched_files_are_read(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.arange(2 * 28 * 28, dtype=np.uint32).reshape(2, 28, 28).astype(np.uint8)
    parts = {}
    for prefix in ("train", "t10k"):
        header = bytes((0, 0, 8, 3)) + np.array([2, 28, 28], ">u4").tobytes()
        parts[f"{prefix}-images-idx3-ubyte.gz"] = gzip.compress(header + images.tobytes())
        parts[f"{prefix}-labels-idx1-ubyte.gz"] = gzip.compress(bytes((0, 0, 8, 1, 0, 0, 0, 2, 3, 7)))
    files = tuple(
        RemoteFile(name, (server.page(f"/{name}", content=content),), md5(content)) for name, content in parts.items()
    )
    monkeypatch.setitem(FETCHABLE, "mnist", Fetchable(files, FETCHABLE["mnist"].into))
    assert len(fetch("mnist", tmp_path)) == 4
    for split in ("fit", "test"):
        read = read_named("mnist", [tmp_path], split)
        assert np.array_equal(read.read(0, 2), images)
        assert read.labels is not None
        assert read.labels.tolist() == [3, 7]
