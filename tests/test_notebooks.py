"""The notebooks of the documentation, whose code cells are executed in their order, as Jupyter would."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from tests.threads import one_thread as one_thread

NOTEBOOKS = Path(__file__).parents[1] / "docs" / "notebooks"


def notebook(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))
    return found


def executed(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that its cells leave."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    module = types.ModuleType(f"notebook_{name.replace('-', '_')}")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # where classes of a cell are found again
    for number, cell in enumerate(notebook(name)["cells"]):
        if cell["cell_type"] == "code":
            code = compile("".join(cell["source"]), f"{name}, cell {number}", "exec", dont_inherit=True)
            exec(code, module.__dict__)
    return module.__dict__


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_notebooks_are_kept_without_outputs_and_listed() -> None:
    index = (NOTEBOOKS / "index.md").read_text(encoding="utf-8")
    found = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    assert found == ["inversion", "own-detector", "quick-start"]
    for name in found:
        assert f"({name}.ipynb)" in index
        cells = notebook(name)["cells"]
        assert len({cell["id"] for cell in cells}) == len(cells)
        assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells if "outputs" in cell)


@pytest.mark.slow
def test_the_quick_start_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    names = executed("quick-start", monkeypatch)
    assert set(names["table"].detector) == {"msp", "energy", "knn"} and set(names["table"].ood) == {
        "gaussian",
        "photos",
    }
    assert set(names["scores"]) == {"digits", "gaussian", "photos"}
    flagged = names["flagged"]
    assert 0 < flagged["digits"] <= 0.05 < flagged["gaussian"] and Path("guard.safetensors").exists()


@pytest.mark.slow
def test_the_own_detector_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    names = executed("own-detector", monkeypatch)
    detectors = set(names["result"].table.detector)
    own = {f"notebook_own_detector:NearestMean{given}" for given in ("", "(order=1)")}
    assert detectors == {"msp", "knn"} | own
    assert "average rank" in capsys.readouterr().out


@pytest.mark.slow
def test_the_inversion_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    names = executed("inversion", monkeypatch)
    accuracy = float(names["outcome"].summary["inversion_accuracy"].iloc[0])
    assert accuracy > 0.9 and names["images"].shape[0] == 100
    assert set(names["result"].table.ood) == {"made", "gaussian"}
