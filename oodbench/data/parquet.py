"""Image data sets as Hugging Face has them: parquet files, and what `datasets` saved to disk."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from oodbench.data.decoding import DECODED_BY, all_decoded
from oodbench.data.folder import Walk
from oodbench.data.identity import Facts, file_facts, identity_of
from oodbench.data.imageset import Images, ImageSet
from oodbench.data.split_names import by_split, split_in
from oodbench.errors import OodbenchError

if TYPE_CHECKING:
    import pyarrow

IMAGE_COLUMNS = ("image", "img", "jpg", "png", "pixel_values", "picture")
LABEL_COLUMNS = ("label", "labels", "fine_label", "cls", "target", "class")
"""What the columns are called, in the order in which they are looked for."""

MOST_BYTES = 4 << 30
"""Of a block of rows (a row group) of packed images, of which one is held in memory."""


class Block(NamedTuple):
    """Rows that a file gives at a time: which file, which of its row groups, and how many rows."""

    file: int
    group: int
    rows: int


@dataclass(frozen=True, eq=False)
class TableSource:
    """Packed images in a column of parquet or arrow files; the block of rows that was read last is at hand.

    `facts` of the files are from before they were opened.
    """

    decodes: ClassVar[bool] = True

    paths: tuple[Path, ...]
    facts: tuple[Facts, ...]
    blocks: tuple[Block, ...]
    column: str
    _last: list[tuple[int, Any]] = field(default_factory=list, init=False, repr=False)
    _lock: Lock = field(default_factory=Lock, init=False, repr=False)

    def __getstate__(self) -> dict[str, object]:
        # What is at hand is read anew by whoever gets the source, and a lock is of one process.
        return {name: getattr(self, name) for name in ("paths", "facts", "blocks", "column")}

    def __setstate__(self, state: dict[str, object]) -> None:
        for name, value in {**state, "_last": [], "_lock": Lock()}.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return sum(block.rows for block in self.blocks)

    def read(self, indices: Sequence[int]) -> Images:
        return all_decoded(self._contents(indices))

    def identity(self, indices: Sequence[int]) -> str | None:
        modules, packages = DECODED_BY
        facts = (self.facts, self.column, [int(index) for index in indices])
        return identity_of(facts, (__name__, *modules), packages)

    def _contents(self, indices: Sequence[int]) -> Iterator[tuple[Path | BytesIO, str]]:
        ends = np.cumsum([block.rows for block in self.blocks])
        for index in indices:
            number = int(np.searchsorted(ends, index, side="right"))
            row = int(index) - int(ends[number]) + self.blocks[number].rows
            path = self.paths[self.blocks[number].file]
            where = f"{path}: row {int(index)}"
            yield _packed(self._values(number)[row].as_py(), path, where), where

    def _values(self, number: int) -> Any:
        """The image column of a block."""
        with self._lock:
            if not self._last or self._last[0][0] != number:
                block = self.blocks[number]
                with _opened(self.paths[block.file]) as file:
                    self._last[:] = [(number, file.column(block.group, self.column))]
            return self._last[0][1]


def table_files(path: Path) -> dict[str, list[Path]]:
    """Split → its files, of a parquet or arrow file, a folder of them, or a folder that `datasets` saved.

    The split is fit, test or val where the names of all files or folders tell, and "" for all files else.

    Raises:
        OodbenchError: there is no such file, or none in the folder.
    """
    if path.is_file():
        return {"": [path]}
    if not path.is_dir():
        raise OodbenchError(f"there is no file or folder {path}; check the path")
    if (path / "dataset_dict.json").is_file():
        names = _json(path / "dataset_dict.json").get("splits")
        if not isinstance(names, list):
            raise OodbenchError(f"{path / 'dataset_dict.json'} does not name its splits; save the data set again")
        return {split_in(str(name)) or str(name): _saved(path / str(name)) for name in names}
    if (path / "state.json").is_file():
        return {"": _saved(path)}
    files = sorted(path / file for file in Walk(path, lambda file: file.suffix == ".parquet").files)
    if not files:
        raise OodbenchError(f"folder {path} holds no parquet files, and was not saved by datasets' save_to_disk")
    return by_split(files, path)


def read_tables(name: str, paths: Sequence[Path]) -> ImageSet:
    """The images of parquet or arrow files, file after file; a column of whole numbers called like LABEL_COLUMNS gives
    labels.

    The column of images is one of IMAGE_COLUMNS, or the only one that holds packed images: their bytes, or a struct of
    `bytes` and `path`.

    Raises:
        OodbenchError: pyarrow is not installed, a file is damaged, or there is no such column.
    """
    facts = tuple(file_facts(path) for path in paths)
    blocks: list[Block] = []
    labels: list[np.ndarray] = []
    columns: tuple[str, str | None] | None = None
    classes: tuple[str, ...] = ()
    for number, path in enumerate(paths):
        with _opened(path) as file:
            found = _columns(path, file.schema)
            if columns not in (None, found):
                raise OodbenchError(f"{path} has other columns than {paths[0]}; name sets of one kind together")
            columns = found
            classes = classes or _class_names(file.schema, found[1])
            for group, (rows, size) in enumerate(file.groups()):
                if size > MOST_BYTES:
                    raise OodbenchError(
                        f"{path}: row group {group} has {size:,} bytes, more than are held in memory at a time; write "
                        "it with smaller row groups"
                    )
                blocks.append(Block(number, group, rows))
                if columns[1] is not None:
                    labels.append(_labels(path, file.column(group, columns[1])))
    if columns is None or not sum(block.rows for block in blocks):
        raise OodbenchError(f"{paths[0]} holds no images")
    source = TableSource(tuple(paths), facts, tuple(block for block in blocks if block.rows), columns[0])
    where = str(paths[0]) if len(paths) == 1 else f"{paths[0].parent} ({len(paths)} files)"
    known = np.concatenate(labels) if labels else None
    return ImageSet(name, source, where, known, notes=(f"images are the column {columns[0]}",), classes=classes)


class _Parquet:
    """A parquet file, which is read by row groups."""

    def __init__(self, path: Path) -> None:
        from pyarrow import parquet

        self.file = parquet.ParquetFile(path)
        self.schema = self.file.schema_arrow

    def groups(self) -> Iterator[tuple[int, int]]:
        for number in range(self.file.num_row_groups):
            facts = self.file.metadata.row_group(number)
            yield facts.num_rows, facts.total_byte_size

    def column(self, group: int, name: str) -> Any:
        return self.file.read_row_group(group, columns=[name]).column(name)

    def close(self) -> None:
        self.file.close()


class _Arrow:
    """An arrow stream as `datasets` saves it, mapped into memory, so that what is not read takes none."""

    def __init__(self, path: Path) -> None:
        import pyarrow

        self.table = pyarrow.ipc.open_stream(pyarrow.memory_map(str(path))).read_all()
        self.table.validate(full=True)  # places beyond the file would end the process when they are read
        self.schema = self.table.schema

    def groups(self) -> Iterator[tuple[int, int]]:
        yield self.table.num_rows, 0

    def column(self, group: int, name: str) -> Any:
        return self.table.column(name)

    def close(self) -> None:
        pass


@contextmanager
def _opened(path: Path) -> Iterator[_Parquet | _Arrow]:
    try:
        import pyarrow
    except ImportError as error:
        raise OodbenchError(f"{path} needs the package pyarrow: pip install 'oodbench[hf]'") from error
    try:
        file = _Arrow(path) if path.suffix == ".arrow" else _Parquet(path)
        try:
            yield file
        finally:
            file.close()
    except (OSError, UnicodeDecodeError, pyarrow.ArrowException) as error:
        raise OodbenchError(f"{path} cannot be read ({error}); get it again") from error


def _columns(path: Path, schema: pyarrow.Schema) -> tuple[str, str | None]:
    """The names of the columns of images and of labels."""
    from pyarrow import types

    def packed(kind: Any) -> bool:
        struct = types.is_struct(kind) and kind.get_field_index("bytes") >= 0
        return bool(struct or types.is_binary(kind) or types.is_large_binary(kind))

    images = [column.name for column in schema if packed(column.type)]
    named = [name for name in IMAGE_COLUMNS if name in images] or (images if len(images) == 1 else [])
    if not named:
        raise OodbenchError(
            f"{path} has no column of packed images (bytes, or a struct of bytes and path) called "
            f"{', '.join(IMAGE_COLUMNS)}; it has: {', '.join(schema.names)}"
        )
    whole = [column.name for column in schema if types.is_integer(column.type)]
    return named[0], next((name for name in LABEL_COLUMNS if name in whole), None)


def _class_names(schema: pyarrow.Schema, column: str | None) -> tuple[str, ...]:
    """The names of the labels' classes, where `datasets` wrote them beside the columns."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[column]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return ()
    return tuple(names) if isinstance(names, list) and all(isinstance(one, str) for one in names) else ()


