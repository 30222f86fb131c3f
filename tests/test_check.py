"""The regression check: planted drifts are caught and named, and honest reruns pass."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from oodbench import Benchmark, Machine, Result
from oodbench.check import (
    ACROSS_DEVICES,
    SAME_DEVICE,
    Comparison,
    compare,
    load_baseline,
    rerun,
)
from oodbench.detectors.logits import Energy
from oodbench.detectors.odin import Odin
from oodbench.detectors.oodl import OodL
from oodbench.metrics import METRICS, evaluate
from oodbench.plan import make_plan
from tests.stored_baseline import BASELINES, CHECKPOINT, CPU, OF_INVERSION, Stored, with_card
from tests.stored_baseline import stored as stored
from tests.threads import one_thread as one_thread


def drifted(comparison: Comparison) -> set[str]:
    """The detectors whose scores or metrics drifted."""
    return {drift.subject.split("/")[1] for drift in comparison.drifts if "/" in drift.subject}


def found(comparison: Comparison) -> set[tuple[str, str]]:
    return {(drift.subject, drift.what) for drift in comparison.drifts}


def test_the_committed_baseline_of_digits_holds() -> None:
    baseline = load_baseline(BASELINES / "digits")
    comparison = compare(baseline, rerun(baseline, CPU))
    assert not comparison.drifts, str(comparison)


def test_the_committed_baseline_is_the_default_benchmark_and_small() -> None:
    stored, default = load_baseline(BASELINES / "digits").card.benchmark, make_plan(Benchmark.load("digits"), CPU)
    assert stored | {"name": "digits", "models": []} == default.benchmark.as_dict()
    assert sum(path.stat().st_size for path in (BASELINES / "digits").iterdir()) < 250_000
    assert all(path.stat().st_size < 300_000 for path in (CHECKPOINT, OF_INVERSION))


@pytest.mark.parametrize("machine", [CPU, replace(CPU, batch_size=1), replace(CPU, batch_size=7)])
def test_an_untouched_rerun_passes(stored: Stored, machine: Machine) -> None:
    comparison = stored.check(machine)
    assert not comparison.drifts, str(comparison)


def test_another_number_of_threads_passes(stored: Stored) -> None:
    torch.set_num_threads(3)
    try:
        assert not stored.check().drifts
    finally:
        torch.set_num_threads(1)


def test_other_convolution_kernels_pass_though_scores_move(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on another kind of processor."""
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    comparison = stored.check()
    assert not comparison.drifts, str(comparison)
    assert "are equal" not in comparison.furthest


