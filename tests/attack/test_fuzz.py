"""Files that were damaged anyhow are read, or refused in words: no traceback, no hang, bounded memory."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.attack.fuzz import fault_of, fuzz
from tests.attack.readers import READERS, Reader
from tests.scripts import ROOT

EXAMPLES = 8


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_refused_in_words(name: str, tmp_path: Path) -> None:
    for content, fault in itertools.islice(fuzz(READERS[name], tmp_path / "read", random.Random(name)), EXAMPLES):
        (tmp_path / "damaged").write_bytes(content)
        assert not fault, f"{tmp_path / 'damaged'}: {fault}"


def test_the_harness_sees_a_traceback_and_memory(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert "ZeroDivisionError" in fault_of(Reader(lambda _: path, lambda _: 1 / 0), path)
    assert "bytes of memory" in fault_of(Reader(lambda _: path, lambda _: bytearray(b"x") * (500 << 20)), path)
    assert fault_of(Reader(lambda _: path, lambda _: None), path) == ""


@pytest.mark.slow
def test_minutes_of_damaged_files(tmp_path: Path) -> None:
    """In a process of its own, which a fault in a library could end."""
    command = [sys.executable, "-m", "tests.attack.fuzz", str(tmp_path / "fuzz"), "180"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, f"{ended.returncode}\n{ended.stdout}\n{ended.stderr}"
    assert ended.stdout.splitlines()[-1].endswith("damaged files read: 0 faults")
