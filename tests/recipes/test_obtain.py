"""Classifiers of a run: given, loaded, derived, or trained once for all that share the training, found by content."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from oodbench import Benchmark, Machine, run
from oodbench.classifier import Classifier
from oodbench.data.load import InDistribution
from oodbench.data.preprocess import stretched
from oodbench.detectors.base import Detector
from oodbench.errors import OodbenchError
from oodbench.outputs import Outputs
from oodbench.plan import Plan, make_plan
from oodbench.progress import Reporter
from oodbench.recipes.catalogue import RECIPES, Recipe, find_recipe
from oodbench.recipes.obtain import Wanted, obtain
from oodbench.resume import save_resume
from oodbench.training import TrainingSettings
from tests.recipes.conftest import QUICK, quick_training, turned_ramps
from tests.small_runs import linear


@pytest.fixture
def cache(own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("OODBENCH_CACHE", str(tmp_path))
    plain = TrainingSettings(epochs=1, batch_size=32)
    quick = {"garbage": QUICK, "plain": plain}
    recipes = {name: replace(RECIPES[name], settings=lambda *_, one=one: one) for name, one in quick.items()}
    monkeypatch.setattr("oodbench.recipes.catalogue.RECIPES", {**RECIPES, **recipes})
    yield tmp_path / "classifiers"


def id_set(seed: int = 0) -> InDistribution:
    return InDistribution("ramps", turned_ramps(90, seed), turned_ramps(30, 9), 3, (1, 8, 8))


def got(data: InDistribution, others: dict[str, Classifier] | None = None, **wanted: Any) -> Classifier:
    what = Wanted(**{"name": "own", "architecture": "cnn8", "form": stretched((1, 8, 8))} | wanted)
    return obtain(what, data, torch.device("cpu"), Reporter(), others).classifier


def test_it_is_trained_once_and_anew_where_anything_that_decides_it_differs(cache: Path) -> None:
    first = got(id_set(), recipe="garbage")
    assert first.num_classes == 4
    assert got(id_set(), recipe="garbage", name="another").content_hash() == first.content_hash()
    assert len(list(cache.glob("*.safetensors"))) == 1
    others = [
        got(id_set(), recipe="garbage", parameters={"seed": 1}),
        got(id_set(5), recipe="garbage"),
        got(id_set(), recipe="garbage", parameters={"steps": 0}),
        got(id_set()),
        got(id_set(), form=stretched((3, 8, 8))),
    ]
    assert len(list(cache.glob("*.safetensors"))) == 6
    assert len({classifier.content_hash() for classifier in (first, *others)}) == 6
    assert [one.num_classes for one in others] == [4, 4, 4, 3, 3]


class Said(Reporter):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def say(self, text: str) -> None:
        self.texts.append(text)


@pytest.mark.parametrize("place", ["weights", "facts", "cut", "no checksum"])
def test_a_damaged_classifier_of_the_cache_is_said_and_trained_anew(cache: Path, place: str) -> None:
    first = got(id_set())
    (path,) = cache.glob("*.safetensors")
    content = bytearray(path.read_bytes())
    if place == "weights":
        content[-3] ^= 64
    elif place == "facts":
        at = content.index(b"accuracies")
        content[at] ^= 2
    elif place == "cut":
        del content[len(content) // 2 :]
    else:
        at = content.index(b"checksum")
        content[at] ^= 2
    path.write_bytes(content)
    said = Said()
    wanted = Wanted("own", "cnn8", stretched((1, 8, 8)))
    again = obtain(wanted, id_set(), torch.device("cpu"), said).classifier
    assert again.content_hash() == first.content_hash()
    assert any("of the cache is damaged" in text for text in said.texts), said.texts
    said.texts.clear()
    obtain(wanted, id_set(), torch.device("cpu"), said)
    assert not any("made anew" in text for text in said.texts)


def test_a_damaged_resume_file_of_the_cache_is_said_and_not_used(cache: Path) -> None:
    first = got(id_set())
    (path,) = cache.glob("*.safetensors")
    path.unlink()
    resume = Path(f"{path}.resume")
    save_resume(resume, {"identity": "another"})
    content = bytearray(resume.read_bytes())
    content[-1] ^= 1
    resume.write_bytes(content)
    said = Said()
    wanted = Wanted("own", "cnn8", stretched((1, 8, 8)))
    again = obtain(wanted, id_set(), torch.device("cpu"), said).classifier
    assert again.content_hash() == first.content_hash() and not resume.exists()
    assert any("starts afresh" in text for text in said.texts)


def planned(image_files: dict[str, str], *detectors: str, models: tuple[str, ...] = ()) -> Plan:
    work = Benchmark(id=image_files["id"], ood=(image_files["bright"],), detectors=detectors, models=models)
    return make_plan(work, Machine())


def test_a_detectors_parameters_are_settings_of_its_training(
    image_files: dict[str, str], own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that it says; what it leaves is the default of the set."""
    trained: list[Any] = []

    def noting(*_: Any, settings: Any, **__: Any) -> None:
        trained.append(settings)
        raise OodbenchError("no need to train")

    recipes = {**RECIPES, "garbage": replace(RECIPES["garbage"], train=noting)}
    monkeypatch.setattr("oodbench.recipes.catalogue.RECIPES", recipes)
    for detector in ("inversion", "inversion(by=generator,start=noise,steps=3,seed=5)"):
        (assignment,) = planned(image_files, detector).assignments
        with pytest.raises(OodbenchError, match="no need"):
            obtain(assignment.wanted, id_set(), torch.device("cpu"), Reporter())
    usual, settings = trained
    garbage = find_recipe("garbage")
    assert garbage.settings is not None and usual == garbage.settings("ramps", "cnn8")
    assert (settings.by, settings.training.seed) == ("generator", 5)
    assert (settings.inversion.start, settings.inversion.steps) == ("noise", 3)
    assert settings.weight == usual.weight and settings.training.epochs == usual.training.epochs


