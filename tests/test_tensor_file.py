"""Sealed files: equal in bytes wherever they are written, read by the library, and whole or refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from oodbench.tensor_file import read_sealed, sealed

TENSORS = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.tensor([1, 2, 3]), "none": torch.zeros(0, 4)}
FACTS = {"a": "ä", "second": "{}", "third": "x" * 7, **{str(number): "" for number in range(9)}}

WRITE = """
import sys, torch
from oodbench.tensor_file import sealed
from tests.test_tensor_file import FACTS, TENSORS
sys.stdout.buffer.write(sealed(TENSORS, FACTS))
"""


def test_the_bytes_are_the_same_in_every_process() -> None:
    written = {subprocess.run([sys.executable, "-c", WRITE], capture_output=True, check=True).stdout for _ in range(2)}
    assert written == {sealed(TENSORS, FACTS)}


def test_the_library_and_the_package_read_the_same(tmp_path: Path) -> None:
    path = tmp_path / "one.safetensors"
    content = sealed(TENSORS, FACTS)
    path.write_bytes(content)
    assert int.from_bytes(content[:8], "little") % 8 == 0, "tensors are aligned"
    tensors, facts = read_sealed(path)
    with safe_open(path, framework="pt") as file:
        assert {**facts, "checksum": file.metadata()["checksum"]} == file.metadata() and facts == FACTS
        for name, tensor in TENSORS.items():
            assert torch.equal(file.get_tensor(name), tensor) and torch.equal(tensors[name], tensor)
            assert tensors[name].dtype == tensor.dtype


@pytest.mark.parametrize("place", [0, 9, 40, -1])
def test_a_changed_byte_or_a_missing_end_is_no_such_file(tmp_path: Path, place: int) -> None:
    path = tmp_path / "one.safetensors"
    content = bytearray(sealed(TENSORS, FACTS))
    content[place] ^= 1
    for damaged in (bytes(content), sealed(TENSORS, FACTS)[:-1], b""):
        path.write_bytes(damaged)
        with pytest.raises(ValueError):
            read_sealed(path)
