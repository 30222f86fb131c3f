"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import gzip
import hashlib
import lzma
import os
import re
import secrets
import shutil
import socket
import stat
import tarfile
import tempfile
import time
import tomllib
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import platformdirs

from oodbench.errors import OodbenchError

UNFINISHED = 24 * 3600
"""Seconds after which a file that is still not finished is of a process that was killed, wherever it ran."""

ROOM = 16e6
"""Bytes that must be free where something is going to be written."""

TRIES = 10
PAUSE = 0.05
"""Seconds between tries, where somebody else removes a folder or has a file open."""

LARGEST_TEXT = 16 << 20
"""Bytes of a text that people write: a benchmark, names, published figures."""

BOMB_RATIO, BOMB_BYTES = 100, 256 << 20
"""What is packed to less than a hundredth, and has more than so many bytes, is refused."""

ARCHIVE_DAMAGES = (tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError)
"""What a damaged tar file raises, packed or not, beside OSError and ValueError."""

LONGEST_NAME = 120
"""Characters of a name that is made of names; file systems take 255 bytes, endings and all."""

_TEMPORARY = re.compile(r"\..*-([0-9a-f]{8})-(\d+)-[0-9a-f]{8}(\.[^.]*)?", re.DOTALL)

# Of Windows, in any case, also with an ending.
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well it becomes `path`, else it is removed.

    Whoever reads `path` sees the old content or the new, never half of it, also after a kill or a power cut. Where
    `path` is a link, what it leads to is replaced; a device or a pipe is written to.

    Raises:
        OSError: as of any writing.
    """
    # Looked at before links are followed: /dev/stdout leads to the name of a pipe, under which no file is.
    mode = _mode(path)
    is_stream = bool(mode) and not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)
    path = Path(path) if is_stream else Path(os.path.realpath(path))
    if mode and stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    folder = Path(tempfile.gettempdir()) if is_stream else path.parent
    temporary = folder / temporary_name(path)
    try:
        _create(temporary)
        yield temporary
        if is_stream:
            with open(temporary, "rb") as written, open(path, "wb") as stream:
                shutil.copyfileobj(written, stream)
        else:
            make_durable(temporary)
            replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes) -> Path:
    """Write a file by `atomic_write`, text as UTF-8; returns its path."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read_small(path: Path) -> bytes:
    """The content of a file that people write, also of a pipe.

    Raises:
        OSError: as of any reading.
        ValueError: it has more bytes than LARGEST_TEXT.
    """
    with open(path, "rb") as file:
        content = file.read(LARGEST_TEXT + 1)
    if len(content) > LARGEST_TEXT:
        raise ValueError(f"it has more than {LARGEST_TEXT:,} bytes")
    return content


