"""The run folder: what is written is read again to the bit, and what is damaged, unfinished or old is never shown."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oodbench import OodbenchError, Result
from oodbench.check import compare as check
from oodbench.detectors.base import Detector
from oodbench.detectors.spec import build
from oodbench.report.formats import to_csv, to_markdown
from oodbench.report.worst import Pictures
from oodbench.run_folder import check_replaced, load_arrays, save_arrays
from tests.report.conftest import gaussian_scores, write_run
from tests.scripts import ROOT

PLANTED = gaussian_scores({"good": 2.0, "<b>odd</b>": 0.5})
FITTED: dict[tuple[str, str], Detector] = {
    ("net", "lc"): build("lc").with_state({"weight": torch.arange(6.0).view(2, 3)}),
    ("net", "oodl"): build("oodl").with_state({"layer": "block/1", "rho": torch.tensor(0.5, dtype=torch.float64)}),
    ("a/b", "constant"): build("constant"),
}


@pytest.fixture
def result(tmp_path: Path) -> Result:
    """A run with everything that a run can have."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1), dtype=np.uint8)
    planted = Result.load(write_run(tmp_path / "planted", PLANTED))
    sheet = {"file": "pictures/inverted.png", "caption": "inverted"}
    classifiers = [one | {"sheet": sheet} for one in planted.card.classifiers]
    return replace(
        planted,
        card=replace(planted.card, classifiers=classifiers),
        pictures={("net", "near"): Pictures(np.array([0, 5]), pixels)},
        sheets={sheet["file"]: b"png"},
        fitted=FITTED,
    )


def test_detectors_have_their_names_of_today_in_runs_of_earlier_versions(tmp_path: Path) -> None:
    """What is msp was smood; both runs are the same one, and what was saved then is read now."""
    labels = ("smood", "react(base=smood,percentile=95)"), ("msp", "react(base=msp,percentile=95)")
    old, new = (
        Result.load(write_run(tmp_path / name, gaussian_scores(dict.fromkeys(of, 2.0))))
        for name, of in zip(("old", "new"), labels, strict=True)
    )
    assert [one["label"] for one in old.card.detectors] == [*labels[1]]
    assert {row["detector"] for row in old.card.metrics} == {*labels[1]} == {key[1] for key in old.scores}
    assert to_csv(old.leaderboard) == to_csv(new.leaderboard)
    on_cpu = (replace(one, card=replace(one.card, machine={"device": "cpu"})) for one in (old, new))
    assert not check(*on_cpu).drifts
    replace(old, fitted={("net", "smood"): build("msp")}).save(tmp_path / "saved")
    read = Result.load(tmp_path / "saved")
    assert read.guard("smood").detector == read.guard("msp").detector == build("msp")
    assert [*read.fitted] == [("net", "msp")] and read.fitted["net", "msp"] == build("smood")


def names_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_run_is_read_as_it_was_written(result: Result, tmp_path: Path) -> None:
    paths = result.save(tmp_path / "run")
    assert {str(path.relative_to(tmp_path / "run")) for path in paths} == names_in(tmp_path / "run")
    read = Result.load(tmp_path / "run")
    assert read.card == result.card and read.path == tmp_path / "run" / "card.json" == paths[-1]
    assert read.scores.keys() == result.scores.keys() and read.sheets == result.sheets
    for key, scores in result.scores.items():
        assert read.scores[key].dtype == np.float64 and read.scores[key].tobytes() == scores.tobytes()
    (key,) = read.pictures
    np.testing.assert_array_equal(read.pictures[key].indices, result.pictures[key].indices)
    np.testing.assert_array_equal(read.pictures[key].pixels, result.pictures[key].pixels)
    assert list(read.fitted) == list(FITTED)
    for name, detector in FITTED.items():
        state, again = detector.state, read.fitted[name].state
        assert read.fitted[name] == detector and again.keys() == state.keys()
        assert all(
            torch.equal(torch.as_tensor(again[one]), torch.as_tensor(state[one])) for one in state if one != "layer"
        )
        assert again.get("layer") == state.get("layer")


def test_a_run_is_saved_again_where_it_was_read(result: Result, tmp_path: Path) -> None:
    result.save(tmp_path / "run")
    before = {name: (tmp_path / "run" / name).read_bytes() for name in names_in(tmp_path / "run")}
    Result.load(tmp_path / "run").save(tmp_path / "run")
    after = {name: (tmp_path / "run" / name).read_bytes() for name in names_in(tmp_path / "run")}
    assert after.keys() == before.keys()
    # npz files have times in them, and safetensors orders its metadata by chance.
    changed = {Path(name).suffix for name in before if after[name] != before[name]}
    assert changed <= {".npz", ".safetensors"}
    read = Result.load(tmp_path / "run")
    assert all(read.fitted[name] == detector for name, detector in FITTED.items())


