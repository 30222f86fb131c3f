"""The catalogue: complete, light to import, and consistent about groups."""

from __future__ import annotations

import subprocess
import sys

import pytest

from oodbench.data.catalogue import DATASETS, GROUPS, group_of
from oodbench.data.noise import DERIVED, NOISE


def imported_by(module: str) -> set[str]:
    code = f"import sys, {module}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout.split())


def test_reading_the_catalogue_imports_nothing_heavy() -> None:
    assert not {"numpy", "torch", "torchvision", "sklearn", "PIL"} & imported_by("oodbench.data.catalogue")


def test_asking_what_is_available_does_not_wait_for_torch() -> None:
    assert not {"torch", "torchvision", "sklearn", "scipy"} & imported_by("oodbench.data.load")


def test_the_sets_that_were_promised_are_there() -> None:
    id_sets = {"digits", "mnist", "fashion-mnist", "kmnist", "cifar10", "cifar100", "svhn"}
    natural = {"textures", "scenes", "tinyimagenet", "tinyimagenet-crop", "tinyimagenet-resize", "photos"}
    lsun = {"lsun", "lsun-crop", "lsun-resize", "lsun-scenes", "isun"}
    characters = {"notmnist", "omniglot"}
    noise = {"gaussian", "uniform", "rademacher", "blobs"}
    derived = {"pixel-shuffled", "patch-shuffled", "fourier-phase-scrambled"}
    assert set(DATASETS) == id_sets | natural | lsun | characters | noise | derived | {"structured", "inverted"}
    assert {name for name, entry in DATASETS.items() if entry.num_classes is not None} == id_sets


def test_every_entry_says_what_it_is_and_whence() -> None:
    for name, entry in DATASETS.items():
        assert entry.name == name == name.lower() and entry.title and entry.source
        assert entry.group in ("", "noise", "structured", "adversarial")
        assert (entry.group == "noise") == (entry.family == "noise")
        assert (entry.group == "structured") == (entry.family == "structured")
        assert bool(entry.url) == (entry.kind == "files"), name


def test_noise_in_the_catalogue_is_noise_that_can_be_made() -> None:
    made = {name: entry.kind for name, entry in DATASETS.items() if entry.group == "noise"}
    assert {name for name, kind in made.items() if kind == "generated"} == set(NOISE)
    assert {name for name, kind in made.items() if kind == "derived"} <= set(DERIVED)


@pytest.mark.parametrize("name", ["lsun-resize", "tinyimagenet-resize"])
def test_resized_archives_come_with_their_warning(name: str) -> None:
    assert "without antialiasing" in DATASETS[name].note and "2007.08176" in DATASETS[name].note


@pytest.mark.parametrize(
    ("name", "id_name", "group"),
    [
        ("gaussian", "cifar10", "noise"),
        ("patch-shuffled", "mnist", "noise"),
        ("photos", "mnist", "structured"),
        ("textures", "cifar10", "structured"),
        ("lsun-resize", "cifar10", "structured"),
        ("cifar100", "cifar10", "near"),
        ("tinyimagenet-crop", "cifar100", "near"),
        ("svhn", "cifar10", "far"),
        ("mnist", "cifar10", "far"),
        ("cifar10", "svhn", "far"),
        ("notmnist", "mnist", "near"),
        ("digits", "fashion-mnist", "near"),
        ("mnist", "a file of yours", "other"),
        ("gaussian", "a file of yours", "noise"),
        ("a file of yours", "mnist", "other"),
    ],
)
def test_groups(name: str, id_name: str, group: str) -> None:
    assert group_of(name, id_name) == group
    assert group in (*GROUPS, "other")
