"""The regression check cannot be passed: by what is missing, added, no number, or too little of everything at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from oodbench import OodbenchError, Result
from oodbench.check import SAME_DEVICE, compare
from oodbench.metrics import METRICS, evaluate
from tests.stored_baseline import Stored, with_card
from tests.stored_baseline import stored as stored
from tests.test_check import found, spreads


def oriented(stored: Stored, share_of_usual: float, down: float, up: float) -> Result:
    """All scores of all detectors but the controls moved by a share of the usual tolerance: ID by down, OOD by up."""
    scores = {}
    for key, before in stored.baseline.scores.items():
        sign = 0.0 if key[1] in ("constant", "random") else down if key[2] == "digits" else up
        scores[key] = before + sign * share_of_usual * SAME_DEVICE["cpu"].usual * spreads(stored.baseline, key)
    return with_all_scores(stored.baseline, scores)


def with_all_scores(result: Result, scores: dict[tuple[str, str, str], np.ndarray]) -> Result:
    rows = [
        row | evaluate(*(scores[row["model"], row["detector"], row[name]] for name in ("id", "ood")))
        for row in result.card.metrics
    ]
    return Result(replace(result.card, metrics=rows), scores)


@pytest.mark.parametrize(("down", "up"), [(-1, 1), (1, -1), (1, 1), (-1, -1)])
def test_what_moves_just_less_than_is_allowed_everywhere_at_once_is_caught(
    stored: Stored, down: float, up: float
) -> None:
    comparison = compare(stored.baseline, oriented(stored, 0.99, down, up))
    together = {drift.subject for drift in comparison.drifts if drift.what == "all sets together"}
    moved = {f"cnn8/{key[1]}" for key in stored.baseline.scores if key[1] not in ("constant", "random")}
    assert moved >= together >= moved - {"cnn8/maxlogit"}, str(comparison)
    # Rounding has no direction, and is far smaller.
    assert not compare(stored.baseline, oriented(stored, 0.1, down, up)).drifts


def test_a_quarter_of_the_images_just_below_the_largest_movement_is_caught(stored: Stored) -> None:
    scores = {}
    for key, before in stored.baseline.scores.items():
        after = before.copy()
        if key[1] == "energy":
            chosen = np.argsort(before)[:: -1 if key[2] == "digits" else 1][: len(before) // 5]
            sign = -1 if key[2] == "digits" else 1
            after[chosen] += sign * 0.99 * SAME_DEVICE["cpu"].largest * spreads(stored.baseline, key)[chosen]
        scores[key] = after
    (drift,) = compare(stored.baseline, with_all_scores(stored.baseline, scores)).drifts
    assert (drift.subject, drift.what) == (
        "cnn8/energy",
        "all sets together",
    ) and "20 % of the images" in drift.difference


def rows_with(stored: Stored, number: int, **changes: Any) -> Result:
    rows = [dict(row) for row in stored.baseline.card.metrics]
    rows[number] |= changes
    return with_card(stored.baseline, metrics=rows)


@pytest.mark.parametrize("name", [*METRICS, "id_accuracy"])
def test_a_metric_that_is_no_number_or_not_there_is_named(stored: Stored, name: str) -> None:
    for value in (float("nan"), None):
        for number in (0, len(stored.baseline.card.metrics) - 1):
            broken = rows_with(stored, number, **{name: value})
            for pair in ((stored.baseline, broken), (broken, stored.baseline)):
                assert name in {drift.what for drift in compare(*pair).drifts}
    lacking = [{key: value for key, value in row.items() if key != name} for row in stored.baseline.card.metrics]
    assert name in {
        drift.what for drift in compare(stored.baseline, with_card(stored.baseline, metrics=lacking)).drifts
    }


def test_a_garbage_share_that_changed_came_or_went_is_named(stored: Stored) -> None:
    (number, row) = next((n, row) for n, row in enumerate(stored.baseline.card.metrics) if row["detector"] == "msp")
    subject = f"cnn8/msp/{row['ood']}"
    with_share = rows_with(stored, number, garbage_share=0.5)
    assert (subject, "garbage_share") in found(compare(stored.baseline, with_share))
    assert (subject, "garbage_share") in found(compare(with_share, stored.baseline))
    assert (subject, "garbage_share") in found(compare(with_share, rows_with(stored, number, garbage_share=0.6)))
    assert (subject, "garbage_share") in found(
        compare(with_share, rows_with(stored, number, garbage_share=float("nan")))
    )


def test_a_garbage_share_that_falls_by_an_image_on_every_set_is_caught(stored: Stored) -> None:
    def sharing(less: int) -> Result:
        rows = [row | {"garbage_share": 0.5 - less / row["n_ood"]} for row in stored.baseline.card.metrics]
        return with_card(stored.baseline, metrics=rows)

    assert not compare(sharing(0), sharing(0)).drifts
    whats = {drift.what for drift in compare(sharing(0), sharing(1)).drifts}
    assert whats == {"garbage_share of all sets together"}


def test_a_row_a_detector_or_scores_that_are_missing_or_too_many_are_named(stored: Stored) -> None:
    rows = stored.baseline.card.metrics
    fewer = with_card(stored.baseline, metrics=rows[:-1])
    subject = f"{rows[-1]['model']}/{rows[-1]['detector']}/{rows[-1]['ood']}"
    assert (subject, "row is there", "yes", "no", "") in compare(stored.baseline, fewer).drifts
    assert (subject, "row is there", "no", "yes", "") in compare(fewer, stored.baseline).drifts
    key = ("cnn8", "msp", "squares")
    without = replace(stored.baseline, scores={k: v for k, v in stored.baseline.scores.items() if k != key})
    for pair in ((stored.baseline, without), (without, stored.baseline)):
        whats = found(compare(*pair))
        assert ("cnn8/msp/squares", "number of scores") in whats
    more = replace(stored.baseline, scores=stored.baseline.scores | {("cnn8", "msp", "new"): np.zeros(3)})
    assert ("cnn8/msp/new, the run's scores", "not on the card") in found(compare(stored.baseline, more))
    assert ("cnn8/msp/new", "number of scores") in found(compare(stored.baseline, more))


def test_another_order_a_row_twice_and_another_version_are_named(stored: Stored) -> None:
    rows = stored.baseline.card.metrics
    turned = with_card(stored.baseline, metrics=rows[::-1])
    assert {(drift.subject, drift.what) for drift in compare(stored.baseline, turned).drifts} == {("rows", "order")}
    twice = with_card(stored.baseline, metrics=[*rows, rows[0] | {"auroc": 0.0}])
    assert ("rows", "is each there once") in found(compare(stored.baseline, twice))
    detectors = with_card(stored.baseline, detectors=stored.baseline.card.detectors[::-1])
    assert found(compare(stored.baseline, detectors)) == {("detectors", "order")}
    version = with_card(stored.baseline, benchmark=stored.baseline.card.benchmark | {"version": 2})
    assert found(compare(stored.baseline, version)) == {("benchmark", "version")}


def test_metrics_that_are_not_of_the_runs_scores_are_named(stored: Stored) -> None:
    """By less than the tolerance between runs."""
    row = stored.baseline.card.metrics[0]
    by_hand = rows_with(stored, 0, auroc=row["auroc"] - 1e-5)
    subject = f"{row['model']}/{row['detector']}/{row['ood']}, the run's scores"
    assert found(compare(stored.baseline, by_hand)) == {(subject, "auroc")}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_drift_although_both_runs_have_it(stored: Stored, value: float) -> None:
    key = ("cnn8", "energy", "squares")
    scores = stored.baseline.scores[key].copy()
    scores[5] = value
    broken = replace(stored.baseline, scores=stored.baseline.scores | {key: scores})
    assert ("cnn8/energy/squares", "score of image 5") in found(compare(broken, broken))
    records = [one | {"id_accuracy": value} for one in stored.baseline.card.classifiers]
    of_classifier = with_card(stored.baseline, classifiers=records)
    for pair in ((stored.baseline, of_classifier), (of_classifier, stored.baseline), (of_classifier, of_classifier)):
        assert found(compare(*pair)) == {("classifier cnn8", "ID accuracy")}


def test_a_set_that_is_missing_added_or_of_other_images_is_named(stored: Stored) -> None:
    sets = stored.baseline.card.sets
    (number,) = [n for n, one in enumerate(sets) if one["name"] == "squares"]
    subject = "set squares (OOD) of cnn8"
    fewer = with_card(stored.baseline, sets=sets[:number] + sets[number + 1 :])
    assert (subject, "is there", "yes", "no", "") in compare(stored.baseline, fewer).drifts
    assert (subject, "is there", "no", "yes", "") in compare(fewer, stored.baseline).drifts
    for name, value in (("count", 39), ("group", "near"), ("content_hash", "0" * 64), ("matching", "squashed")):
        changed = with_card(stored.baseline, sets=[one | {name: value} if one is sets[number] else one for one in sets])
        assert found(compare(stored.baseline, changed)) == {(subject, name.replace("_", " "))}


def test_a_device_that_is_none_is_refused(stored: Stored) -> None:
    for machine in ({}, {"device": "tpu"}):
        with pytest.raises(OodbenchError, match="a run is of cpu, cuda, mps"):
            compare(stored.baseline, with_card(stored.baseline, machine=machine))
