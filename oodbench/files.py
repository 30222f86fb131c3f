"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from oodbench.errors import OodbenchError


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well it becomes `path`, else it is removed.

    Whoever reads `path` sees the old content or the new, never half of it, also after a kill or a power cut.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files that only their owner can read; results are for sharing.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes) -> Path:
    """Write a file by `atomic_write`, text as UTF-8; returns its path."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def safe_name(text: str) -> str:
    """The text as a name of a file: what some file system or shell may not take becomes -."""
    return re.sub(r"[^A-Za-z0-9_.+=,()-]+", "-", text)


def cache_folder() -> Path:
    """Where oodbench keeps what it trained or downloaded; the environment variable OODBENCH_CACHE moves it."""
    return Path(os.environ.get("OODBENCH_CACHE") or platformdirs.user_cache_dir("oodbench"))


def check_writable(folder: Path) -> None:
    """Raise OodbenchError if files cannot be written into `folder`; it and its parents are left as they were."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OodbenchError(
            f"cannot write into {folder}: {error.strerror}; choose another folder with --out"
        ) from error
    finally:
        for path in missing:
            if path.is_dir():
                path.rmdir()
