"""WebDataset's tar files, as Python's tarfile writes them."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from oodbench import OodbenchError
from oodbench.data import tar
from oodbench.data.damaged import DamagedImages
from oodbench.data.load import load_id, load_images
from tests.data.forms import pixels, png_bytes

IMAGES = pixels(9, 7, 7, 3)


def write_shard(path: Path, members: Sequence[tuple[str, bytes]], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as opened:  # type: ignore[call-overload]
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            opened.addfile(member, io.BytesIO(content))
    return path


def samples(indices: Sequence[int], kind: str = "cls") -> list[tuple[str, bytes]]:
    found = []
    for index in indices:
        label = str(index % 3).encode() if kind == "cls" else json.dumps({"label": index % 3, "text": "x"}).encode()
        found += [(f"part/{index:04d}.{kind}", label), (f"part/{index:04d}.png", png_bytes(IMAGES[index]))]
    return found


@pytest.mark.parametrize("kind", ["cls", "json"])
def test_shards_are_read_where_they_are(tmp_path: Path, kind: str) -> None:
    write_shard(tmp_path / "some-000.tar", [*samples(range(5), kind), ("part/0001.mask.png", b"no image")])
    write_shard(tmp_path / "some-001.tar", samples(range(5, 9), kind))
    for reference in (f"tar:{tmp_path}", f"tar:{tmp_path}/some-*.tar"):
        images = load_images(reference, data_root=None)
        assert np.array_equal(images.read(0, 9), IMAGES) and images.name == tmp_path.name
        assert images.labels is not None and images.labels.tolist() == [index % 3 for index in range(9)]
        assert np.array_equal(images.source.read([7, 1, 6]), IMAGES[[7, 1, 6]])
        assert images.file(7) == "part/0007.png" and images.identity
        assert pickle.loads(pickle.dumps(images)).content_hash == images.content_hash


def test_only_the_images_that_are_asked_for_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = f"tar:{write_shard(tmp_path / 'some.tar', samples(range(9)))}"
    decoded: list[str] = []
    all_decoded = tar.all_decoded
    monkeypatch.setattr(
        tar, "all_decoded", lambda files: all_decoded((decoded.append(where) or file, where) for file, where in files)
    )
    images = load_images(reference, data_root=None)
    assert decoded == []
    images.read(3, 5)
    assert [where.rpartition("/")[2] for where in decoded] == ["0003.png", "0004.png"]


def test_splits_by_the_names_of_shards_or_folders(tmp_path: Path) -> None:
    for split, indices in (("train", range(6)), ("val", range(6, 9))):
        write_shard(tmp_path / "flat" / f"own-{split}-000.tar", samples(indices))
        write_shard(tmp_path / "deep" / split / "000.tar", samples(indices))
    for folder in ("flat", "deep"):
        own = load_id(f"tar:{tmp_path / folder}", data_root=None, seed=0)
        assert (len(own.fit), len(own.test), own.num_classes, own.name) == (6, 3, 3, folder)


def test_shards_below_and_behind_links(tmp_path: Path) -> None:
    """And by the names of folders, where those of the shards do not tell the split."""
    write_shard(tmp_path / "own" / "a.tar", samples(range(2)))
    write_shard(tmp_path / "own" / "below" / "b.tar", samples(range(2, 4)))
    (tmp_path / "own" / "c.tar").symlink_to(write_shard(tmp_path / "elsewhere" / "x.tar", samples(range(4, 6))))
    (tmp_path / "own" / "d").symlink_to(write_shard(tmp_path / "more" / "y.tar", samples(range(6, 9))).parent)
    assert np.array_equal(load_images(f"tar:{tmp_path / 'own'}", data_root=None).read(0, 9), IMAGES[:9])
    for split, indices in (("train", range(6)), ("val", range(6, 9))):
        write_shard(tmp_path / "deep" / "shards" / split / "000.tar", samples(indices))
    deep = load_id(f"tar:{tmp_path / 'deep'}", data_root=None, seed=0)
    assert (len(deep.fit), len(deep.test)) == (6, 3)


def test_images_without_labels(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "some.tar", [(name, part) for name, part in samples(range(4)) if "png" in name])
    assert load_images(f"tar:{path}", data_root=None).labels is None
    path = write_shard(tmp_path / "some.tar", samples(range(4))[1:])
    images = load_images(f"tar:{path}", data_root=None)
    assert images.labels is not None and images.labels.tolist() == [-1, 1, 2, 0]
    assert "1 of 4 images have no label" in images.notes


def test_damaged_members_are_reported_together(tmp_path: Path) -> None:
    members = [
        (name, part[:40] if name[5:9] in ("0002", "0007") and "png" in name else part)
        for name, part in samples(range(9))
    ]
    images = load_images(f"tar:{write_shard(tmp_path / 'some.tar', members)}", data_root=None)
    with pytest.raises(DamagedImages, match=r"2 images cannot be read: .*some\.tar: part/0002\.png .*0007\.png"):
        images.read(0, 4)


def test_faults_are_named(tmp_path: Path) -> None:
    def refused(words: str, path: Path) -> None:
        with pytest.raises(OodbenchError, match=words):
            load_images(f"tar:{path}", data_root=None)

    refused("there is no tar file", tmp_path / "gone.tar")
    refused("there is no tar file", tmp_path / "gone-*.tar")
    refused(r"packed\.tar\.gz is compressed", write_shard(tmp_path / "packed.tar.gz", samples(range(2)), "w:gz"))
    (tmp_path / "text.tar").write_text("hello" * 500)
    refused(r"text\.tar is damaged, or no tar file", tmp_path / "text.tar")
    refused("hold.* no images", write_shard(tmp_path / "none.tar", [("readme.txt", b"hello")]))
    refused(
        "no whole number", write_shard(tmp_path / "words.tar", [("a.png", png_bytes(IMAGES[0])), ("a.cls", b"cat")])
    )
    twice = [("a.png", png_bytes(IMAGES[0])), ("a.jpg", png_bytes(IMAGES[0]))]
    refused("two images of the key a", write_shard(tmp_path / "twice.tar", twice))
    cut = write_shard(tmp_path / "cut.tar", samples(range(9)))
    cut.write_bytes(cut.read_bytes()[:9000])
    refused(r"cut\.tar is damaged", cut)


def test_links_and_impossible_sizes_in_a_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_shard(tmp_path / "some.tar", samples(range(2)))
    with tarfile.open(path, "a") as opened:
        link = tarfile.TarInfo("part/0009.png")
        link.type, link.linkname = tarfile.SYMTYPE, "part/0009.png"
        opened.addfile(link)
    assert len(load_images(f"tar:{path}", data_root=None)) == 2
    monkeypatch.setattr(tar, "MOST_BYTES", 20)
    with pytest.raises(OodbenchError, match=r"0000\.png has [0-9]+ bytes, which no image has"):
        load_images(f"tar:{path}", data_root=None)