def test_only_training_parameters_part_classifiers(image_files: dict[str, str]) -> None:
    same = planned(image_files, "inversion", "inversion(reading=certainty)", "confidence")
    assert [[*one.detectors] for one in same.assignments] == [
        ["inversion", "inversion(reading=certainty)"],
        ["confidence"],
    ]
    other = planned(
        image_files, "inversion(reading=certainty)", "inversion(seed=2)", "inversion(seed=2,reading=certainty)"
    )
    assert [[*one.detectors] for one in other.assignments] == [
        ["inversion(reading=certainty)"],
        ["inversion(seed=2)", "inversion(reading=certainty,seed=2)"],
    ]


def test_a_checkpoint_serves_instead(cache: Path, tmp_path: Path, image_files: dict[str, str]) -> None:
    given = tmp_path / "given.safetensors"
    quick_training(given)
    classifier = got(id_set(), recipe="garbage", reference=str(given))
    assert classifier.num_classes == 4 and not cache.exists()
    (assignment,) = planned(image_files, "inversion", models=(str(given),)).assignments
    assert assignment.wanted.reference == str(given) and not assignment.wanted.is_trained
    with pytest.raises(OodbenchError, match="trained already"):
        planned(image_files, "inversion(steps=2)", models=(str(given),))
    with pytest.raises(OodbenchError, match="takes images of"):
        got(id_set(), recipe="garbage", reference=str(given), form=stretched((3, 8, 8)))


def test_what_is_given_is_taken_as_it_is(cache: Path) -> None:
    mine = linear(3)
    assert got(id_set(), given=mine) is mine
    both = got(id_set(), {"a": mine, "b": linear(3, "other")}, recipe="ensemble", members=("a", "b"))
    images = torch.rand(5, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(both(images).softmax(1), mine(images).softmax(1))
    assert not cache.exists()


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(OodbenchError, match="no recipe 'garbge'"):
        find_recipe("garbge")


@dataclass(frozen=True)
class Highest(Detector):
    """The highest output of a classifier of its own."""

    reads: ClassVar[str | None] = "turned"

    def score(self, outputs: Outputs) -> Tensor:
        return outputs.logits.double().amax(dim=1)


def test_a_detector_and_a_recipe_are_all_that_a_classifier_of_its_own_takes(
    image_files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that nothing else knows of, derived from the classifier under test: its logits, with the opposite sign."""

    def turned(members: list[Classifier]) -> Classifier:
        module = torch.nn.Sequential(members[0].module, torch.nn.Linear(3, 3, bias=False))
        module[1].weight.data = -torch.eye(3)
        return Classifier(module, num_classes=3, image_shape=(1, 8, 8))

    recipes = {**RECIPES, "turned": Recipe("the opposite", derive=turned)}
    monkeypatch.setattr("oodbench.recipes.catalogue.RECIPES", recipes)
    work = Benchmark(id=image_files["id"], ood=(image_files["bright"],), detectors=("energy", Highest()))
    result = run(work, [linear(3)])
    stored = torch.from_numpy(np.load(image_files["bright"].removeprefix("npz:"))["images"])
    with torch.no_grad():
        expected = -linear(3)(stored[:, None] / 255).double().amin(dim=1)
    (label,) = set(result.table.detector) - {"energy"}
    found = torch.from_numpy(result.scores["linear", label, "bright"])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
