"""Files appear whole or not at all: links, devices, full disks, killed processes, the rules of Windows."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from oodbench import files
from oodbench.errors import OodbenchError
from oodbench.files import atomic_write, check_output, check_writable, safe_name, sweep, temporary_name, write_whole


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_fsync_has_a_handle_that_may_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows refuses it on one that may only read."""
    fcntl = pytest.importorskip("fcntl")
    honest, synced = os.fsync, []

    def as_on_windows(handle: int) -> None:
        if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        synced.append(handle)
        honest(handle)

    monkeypatch.setattr(os, "fsync", as_on_windows)
    assert write_whole(tmp_path / "a.txt", "whole").read_text() == "whole" and len(synced) == 1


@pytest.mark.parametrize(("refusals", "works"), [(3, True), (10**6, False)])
def test_a_file_that_somebody_has_open_is_replaced_when_it_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusals: int, works: bool
) -> None:
    honest, refused = os.replace, []

    def as_on_windows(source: Path, target: Path) -> None:
        if len(refused) < refusals:
            refused.append(target)
            raise PermissionError(errno.EACCES, "Access is denied", str(target))
        honest(source, target)

    write_whole(tmp_path / "a.txt", "old")
    monkeypatch.setattr(os, "replace", as_on_windows)
    monkeypatch.setattr(files, "PAUSE", 0.001)
    if works:
        write_whole(tmp_path / "a.txt", "new")
    else:
        with pytest.raises(PermissionError):
            write_whole(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == ("new" if works else "old") and names_in(tmp_path) == ["a.txt"]


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "file")
    for content in ("first", "second"):
        write_whole(tmp_path / "link", content)
        assert (tmp_path / "link").is_symlink() and (tmp_path / "there" / "file").read_text() == content
    assert names_in(tmp_path / "there") == ["file"]


def test_a_pipe_and_a_device_are_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    check_output(pipe)
    write_whole(pipe, "through")
    reader.join(10)
    assert read == [b"through"] and stat.S_ISFIFO(pipe.stat().st_mode) and names_in(tmp_path) == ["pipe"]
    check_output(Path(os.devnull))
    write_whole(Path(os.devnull), "away")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_standard_output_may_be_named_as_a_file() -> None:
    code = "from oodbench.files import *; path = Path('/dev/stdout'); check_output(path); write_whole(path, 'through')"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert printed.stdout == "through", printed.stderr


def test_a_folder_in_the_place_of_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.md").mkdir()
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path / "a.md", "x")
    with pytest.raises(OodbenchError, match="there is a folder of that name"):
        check_output(tmp_path / "a.md")
    assert names_in(tmp_path) == ["a.md"]


FULL = """
import resource, signal, sys
from pathlib import Path
import torch
from oodbench.errors import OodbenchError
from oodbench.files import write_whole
from oodbench.resume import save_resume
from oodbench.store import Store
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
folder = Path(sys.argv[1])
big = torch.zeros(100_000)
for write in (
    lambda: write_whole(folder / "plain", b"x" * 100_000),
    lambda: save_resume(folder / "resume", {"identity": "", "module": big}),
    lambda: Store(folder / "store").write("ab", {"logits": big}, {}),
):
    try:
        write()
    except (OSError, OodbenchError) as error:
        print(type(error).__name__)
"""


def test_a_disk_without_room_is_an_error_of_the_system_and_leaves_nothing(tmp_path: Path) -> None:
    """A real process that may write 10 kB a file; torch and safetensors would report something of their own."""
    ended = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True)
    assert ended.stdout.split() == ["OSError", "OSError", "OodbenchError"], ended.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