def test_a_sign_flip_is_caught_and_named(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Energy.score
    monkeypatch.setattr(Energy, "score", lambda self, outputs: -honest(self, outputs))
    comparison = stored.check()
    assert drifted(comparison) == {"energy"}
    assert any(one.subject == "cnn8/energy/structured" and one.what in METRICS for one in comparison.drifts)
    (moved,) = (one for one in comparison.drifts if one.subject == "cnn8/energy/digits")
    assert float(moved.now) == -float(moved.baseline)


def test_a_changed_epsilon_is_caught_and_named(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changed inside: the card still says 0.0014."""
    honest = Odin.score
    monkeypatch.setattr(Odin, "score", lambda self, outputs: honest(replace(self, epsilon=0.0015), outputs))
    comparison = stored.check()
    assert drifted(comparison) == {"odin"}
    sets = ("digits", "structured", "squares")
    assert {one.subject for one in comparison.drifts} == {f"cnn8/odin/{name}" for name in sets}


def test_a_changed_parameter_is_named(stored: Stored) -> None:
    detectors = [
        one | {"parameters": one["parameters"] | {"epsilon": 0.002}} if one["name"] == "odin" else one
        for one in stored.baseline.card.detectors
    ]
    changed = with_card(stored.baseline, detectors=detectors)
    assert [tuple(one) for one in compare(stored.baseline, changed).drifts] == [
        ("detector odin", "epsilon", "0.0014", "0.002", "")
    ]


def test_a_swapped_layer_is_caught_and_named(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OodL, "_layer_errors", lambda self, outputs: {"block1": 0.5, "block2": 0.0})
    comparison = stored.check()
    assert drifted(comparison) == {"oodl"}
    (layer,) = (one for one in comparison.drifts if one.what == "learned layer")
    assert (layer.subject, layer.baseline, layer.now) == ("detector oodl on cnn8", "block1", "block2")


def float32_probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    top = torch.softmax(logits.float() / temperature, dim=1).amax(dim=1).double()
    return torch.log(top / (1 - top))


def float32_throughout(logits: Tensor, temperature: float = 1.0) -> Tensor:
    scaled = logits.float() / temperature
    top, index = scaled.max(dim=1, keepdim=True)
    return (top.squeeze(1) - scaled.scatter(1, index, -torch.inf).logsumexp(dim=1)).double()


@pytest.mark.parametrize(
    ("softmax", "what"), [(float32_probabilities, "score of image"), (float32_throughout, "precision")]
)
def test_a_float32_softmax_is_caught_and_named(
    stored: Stored, monkeypatch: pytest.MonkeyPatch, softmax: Callable[..., Tensor], what: str
) -> None:
    monkeypatch.setattr("oodbench.detectors.softmax.top_log_odds", softmax)
    comparison = stored.check()
    assert drifted(comparison) == {"msp"}
    assert any(one.subject == "cnn8/msp/digits" and one.what.startswith(what) for one in comparison.drifts)


def test_one_pixel_of_one_image_is_caught_and_named(stored: Stored, tmp_path: Path) -> None:
    folder = shutil.copytree(stored.folder, tmp_path / "copy")
    squares = np.load(folder / "squares.npz")["images"]
    squares[17, 3, 4] ^= 1
    np.savez(folder / "squares.npz", images=squares)
    comparison = Stored(folder, stored.baseline).check()
    assert ("set squares (OOD) of cnn8", "content hash") in found(comparison)
    assert ("cnn8/random/squares", "score of image 17") in found(comparison)
    assert not any("structured" in one.subject or "digits" in one.subject for one in comparison.drifts)
    assert all(one.what == "score of image 17" for one in comparison.drifts if one.what.startswith("score"))


def test_a_changed_weight_is_caught_and_named(stored: Stored, tmp_path: Path) -> None:
    folder = shutil.copytree(stored.folder, tmp_path / "copy")
    with safe_open(folder / "mine.safetensors", "pt") as file:
        metadata, state = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    state["head.weight"] *= 1.01
    save_file(state, folder / "mine.safetensors", metadata=metadata)
    comparison = Stored(folder, stored.baseline).check()
    assert ("classifier cnn8", "content hash") in found(comparison)
    # All that read the logits, and none that reads what comes before the head.
    assert drifted(comparison) == {"msp", "odin", "maxlogit", "energy"}


def with_scores(result: Result, key: tuple[str, str, str], scores: np.ndarray) -> Result:
    """The result that has these scores, with the metrics that belong to them."""
    changed = result.scores | {key: scores}
    rows: list[dict[str, Any]] = []
    for row in result.card.metrics:
        of_id, of_ood = ((row["model"], row["detector"], row[name]) for name in ("id", "ood"))
        rows.append(row | evaluate(changed[of_id], changed[of_ood]))
    return Result(replace(result.card, metrics=rows), changed)


def spreads(result: Result, key: tuple[str, str, str]) -> np.ndarray:
    """As documented, by another way."""
    both = np.concatenate([result.scores[key], result.scores[(*key[:2], "digits")]])
    low, middle, high = np.percentile(both, [10, 50, 90])
    return np.array([max(high - low, abs(score - middle)) for score in result.scores[key]])


def test_a_better_score_is_drift_too(stored: Stored) -> None:
    key = ("cnn8", "lc", "structured")
    better = with_scores(stored.baseline, key, stored.baseline.scores[key] - 1)
    (scores, metric) = compare(stored.baseline, better).drifts
    assert scores.difference.startswith("-1, ") and "60 of 60 moved" in scores.difference
    assert metric.subject == "cnn8/lc/structured" and metric.what in METRICS
    better_by_more = {"auroc": "+", "aupr_in": "+", "aupr_out": "+"}
    assert metric.difference[0] == better_by_more.get(metric.what, "-")


@given(st.data())
def test_a_score_may_move_within_the_tolerance_and_not_beyond(stored: Stored, data: st.DataObject) -> None:
    key = data.draw(st.sampled_from([key for key in stored.baseline.scores if key[1] not in ("constant", "maxlogit")]))
    before = stored.baseline.scores[key]
    image = data.draw(st.integers(0, len(before) - 1))
    sign = data.draw(st.sampled_from([-1, 1]))
    spread = spreads(stored.baseline, key)[image]
    for share, drifts in ((0.99, False), (1.01, True)):
        after = before.copy()
        after[image] += sign * share * SAME_DEVICE["cpu"].largest * spread
        comparison = compare(stored.baseline, with_scores(stored.baseline, key, after))
        assert [one.what for one in comparison.drifts] == [f"score of image {image}"] * drifts


def test_what_is_systematic_has_a_tighter_tolerance(stored: Stored) -> None:
    key = ("cnn8", "msp", "structured")
    before = stored.baseline.scores[key]
    for share, drifts in ((0.99, 0), (1.01, 1)):
        moved = share * SAME_DEVICE["cpu"].usual * spreads(stored.baseline, key)
        after = before + moved * np.where(np.arange(60) % 2, 1, -1)
        assert len(compare(stored.baseline, with_scores(stored.baseline, key, after)).drifts) == drifts


def test_the_constant_detector_may_not_move_at_all(stored: Stored) -> None:
    key = ("cnn8", "constant", "squares")
    moved = with_scores(stored.baseline, key, stored.baseline.scores[key] + 1e-12)
    drift = compare(stored.baseline, moved).drifts[0]
    assert drift.what == "score of image 0" and "inf spreads" in drift.difference


def test_a_score_that_is_not_finite_is_drift(stored: Stored) -> None:
    key = ("cnn8", "energy", "squares")
    broken = stored.baseline.scores[key].copy()
    broken[5] = np.nan
    (drift,) = compare(stored.baseline, replace(stored.baseline, scores=stored.baseline.scores | {key: broken})).drifts
    assert drift.what == "score of image 5" and drift.now == "nan"


def test_across_device_classes_the_tolerance_is_looser(stored: Stored) -> None:
    key = ("cnn8", "msp", "structured")
    before = stored.baseline.scores[key]
    moved = with_scores(stored.baseline, key, before + 0.5 * ACROSS_DEVICES.usual * spreads(stored.baseline, key))
    assert compare(stored.baseline, moved).drifts
    elsewhere = with_card(moved, machine=moved.card.machine | {"device": "cuda:1"})
    assert not compare(stored.baseline, elsewhere).drifts
    assert not compare(elsewhere, moved).drifts
    for same in SAME_DEVICE.values():
        assert same.usual < ACROSS_DEVICES.usual and same.largest < ACROSS_DEVICES.largest


def test_a_metric_that_changed_by_itself_is_named(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    """By less than an image makes, as where a threshold is interpolated."""
    honest = stored.baseline.card.metrics[0]["aupr_in"]
    monkeypatch.setitem(METRICS, "aupr_in", lambda counts: honest + 1e-6)
    (first, *_) = compare(stored.baseline, stored.baseline).drifts
    assert first.what == "aupr_in" and first.difference == "+0.000001"


def test_accuracy_may_change_by_one_image(stored: Stored) -> None:
    def classified(wrong: int) -> Result:
        records = [one | {"id_accuracy": one["id_accuracy"] - wrong / 60} for one in stored.baseline.card.classifiers]
        return with_card(stored.baseline, classifiers=records)

    assert not compare(stored.baseline, classified(1)).drifts
    assert found(compare(stored.baseline, classified(2))) == {("classifier cnn8", "ID accuracy")}


def test_what_is_missing_or_new_is_named(stored: Stored) -> None:
    kept = {key: scores for key, scores in stored.baseline.scores.items() if key[1] != "lc"}
    fewer = with_card(
        replace(stored.baseline, scores=kept),
        detectors=[one for one in stored.baseline.card.detectors if one["label"] != "lc"],
        metrics=[row for row in stored.baseline.card.metrics if row["detector"] != "lc"],
    )
    assert ("detector lc", "is there", "yes", "no", "") in compare(stored.baseline, fewer).drifts
    assert ("cnn8/lc/squares", "number of scores", "40", "none", "") in compare(stored.baseline, fewer).drifts
    assert ("detector lc", "is there", "no", "yes", "") in compare(fewer, stored.baseline).drifts


def test_other_versions_are_said_and_are_no_drift(stored: Stored) -> None:
    newer = with_card(stored.baseline, versions=stored.baseline.card.versions | {"torch": "99.0"})
    comparison = compare(stored.baseline, newer)
    assert not comparison.drifts and "→ 99.0" in str(comparison)
