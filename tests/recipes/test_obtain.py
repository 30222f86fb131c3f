"""A detector's own classifier: trained once for all that share its training, found again by content."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from oodbench.classifier import Classifier
from oodbench.data.load import InDistribution
from oodbench.detectors.inversion import Inversion
from oodbench.detectors.softmax import Smood
from oodbench.errors import OodbenchError
from oodbench.progress import Reporter
from oodbench.recipes import obtain
from oodbench.recipes.obtain import find_recipe, obtain_own_classifier, training_part
from tests.recipes.conftest import QUICK, quick_training, turned_ramps


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("OODBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(obtain, "default_garbage_settings", lambda *_: QUICK)
    yield tmp_path / "classifiers"


def id_set(seed: int = 0) -> InDistribution:
    return InDistribution("ramps", turned_ramps(90, seed), turned_ramps(30, 9), 3, (1, 8, 8))


def own(detector: Inversion, data: InDistribution, reference: str | None = None) -> Classifier:
    device = torch.device("cpu")
    return obtain_own_classifier(detector, "cnn8", data, (1, 8, 8), device, Reporter(), reference).classifier


def test_it_is_trained_once_and_anew_where_anything_that_decides_it_differs(cache: Path) -> None:
    first = own(Inversion(), id_set())
    assert first.num_classes == 4
    assert own(Inversion(reading="certainty"), id_set()).content_hash() == first.content_hash()
    assert len(list(cache.glob("*.safetensors"))) == 1
    others = [
        own(Inversion(seed=1), id_set()),
        own(Inversion(), id_set(5)),
        own(Inversion(steps=0), id_set()),
    ]
    assert len(list(cache.glob("*.safetensors"))) == 4
    assert len({classifier.content_hash() for classifier in (first, *others)}) == 4


def test_a_detectors_parameters_are_settings_of_its_training() -> None:
    given = {"by": "generator", "start": "noise", "steps": 3, "seed": 5}
    settings = find_recipe("garbage").settings("digits", "cnn8", given)
    assert (settings.by, settings.training.seed) == ("generator", 5)
    assert (settings.inversion.start, settings.inversion.steps) == ("noise", 3)
    # −1 leaves what the set has.
    for name in ("digits", "cifar10"):
        usual = find_recipe("garbage").settings(name, "cnn8", {})
        assert find_recipe("garbage").settings(name, "cnn8", {"steps": -1}) == usual


def test_only_training_parameters_part_classifiers() -> None:
    assert training_part(Inversion(reading="certainty")) == training_part(Inversion())
    assert training_part(Inversion(seed=2, reading="certainty")) == Inversion(seed=2)


def test_a_checkpoint_serves_instead(cache: Path, tmp_path: Path) -> None:
    given = tmp_path / "given.safetensors"
    quick_training(given)
    own(Inversion(), id_set(), str(given))
    assert not cache.exists()
    with pytest.raises(OodbenchError, match="trained already"):
        own(Inversion(steps=2), id_set(), str(given))


def test_what_has_no_recipe_or_an_unknown_one_is_refused() -> None:
    with pytest.raises(OodbenchError, match="Smood has no recipe"):
        obtain_own_classifier(Smood(), "cnn8", id_set(), (1, 8, 8), torch.device("cpu"), Reporter())
    with pytest.raises(OodbenchError, match="no recipe 'garbge'"):
        find_recipe("garbge")
