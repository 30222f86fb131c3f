"""Ranks, tests against the best, repeats and group means, against naive versions and hand-computed cases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from oodbench.errors import OodbenchError
from oodbench.metrics import METRICS, evaluate
from oodbench.report.comparison import ALL_SETS, Block, Leaderboard, Row, compare
from oodbench.report.standings import BEST, TIED
from oodbench.run_folder import Result
from oodbench.statistics import bootstrap_fpr_interval, delong_interval, delong_test, holm
from tests.report.conftest import Scores, gaussian_scores, write_run

Board = Callable[..., Leaderboard]


def rows_of(board: Leaderboard, ood: str = "near") -> dict[str, Row]:
    (block,) = board.blocks
    return {detector: row for (detector, name), row in block.rows.items() if name == ood}


def repeats(tmp_path: Path, all_scores: list[Scores], **options: bool) -> Leaderboard:
    """The leaderboard of one run a classifier."""
    paths = [
        write_run(tmp_path / str(n), scores, content=f"{n:02d}" * 32, accuracy=0.8 + n / 100)
        for n, scores in enumerate(all_scores)
    ]
    return compare([Result.load(path) for path in paths], **options)


def test_a_row_has_the_metrics_and_intervals_of_its_scores(board: Board) -> None:
    scores = gaussian_scores({"good": 2.0})
    row = rows_of(board(scores, intervals=True))["good"]
    pair = scores["good", "shapes"], scores["good", "near"]
    assert {name: estimate.value for name, estimate in row.metrics.items()} == evaluate(*pair)
    assert row.metrics["auroc"].interval == delong_interval(*pair)
    for name, interval in bootstrap_fpr_interval(*pair).items():
        assert row.metrics[name].interval == interval
    assert row.metrics["aupr_in"].interval is None
    assert (row.n_id, row.n_ood, row.prevalence) == (120, 90, pytest.approx(90 / 210))


def test_intervals_are_not_made_unasked(board: Board) -> None:
    assert all(
        estimate.interval is None for estimate in rows_of(board(gaussian_scores({"a": 1})))["a"].metrics.values()
    )


def test_a_clear_winner_is_best_its_twin_is_tied_and_the_rest_is_worse(board: Board) -> None:
    scores = gaussian_scores({"good": 2.0, "twin": 1.9, "poor": 0.3, "constant": 0.0}, seed=2)
    rows = rows_of(board(scores))
    assert {name: row.standing for name, row in rows.items()} == {
        "poor": "",
        "good": BEST,
        "twin": TIED,
        "constant": "",
    }
    assert rows["good"].p_value is None and rows["constant"].p_value is None
    assert rows["twin"].p_value is not None and rows["twin"].p_value > 0.05
    assert rows["poor"].p_value is not None and rows["poor"].p_value < 1e-6


@given(seed=st.integers(0, 10_000), gaps=st.lists(st.floats(0, 1.5), min_size=2, max_size=6))
@example(seed=500, gaps=[1.5, 1.5])  # two detectors whose AUROCs are equal though their scores are not
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_standings_are_those_of_tests_against_the_best_with_holm(tmp_path: Path, seed: int, gaps: list[float]) -> None:
    scores = gaussian_scores({f"d{n}": gap for n, gap in enumerate(gaps)}, ("near",), seed)
    rows = rows_of(compare([Result.load(write_run(tmp_path / "run", scores))]))
    pairs = {name: (scores[name, "shapes"], scores[name, "near"]) for name in rows}
    aurocs = {name: np.mean(np.greater.outer(*pair)) for name, pair in pairs.items()}
    best = [name for name in rows if aurocs[name] == max(aurocs.values())]
    others = [name for name in rows if name not in best]
    p_values = holm([delong_test(*pairs[best[0]], *pairs[name]).p_value for name in others])
    expected = dict.fromkeys(best, BEST) | {
        name: TIED if p > 0.05 else "" for name, p in zip(others, p_values, strict=True)
    }
    assert {name: row.standing for name, row in rows.items()} == expected
    assert [rows[name].p_value for name in others] == pytest.approx(list(p_values))


def test_the_more_detectors_the_more_it_takes_to_be_worse(tmp_path: Path) -> None:
    """Holm's correction: what is worse than the best in a contest of two is tied in a contest of many alike."""
    scores = dict(gaussian_scores({"good": 1.0, "next": 0.8}, seed=3))
    two = rows_of(compare([Result.load(write_run(tmp_path / "two", scores))]))["next"]
    for n in range(30):
        scores |= {(f"copy{n}", name): scores["next", name] for name in ("shapes", "near", "far")}
    crowd = rows_of(compare([Result.load(write_run(tmp_path / "crowd", scores))]))["next"]
    assert two.p_value is not None and crowd.p_value == pytest.approx(31 * two.p_value)
    assert (two.standing, crowd.standing) == ("", TIED)


def test_equal_detectors_are_both_best_and_share_their_rank(board: Board) -> None:
    scores = dict(gaussian_scores({"good": 2.0, "poor": 0.3}))
    for name in ("shapes", "near", "far"):
        scores["same", name] = 3 * scores["good", name] + 1
    rows = rows_of(board(scores))
    assert {name: (row.standing, row.rank) for name, row in rows.items()} == {
        "good": (BEST, 1.5),
        "same": (BEST, 1.5),
        "poor": ("", 3),
    }