def read_toml(path: Path) -> dict[str, Any]:
    """The values of a TOML file, with or without a byte order mark.

    Raises:
        OodbenchError: it cannot be read, is not UTF-8, or no TOML.
    """
    try:
        return tomllib.loads(read_small(path).decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise OodbenchError(f"{path} is not valid TOML: it is not UTF-8 ({error.reason}); save it as such") from error
    except RecursionError as error:
        raise OodbenchError(f"{path} is not valid TOML: it nests too deep; write it by hand") from error
    except (OSError, ValueError) as error:
        raise OodbenchError(f"{path} is not valid TOML: {error}; mend or replace it") from error


def is_bomb(unpacked: int, packed: int) -> bool:
    """Whether so many bytes in a file of so many are more than images, or anything that is kept here, can be."""
    return unpacked > BOMB_BYTES and unpacked > BOMB_RATIO * packed


def make_durable(path: Path) -> None:
    """Have the file on the disk before anything goes on."""
    # By a handle that may write, which Windows asks for.
    with open(path, "rb+") as written:
        os.fsync(written.fileno())


def replace(source: Path, target: Path) -> None:
    """Rename a file or folder; where somebody has the target open, which Windows refuses, it is tried again."""
    for remaining in reversed(range(TRIES)):
        try:
            return os.replace(source, target)
        except PermissionError:
            if not remaining:
                raise
            time.sleep(PAUSE)


def temporary_name(path: Path) -> str:
    """A new name for what becomes `path`, by which `sweep` knows whether its process lives; same ending."""
    return f".{path.stem[:40]}-{_machine()}-{os.getpid()}-{secrets.token_hex(4)}{path.suffix[:20]}"


def sweep(folder: Path) -> None:
    """Remove what dead processes began to write into a folder and did not finish."""
    with suppress(OSError):
        for entry in os.scandir(folder):
            if (named := _TEMPORARY.fullmatch(entry.name)) and _is_left(entry, named[1], int(named[2])):
                with suppress(OSError):
                    shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(entry.path)


def safe_name(text: str) -> str:
    """The text as a name of a file: what some file system or shell may not take becomes -, and a long one is cut."""
    name = re.sub(r"[^A-Za-z0-9_.+=,()-]+", "-", text).rstrip(".")
    if len(name) > LONGEST_NAME:
        name = f"{name[:LONGEST_NAME]}-{hashlib.sha256(text.encode(errors='surrogateescape')).hexdigest()[:8]}"
    return f"_{name}" if not name or _RESERVED.fullmatch(name) else name


def cache_folder() -> Path:
    """Where oodbench keeps what it trained or downloaded; the environment variable OODBENCH_CACHE moves it."""
    return Path(os.environ.get("OODBENCH_CACHE") or platformdirs.user_cache_dir("oodbench"))


def check_writable(folder: Path, otherwise: str = "choose another folder with --out") -> None:
    """Raise OodbenchError if files cannot be written into `folder`, or there is no room; nothing is left there.

    Args:
        otherwise: the next step, in words.
    """
    try:
        # The nearest that is there: a folder that was made for trying would have to be removed again, which might take
        # it from another process that starts now.
        there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
        if any(len(os.fsencode(part)) > 255 for part in folder.parts):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        with tempfile.TemporaryFile(dir=there):
            pass
        free = shutil.disk_usage(there).free
    except OSError as error:
        raise OodbenchError(f"cannot write into {folder}: {error.strerror}; {otherwise}") from error
    if free < ROOM:
        raise OodbenchError(
            f"cannot write into {folder}: {free / 1e6:.1f} MB are free there, and {ROOM / 1e6:.0f} MB must be; make "
            f"room, or {otherwise}"
        )


def check_output(path: Path) -> None:
    """Raise OodbenchError if a file cannot be written: see `check_writable`; devices and pipes may be."""
    if path.is_dir():
        raise OodbenchError(f"cannot write {path}: there is a folder of that name; choose another with --out")
    if path.exists() and not path.is_file() and os.access(path, os.W_OK):
        return
    check_writable(Path(os.path.realpath(path)).parent)


def check_cache() -> None:
    """Raise OodbenchError if nothing can be kept in the cache."""
    check_writable(cache_folder(), "move the cache with the environment variable OODBENCH_CACHE")


def _mode(path: Path | str) -> int:
    """What is there; 0 where nothing is."""
    try:
        return os.stat(path).st_mode
    except FileNotFoundError:
        return 0


def _create(temporary: Path) -> None:
    for remaining in reversed(range(TRIES)):
        try:
            temporary.parent.mkdir(parents=True, exist_ok=True)
            _sweep_once(temporary.parent)
            return os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        # Somebody else removed the folder, or made and removed it, meanwhile.
        except (FileNotFoundError, FileExistsError):
            if not remaining or temporary.parent.is_file():
                raise
            time.sleep(PAUSE)


@cache
def _sweep_once(folder: Path) -> None:
    sweep(folder)


@cache
def _machine() -> str:
    """What tells those apart whose process numbers mean different processes: hosts, and containers of one."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return hashlib.sha256(f"{socket.gethostname()} {space}".encode()).hexdigest()[:8]


def _is_left(entry: os.DirEntry[str], machine: str, process: int) -> bool:
    if time.time() - entry.stat(follow_symlinks=False).st_mtime > UNFINISHED:
        return True
    return machine == _machine() and not _lives(process)


def _lives(process: int) -> bool:
    """Whether a process of this machine runs; on Windows, where to ask is to end it, it is taken to."""
    if os.name == "nt":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
