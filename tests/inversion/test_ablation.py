"""The ablation and the sweep: one row a run, the right thing changed, nothing run twice."""

from __future__ import annotations

import math

import pandas as pd
import pytest
import torch

from oodbench.classifier import Classifier
from oodbench.errors import OodbenchError
from oodbench.inversion import ablation
from oodbench.inversion.ablation import (
    VARIANTS,
    ablate,
    epochs_to,
    features_of,
    sweep,
)
from oodbench.inversion.diversity import diversity
from oodbench.inversion.invert import generate, invert
from oodbench.inversion.settings import InversionSettings
from oodbench.progress import Reporter
from tests.inversion.conftest import COLUMNS, bars


@pytest.fixture
def quick(small_settings: InversionSettings, monkeypatch: pytest.MonkeyPatch) -> InversionSettings:
    monkeypatch.setattr(ablation, "GENERATED", 60)
    return small_settings.replaced(epochs=3, accuracy_images=50)


def test_the_variants_leave_out_one_loss_each() -> None:
    left_out = {
        "no_ce": "cross_entropy",
        "no_orthogonality": "orthogonality",
        "no_kl": "kl",
        "no_cosine": "cosine",
    }
    full = InversionSettings()
    assert list(VARIANTS) == ["all", *left_out]
    for variant, changes in VARIANTS.items():
        weights = full.replaced(**changes).weights
        zero = {name for name in ("cross_entropy", "kl", "cosine", "orthogonality") if not getattr(weights, name)}
        assert zero == ({left_out[variant]} if variant != "all" else set())
    assert full.conditioning == "vector-matrix"


def test_an_ablation_has_a_row_a_run_and_says_what_a_single_run_says(
    bars_classifier: Classifier, quick: InversionSettings
) -> None:
    real = features_of(bars_classifier, bars(40, 0)[0])
    study = ablate(bars_classifier, quick, [0, 1], real, "cpu", Reporter())
    assert list(study.table) == ["variant", *COLUMNS]
    pairs = [(variant, seed) for variant in VARIANTS for seed in (0, 1)]
    assert list(zip(study.table["variant"], study.table["seed"], strict=True)) == pairs
    assert len(study.curves) == 3 * len(pairs) and list(study.curves)[:3] == ["variant", "seed", "epoch"]

    alone = invert(bars_classifier, quick.replaced(kl=0.0, seed=1), "cpu", Reporter())
    accuracies = [epoch.inversion_accuracy for epoch in alone.history]
    row = study.table.set_index(["variant", "seed"]).loc[("no_kl", 1)]
    assert row["epochs"] == 3
    assert row["max_inversion_accuracy"] == max(accuracies)
    assert row["final_inversion_accuracy"] == accuracies[-1]
    generated = generate(alone.generator, 60, 1)
    expected = diversity(features_of(bars_classifier, generated.images), generated.targets, real)
    assert (row["feature_cosine"], row["coverage"]) == (expected.feature_cosine, expected.coverage)
    curve = study.curves.query("variant == 'no_kl' and seed == 1")["inversion_accuracy"]
    assert list(curve) == accuracies


def test_a_sweep_changes_one_setting_at_a_time_and_runs_nothing_twice(
    bars_classifier: Classifier, quick: InversionSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[InversionSettings] = []

    def counted(classifier: Classifier, settings: InversionSettings, *rest: object) -> object:
        tried.append(settings)
        return invert(classifier, settings, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(ablation, "invert", counted)
    real = features_of(bars_classifier, bars(40, 0)[0])
    values = {"learning_rate": [0.01, 0.1], "l1": [0.0, 1e-3], "conditioning": ["vector-matrix", "one-hot"]}
    study = sweep(bars_classifier, quick, values, [0], real, "cpu", Reporter())
    assert list(study.table) == ["parameter", "value", *COLUMNS]
    assert list(study.table["value"]) == [0.01, 0.1, 0.0, 1e-3, "vector-matrix", "one-hot"]
    # The settings in use stand in all three sweeps.
    changes = ({}, {"learning_rate": 0.1}, {"l1": 1e-3}, {"conditioning": "one-hot"})
    assert tried == [quick.replaced(**change) for change in changes]
    pd.testing.assert_series_equal(study.table[COLUMNS].iloc[0], study.table[COLUMNS].iloc[2], check_names=False)


@pytest.mark.parametrize("values", [{"learning_rat": [1.0]}, {"batch_size": [8, 1]}])
def test_a_sweep_of_impossible_values_stops_before_the_first_run(
    values: dict[str, list[float]],
    bars_classifier: Classifier,
    quick: InversionSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ablation, "invert", lambda *_: pytest.fail("something was trained"))
    with pytest.raises(OodbenchError):
        sweep(bars_classifier, quick, values, [0], torch.zeros(10, 16), "cpu", Reporter())


def test_no_seeds_are_refused(bars_classifier: Classifier, quick: InversionSettings) -> None:
    with pytest.raises(OodbenchError, match="at least one seed"):
        ablate(bars_classifier, quick, [], torch.zeros(10, 16), "cpu", Reporter())


def test_the_first_epoch_that_is_good_enough() -> None:
    assert epochs_to(0.8, [0.1, 0.8, 0.3, 0.9]) == 2
    assert epochs_to(0.8, [0.9]) == 1
    assert math.isnan(epochs_to(0.8, [0.1, 0.79]))
