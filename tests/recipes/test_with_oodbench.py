"""The classifiers that come with oodbench are those that the default run would train, and no others."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from oodbench import Benchmark, Machine, Result, run
from oodbench.check import compare, rerun
from oodbench.cli import oodbench
from oodbench.data.imageset import ImageSet
from oodbench.data.load import load_id
from oodbench.data.preprocess import stretched
from oodbench.errors import OodbenchError
from oodbench.models.checkpoint import load_checkpoint
from oodbench.plan import Plan, make_plan
from oodbench.progress import Reporter
from oodbench.recipes.catalogue import RECIPES
from oodbench.recipes.obtain import WITH_OODBENCH, Wanted, obtain, with_oodbench
from tests.recipes.test_obtain import Said
from tests.scripts import ROOT

CPU = torch.device("cpu")
ALONE = Machine(device="cpu", store=False)


def planned(**changes: Any) -> Plan:
    return make_plan(replace(Benchmark(), **changes), Machine(device="cpu"))


@pytest.fixture
def nothing_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(architecture: str, *_: Any, **__: Any) -> None:
        raise OodbenchError(f"{architecture} would be trained")

    recipes = {name: replace(one, train=refused if one.train else None) for name, one in RECIPES.items()}
    monkeypatch.setattr("oodbench.recipes.catalogue.RECIPES", recipes)


def test_all_that_the_default_run_trains_comes_with_oodbench(nothing_is_trained: None) -> None:
    """Where this fails a recipe has changed: CONTRIBUTING.md says how its classifier is made anew."""
    plan, said = planned(), Said()
    files = [with_oodbench(one.wanted, plan.whole) for one in plan.assignments]
    assert {path.name.removesuffix(".png") for path in WITH_OODBENCH.iterdir()} == {one and one.name for one in files}
    for one, path in zip(plan.assignments, files, strict=True):
        assert path is not None
        got = obtain(one.wanted, plan.whole, CPU, said)
        assert (got.sheet is None) == (one.recipe.sheet is None)
        assert got.classifier.training == load_checkpoint(path).record and path.stat().st_size < 300_000
    assert [text.count("comes with oodbench") for text in said.texts] == [1] * len(files)


def test_what_they_were_trained_by_is_what_would_train_them_now() -> None:
    """By the record inside: a file of another training under the right name would not do."""
    plan = planned()
    for one in plan.assignments:
        checkpoint = load_checkpoint(with_oodbench(one.wanted, plan.whole) or Path())
        record, defaults = checkpoint.record, one.recipe.defaults(plan.whole, one.wanted.architecture, False)
        assert checkpoint.verified and record["settings"] == asdict(defaults)
        assert record.get("recipe", "plain") == one.wanted.recipe and checkpoint.architecture == one.wanted.architecture
        assert record["fit"]["sha256"] == plan.whole.fit.content_hash and record["id"] == plan.whole.name


@pytest.mark.parametrize(
    "changes",
    [
        {"retrain": True},
        {"recipe": "confidence"},
        {"recipe": "garbage", "parameters": {"seed": 1}},
        {"recipe": "garbage", "parameters": {"steps": 7}},
        {"architecture": "cnn28"},
        {"form": stretched((3, 8, 8))},
    ],
    ids=str,
)
def test_they_serve_for_nothing_else(nothing_is_trained: None, changes: dict[str, Any]) -> None:
    digits = load_id("digits", data_root=None, seed=0)
    wanted = replace(Wanted("own", "cnn8", stretched((1, 8, 8))), **changes)
    assert with_oodbench(wanted, digits) is None
    with pytest.raises(OodbenchError, match="would be trained"):
        obtain(wanted, digits, CPU, Reporter())


@pytest.mark.parametrize("images", ["fit", "labels"])
def test_they_serve_for_no_other_images(images: str) -> None:
    digits, usual = load_id("digits", data_root=None, seed=0), Wanted("own", "cnn8", stretched((1, 8, 8)))
    assert with_oodbench(usual, digits) is not None
    assert digits.fit.labels is not None
    fit = digits.fit.subset(np.arange(1, len(digits.fit)), "") if images == "fit" else relabelled(digits.fit)
    assert with_oodbench(usual, replace(digits, fit=fit)) is None


def relabelled(images: ImageSet) -> ImageSet:
    assert images.labels is not None
    return ImageSet(images.name, images.source, images.origin, images.labels[::-1])


def test_retrain_trains_whatever_a_run_would_read(nothing_is_trained: None, tmp_path: Path) -> None:
    for detectors, recipe in (("msp", "plain"), ("inversion", "garbage")):
        for retrain in (False, True):
            (one,) = planned(detectors=(detectors,), retrain=retrain).assignments
            assert (one.wanted.recipe, one.wanted.retrain) == (recipe, retrain)
    ended = CliRunner().invoke(oodbench, ["run", "--retrain", "--detector", "msp", "--out", str(tmp_path / "out")])
    assert isinstance(ended.exception, OodbenchError) and "cnn8 would be trained" in str(ended.exception)


def test_a_run_on_them_is_a_baseline_and_one_that_trains_anew_is_none(nothing_is_trained: None, tmp_path: Path) -> None:
    work = Benchmark(ood=("uniform",), detectors=("msp", "inversion"), limit=20, fit_limit=20)
    run(work, machine=ALONE).save(tmp_path)
    baseline = Result.load(tmp_path)
    assert not compare(baseline, rerun(baseline, ALONE)).drifts
    card = replace(baseline.card, benchmark=replace(work, retrain=True).as_dict())
    with pytest.raises(OodbenchError, match="a new one would be trained"):
        rerun(replace(baseline, card=card), ALONE)


@pytest.mark.slow
def test_the_committed_run_holds_here() -> None:
    """Also on another processor, where single scores differ in rounding."""
    committed = Result.load(ROOT / "results/digits")
    comparison = compare(committed, rerun(committed, ALONE))
    assert not comparison.drifts, str(comparison)


@pytest.mark.slow
def test_trained_anew_they_go_the_same_way(own_cache: Path) -> None:
    """Rounding parts the trainings of two machines in time; another start, order or schedule does at once."""
    plan = planned(retrain=True)
    for one in plan.assignments:
        old = load_checkpoint(with_oodbench(replace(one.wanted, retrain=False), plan.whole) or Path()).record
        new = obtain(one.wanted, plan.whole, CPU, Reporter()).classifier.training
        assert new.keys() == old.keys() and new["settings"] == old["settings"]
        assert abs(new["accuracy"] - old["accuracy"]) <= 0.01
        if one.wanted.recipe == "plain":
            assert abs(new["accuracies"][0] - old["accuracies"][0]) <= 0.01
        else:
            assert new["report"]["inversions"] == old["report"]["inversions"]
            assert abs(new["report"]["fooled"] - old["report"]["fooled"]) <= 0.05
