"""Hugging Face's forms, as pyarrow writes them and as `datasets` lays them out on disk."""

from __future__ import annotations

import builtins
import json
import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet as pq

from oodbench import OodbenchError
from oodbench.data import parquet
from oodbench.data.damaged import DamagedImages
from oodbench.data.load import load_id, load_images
from oodbench.data.loader import batches
from tests.data.forms import pixels, png_bytes, save_png

IMAGES = pixels(10, 7, 7, 3)
STRUCT = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])


def table(indices: Sequence[int], name: str = "image", label: str = "label", struct: bool = True) -> pyarrow.Table:
    packed: list[Any] = [png_bytes(IMAGES[index]) for index in indices]
    images = [{"bytes": one, "path": None} for one in packed] if struct else packed
    labels = [index % 3 for index in indices]
    kind = STRUCT if struct else pyarrow.binary()
    return pyarrow.table({name: pyarrow.array(images, kind), label: labels, "text": ["x"] * len(labels)})


def write(path: Path, rows: pyarrow.Table, group: int = 4) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, path, row_group_size=group)
    return path


@pytest.mark.parametrize("struct", [True, False])
@pytest.mark.parametrize(("name", "label"), [("image", "label"), ("img", "fine_label"), ("anything", "labels")])
def test_a_file_gives_its_images_and_labels(tmp_path: Path, struct: bool, name: str, label: str) -> None:
    path = write(tmp_path / "some.parquet", table(range(10), name, label, struct))
    images = load_images(f"hf:{path}", data_root=None)
    assert images.name == "some" and np.array_equal(images.read(0, 10), IMAGES) and images.identity
    assert images.labels is not None and images.labels.tolist() == [index % 3 for index in range(10)]
    assert np.array_equal(images.source.read([9, 0, 4]), IMAGES[[9, 0, 4]])
    again = pickle.loads(pickle.dumps(images))
    assert again.content_hash == images.content_hash
    read = [batch.permute(0, 2, 3, 1).numpy() for batch, _ in batches(again, (3, 7, 7), 3, workers=3)]
    assert np.array_equal(np.concatenate(read), IMAGES)


def test_of_a_file_the_blocks_are_read_that_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "some.parquet", table(range(10)))
    asked: list[tuple[int, str]] = []
    column = parquet._Parquet.column
    monkeypatch.setattr(
        parquet._Parquet, "column", lambda self, group, name: asked.append((group, name)) or column(self, group, name)
    )
    images = load_images(f"hf:{path}", data_root=None)
    assert {name for _, name in asked} == {"label"}
    asked.clear()
    images.read(8, 10)
    images.read(9, 10)
    assert asked == [(2, "image")]


def test_a_folder_with_splits(tmp_path: Path) -> None:
    write(tmp_path / "own" / "data" / "train-00000-of-00002.parquet", table(range(4)))
    write(tmp_path / "own" / "data" / "train-00001-of-00002.parquet", table(range(4, 7)))
    write(tmp_path / "own" / "data" / "test-00000-of-00001.parquet", table(range(7, 10)))
    own = load_id(f"hf:{tmp_path / 'own'}", data_root=None, seed=0)
    assert (len(own.fit), len(own.test), own.num_classes, own.name) == (7, 3, 3, "own")
    assert np.array_equal(own.fit.read(0, 9), IMAGES[:7]) and np.array_equal(own.test.read(0, 9), IMAGES[7:])


def test_files_in_folders_called_like_splits(tmp_path: Path) -> None:
    """As the hub converts data sets: default/train/0000.parquet."""
    for split, indices in (("train", range(6)), ("test", range(6, 9))):
        write(tmp_path / "train-set" / "default" / split / "0000.parquet", table(indices))
    own = load_id(f"hf:{tmp_path / 'train-set'}", data_root=None, seed=0)
    assert (len(own.fit), len(own.test)) == (6, 3)
    write(tmp_path / "test" / "some" / "0000.parquet", table(range(4)))
    assert not load_images(f"hf:{tmp_path / 'test'}", data_root=None).notes[1:]


def test_links_are_followed_and_what_cannot_be_listed_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "own" / "a" / "0.parquet", table(range(3)))
    write(tmp_path / "elsewhere" / "1.parquet", table(range(3, 7)))
    (tmp_path / "own" / "b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "own" / "c.parquet").symlink_to(write(tmp_path / "blobs" / "d7f3", table(range(7, 9))))
    assert np.array_equal(load_images(f"hf:{tmp_path / 'own'}", data_root=None).read(0, 9), IMAGES[:9])
    scan = os.scandir

    def refused(path: str | Path) -> Any:
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied")  # what mode 000 gives to all but root
        return scan(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(OodbenchError, match=r"folder .*b cannot be listed \(Permission denied\)"):
        load_images(f"hf:{tmp_path / 'own'}", data_root=None)


def save_to_disk(folder: Path, rows: Sequence[pyarrow.Table], **more: Any) -> Path:
    """What `datasets.Dataset.save_to_disk` leaves: arrow streams, and which they are in state.json."""
    folder.mkdir(parents=True)
    names = [f"data-{number:05d}-of-{len(rows):05d}.arrow" for number in range(len(rows))]
    for name, part in zip(names, rows, strict=True):
        with pyarrow.OSFile(str(folder / name), "wb") as file, pyarrow.ipc.new_stream(file, part.schema) as stream:
            stream.write_table(part, max_chunksize=2)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]} | more))
    return folder


