"""One test for each silent fault of a report that was found in another suite: none of them may live here."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from oodbench.errors import OodbenchError
from oodbench.metrics import METRICS
from oodbench.report.comparison import compare
from oodbench.report.formats import FORMATS, to_csv
from oodbench.run_folder import Result
from tests.report.conftest import gaussian_scores, write_run


def runs(folder: Path, count: int) -> list[Path]:
    """One run a classifier, each a little better than the last."""
    return [
        write_run(folder / str(n), gaussian_scores({"a": 1 + n / 5, "b": 0.5}, seed=n), content=f"{n:02d}" * 32)
        for n in range(count)
    ]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("intervals", [False, True])
def test_fault_15_plus_minus_zero_from_a_single_run(tmp_path: Path, format: str, intervals: bool) -> None:
    """OpenOOD's eval_ood.py: np.std over one run is 0, so the least supported rows looked the most certain."""
    board = compare([Result.load(path) for path in runs(tmp_path, 1)], intervals, grouped=True)
    text = FORMATS[format](board)
    assert "±" not in text and r"\pm" not in text
    if format == "csv":
        table = pd.read_csv(io.StringIO(text))
        spreads = [name for name in table if name.endswith("_spread")]
        assert len(spreads) == len(METRICS) + 1 and table[spreads].isna().all(axis=None)
        assert (table["runs"] == 1).all()
    elif format == "json":
        rows = json.loads(text)
        assert {row["runs"] for row in rows} == {1}
        assert all(row[name] is None for row in rows for name in row if name.endswith("_spread"))
    else:
        assert "runs: 1" in text


def test_fault_15_the_spread_of_few_runs_has_n_minus_1(tmp_path: Path) -> None:
    """OpenOOD divided by n: 18 % below the sample deviation for three runs."""
    paths = runs(tmp_path, 3)
    table = pd.read_csv(io.StringIO(to_csv(compare([Result.load(path) for path in paths]))))
    each = [pd.read_csv(io.StringIO(to_csv(compare([Result.load(path)])))) for path in paths]
    for name in METRICS:
        values = np.array([one[name] for one in each])
        assert table[name].to_numpy() == pytest.approx(values.mean(axis=0))
        assert table[f"{name}_spread"].to_numpy() == pytest.approx(values.std(axis=0, ddof=1))
    assert (table["runs"] == 3).all()


@pytest.mark.parametrize("format", ["md", "html", "latex"])
def test_fault_15_images_and_trainings_vary_apart(tmp_path: Path, format: str) -> None:
    """The spread between runs is no sampling error of the images; each has its own sign, and n of runs is shown."""
    board = compare([Result.load(path) for path in runs(tmp_path, 2)], intervals=True)
    text = FORMATS[format](board).replace(r"$\pm$", "±")
    assert re.search(r"\d\d\.\d ± \d+\.\d \[\d\d\.\d, \d\d\.\d\]", text) and "runs: 2" in text
    auroc = board.rows[0].metrics["auroc"]
    assert auroc.spread is not None and auroc.interval is not None
    assert auroc.interval.high - auroc.interval.low != pytest.approx(2 * 1.96 * auroc.spread, rel=0.01)


@pytest.mark.parametrize("format", ["csv", "md", "html"])
def test_fault_47_rows_of_different_images_under_one_name(tmp_path: Path, format: str) -> None:
    """One name "TinyImageNet" stood for three sets: counts are on the rows, and other content is refused."""
    first, second = runs(tmp_path, 2)
    board = compare([Result.load(first)])
    assert "120" in FORMATS[format](board) and "90" in FORMATS[format](board)
    write_run(second, gaussian_scores({"a": 1.0, "b": 0.5}), content="ff" * 32, hashes={"near": "e" * 64})
    with pytest.raises(OodbenchError, match=r"OOD set 'near' has content near.* and eeeeeeeeeeee"):
        compare([Result.load(first), Result.load(second)])
