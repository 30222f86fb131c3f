"""A run: one pass a network, the same scores however the work is cut, and a card that says it all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from oodbench import Benchmark, Card, Classifier, Machine, Needs, OodbenchError, Outputs, Result, evaluate, run
from oodbench.detectors.base import Detector
from oodbench.detectors.entry import DetectorEntry
from oodbench.report.formats import COLUMNS
from tests.small_runs import ANEW, BRIGHT, DARK, FIT, ONE_PASS, TEST, benchmark, count_entering, linear, proxies


def test_every_image_passes_once_for_all_detectors(small_classifier: Classifier, image_files: dict[str, str]) -> None:
    results: list[Result] = []
    entered = count_entering(small_classifier, lambda: results.append(run(benchmark(image_files), [small_classifier])))
    made_from_id = proxies(results[0])
    assert made_from_id % FIT == 0 and made_from_id > 0
    assert entered == FIT + TEST + BRIGHT + DARK + made_from_id


def test_odin_adds_one_gradient_and_one_pass_for_scored_images_alone(
    small_classifier: Classifier, image_files: dict[str, str]
) -> None:
    results: list[Result] = []
    detectors = (*ONE_PASS, "odin", "odin(norm=l2)", "odin(epsilon=0)")
    entered = count_entering(
        small_classifier,
        lambda: results.append(run(benchmark(image_files, detectors=detectors), [small_classifier])),
    )
    scored = TEST + BRIGHT + DARK
    # Two distinct perturbed inputs; ε = 0 is the image itself.
    assert entered == FIT + proxies(results[0]) + scored + 2 * scored
    counts = results[0].card.classifiers[0]["images"]
    none = dict.fromkeys(("gradient", "perturbed", "edited", "further"), 0)
    assert counts["ID test"] == none | {"forward": TEST, "gradient": TEST, "perturbed": 2 * TEST}
    ood = BRIGHT + DARK
    assert counts["OOD"] == none | {"forward": ood, "gradient": ood, "perturbed": 2 * ood}
    assert counts["fit"] == none | {"forward": FIT}


def test_nothing_is_fitted_where_no_detector_learns(small_classifier: Classifier, image_files: dict[str, str]) -> None:
    plain = benchmark(image_files, detectors=("msp", "energy"))
    assert count_entering(small_classifier, lambda: run(plain, [small_classifier])) == TEST + BRIGHT + DARK


@pytest.mark.parametrize("changes", [{"batch_size": 1}, {"batch_size": 7}, {"batch_size": 7, "workers": 2}])
def test_scores_do_not_depend_on_batches_and_workers(
    small_classifier: Classifier, image_files: dict[str, str], changes: dict[str, int]
) -> None:
    work = benchmark(image_files, detectors=(*ONE_PASS, "odin", "odin(norm=l1)"))
    whole = run(work, [small_classifier], ANEW)
    parts = run(work, [small_classifier], replace(ANEW, **changes))
    for key, scores in whole.scores.items():
        np.testing.assert_allclose(parts.scores[key], scores, rtol=1e-6, atol=1e-6, err_msg=str(key))


def test_a_second_run_gives_the_same_bits(small_classifier: Classifier, image_files: dict[str, str]) -> None:
    work = benchmark(image_files, ood=(image_files["bright"], "gaussian"), detectors=(*ONE_PASS, "odin"))
    first, second = run(work, [small_classifier], ANEW), run(work, [small_classifier], ANEW)
    for key, scores in first.scores.items():
        np.testing.assert_array_equal(scores, second.scores[key], err_msg=str(key))
    assert first.card.metrics == second.card.metrics


def test_the_classifier_is_left_as_it_was(small_classifier: Classifier, image_files: dict[str, str]) -> None:
    small_classifier.module.train()
    before = small_classifier.content_hash()
    run(benchmark(image_files, detectors=(*ONE_PASS, "odin")), [small_classifier])
    assert small_classifier.content_hash() == before
    assert all(module.training for module in small_classifier.module.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in small_classifier.module.modules())
    assert all(weight.grad is None and weight.requires_grad for weight in small_classifier.module.parameters())


def test_a_classifier_in_training_mode_scores_as_in_eval_mode(
    small_classifier: Classifier, image_files: dict[str, str]
) -> None:
    work = benchmark(image_files, detectors=("energy", "odin"))
    small_classifier.module.train()
    trained = run(work, [small_classifier], ANEW)
    small_classifier.module.eval()
    for key, scores in run(work, [small_classifier], ANEW).scores.items():
        np.testing.assert_array_equal(scores, trained.scores[key])


def test_metrics_are_those_of_the_scores(small_classifier: Classifier, image_files: dict[str, str]) -> None:
    result = run(benchmark(image_files), [small_classifier])
    assert len(result.card.metrics) == len(ONE_PASS) * 2
    for row in result.card.metrics:
        of_set = {name: result.scores["small", row["detector"], name] for name in ("rot_test", row["ood"])}
        for metric, value in evaluate(of_set["rot_test"], of_set[row["ood"]]).items():
            assert row[metric] == value
    constant = [row for row in result.card.metrics if row["detector"] == "constant"]
    assert all(row["auroc"] == 0.5 and row["fpr_at_95_id_recall"] == 1.0 for row in constant)


def test_id_accuracy_is_that_of_the_network(small_classifier: Classifier, image_files: dict[str, str]) -> None:
    result = run(benchmark(image_files), [small_classifier])
    stored = np.load(image_files["id"].removeprefix("npz:"))
    with small_classifier.inference(), torch.no_grad():
        predicted = small_classifier(torch.from_numpy(stored["images"])[:, None] / 255).argmax(1).numpy()
    assert result.card.classifiers[0]["id_accuracy"] == pytest.approx((predicted == stored["labels"]).mean())


def test_results_are_read_back_as_written(
    small_classifier: Classifier, image_files: dict[str, str], tmp_path: Path
) -> None:
    result = run(benchmark(image_files), [small_classifier])
    paths = result.save(tmp_path / "out")
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert sorted(files) == sorted(paths)
    names = ["card.json", "leaderboard.csv", "leaderboard.md", "scores.npz", "worst.npz"]
    assert sorted(path.name for path in files if path.parent == tmp_path / "out") == names
    assert Card.load(tmp_path / "out" / "card.json") == result.card
    stored = Result.load(tmp_path / "out").scores
    assert stored.keys() == result.scores.keys()
    for key, scores in stored.items():
        np.testing.assert_array_equal(scores, result.scores[key])
    assert tuple(result.table.columns) == COLUMNS


def test_the_card_says_what_was_done_to_the_images(small_classifier: Classifier, image_files: dict[str, str]) -> None:
    card = run(benchmark(image_files, limit=11, seed=3), [small_classifier]).card
    dark = next(record for record in card.sets if record["name"] == "dark")
    assert dark["count"] == 11 and "drawn with seed 3" in " ".join(dark["notes"])
    assert "resized 12×10 → 8×8" in dark["matching"] and "luminance" in dark["matching"]
    assert len(dark["content_hash"]) == 64
    assert card.detectors[4]["label"] == "oodl" and card.detectors[4]["learned"]["small"]


def test_limit_draws_over_the_whole_file(small_classifier: Classifier, image_files: dict[str, str]) -> None:
    """The file is sorted by class, so its first rows would be one class."""
    result = run(benchmark(image_files, limit=20), [small_classifier])
    whole = run(benchmark(image_files), [small_classifier])
    key = ("small", "energy", "rot_test")
    drawn, everything = result.scores[key], whole.scores[key]
    positions = [int(np.abs(everything - score).argmin()) for score in drawn]
    assert positions == sorted(positions) and positions[-1] > 30


@dataclass(frozen=True)
class BreaksOnWhite(Detector):
    """A planted fault: NaN for a white image."""

    needs = Needs("images")

    def score(self, outputs: Outputs) -> Tensor:
        brightness = outputs.images.double().mean(dim=(1, 2, 3))
        return brightness.masked_fill(brightness == 1, float("nan"))


def test_a_score_that_is_not_finite_stops_the_run_and_is_named(
    small_classifier: Classifier, image_files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = DetectorEntry("broken", f"{__name__}:BreaksOnWhite", "none", "a planted fault")
    monkeypatch.setattr("oodbench.detectors.catalogue.catalogue", lambda: {"broken": entry})
    images = np.zeros((30, 8, 8), np.uint8)
    images[13] = 255
    np.savez(tmp_path / "one_white.npz", images=images)
    work = benchmark(image_files, ood=(f"npz:{tmp_path / 'one_white.npz'}",), detectors=("broken",))
    with pytest.raises(OodbenchError, match="broken gave nan for image 13 of one_white"):
        run(work, [small_classifier], Machine(batch_size=10))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"detectors": ("odin", "odin(epsilon=0.0014)")}, "odin is named twice"),
        ({"detectors": ("msp",), "parameters": {"odin.epsilon": 0.1}}, "not among the detectors"),
        ({"parameters": {"lc": 1}}, "names no detector's parameter"),
        ({"ood": ("gaussian",), "validation_ood": ("gaussian",)}, "same images"),
        ({"limit": 1}, "at least 2"),
        ({"seed": -1}, "seed"),
        ({"ood": 3}, "must be a list"),
        ({"ood": ()}, "names no ood"),
        ({"version": 99}, "version 99"),
    ],
)
def test_what_cannot_be_run_is_refused_before_any_pass(
    small_classifier: Classifier, image_files: dict[str, str], changes: dict[str, Any], message: str
) -> None:
    def refused() -> None:
        with pytest.raises(OodbenchError, match=message):
            run(benchmark(image_files, **changes), [small_classifier])

    assert count_entering(small_classifier, refused) == 0


def test_validation_sets_decide_the_layer_and_are_not_scored(
    small_classifier: Classifier, image_files: dict[str, str]
) -> None:
    """Nor are the proxies passed that would stand in for them; those that a detector reads in any case are."""
    work = benchmark(image_files, ood=(image_files["bright"],), validation_ood=(image_files["dark"],))
    alone = run(replace(work, detectors=("oodl",)), [small_classifier])
    assert proxies(alone) == 0
    result = run(replace(work, detectors=("lc", "oodl")), [small_classifier])
    assert proxies(result) == proxies(run(replace(work, detectors=("lc",)), [small_classifier])) > 0
    assert alone.card.detectors[0]["learned"] == result.card.detectors[1]["learned"]
    assert {row["ood"] for row in result.card.metrics} == {"bright"}
    assert [record["name"] for record in result.card.sets if record["role"] == "validation"] == ["dark"]


def test_classes_of_classifier_and_id_set_must_agree(small_classifier: Classifier, image_files: dict[str, str]) -> None:
    with pytest.raises(OodbenchError, match="3 classes, but digits has 10"):
        run(Benchmark(), [small_classifier])


def test_two_classifiers_of_one_name_are_told_apart(small_classifier: Classifier, image_files: dict[str, str]) -> None:
    torch.manual_seed(1)
    result = run(benchmark(image_files, detectors=("energy",)), [small_classifier, linear(3, "small")])
    names = {row["model"] for row in result.card.metrics}
    assert len(names) == 2 and all(name.startswith("small-") for name in names)
