"""Reading runs: what is missing, damaged or not comparable is refused, and the refusal says what and where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oodbench.errors import OodbenchError
from oodbench.metrics import evaluate
from oodbench.report.runs import measurements
from oodbench.run_folder import Result
from tests.report.conftest import gaussian_scores, write_run

SCORES = gaussian_scores({"good": 2.0, "poor": 0.5, "random": 0.0})


def test_a_run_is_read_from_its_folder_or_its_card(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", SCORES)
    from_folder, from_card = (measurements([Result.load(path)]) for path in (folder, folder / "card.json"))
    assert [one.metrics for one in from_folder] == [one.metrics for one in from_card]
    assert [(one.detector, one.ood) for one in from_folder] == [
        (detector, ood) for ood in ("near", "far") for detector in ("good", "poor", "random")
    ]
    first = from_folder[0]
    assert first.metrics == evaluate(SCORES["good", "shapes"], SCORES["good", "near"])
    assert (first.id, first.model, first.group, first.id_accuracy) == ("shapes", "net", "far", 0.9)
    assert [one.control for one in from_folder] == [False, False, True] * 2


def test_older_cards_name_one_model_of_a_classifier(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", SCORES, own={"good": (0.7, 0.6)})
    now = [(one.own_classifier, one.read) for one in measurements([Result.load(folder)])]
    card = folder / "card.json"
    older = json.loads(card.read_text())
    older["classifiers"][1]["model"] = older["classifiers"][1].pop("models")[0]
    card.write_text(json.dumps(older))
    assert [(one.own_classifier, one.read) for one in measurements([Result.load(folder)])] == now
    assert [own for own, _ in now] == [True, False, False] * 2


def broken(folder: Path, what: str) -> Path:
    card, scores = folder / "card.json", folder / "scores.npz"
    if what == "no card":
        card.unlink()
    elif what == "no scores":
        scores.unlink()
    elif what == "half the scores":
        scores.write_bytes(scores.read_bytes()[:400])
    elif what == "text for scores":
        scores.write_text("0.1, 0.2")
    elif what == "text for a card":
        card.write_text("a card")
    elif what == "another format":
        card.write_text(json.dumps(json.loads(card.read_text()) | {"format": 99}))
    return folder


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no card", "there is no .*card.json"),
        ("no scores", "there is no .*scores.npz; give the folder of a run"),
        ("half the scores", "scores.npz is damaged"),
        ("text for scores", "scores.npz is damaged"),
        ("text for a card", "is not a card"),
        ("another format", "format 99"),
    ],
)
def test_what_is_missing_or_damaged_is_named(tmp_path: Path, what: str, message: str) -> None:
    with pytest.raises(OodbenchError, match=message):
        Result.load(broken(write_run(tmp_path / "run", SCORES), what))


def test_scores_of_another_run_are_refused(tmp_path: Path) -> None:
    """A card beside the scores of another run would show one and test with the other."""
    folder = write_run(tmp_path / "a", SCORES)
    other = write_run(tmp_path / "b", gaussian_scores({"good": 2.0, "poor": 0.5, "random": 0.0}, seed=1))
    (folder / "scores.npz").write_bytes((other / "scores.npz").read_bytes())
    with pytest.raises(OodbenchError, match=r"a/card.json do not give the metrics on it \(good on near\)"):
        measurements([Result.load(folder)])


def test_a_detector_without_scores_is_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", SCORES)
    fewer = write_run(tmp_path / "b", {key: values for key, values in SCORES.items() if key[0] != "poor"})
    (folder / "scores.npz").write_bytes((fewer / "scores.npz").read_bytes())
    with pytest.raises(OodbenchError, match="lack those of net/poor/shapes"):
        measurements([Result.load(folder)])


@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        ({"version": 2}, ["a/card.json is of benchmark version 1", "b/card.json of 2"]),
        ({"hashes": {"near": "0" * 64}}, ["OOD set 'near'", "near00000000", "in .*a/card.json", "000000000000"]),
        ({"hashes": {"shapes": "f" * 64}}, ["ID test set 'shapes'", "ffffffffffff", "b/card.json"]),
    ],
)
def test_runs_that_differ_in_what_they_scored_do_not_mix(
    tmp_path: Path, changes: dict[str, Any], messages: list[str]
) -> None:
    first = write_run(tmp_path / "a", SCORES)
    second = write_run(tmp_path / "b", SCORES, content="b2" * 32, **changes)
    for message in messages:
        with pytest.raises(OodbenchError, match=message):
            measurements([Result.load(first), Result.load(second)])


def test_every_difference_is_said_at_once(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a", SCORES)
    second = write_run(tmp_path / "b", SCORES, version=2, hashes={"near": "0" * 64, "far": "1" * 64})
    with pytest.raises(OodbenchError, match=r"version .*'near'.*'far'"):
        measurements([Result.load(first), Result.load(second)])


def test_fit_images_may_differ_and_so_may_sets_of_another_image_form(tmp_path: Path) -> None:
    """Noise is made in the classifier's form, so that of an 8×8 and of a 32×32 classifier are two sets."""
    first = write_run(tmp_path / "a", SCORES)
    second = write_run(
        tmp_path / "b", SCORES, model="larger", shape=(3, 32, 32), content="b2" * 32, hashes={"near": "0" * 64}
    )
    assert len(measurements([Result.load(first), Result.load(second)])) == 12


def test_apart_gives_each_classifier_a_name_where_names_are_shared(tmp_path: Path) -> None:
    paths = [
        write_run(tmp_path / "a", SCORES),
        write_run(tmp_path / "b", SCORES, content="b2" * 32),
        write_run(tmp_path / "c", SCORES, model="other", content="c3" * 32),
    ]
    runs = [Result.load(path) for path in paths]
    assert {one.model for one in measurements(runs)} == {"net", "other"}
    assert {one.model for one in measurements(runs, apart=True)} == {"net-a1a1a1", "net-b2b2b2", "other"}


def test_a_name_that_a_run_made_distinct_is_that_of_its_architecture(tmp_path: Path) -> None:
    run = Result.load(write_run(tmp_path / "a", SCORES, model="net-a1a1a1"))
    assert {one.model for one in measurements([run])} == {"net"}
    assert {one.classifier for one in measurements([run])} == {"net-a1a1a1"}


def test_scores_are_read_as_they_were_written(tmp_path: Path) -> None:
    one = measurements([Result.load(write_run(tmp_path / "a", SCORES))])[0]
    np.testing.assert_array_equal(one.id_scores, SCORES["good", "shapes"])
