"""The pytest plug-in and docs/regression-checks.md, in a temporary project that does what the document says."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from oodbench.check import ACROSS_DEVICES, SAME_DEVICE, load_baseline
from oodbench.detectors.odin import Odin
from tests.cli.conftest import Ended, oodbench  # noqa: F401 (a fixture)
from tests.threads import one_thread as one_thread

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs" / "regression-checks.md").read_text(encoding="utf-8")

# Where the installation is older than the entry point, the module is named.
LOADED = [] if entry_points(group="pytest11", name="oodbench") else ["-p", "oodbench.pytest_plugin"]


def blocks(language: str) -> list[str]:
    """The document's code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, flags=re.MULTILINE | re.DOTALL)


def make_project(folder: Path) -> None:
    """What the document takes for granted: a test and a training set, a checkpoint, a test file."""
    for name in ("data", "baselines", "tests"):
        (folder / name).mkdir()
    digits = load_digits()
    images = (digits.images * 255 / 16).astype(np.uint8)
    np.savez(folder / "data" / "mine_test.npz", images=images[:50], labels=digits.target[:50])
    np.savez(folder / "data" / "mine_train.npz", images=images[50:200], labels=digits.target[50:200])
    shutil.copy(ROOT / "results" / "baselines" / "digits-cnn8.safetensors", folder / "baselines" / "mine.safetensors")
    (test,) = blocks("python")
    (folder / "tests" / "test_scores.py").write_text(test)


def test_the_fixture_fails_without_a_baseline_writes_on_request_and_bites(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_project(pytester.path)
    baseline = pytester.path / "baselines" / "scores"

    missing = pytester.runpytest_inprocess(*LOADED)
    missing.assert_outcomes(failed=1)
    missing.stdout.fnmatch_lines(["*there is no baseline *scores;*"])
    assert not baseline.exists()

    written = pytester.runpytest_inprocess(*LOADED, "--oodbench-update")
    written.assert_outcomes(passed=1)
    written.stdout.fnmatch_lines(["*oodbench baselines*", f"wrote {baseline}: a new baseline"])
    assert load_baseline(baseline).card.benchmark["models"] == ["../mine.safetensors"]

    held = pytester.runpytest_inprocess(*LOADED)
    held.assert_outcomes(passed=1)
    assert "oodbench baselines" not in held.stdout.str()

    honest, before = Odin.score, (baseline / "scores.npz").read_bytes()
    monkeypatch.setattr(Odin, "score", lambda self, outputs: -honest(self, outputs))
    # Where it is not in a file, a store does not see that code has changed.
    monkeypatch.setenv("OODBENCH_CACHE", str(pytester.path / "cache"))
    drifted = pytester.runpytest_inprocess(*LOADED)
    drifted.assert_outcomes(failed=1)
    drifted.stdout.fnmatch_lines(["*AssertionError*", "*drift: *", "*subject *what *baseline *now *difference*"])
    drifted.stdout.fnmatch_lines(["*odin/mine_test *score of image *50 of 50 moved*"])
    assert "pytest_plugin.py" not in drifted.stdout.str(), "the traceback should end in the user's test"
    assert (baseline / "scores.npz").read_bytes() == before

    accepted = pytester.runpytest_inprocess(*LOADED, "--oodbench-update")
    accepted.assert_outcomes(passed=1)
    accepted.stdout.fnmatch_lines([f"wrote {baseline}: drift: *", "*odin/mine_test *"])
    pytester.runpytest_inprocess(*LOADED).assert_outcomes(passed=1)


def test_the_plug_in_is_registered() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    assert declared == {"oodbench": "oodbench.pytest_plugin"}


def test_the_plug_in_imports_nothing_heavy() -> None:
    code = (
        "import sys, oodbench.pytest_plugin; sys.exit(bool({'torch', 'numpy', 'pandas', 'click'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_document_does_what_it_says(
    oodbench: Callable[..., Ended],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its commands in a fresh project, then the workflow's, in a shell as there."""
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    commands = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(commands) == 3
    for command in commands:
        name, *arguments = shlex.split(command)
        assert name == "oodbench"
        ended = oodbench(*arguments)
        assert ended.code == 0, ended.out + ended.err

    (workflow,) = blocks("yaml")
    runs = re.findall(r"^ +- run: (.+)$", workflow, flags=re.MULTILINE)
    checks = [line for line in runs if not line.startswith("pip install")]
    assert checks == ["oodbench check --baseline baselines/mine --device cpu"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def in_shell(command: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"}
        return subprocess.run(["bash", "-e", "-c", command], env=environment, capture_output=True, text=True)

    fine = in_shell(checks[0])
    assert fine.returncode == 0 and fine.stdout.startswith("no drift"), fine.stdout + fine.stderr
    pixels = dict(np.load("data/mine_test.npz"))
    pixels["images"][9, 0, 0] ^= 64
    np.savez("data/mine_test.npz", **pixels)
    changed = in_shell(checks[0])
    assert changed.returncode == 1, changed.stdout + changed.stderr
    assert re.search(r"set mine_test \(ID test\) of cnn8 +content hash", changed.stdout)
    assert "score of image 9" in changed.stdout


def test_the_document_has_the_tolerances_of_the_code() -> None:
    rows = {f"both {name}": tolerance for name, tolerance in SAME_DEVICE.items()} | {"two of these": ACROSS_DEVICES}
    table = "\n".join(f"| {name} | {t.usual:g} | {t.largest:g} | {t.metric:g} |" for name, t in rows.items())
    assert table in DOCUMENT