def test_what_datasets_saved(tmp_path: Path) -> None:
    whole = save_to_disk(tmp_path / "whole", [table(range(6)), table(range(6, 10))])
    images = load_images(f"hf:{whole}", data_root=None)
    assert images.name == "whole" and np.array_equal(images.read(0, 10), IMAGES)
    assert pickle.loads(pickle.dumps(images)).content_hash == images.content_hash
    for split, indices in (("train", range(6)), ("test", range(6, 10))):
        save_to_disk(tmp_path / "both" / split, [table(indices)])
    (tmp_path / "both" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    own = load_id(f"hf:{tmp_path / 'both'}", data_root=None, seed=0)
    assert (len(own.fit), len(own.test)) == (6, 4)
    chosen = save_to_disk(tmp_path / "chosen", [table(range(6))], _indices_data_files=[{"filename": "indices.arrow"}])
    with pytest.raises(OodbenchError, match="was saved as a selection"):
        load_images(f"hf:{chosen}", data_root=None)


def test_places_beyond_a_saved_file_are_refused_before_they_end_the_process(tmp_path: Path) -> None:
    """What is read at a negative place is a fault of the library, which Python cannot catch."""
    folder = save_to_disk(tmp_path / "saved", [table(range(2), struct=False)])
    file = folder / "data-00000-of-00001.arrow"
    with pyarrow.ipc.open_stream(file.read_bytes()) as stream:
        _, places, _ = stream.read_all().column("image").chunk(0).buffers()
    content, honest = file.read_bytes(), bytes(places)[:12]
    assert content.count(honest) == 1
    file.write_bytes(content.replace(honest, np.array([0, -7, -3], np.int32).tobytes()))
    with pytest.raises(OodbenchError, match=r"cannot be read \(.*offsets.*\); get it again"):
        load_images(f"hf:{folder}", data_root=None).read(0, 2)


@pytest.mark.parametrize("kind", [pyarrow.uint8(), pyarrow.uint64(), pyarrow.int16()])
def test_labels_of_any_kind_of_whole_number(tmp_path: Path, kind: pyarrow.DataType) -> None:
    rows = table(range(4)).set_column(1, "label", pyarrow.array([3, None, 0, 200], kind))
    images = load_images(f"hf:{write(tmp_path / 'some.parquet', rows)}", data_root=None)
    assert images.labels is not None and images.labels.tolist() == [3, -1, 0, 200]
    assert images.labels.dtype == np.int64


def test_an_image_may_be_a_file_beside(tmp_path: Path) -> None:
    save_png(tmp_path / "pictures" / "a.png", IMAGES[3])
    rows = pyarrow.table({"image": pyarrow.array([{"bytes": None, "path": "pictures/a.png"}], STRUCT)})
    images = load_images(f"hf:{write(tmp_path / 'some.parquet', rows)}", data_root=None)
    assert np.array_equal(images.read(0, 1)[0], IMAGES[3]) and images.labels is None


def test_damaged_rows_are_reported_together(tmp_path: Path) -> None:
    packed = [png_bytes(image)[: None if index not in (1, 8) else 30] for index, image in enumerate(IMAGES)]
    images = load_images(f"hf:{write(tmp_path / 'some.parquet', pyarrow.table({'image': packed}))}", data_root=None)
    with pytest.raises(DamagedImages, match=r"2 images cannot be read: .*some\.parquet: row 1 .*row 8"):
        images.read(0, 4)


def test_faults_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(words: str, path: Path) -> None:
        with pytest.raises(OodbenchError, match=words):
            load_images(f"hf:{path}", data_root=None)

    refused("there is no file or folder", tmp_path / "gone")
    (tmp_path / "none").mkdir()
    refused("holds no parquet files", tmp_path / "none")
    refused(
        "has no column of packed images", write(tmp_path / "a.parquet", pyarrow.table({"image": [1, 2], "x": [3, 4]}))
    )
    refused("holds no images", write(tmp_path / "b.parquet", table([])))
    named = write(tmp_path / "n.parquet", table(range(2)))
    named.write_bytes(named.read_bytes().replace(b"text", b"te\xa8t"))
    refused(r"n\.parquet cannot be read", named)
    path = write(tmp_path / "c.parquet", table(range(10)))
    monkeypatch.setattr(parquet, "MOST_BYTES", 100)
    refused("row group 0 has .* bytes, more than are held", path)
    path.write_bytes(path.read_bytes()[:-30])
    refused(r"c\.parquet cannot be read", path)
    load = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return load(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    refused(r"needs the package pyarrow: pip install 'oodbench\[hf\]'", path)
