"""The store, and networks whose code changes: equal weights are not enough to take outputs for."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import invalidate_caches
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oodbench import Classifier
from oodbench.data.identity import _source_hash
from tests.small_runs import BRIGHT, TEST, benchmark
from tests.test_store import Heard, passed

NETWORK = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(64, 8), nn.Linear(8, 3)

    def forward(self, images):
        return self.head(torch.relu(self.body(images.flatten(1))))
"""

CHANGED = NETWORK.replace("torch.relu", "torch.tanh")

SCRIPT = """
import sys
from tests.test_store import passed
from oodbench import Benchmark, Classifier

torch.manual_seed(0)
classifier = Classifier(Net(), num_classes=3, image_shape=(1, 8, 8))
work = Benchmark(id=sys.argv[1], ood=(sys.argv[2],), detectors=("energy",))
print([passed(work, classifier)[1] for _ in range(2)])
"""


def test_a_script_whose_network_changed_has_another(tmp_path: Path, image_files: dict[str, str]) -> None:
    """Although it looks the same and has the same weights."""
    for network in (NETWORK, CHANGED):
        (tmp_path / "script.py").write_text(network + SCRIPT)
        command = [sys.executable, tmp_path / "script.py", image_files["id"], image_files["bright"]]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
        ended = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert ended.stdout.strip() == str([TEST + BRIGHT, 0]), ended.stderr


@pytest.mark.parametrize("readable", [True, False])
def test_a_network_whose_code_changed_is_another(
    tmp_path: Path, image_files: dict[str, str], monkeypatch: pytest.MonkeyPatch, readable: bool
) -> None:
    """Where the code cannot be read, nothing is kept, and that is said."""
    monkeypatch.syspath_prepend(tmp_path)
    # Python takes a compiled file for that of a source of the same size and second.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    work = benchmark(image_files, ood=(image_files["bright"],), detectors=("energy",))

    def classifier(code: str) -> Classifier:
        (tmp_path / "some_network.py").write_text(code)
        monkeypatch.delitem(sys.modules, "some_network", raising=False)
        _source_hash.cache_clear()  # once a process
        invalidate_caches()
        known: dict[str, Any] = {"__name__": "nowhere"}
        exec("from some_network import Net" if readable else code, known)
        torch.manual_seed(0)
        return Classifier(known["Net"](), num_classes=3, image_shape=(1, 8, 8))

    every, heard = TEST + BRIGHT, Heard()
    first, again = (passed(work, classifier(NETWORK), heard) for _ in range(2))
    assert (first[1], again[1]) == (every, 0 if readable else every)
    assert any("Net" in text and "is not kept" in text for text in heard.said) != readable
    assert any(text.startswith(f"{every:,} images passed no network") for text in heard.said) == readable
    changed, entered = passed(work, classifier(CHANGED))
    assert entered == every
    key = ("Net", "energy", "bright")
    assert not np.array_equal(changed.scores[key], first[0].scores[key])
