"""One test for each silent fault of state that was found in another suite: none of them may live here.

36 to 43 (searches and caches) are to come with tuning and with stored outputs.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from oodbench.detectors.base import Detector
from oodbench.detectors.catalogue import catalogue
from oodbench.detectors.spec import build
from oodbench.example import Example, make_example
from oodbench.outputs import Needs
from oodbench.testing import check_inputs_untouched, check_model_untouched, check_refit, check_side_by_side, run_check
from tests.threads import one_thread as one_thread

ALL = tuple(catalogue())
RECIPES = {name: build(name).reads for name in ALL}


def example_for(name: str) -> Example:
    """With a classifier of the detector's own, where it reads one."""
    return make_example(recipe=RECIPES[name])


def fitted(name: str, example: Example) -> Detector:
    return example.fitted(build(name))


def scores(detector: Detector, example: Example) -> Tensor:
    return example.scores(detector, example.all_images)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ALL)
def test_fault_33_setup_before_eval(name: str, training: bool) -> None:
    """OpenOOD set detectors up before it called eval(): running means were overwritten by fitting."""
    example = example_for(name)
    example.classifier.module.eval()
    expected, before = scores(fitted(name, example), example), example.classifier.content_hash()
    example.classifier.module.train(training)
    found = scores(fitted(name, example), example)
    assert torch.equal(found, expected)
    assert example.classifier.content_hash() == before
    assert all(part.training is training for part in example.classifier.module.modules())


@pytest.mark.parametrize("name", ALL)
def test_fault_34_refitting_keeps_the_old_statistics(name: str) -> None:
    """oodeel appended to lists that `fit` never emptied, and read the first entry."""
    run_check(check_refit, build(name))


@pytest.mark.parametrize("name", ALL)
def test_fault_35_two_detectors_on_one_model(name: str) -> None:
    """oodeel: fitting a second detector removed the first one's hooks, which then returned stale features."""
    run_check(check_side_by_side, build(name))


@pytest.mark.parametrize("recipe", sorted(set(RECIPES.values()), key=str))
def test_fault_35_all_detectors_on_one_model_in_any_order(recipe: str | None) -> None:
    """Each scores in one shared pass what it scores alone on its own copy."""
    alone, names = {}, tuple(name for name in ALL if RECIPES[name] == recipe)
    for name in names:
        example = make_example(recipe=recipe)
        alone[name] = scores(fitted(name, example), example)
    shared = make_example(recipe=recipe)
    detectors = {name: fitted(name, shared) for name in names}
    needs = Needs()
    for detector in detectors.values():
        needs |= detector.needs
    for order in (names, names[::-1], names[3:] + names[:3]):
        parts: dict[str, list[Tensor]] = {name: [] for name in order}
        for live in shared.passes(shared.all_images, needs):
            for name in order:
                parts[name].append(detectors[name](live))
        for name in order:
            torch.testing.assert_close(torch.cat(parts[name]), alone[name], rtol=1e-6, atol=1e-6)
    assert not any(part._forward_hooks for part in shared.classifier.module.modules())


@pytest.mark.parametrize("name", ALL)
def test_fault_49_inputs_are_edited(name: str) -> None:
    """pytorch-ood's and OpenOOD's ASH pruned the very features that later detectors were handed."""
    run_check(check_inputs_untouched, build(name))


@pytest.mark.parametrize("name", ALL)
def test_fault_50_a_model_already_in_train_mode(name: str) -> None:
    """pytorch-ood's Monte-Carlo dropout: batch norm by the batch, and running means that move (no MCD here yet)."""
    run_check(check_model_untouched, build(name))
    example = example_for(name)
    example.classifier.module.train()
    detector = fitted(name, example)
    assert torch.equal(scores(detector, example), scores(detector, example)), "dropout would differ"