def _labels(path: Path, column: Any) -> np.ndarray:
    # Unsigned labels have no -1 for those that are not there.
    values = column.cast("int64").combine_chunks().fill_null(-1).to_numpy(zero_copy_only=False)
    return np.asarray(values)


def _packed(value: Any, path: Path, where: str) -> Path | BytesIO:
    """A row's image: its bytes, or the file that it names."""
    content = value.get("bytes") if isinstance(value, dict) else value
    if content is not None:
        return BytesIO(content)
    named = value.get("path") if isinstance(value, dict) else None
    if not named:
        raise OodbenchError(f"{where} holds no image; take the row out on purpose")
    return path.parent / named


def _saved(folder: Path) -> list[Path]:
    """The files of one split that `datasets` saved."""
    state = _json(folder / "state.json")
    if state.get("_indices_data_files"):
        raise OodbenchError(f"{folder} was saved as a selection; save dataset.flatten_indices() instead")
    try:
        files = [folder / one["filename"] for one in state["_data_files"]]
    except (KeyError, TypeError) as error:
        raise OodbenchError(f"{folder / 'state.json'} does not name its files; save the data set again") from error
    for file in files:
        if not os.path.isfile(file):
            raise OodbenchError(f"{folder / 'state.json'} names {file}, which is not there; save the data set again")
    return files


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise OodbenchError(f"{path} cannot be read ({error}); save the data set again") from error
    if not isinstance(values, dict):
        raise OodbenchError(f"{path} holds no table of names; save the data set again")
    return values