def test_a_control_that_wins_by_chance_is_not_best(board: Board) -> None:
    rows = rows_of(board(gaussian_scores({"poor": -0.2, "random": 0.2})))
    assert rows["random"].metrics["auroc"].value > rows["poor"].metrics["auroc"].value
    assert (rows["random"].standing, rows["random"].rank) == ("", None)
    assert (rows["poor"].standing, rows["poor"].rank) == (BEST, 1)


def test_controls_compete_where_there_is_nothing_else(board: Board) -> None:
    rows = rows_of(board(gaussian_scores({"constant": 0.0, "random": 3.0})))
    assert (rows["random"].standing, rows["random"].rank) == (BEST, 1)
    assert (rows["constant"].standing, rows["constant"].rank) == ("", 2)


def test_repeats_have_a_mean_a_spread_and_an_interval_of_their_own(tmp_path: Path) -> None:
    """n − 1 in the spread; images and trainings vary apart."""
    all_scores = [gaussian_scores({"d": gap}, seed=1) for gap in (1.0, 1.5, 2.3)]
    row = rows_of(repeats(tmp_path, all_scores, intervals=True))["d"]
    pairs = [(scores["d", "shapes"], scores["d", "near"]) for scores in all_scores]
    aurocs = [evaluate(*pair)["auroc"] for pair in pairs]
    mean = sum(aurocs) / 3
    assert row.metrics["auroc"].value == pytest.approx(mean)
    assert row.metrics["auroc"].spread == pytest.approx((sum((a - mean) ** 2 for a in aurocs) / 2) ** 0.5)
    assert row.metrics["auroc"].interval == pytest.approx(np.mean([delong_interval(*pair) for pair in pairs], axis=0))
    assert row.id_accuracy.value == pytest.approx(0.81) and row.id_accuracy.spread == pytest.approx(0.01)
    assert len(row.repeats) == 3


def test_a_detectors_own_classifier_that_serves_two_repeats_is_one_training(tmp_path: Path) -> None:
    """It says nothing of what another training would change, but is tested against the others on each classifier."""
    own = gaussian_scores({"own": 1.0}, seed=5)
    paths = [
        write_run(
            tmp_path / str(n),
            {**gaussian_scores({"d": 2.0}, seed=n), **own},
            content=f"{n}d" * 32,
            own={"own": (0.7, 0.6)},
            own_content="c3" * 32,
        )
        for n in (0, 1)
    ]
    board = compare([Result.load(path) for path in paths], intervals=True)
    row = rows_of(board)["own"]
    once = rows_of(compare([Result.load(paths[0])], intervals=True))["own"]
    assert (row.metrics, row.id_accuracy, row.garbage_share) == (once.metrics, once.id_accuracy, once.garbage_share)
    assert len(row.trainings) == 1 and row.metrics["auroc"].spread is None
    assert board.blocks[0].means["own", ALL_SETS].metrics["auroc"].spread is None
    assert rows_of(board)["d"].metrics["auroc"].spread is not None and row.p_value is not None


def test_one_run_has_no_spread(board: Board) -> None:
    row = rows_of(board(gaussian_scores({"d": 1.0})))["d"]
    assert row.id_accuracy.spread is None and all(estimate.spread is None for estimate in row.metrics.values())


def test_the_order_of_the_runs_changes_nothing(tmp_path: Path) -> None:
    paths = [
        write_run(tmp_path / str(n), gaussian_scores({"a": 1.0, "b": 0.9 + n / 10}, seed=n), content=f"{n:02d}" * 32)
        for n in range(3)
    ]
    runs = [Result.load(path) for path in paths]
    forward, backward = rows_of(compare(runs)), rows_of(compare(runs[::-1]))
    for name, row in forward.items():
        assert row.metrics == backward[name].metrics
        assert (row.p_value, row.standing) == (backward[name].p_value, backward[name].standing)


def test_worse_on_one_classifier_and_better_on_another_is_tied(tmp_path: Path) -> None:
    """Two highly significant differences of opposite sign are no evidence that one detector is the worse."""
    all_scores = [gaussian_scores({"a": 2.0, "b": 0.8}), gaussian_scores({"a": 0.8, "b": 1.9})]
    rows = rows_of(repeats(tmp_path, all_scores))
    assert rows["a"].standing == BEST and rows["b"].standing == TIED
    once = [rows_of(repeats(tmp_path / str(n), [scores])) for n, scores in enumerate(all_scores)]
    assert once[0]["b"].standing == "" and once[1]["a"].standing == ""


def test_worse_on_every_classifier_is_worse(tmp_path: Path) -> None:
    rows = rows_of(repeats(tmp_path, [gaussian_scores({"a": 2.0, "b": 0.8}, seed=n) for n in range(3)]))
    assert rows["b"].standing == "" and rows["b"].p_value is not None and rows["b"].p_value < 1e-4


