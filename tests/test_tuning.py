"""Tuning: what is picked and on what, what it costs, what is flagged, and that no scored set decides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from oodbench import Benchmark, Classifier, Machine, run, tuning
from oodbench.data.load import load_id
from oodbench.errors import OodbenchError
from oodbench.recipes.holdout import hold_out
from oodbench.tuning import HELD_OUT, PROXIES, TRIALS, Tuned, tune
from tests.small_runs import ANEW, benchmark, count_entering

Files = dict[str, str]


def tuned(files: Files, classifier: Classifier, *detectors: str, **given: object) -> Tuned:
    grids = given.pop("grids", None)
    oracle = bool(given.pop("oracle", False))
    work = benchmark(files, detectors=detectors, **given)
    return tune(work, [classifier], ANEW, grids=grids, oracle=oracle)[0]  # type: ignore[arg-type]


def test_the_pick_is_the_best_of_a_run_of_each_trial_on_what_is_held_out(
    image_files: Files, small_classifier: Classifier, tmp_path: Path
) -> None:
    """Against runs of single detectors on files that hold the two parts of the fit images."""
    found = tuned(
        image_files,
        small_classifier,
        "knn(k=7)",
        "knn",
        ood=(image_files["dark"],),
        grids={"knn.k": ["1", "2", "9"]},
        validation_ood=(image_files["bright"],),
    )
    fit = load_id(image_files["id"], data_root=None, seed=0).fit
    held, kept = hold_out(fit, 0, HELD_OUT)
    for name, part in (("part_test", held), ("part_train", kept)):
        np.savez(tmp_path / f"{name}.npz", images=part.read(0, len(part)), labels=part.labels)
    labels = ["knn(k=7)", "knn(k=1)", "knn(k=2)", "knn(k=9)"]
    alone = run(
        Benchmark(id=f"npz:{tmp_path / 'part_test.npz'}", ood=(image_files["bright"],), detectors=tuple(labels)),
        [small_classifier],
        ANEW,
    ).table.set_index("detector")["auroc"]
    assert [one.detector for one in found.trials] == labels and found.kind == "validation"
    np.testing.assert_allclose([one.auroc for one in found.trials], alone[labels], rtol=1e-12)
    assert found.picked == labels[int(np.argmax(alone[labels]))] and found.sets == ("bright",)


def test_no_scored_set_and_no_test_image_decides(image_files: Files, small_classifier: Classifier) -> None:
    before = tuned(image_files, small_classifier, "react", "maxlogit")
    for name in ("bright", "dark", "id"):
        path = Path(image_files[name].removeprefix("npz:"))
        stored = dict(np.load(path))
        np.savez(path, **stored | {"images": 255 - stored["images"]})
    assert tuned(image_files, small_classifier, "react", "maxlogit") == before
    assert before.kind == "proxies" and before.sets == PROXIES
    by_oracle = tuned(image_files, small_classifier, "react", oracle=True)
    assert by_oracle.kind == "oracle" and by_oracle.sets == ("bright", "dark")


def test_a_grid_costs_no_pass_but_one_for_each_step_of_live_detectors(
    image_files: Files, small_classifier: Classifier
) -> None:
    def passes(detector: str, **grids: list[str]) -> int:
        given = {f"{detector}.{name}": values for name, values in grids.items()}
        return count_entering(small_classifier, lambda: tuned(image_files, small_classifier, detector, grids=given))

    fit, held = 72, 18
    assert passes("energy", temperature=["1"]) == passes("energy", temperature=list("123456789")) == 3 * held
    assert passes("knn", k=["3"]) == passes("knn", k=list("123456789")) == 3 * held + fit
    steps = {"temperature": ["1", "10", "1000"], "epsilon": ["0", "0.001", "0.002", "0.01"]}
    # The default, a step of 0.0014 at 1000, and of each temperature three; ε = 0 takes none.
    assert passes("odin", **steps) == 3 * held * (1 + 1 + 3 * 3)


def test_edges_and_parameters_without_effect_are_flagged(image_files: Files, small_classifier: Classifier) -> None:
    grids = {"odin.temperature": ["1", "2"], "odin.fraction": ["0.1", "0.5"]}
    found = tuned(image_files, small_classifier, "odin", grids=grids | {"odin.epsilon": ["0.0014"]})
    assert found.no_effect == ("fraction",)
    with pytest.raises(OodbenchError, match="score all images alike, whatever fraction"):
        tuned(
            image_files,
            small_classifier,
            "odin",
            grids={**grids, "odin.temperature": ["1000"], "odin.epsilon": ["0.0014"]},
        )
    ranked = tuned(image_files, small_classifier, "knn", grids={"knn.k": ["1", "2", "3"]})
    # One is the least that k can be: nothing lies beyond it.
    assert ranked.at_edge == {"knn(k=1)": (), "knn(k=2)": (), "knn(k=3)": ("k",), "knn": ("k",)}[ranked.picked]


def test_the_first_of_equals_is_picked_and_what_was_given_stays(
    image_files: Files, small_classifier: Classifier
) -> None:
    found = tuned(
        image_files, small_classifier, "odin(epsilon=0.01,norm=l2)", grids={"odin.temperature": ["1e8", "1e9"]}
    )
    assert all("epsilon=0.01" in one.detector and "norm=l2" in one.detector for one in found.trials)
    best = max(one.auroc for one in found.trials)
    assert found.picked == next(one.detector for one in found.trials if one.auroc == best)


def test_of_a_large_grid_some_are_drawn(image_files: Files, small_classifier: Classifier) -> None:
    grids = {"energy.temperature": [str(number) for number in range(1, 300)]}
    found, again = (tuned(image_files, small_classifier, "energy", grids=grids) for _ in range(2))
    assert found == again and found.grid == 299 and found.trials[0].detector == "energy"
    assert TRIALS <= len(found.trials) <= TRIALS + 1


def test_a_validation_set_that_shares_one_image_with_a_scored_one_is_refused(
    image_files: Files, small_classifier: Classifier, tmp_path: Path
) -> None:
    bright = np.load(image_files["bright"].removeprefix("npz:"))["images"]
    np.savez(tmp_path / "leaky.npz", images=np.concatenate([255 - bright, bright[4:5]]))
    with pytest.raises(OodbenchError, match="1 of the 24 images of the validation set leaky"):
        tuned(image_files, small_classifier, "knn", validation_ood=(f"npz:{tmp_path / 'leaky.npz'}",))


def test_sets_from_python_are_tuned_on_and_all_is_planned_once(
    image_files: Files, small_classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A validation set from Python picks what the same images in a file pick."""
    plans = []
    plan = tuning.make_plan
    monkeypatch.setattr(tuning, "make_plan", lambda *given, **more: plans.append(given) or plan(*given, **more))
    given = {"ood": (image_files["dark"],), "validation_ood": (image_files["bright"],)}
    grids = {"knn.k": ["1", "2", "9"]}
    by_file = tuned(image_files, small_classifier, "knn(k=7)", grids=grids, **given)
    bright = np.load(image_files["bright"].removeprefix("npz:"))["images"]
    mine = benchmark(image_files, detectors=("knn(k=7)",), ood=given["ood"], validation_ood=("mine",))
    (found,) = tune(mine, [small_classifier], ANEW, grids=grids, sets={"mine": bright})
    assert found.sets == ("mine",) and found.picked == by_file.picked and len(found.trials) == 4
    assert [one.auroc for one in found.trials] == [one.auroc for one in by_file.trials]
    assert len(plans) == 2
    with pytest.raises(OodbenchError, match="23 of the 23 images of the validation set mine"):
        tune(replace(mine, ood=given["validation_ood"]), [small_classifier], ANEW, sets={"mine": bright})


def test_what_is_written_is_a_benchmark_and_stands_on_the_card(
    image_files: Files, small_classifier: Classifier, tmp_path: Path
) -> None:
    found = tuned(image_files, small_classifier, "knn", grids={"knn.k": ["1", "3"]})
    work = benchmark(image_files, detectors=(found.picked,), limit=20, tuning=(found.as_dict(),), name="tuned")
    path = tmp_path / "tuned.toml"
    path.write_text(work.to_toml(), encoding="utf-8")
    assert Benchmark.load(str(path)) == work
    card = run(Benchmark.load(str(path)), [small_classifier], ANEW).card
    assert card.benchmark["tuning"][0]["picked"] == found.picked
    assert [one["auroc"] for one in card.benchmark["tuning"][0]["trials"]] == [one.auroc for one in found.trials]


def test_detectors_must_be_named(small_classifier: Classifier) -> None:
    with pytest.raises(OodbenchError, match="name the detectors"):
        tune(Benchmark(), [small_classifier], Machine(device="cpu"))
