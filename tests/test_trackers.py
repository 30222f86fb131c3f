"""The examples of docs/trackers.md, executed offline where the trackers are installed: what was measured is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from oodbench.run_folder import Result
from tests.test_docs import ROOT, blocks

MLFLOW, WANDB = blocks("trackers.md")


@pytest.fixture
def result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Result:
    monkeypatch.chdir(tmp_path)
    return Result.load(ROOT / "results" / "digits")


def means(result: Result) -> dict[str, float]:
    table = result.table
    return {name: table[table["detector"] == name]["auroc"].mean() for name in table["detector"].unique()}


def test_each_example_is_short() -> None:
    assert all(len([line for line in code.splitlines() if line]) <= 12 for code in (MLFLOW, WANDB))


def test_mlflow_has_what_was_measured(result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "tracked").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # the database of the whole package is not in mlflow-skinny
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed (pip install mlflow-skinny)")
    exec(MLFLOW, {"result": result})
    (run,) = mlflow.search_runs(experiment_names=["oodbench"], output_format="list")
    assert run.data.params["id"] == "digits"
    assert run.data.metrics == pytest.approx({f"auroc/{name}": value for name, value in means(result).items()})
    artifacts = next((tmp_path / "tracked").rglob("card.json")).parent
    assert Result.load(artifacts).card == result.card


def test_wandb_has_what_was_measured(result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"MODE": "offline", "DIR": str(tmp_path), "SILENT": "true", "ERROR_REPORTING": "false"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    for name in ("CACHE_DIR", "CONFIG_DIR", "DATA_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(tmp_path / "wandb-home"))
    pytest.importorskip("wandb", reason="wandb is not installed (pip install wandb)")
    exec(WANDB, {"result": result})
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    (kept,) = folder.rglob("rows*.table.json")
    table = json.loads(kept.read_text(encoding="utf-8"))
    rows = {(row[2], row[3]): row[table["columns"].index("auroc")] for row in table["data"]}
    assert rows == pytest.approx({(line.detector, line.ood): line.auroc for line in result.table.itertuples()})
    (log,) = folder.glob("*.wandb")
    assert all(f"auroc/{name}".encode() in log.read_bytes() for name in means(result))
    assert Result.load(tmp_path / "results" / "tracked").card == result.card
