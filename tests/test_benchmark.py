"""Benchmarks: the default one, however it is asked for, and the same work from Python and the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from oodbench import Benchmark, Card, Classifier, OodbenchError, run
from oodbench.detectors.logits import Energy
from oodbench.detectors.odin import Odin
from oodbench.plan import Machine, make_plan
from tests.cli.conftest import Ended, oodbench  # noqa: F401 (a fixture)
from tests.test_plan import CHECKPOINT, Heard


def test_the_default_is_the_one_that_comes_with_the_package() -> None:
    default, loaded = Benchmark(), Benchmark.load("digits")
    assert default == loaded and default.as_dict() == loaded.as_dict()
    assert default.short_hash() == loaded.short_hash() and default.name == "digits"
    plans = [make_plan(one, Machine()) for one in (default, loaded)]
    assert plans[0].benchmark == plans[1].benchmark and [*plans[0].detectors] == [*plans[1].detectors]


@pytest.mark.parametrize(
    "changes",
    [{"limit": 50}, {"seed": 1}, {"id": "mnist"}, {"ood": ("uniform",)}, {"parameters": {"odin.epsilon": 0.1}}],
)
def test_another_benchmark_has_another_name_and_hash(changes: dict[str, Any]) -> None:
    other = Benchmark(**changes)
    assert other.name == "custom" and other.short_hash() != Benchmark().short_hash()
    assert replace(other, name="mine").name == "mine"


def test_what_python_holds_goes_through_toml(tmp_path: Path) -> None:
    work = Benchmark(ood=("uniform",), detectors=("odin(norm=l2)",), limit=9, parameters={"odin.epsilon": 0.1})
    lines = [f"{key} = {value!r}" for key, value in work.as_dict().items() if value and key != "parameters"]
    (tmp_path / "mine.toml").write_text("\n".join([*lines, "[parameters]", '"odin.epsilon" = 0.1']))
    assert Benchmark.load(str(tmp_path / "mine.toml")) == work


def test_detectors_may_be_objects(small_classifier: Classifier, image_files: dict[str, str]) -> None:
    sets = {"id": image_files["id"], "ood": (image_files["bright"],)}
    objects = run(Benchmark(**sets, detectors=(Odin(norm="l2"), Energy(temperature=2.0))), [small_classifier])
    names = run(Benchmark(**sets, detectors=("odin(norm=l2)", "energy(temperature=2)")), [small_classifier])
    assert objects.card.metrics == names.card.metrics
    assert objects.card.benchmark == names.card.benchmark
    with pytest.raises(OodbenchError, match="must be a list"):
        Benchmark(**sets, detectors=(3,))


CASES = {
    "another classifier": ({"models": (str(CHECKPOINT),), "ood": ("uniform",)}, ["--model", CHECKPOINT]),
    "another ID set": ({"id": "ID", "ood": ("uniform",)}, ["--id", "ID"]),
}


@pytest.mark.parametrize(("changes", "options"), CASES.values(), ids=CASES)
def test_python_and_the_command_line_run_the_same(
    oodbench: Callable[..., Ended],  # noqa: F811
    image_files: dict[str, str],
    tmp_path: Path,
    changes: dict[str, Any],
    options: list[Any],
) -> None:
    """And leave out the same detectors, those that would have a classifier trained on what is the user's."""
    changes = {key: image_files["id"] if value == "ID" else value for key, value in changes.items()}
    options = [image_files["id"] if option == "ID" else option for option in options]
    heard = Heard()
    result = run(Benchmark(**changes, limit=20), reporter=heard)
    ended = oodbench("run", *options, "--ood", "uniform", "--limit", "20", "--out", tmp_path / "out")
    assert ended.code == 0, ended.err
    card = Card.load(tmp_path / "out" / "card.json")
    assert card.benchmark == result.card.benchmark and card.metrics == result.card.metrics
    left_out = "left out: inversion, which would train a classifier; to run it, name it with --detector"
    assert left_out in ended.err and left_out in heard.said and left_out in card.notes
    assert card.notes == result.card.notes
    assert "inversion" not in set(result.table.detector) and "oodl" in set(result.table.detector)


def test_a_classifier_of_ones_own_is_anothers_too(small_classifier: Classifier, image_files: dict[str, str]) -> None:
    plan = make_plan(Benchmark(id=image_files["id"], ood=("uniform",)), Machine(), [small_classifier])
    assert any("left out: inversion" in note for note in plan.notes) and "inversion" not in plan.detectors


def test_progress_is_printed_where_it_is_asked_for(
    small_classifier: Classifier, image_files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    work = Benchmark(id=image_files["id"], ood=(image_files["dark"],), detectors=("energy",))
    run(work, [small_classifier])
    assert capsys.readouterr().err == ""
    run(work, [small_classifier], Machine(store=False), progress=True)
    printed = capsys.readouterr().err
    assert "0% done: looking for the data and the classifiers" in printed and "resized 12×10 → 8×8" in printed
