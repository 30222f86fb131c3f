"""Runs whose detectors read classifiers of their own: what passes, which rows, what the card says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oodbench import Card, Classifier, Result, run
from oodbench.recipes.catalogue import PLAIN, RECIPES
from oodbench.recipes.obtain import Obtained, Wanted, obtain
from oodbench.recipes.sheet import Sheet
from oodbench.report.formats import to_markdown
from oodbench.report.runs import measurements
from tests.recipes.conftest import QUICK, quick_training
from tests.small_runs import ANEW, BRIGHT, DARK, FIT, TEST, benchmark, count_entering, linear, proxies

OWN = ("msp", "inversion", "oodl", "inversion(reading=certainty)")


@pytest.fixture
def own_classifiers(monkeypatch: pytest.MonkeyPatch) -> list[Classifier]:
    """Own classifiers are trained in no time; the list fills with them as they are obtained."""
    obtained: list[Classifier] = []

    def noting(wanted: Wanted, *arguments: Any) -> Obtained:
        got = obtain(wanted, *arguments)
        if wanted.recipe != PLAIN:
            obtained.append(got.classifier)
        return got

    quick = replace(RECIPES["garbage"], settings=lambda *_: QUICK)
    monkeypatch.setattr("oodbench.recipes.catalogue.RECIPES", {**RECIPES, "garbage": quick})
    monkeypatch.setattr("oodbench.runner.obtain", noting)
    return obtained


def give(monkeypatch: pytest.MonkeyPatch, own: Classifier, sheet: Sheet | None = None) -> list[Wanted]:
    """Whatever detectors want of their own, they are given this; the list fills with what they want."""
    wanted: list[Wanted] = []

    def giving(one: Wanted, *arguments: Any) -> Obtained:
        if one.recipe == PLAIN:
            return obtain(one, *arguments)
        wanted.append(one)
        return Obtained(own, sheet)

    monkeypatch.setattr("oodbench.runner.obtain", giving)
    return wanted


def test_an_own_classifier_sees_every_scored_image_once_and_nothing_to_fit(
    small_classifier: Classifier, image_files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = linear(4)
    give(monkeypatch, own)
    results: list[Result] = []
    entered: list[int] = []
    work = benchmark(image_files, detectors=OWN)
    entered.append(
        count_entering(
            own,
            lambda: entered.append(
                count_entering(small_classifier, lambda: results.append(run(work, [small_classifier])))
            ),
        )
    )
    assert entered == [FIT + proxies(results[0]) + TEST + BRIGHT + DARK, TEST + BRIGHT + DARK]
    base, record = results[0].card.classifiers
    assert base["images"]["fit"]["forward"] == FIT and "fit" not in record["images"]
    assert (record["name"], record["models"]) == ("small+inversion", ["small"])
    assert record["detectors"] == ["inversion", "inversion(reading=certainty)"]
    assert base["detectors"] == ["msp", "oodl"]


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("alone", [True, False])
def test_an_own_classifier_that_serves_several_models_is_passed_once(
    small_classifier: Classifier,
    image_files: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: bool,
    alone: bool,
) -> None:
    """A checkpoint that is given serves models of any architecture; one that is trained, those of its own."""
    own, bases = linear(4), [small_classifier, linear(3, "resnet20" if given else "linear")]
    models, detectors = [one.name for one in bases], ("inversion",) if alone else ("msp", "inversion", "oodl")
    checkpoint = tmp_path / "own.safetensors"
    quick_training(checkpoint)
    wanted = give(monkeypatch, own, Sheet("inversions", "what it was inverted to", b"png"))
    work = benchmark(image_files, detectors=detectors, models=(str(checkpoint),) if given else ())
    results: list[Result] = []
    assert count_entering(own, lambda: results.append(run(work, bases))) == TEST + BRIGHT + DARK
    assert [one.reference for one in wanted] == [str(checkpoint) if given else None]
    card, scores = results[0].card, results[0].scores
    record = card.classifiers[-1]
    rows_of = ["small+inversion"] if alone else models
    assert record["models"] == rows_of and [*results[0].sheets] == [record["sheet"]["file"]]
    assert [*results[0].table.model] == [model for model in rows_of for _ in range(2 * len(detectors))]
    assert [*results[0].table.detector] == [*detectors] * 2 * len(rows_of)
    for name in ("rot_test", "bright", "dark"):
        for model in rows_of:
            np.testing.assert_array_equal(scores[model, "inversion", name], scores[rows_of[0], "inversion", name])
    results[0].save(tmp_path / "out")
    found = measurements([Result.load(tmp_path / "out")])
    own_ones = [one for one in found if one.detector == "inversion"]
    assert len(found) == len(card.metrics) and {one.read for one in own_ones} == {own.content_hash()}
    assert all(one.own_classifier != alone for one in own_ones)


def test_other_detectors_score_as_if_there_were_no_own_classifier(
    small_classifier: Classifier, image_files: dict[str, str], own_classifiers: list[Classifier]
) -> None:
    alone = run(benchmark(image_files, detectors=("msp", "oodl")), [small_classifier], ANEW)
    beside = run(benchmark(image_files, detectors=OWN), [small_classifier], ANEW)
    assert len(own_classifiers) == 1
    for key, scores in alone.scores.items():
        np.testing.assert_array_equal(scores, beside.scores[key])
    shared = [row for row in beside.card.metrics if row["detector"] in ("msp", "oodl")]
    assert shared == alone.card.metrics
    # Nor are the images recorded twice.
    assert beside.card.sets == alone.card.sets


def test_rows_of_own_classifiers_stand_in_the_same_table(
    small_classifier: Classifier, image_files: dict[str, str], own_classifiers: list[Classifier], tmp_path: Path
) -> None:
    result = run(benchmark(image_files, detectors=OWN), [small_classifier])
    assert list(result.table.detector) == [*OWN, *OWN] and set(result.table.model) == {"small"}
    (own,) = own_classifiers
    stored = np.load(image_files["id"].removeprefix("npz:"))
    bright = np.load(image_files["bright"].removeprefix("npz:"))["images"]
    with own.inference(), torch.no_grad():
        predicted, of_bright = (
            own(torch.from_numpy(images)[:, None] / 255).argmax(1).numpy() for images in (stored["images"], bright)
        )
    rows = {row["detector"]: row for row in result.card.metrics if row["ood"] == "bright"}
    assert rows["inversion"]["id_accuracy"] == pytest.approx((predicted == stored["labels"]).mean())
    assert rows["inversion"]["garbage_share"] == pytest.approx((of_bright == 3).mean())
    assert rows["msp"]["garbage_share"] is None
    assert rows["msp"]["id_accuracy"] == result.card.classifiers[0]["id_accuracy"]
    result.save(tmp_path / "out")
    assert Card.load(tmp_path / "out" / "card.json") == result.card
    text, accuracy = to_markdown(result.leaderboard), f"{100 * result.card.classifiers[1]['id_accuracy']:.2f}"
    assert "nan" not in text
    assert f"of their own: inversion {accuracy} %, inversion(reading=certainty) {accuracy} %." in text
    assert len(measurements([Result.load(tmp_path / "out")])) == len(result.table)


def test_the_card_says_how_classifiers_were_trained_where_that_is_known(
    small_classifier: Classifier, image_files: dict[str, str], own_classifiers: list[Classifier], tmp_path: Path
) -> None:
    """Each by its own record, without the folders of the machine that trained it."""
    result = run(benchmark(image_files, detectors=OWN), [small_classifier])
    public, own = result.card.classifiers
    assert "training" not in public
    training = own["training"]
    assert (training["recipe"], training["id"]) == ("garbage", "rot_test")
    assert training["settings"]["weight"] == QUICK.weight and training["report"]["inversions"] > 0
    assert training["fit"]["sha256"] == own_classifiers[0].training["fit"]["sha256"]
    assert str(tmp_path.parent) in own_classifiers[0].training["fit"]["origin"]
    assert str(tmp_path.parent) not in str(result.card.classifiers)


def test_the_sheet_of_the_training_goes_with_the_run(
    small_classifier: Classifier,
    image_files: dict[str, str],
    own_classifiers: list[Classifier],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the classifier was trained just now, where it comes from the cache, and where it is given."""
    monkeypatch.setenv("OODBENCH_CACHE", str(tmp_path / "cache"))
    for out in ("trained", "cached"):
        result = run(benchmark(image_files, detectors=OWN), [small_classifier])
        public, own = result.card.classifiers
        (checkpoint,) = (tmp_path / "cache" / "classifiers").glob("*-garbage-*.safetensors")
        kept = Path(f"{checkpoint}.png")
        assert tmp_path / out / own["sheet"]["file"] in result.save(tmp_path / out)
        assert (tmp_path / out / own["sheet"]["file"]).read_bytes() == kept.read_bytes()
        assert own["sheet"]["file"].startswith("pictures/inversions-small+inversion-") and "sheet" not in public
    given = replace(benchmark(image_files, detectors=("inversion",)), models=(str(checkpoint),))
    assert list(run(given).sheets.values()) == [kept.read_bytes()]
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes(checkpoint.read_bytes())
    result = run(replace(given, models=(str(alone),)))
    assert not result.sheets and "sheet" not in result.card.classifiers[0]