def test_nothing_is_left_of_an_earlier_run(result: Result, tmp_path: Path) -> None:
    result.save(tmp_path / "run")
    planted = Result.load(tmp_path / "planted")
    planted.save(tmp_path / "run")
    read = Result.load(tmp_path / "run")
    assert not read.pictures and not read.sheets and not read.fitted
    assert names_in(tmp_path / "planted") == {"card.json", "scores.npz"}, "saving elsewhere changed it"


@pytest.mark.parametrize("earlier", [True, False])
def test_a_run_that_ends_while_it_is_saved_is_no_run(
    result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, earlier: bool
) -> None:
    if earlier:
        result.save(tmp_path / "run")

    def full(*_: Any, **__: Any) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pandas.DataFrame.to_csv", full)
        with pytest.raises(OSError, match="no space"):
            result.save(tmp_path / "run")
    left = names_in(tmp_path / "run")
    assert "scores.npz" in left and "card.json" not in left and not any(Path(name).name[0] == "." for name in left)
    with pytest.raises(OodbenchError, match=r"there is no .*card\.json; give the folder of a run"):
        Result.load(tmp_path / "run")
    result.save(tmp_path / "run")
    assert Result.load(tmp_path / "run").card == result.card


def test_a_killed_save_leaves_no_card(result: Result, tmp_path: Path) -> None:
    """A real process, ended by the system between two of its files."""
    result.save(tmp_path / "run")
    code = """
import os, signal, sys, oodbench.report.formats as formats
from oodbench.run_folder import Result
formats.to_markdown = lambda board: os.kill(os.getpid(), signal.SIGKILL)
Result.load(sys.argv[1]).save(sys.argv[1])
"""
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")])
    assert ended.returncode == -9
    assert not (tmp_path / "run" / "card.json").exists() and (tmp_path / "run" / "scores.npz").exists()


names = st.text(st.sampled_from("ab/%2F5 =(,ü"), min_size=1, max_size=6)


@given(st.lists(st.tuples(names, names, names), min_size=1, max_size=5, unique=True))
def test_any_names_are_told_apart(tmp_path_factory: pytest.TempPathFactory, keys: list[tuple[str, str, str]]) -> None:
    path = tmp_path_factory.mktemp("names") / "scores.npz"
    save_arrays({key: np.array([float(number)]) for number, key in enumerate(keys)}, path)
    assert {key: values.tolist() for key, values in load_arrays(path).items()} == {
        key: [number] for number, key in enumerate(keys)
    }


def test_names_without_a_slash_are_written_as_ever_and_old_files_are_read(tmp_path: Path) -> None:
    values = np.array([1.5, -2.0])
    save_arrays({("net", "odin(norm=l2)", "near"): values}, tmp_path / "new.npz")
    assert np.load(tmp_path / "new.npz").files == ["net/odin(norm=l2)/near"]
    np.savez_compressed(tmp_path / "old.npz", **{"timm/net/odin(norm=l2)/near": values})
    assert list(load_arrays(tmp_path / "old.npz")) == [("timm/net", "odin(norm=l2)", "near")]


def test_a_damaged_file_is_refused_or_lacks_something_but_never_lies(tmp_path: Path) -> None:
    """Every byte changed in turn, and the file cut at every length."""
    path = tmp_path / "scores.npz"
    written = {("net", "a", "near"): np.arange(9.0) / 7, ("net", "b", "near"): np.arange(5.0) / 3}
    save_arrays(written, path)
    whole = path.read_bytes()
    changed = [
        whole[:n] + bytes([whole[n] ^ flip]) + whole[n + 1 :] for n in range(len(whole)) for flip in (1, 128, 255)
    ]
    refused = 0
    for content in [*changed, *(whole[:length] for length in range(len(whole)))]:
        path.write_bytes(content)
        try:
            read = load_arrays(path)
        except OodbenchError as error:
            refused += "scores.npz is damaged" in str(error)
        else:
            assert all(np.array_equal(written[key], values) for key, values in read.items())
    assert refused > 3 * len(whole), "hardly anything was refused"


@pytest.mark.parametrize(
    "content", ["", "{", "[1]", '{"a.safetensors": 3}', '{"a.safetensors": ["net"]}', '{"a.safetensors": [9, "msp"]}']
)
def test_a_damaged_index_is_named(result: Result, tmp_path: Path, content: str) -> None:
    result.save(tmp_path / "run")
    (tmp_path / "run/detectors/index.json").write_text(content)
    with pytest.raises(OodbenchError, match=r"index\.json is damaged"):
        Result.load(tmp_path / "run")


def test_a_detector_is_read_when_it_is_asked_for_and_not_from_elsewhere(result: Result, tmp_path: Path) -> None:
    result.save(tmp_path / "run")
    folder = tmp_path / "run" / "detectors"
    index = json.loads((folder / "index.json").read_text())
    (lc,) = [name for name, key in index.items() if key == ["net", "lc"]]
    (folder / lc).rename(tmp_path / "elsewhere.safetensors")
    index["../../elsewhere.safetensors"] = index.pop(lc)
    (folder / "index.json").write_text(json.dumps(index))
    read = Result.load(tmp_path / "run")
    assert len(read.fitted) == 3 and read.fitted["net", "oodl"] == FITTED["net", "oodl"]
    with pytest.raises(OodbenchError, match=r"detectors/elsewhere\.safetensors cannot be read"):
        read.fitted["net", "lc"]