def test_two_seeds_of_one_classifier_are_repeats(tmp_path: Path) -> None:
    scores = gaussian_scores({"a": 1.0})
    runs = [Result.load(write_run(tmp_path / str(seed), scores, seed=seed)) for seed in (0, 1)]
    assert len(rows_of(compare(runs))["a"].repeats) == 2


def test_detectors_of_two_runs_on_one_classifier_stand_in_one_table(tmp_path: Path) -> None:
    scores = gaussian_scores({"a": 2.0, "b": 1.0})
    parts = [{key: values for key, values in scores.items() if key[0] == name} for name in "ab"]
    runs = [Result.load(write_run(tmp_path / str(n), part)) for n, part in enumerate(parts)]
    together = rows_of(compare(runs))
    whole = rows_of(compare([Result.load(write_run(tmp_path / "whole", scores))]))
    assert {n: (r.rank, r.p_value, r.standing) for n, r in together.items()} == {
        n: (r.rank, r.p_value, r.standing) for n, r in whole.items()
    }


def test_the_same_measurement_twice_is_refused(tmp_path: Path) -> None:
    scores = gaussian_scores({"a": 1.0})
    runs = [Result.load(write_run(tmp_path / name, scores)) for name in ("one", "copy")]
    with pytest.raises(OodbenchError, match=r"a on near .* is there twice .*one/card.json.*copy/card.json"):
        compare(runs)


@pytest.mark.parametrize("setting", [{"fit_limit": 77}, {"validation_ood": ["other"]}])
def test_measurements_under_other_settings_are_no_repeats(tmp_path: Path, setting: dict[str, object]) -> None:
    scores = gaussian_scores({"a": 1.0})
    first = write_run(tmp_path / "one", scores)
    second = write_run(tmp_path / "two", scores, content="b2" * 32, **setting)  # type: ignore[arg-type]
    with pytest.raises(OodbenchError, match=f"{next(iter(setting))} .* so they are no repeats"):
        compare([Result.load(first), Result.load(second)])


def test_detectors_on_different_classifiers_are_not_compared(tmp_path: Path) -> None:
    first = write_run(tmp_path / "one", gaussian_scores({"a": 1.0, "b": 1.0}))
    second = write_run(tmp_path / "two", gaussian_scores({"a": 1.0}), content="b2" * 32)
    runs = [Result.load(first), Result.load(second)]
    with pytest.raises(OodbenchError, match=r"b on near .* was not run with classifier b2b2b2, seed 0.*--apart"):
        compare(runs)
    assert [block.model for block in compare(runs, apart=True).blocks] == ["net-a1a1a1", "net-b2b2b2"]


GROUPS = {"near": "near", "far": "far", "farther": "far"}


def block_of_groups(tmp_path: Path) -> Block:
    scores = gaussian_scores({"a": 2.0, "b": 1.0, "c": 0.2, "random": 0.0}, tuple(GROUPS))
    scores = {key: values for key, values in scores.items() if key != ("c", "farther")}
    (block,) = compare([Result.load(write_run(tmp_path, scores, groups=GROUPS))]).blocks
    return block


def test_group_means_weigh_every_set_alike(tmp_path: Path) -> None:
    block = block_of_groups(tmp_path)
    assert block.groups == ("near", "far", ALL_SETS)
    for metric in METRICS:
        values = {ood: block.rows["a", ood].metrics[metric].value for ood in GROUPS}
        assert block.means["a", "far"].metrics[metric].value == pytest.approx((values["far"] + values["farther"]) / 2)
        assert block.means["a", ALL_SETS].metrics[metric].value == pytest.approx(sum(values.values()) / 3)


def test_average_rank_is_the_mean_of_the_ranks(tmp_path: Path) -> None:
    block = block_of_groups(tmp_path)
    for detector in ("a", "b"):
        ranks = [block.rows[detector, ood].rank for ood in GROUPS]
        assert block.average_rank(detector) == pytest.approx(sum(rank or 0 for rank in ranks) / 3)
    assert block.average_rank("random") is None


def test_a_detector_without_every_set_has_no_mean_over_them(tmp_path: Path) -> None:
    block = block_of_groups(tmp_path)
    assert ("c", "near") in block.means
    assert ("c", "far") not in block.means and block.average_rank("c") is None


def test_the_spread_of_a_group_is_that_of_its_runs_means(tmp_path: Path) -> None:
    """Sets that fall together with a training do not average out; sets that fall against each other do."""
    all_scores = [gaussian_scores({"a": gap}, seed=2) for gap in (1.0, 2.0)]
    (block,) = repeats(tmp_path, all_scores).blocks
    means = [np.mean([evaluate(s["a", "shapes"], s["a", ood])["auroc"] for ood in ("near", "far")]) for s in all_scores]
    mean = block.means["a", ALL_SETS].metrics["auroc"]
    assert mean.value == pytest.approx(np.mean(means)) and mean.spread == pytest.approx(np.std(means, ddof=1))


def test_one_group_is_not_shown_twice(board: Board) -> None:
    (block,) = board(gaussian_scores({"a": 1.0})).blocks
    assert block.groups == ("far",) and block.average_rank("a") == 1
