"""Small tensors arrive on a device as they were."""

from __future__ import annotations

import pytest
import torch

from oodbench.transfer import sent


def test_on_the_cpu_nothing_is_copied() -> None:
    tensor = torch.arange(6)
    assert sent(tensor, "cpu") is tensor


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_values_are_the_same() -> None:
    tensor = torch.arange(6).reshape(2, 3).expand(4, 2, 3)
    there = sent(tensor, "cuda")
    assert there.device.type == "cuda" and torch.equal(there.cpu(), tensor)
    assert sent(there, "cuda") is there