def test_a_classifier_that_no_detector_reads_is_not_passed(
    small_classifier: Classifier, image_files: dict[str, str], own_classifiers: list[Classifier]
) -> None:
    results: list[Result] = []
    work = benchmark(image_files, detectors=("inversion",))
    assert count_entering(small_classifier, lambda: results.append(run(work, [small_classifier]))) == 0
    assert set(results[0].table.model) == {"small+inversion"}
    without = run(work)
    assert set(without.table.model) == {"cnn8+inversion"}
    np.testing.assert_array_equal(
        without.scores["cnn8+inversion", "inversion", "bright"],
        results[0].scores["small+inversion", "inversion", "bright"],
    )


def test_detectors_trained_otherwise_read_classifiers_of_their_own(
    small_classifier: Classifier, image_files: dict[str, str], own_classifiers: list[Classifier]
) -> None:
    work = benchmark(image_files, detectors=("msp", "inversion", "inversion(seed=1)"))
    result = run(work, [small_classifier])
    names = [record["name"] for record in result.card.classifiers]
    assert names == ["small", "small+inversion", "small+inversion(seed=1)"]
    assert len({record["content_hash"] for record in result.card.classifiers}) == 3
    assert set(result.table.model) == {"small"}


def test_an_output_that_is_no_class_is_no_answer(
    small_classifier: Classifier, image_files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The confidence of a classifier that is right and very sure would be the largest of its outputs."""
    own = linear(4)
    with torch.no_grad():
        own.module[1].bias[3] = 100  # type: ignore[index, union-attr, operator]
    give(monkeypatch, own)
    result = run(benchmark(image_files, detectors=("msp", "confidence")), [small_classifier])
    stored = np.load(image_files["id"].removeprefix("npz:"))
    with own.inference(), torch.no_grad():
        logits = own(torch.from_numpy(stored["images"])[:, None] / 255)
    right = float((logits[:, :3].argmax(1).numpy() == stored["labels"]).mean())
    row = result.card.metrics[1]
    assert row["detector"] == "confidence" and row["garbage_share"] is None
    assert row["id_accuracy"] == pytest.approx(right) and right > 0
    np.testing.assert_allclose(result.scores["small", "confidence", "rot_test"], logits[:, 3].double(), rtol=1e-6)