KILLED = """
import os, signal, sys
from pathlib import Path
from oodbench.files import atomic_write
with atomic_write(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(b"half")
    print(temporary.name, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "a.npz")], capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL and names_in(tmp_path) == [ended.stdout.strip()]
    _, machine, process, number = ended.stdout.strip().removesuffix(".npz").rsplit("-", 3)
    elsewhere = f".a-{'0' * 8}-{process}-{number}.npz"
    others = [".hidden.npz", ".a-b-1-c.npz", temporary_name(Path("b.npz")), elsewhere]
    for name in others:
        (tmp_path / name).write_bytes(b"x")
    sweep(tmp_path)
    assert names_in(tmp_path) == sorted(others)
    day_ago = time.time() - files.UNFINISHED - 1
    os.utime(tmp_path / elsewhere, (day_ago, day_ago))
    sweep(tmp_path)
    assert elsewhere not in names_in(tmp_path)
    assert machine == files._machine()


def test_another_process_sweeps_where_it_writes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "a.npz")], capture_output=True)
    code = "import sys; from pathlib import Path; from oodbench.files import *; write_whole(Path(sys.argv[1]), 'x')"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "b.txt")], check=True)
    assert names_in(tmp_path) == ["b.txt"]


ROUNDS = """
import shutil, sys
from pathlib import Path
from oodbench.files import check_writable, write_whole
root, mine = Path(sys.argv[1]), sys.argv[2]
for number in range(50):
    check_writable(root / str(number) / "results")
    write_whole(root / str(number) / "results" / f"{mine}.txt", mine)
    write_whole(root / str(number) / "results" / "all.txt", mine)
"""


def test_four_processes_in_fresh_folders_never_fail(tmp_path: Path) -> None:
    started = [
        subprocess.Popen([sys.executable, "-c", ROUNDS, str(tmp_path / "new"), name], stderr=subprocess.PIPE, text=True)
        for name in "abcd"
    ]
    for process in started:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    for number in range(50):
        folder = tmp_path / "new" / str(number) / "results"
        assert names_in(folder) == ["a.txt", "all.txt", "b.txt", "c.txt", "d.txt"]


def test_a_folder_that_vanishes_meanwhile_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest, gone = os.open, []

    def vanishing(path: Any, flags: int, *more: Any) -> int:
        if len(gone) < 3:
            gone.append(path)
            Path(path).parent.rmdir()
        return honest(path, flags, *more)

    monkeypatch.setattr(os, "open", vanishing)
    monkeypatch.setattr(files, "PAUSE", 0.001)
    assert write_whole(tmp_path / "deep" / "a.txt", "x").exists() and len(gone) == 3


def test_checking_a_folder_makes_and_removes_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "results")
    assert names_in(tmp_path) == []
    (tmp_path / "file").touch()
    for wrong in ("file", "file/new", "x" * 300, "new/" + "x" * 300):
        with pytest.raises(OodbenchError, match=r"cannot write into .*--out"):
            check_writable(tmp_path / wrong)


def test_no_room_is_said_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "ROOM", 1e18)
    with pytest.raises(OodbenchError, match="MB are free"):
        check_writable(tmp_path)


RESERVED = ["CON", "nul", "com1.txt", "Aux.tar.gz", "LPT9", "", ".", "..", "..."]


@pytest.mark.parametrize(
    "name", [*RESERVED, "a/b", "=cmd|x", "scans[a]", "x" * 245, "\u202egnp.exe", "a\nb", "bad\udcff"]
)
def test_a_safe_name_is_one_on_every_system(tmp_path: Path, name: str) -> None:
    safe = safe_name(name)
    assert safe.lower().split(".")[0] not in {"con", "nul", "com1", "aux", "lpt9", ""}
    assert safe.isascii() and len(safe) <= 140 and not set(safe) & set('/\\:*?"<>|\n')
    write_whole(tmp_path / f"{safe}.safetensors.resume", "x")
    assert len(names_in(tmp_path)) == 1


def test_long_names_stay_apart() -> None:
    assert safe_name("x" * 245 + "a") != safe_name("x" * 245 + "b")
    assert safe_name("cnn8-odin(norm=l2)") == "cnn8-odin(norm=l2)"


def test_a_file_stem_of_245_characters(tmp_path: Path) -> None:
    with atomic_write(tmp_path / ("x" * 245 + ".npz")) as temporary:
        temporary.write_bytes(b"x")
    assert names_in(tmp_path) == ["x" * 245 + ".npz"]