def test_reading_and_showing_a_run_needs_no_network_library(result: Result, tmp_path: Path) -> None:
    result.save(tmp_path / "run")
    code = """
import sys
from oodbench import Result
result = Result.load(sys.argv[1])
assert len(result.fitted) == 3 and ("net", "lc") in result.fitted.keys()
repr(result), result.table, result._repr_html_()
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")]).returncode == 0


def test_a_run_is_a_report_of_one_run(result: Result, tmp_path: Path) -> None:
    """Its tables are the report's, and those of the committed run are made anew to the byte."""
    for one, folder in ((result, tmp_path / "a"), (Result.load(ROOT / "results/digits"), tmp_path / "b")):
        one.save(folder)
        assert (folder / "leaderboard.md").read_text() == to_markdown(one.leaderboard)
        table, report = (pd.read_csv(path) for path in (folder / "leaderboard.csv", _written(one, tmp_path)))
        pd.testing.assert_frame_equal(report[list(table.columns)], table)
        pd.testing.assert_frame_equal(one.table, table, check_dtype=False)
    for name in ("leaderboard.csv", "leaderboard.md"):
        assert (tmp_path / "b" / name).read_bytes() == (ROOT / "results/digits" / name).read_bytes()


def _written(result: Result, folder: Path) -> Path:
    (folder / "report.csv").write_text(to_csv(result.leaderboard))
    return folder / "report.csv"


def test_two_classifiers_of_one_architecture_keep_their_rows(tmp_path: Path) -> None:
    """As a run names them: after their content; in a report without --apart they would be repeats."""
    parts = [
        Result.load(write_run(tmp_path / name, PLANTED, model=f"net-{content[:6]}", content=content))
        for name, content in (("a", "a1" * 32), ("b", "b2" * 32))
    ]
    card = parts[0].card
    both = {name: [*getattr(card, name), *getattr(parts[1].card, name)] for name in ("sets", "classifiers", "metrics")}
    joined = Result(replace(card, **both), parts[0].scores | parts[1].scores)
    assert list(joined.table["model"].unique()) == ["net-a1a1a1", "net-b2b2b2"]
    assert len(joined.table) == len(joined.card.metrics)


def test_a_result_is_shown_in_a_few_lines() -> None:
    result = Result.load(ROOT / "results/digits")
    accuracy = 100 * result.card.classifier("cnn8")["id_accuracy"]
    assert repr(result) == (
        "Result of digits: digits as ID, 9 × detectors on 4 × OOD sets\n"
        f"  cnn8: ID accuracy {accuracy:.2f} %, highest mean AUROC 100.0 % by inversion"
    )


def test_a_result_without_rows_has_a_name_too(result: Result) -> None:
    assert repr(replace(result, card=replace(result.card, metrics=[]))).startswith("Result of planted")
    bare = [{name: value for name, value in row.items() if name != "auroc"} for row in result.card.metrics]
    assert "no AUROC" in repr(replace(result, card=replace(result.card, metrics=bare)))


def test_a_result_is_a_table_in_a_notebook(result: Result) -> None:
    page = result._repr_html_()
    assert "<b>" not in page and "&lt;b&gt;odd&lt;/b&gt;" in page
    rows = {row["detector"]: row for row in result.card.metrics if row["ood"] == "near"}
    for row in rows.values():
        assert f"{100 * row['auroc']:.1f}/{100 * row['fpr_at_95_id_recall']:>5.1f}" in page
    assert page.count("<tr>") == 3 and page.count("<table>") == 1 and "in percent" in page


@pytest.mark.parametrize("name", ["card.json", "scores.npz", "worst.npz", "leaderboard.md"])
def test_a_folder_where_a_file_goes_is_said(result: Result, tmp_path: Path, name: str) -> None:
    (tmp_path / "run" / name).mkdir(parents=True)
    with pytest.raises(OodbenchError, match=f"{name} is a folder"):
        result.save(tmp_path / "run")


def test_another_benchmarks_run_is_not_replaced_in_silence(result: Result, tmp_path: Path) -> None:
    benchmark = result.card.benchmark | {"detectors": ["msp"], "seed": 0}
    folder = tmp_path / "run"
    assert check_replaced(folder, benchmark) == ""
    replace(result, card=replace(result.card, benchmark=benchmark)).save(folder)
    assert "is replaced" in check_replaced(folder, benchmark)
    assert "is replaced" in check_replaced(folder, benchmark | {"detectors": None})
    with pytest.raises(OodbenchError, match=r"differs in seed.*--force"):
        check_replaced(folder, benchmark | {"seed": 1})
    (folder / "card.json").write_text("{")
    with pytest.raises(OodbenchError, match=r"no run.*--force"):
        check_replaced(folder, benchmark)
