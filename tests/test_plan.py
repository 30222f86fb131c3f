"""The plan: everything is decided and checked, nothing is trained, and nothing of the user's is changed."""

from __future__ import annotations

import re
import tokenize
from collections import defaultdict
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oodbench import Classifier, Machine, OodbenchError, run, training
from oodbench.detectors.catalogue import catalogue
from oodbench.plan import make_plan
from oodbench.recipes import confidence, garbage, plain
from oodbench.recipes.obtain import Obtained
from tests.small_runs import benchmark, count_entering, linear
from tests.test_store import Heard

ROOT = Path(__file__).parents[1]
CHECKPOINT = ROOT / "results" / "baselines" / "digits-cnn8.safetensors"


@pytest.fixture
def nothing_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever trains anything, fails."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("something was trained")

    for module, name in ((training, "train"), (plain, "train"), (confidence, "train"), (garbage, "optimise")):
        monkeypatch.setattr(module, name, refuse)
    monkeypatch.setattr(torch.Tensor, "backward", refuse)


def test_nothing_is_trained(
    nothing_trains: None, tmp_path: Path, image_files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a classifier that is to be trained, those that detectors have of their own, and an ensemble of some."""
    monkeypatch.setenv("OODBENCH_CACHE", str(tmp_path / "cache"))
    detectors = ("msp", "inversion", "inversion(seed=1)", "confidence", "ensemble")
    plan = make_plan(benchmark(image_files, detectors=detectors, models=("cnn8", "resnet20")), Machine())
    assert [(one.wanted.name, one.wanted.recipe) for one in plan.assignments] == [
        ("cnn8", "plain"),
        ("resnet20", "plain"),
        ("cnn8+inversion", "garbage"),
        ("resnet20+inversion", "garbage"),
        ("cnn8+inversion(seed=1)", "garbage"),
        ("resnet20+inversion(seed=1)", "garbage"),
        ("cnn8+confidence", "confidence"),
        ("resnet20+confidence", "confidence"),
        ("cnn8+resnet20+ensemble", "ensemble"),
    ]
    assert [one.wanted.is_trained for one in plan.assignments] == [True] * 8 + [False]
    assert not (tmp_path / "cache").exists()


def test_a_detector_is_not_fitted_by_the_plan(image_files: dict[str, str], small_classifier: Classifier) -> None:
    plan = make_plan(benchmark(image_files), Machine(), [small_classifier])
    assert [*plan.detectors] == ["msp", "maxlogit", "energy", "lc", "oodl", "constant", "random"]
    assert [label for label, one in plan.detectors.items() if not one.fitted] == ["lc", "oodl"]


def told(classifier: Classifier) -> dict[str, Any]:
    """All that one can see of a classifier."""
    module = classifier.module
    return {
        "attributes": dict(vars(classifier)),
        "content": classifier.content_hash(),
        "modes": [one.training for one in module.modules()],
        "flags": [(one.requires_grad, one.grad, one.device, one.data_ptr()) for one in module.parameters()],
        "hooks": [
            (len(one._forward_hooks), len(one._forward_pre_hooks), len(one._backward_hooks)) for one in module.modules()
        ],
    }


@pytest.mark.parametrize("whole", [False, True])
def test_a_users_classifiers_stay_as_they_are(
    image_files: dict[str, str], small_classifier: Classifier, whole: bool
) -> None:
    """By the plan, and by the whole run."""
    small_classifier.module.train()
    next(small_classifier.module.parameters()).requires_grad_(False)
    small_classifier.module[2].register_forward_hook(lambda *_: None)  # type: ignore[index, operator]
    mine = [small_classifier, linear(3, "small"), linear(3, "other")]
    before = [told(one) for one in mine]
    work = benchmark(image_files, detectors=("energy", "odin", "oodl", "ensemble"))
    if whole:
        run(work, mine)
    else:
        make_plan(work, Machine(), mine)
    assert [told(one) for one in mine] == before


def test_classifiers_of_one_name_are_told_apart(image_files: dict[str, str], small_classifier: Classifier) -> None:
    """In the results, by their content; they are called as before."""
    mine = [small_classifier, linear(3, "small"), linear(3, "other")]
    plan = make_plan(benchmark(image_files), Machine(), mine)
    names = [one.wanted.name for one in plan.assignments]
    assert names == [f"small-{one.content_hash()[:6]}" for one in mine[:2]] + ["other"]
    assert [one.name for one in mine] == ["small", "small", "other"]
    with pytest.raises(OodbenchError, match="named twice"):
        make_plan(benchmark(image_files), Machine(), [small_classifier, small_classifier])


def test_what_cannot_be_run_is_refused_before_anything_is_trained(
    nothing_trains: None, small_classifier: Classifier, image_files: dict[str, str]
) -> None:
    def refused() -> None:
        for changes, message in (
            ({"ood": ("npz:nowhere.npz",)}, "nowhere.npz"),
            ({"models": ("nowhere.safetensors",)}, "nowhere.safetensors"),
            ({"validation_ood": (image_files["bright"],)}, "same images"),
            ({"ood": (image_files["bright"], image_files["bright"].replace("npz:", "npz:/./"))}, "two OOD sets"),
        ):
            with pytest.raises(OodbenchError, match=message):
                run(benchmark(image_files, **changes), [] if "models" in changes else [small_classifier])

    assert count_entering(small_classifier, refused) == 0


UNREADABLE = {
    "mcd": "mcd cannot read linear: linear has no dropout layer",
    "react(base=mcd)": r"react\(base=mcd\) cannot read linear: linear has no dropout layer",
    "gram": "gram cannot read linear: linear has no candidate layer that gives maps",
    "oodl(layer=nowhere)": r"oodl\(layer=nowhere\) cannot read linear: there is no candidate layer of linear 'nowhere'",
}


@pytest.mark.parametrize("detector", UNREADABLE)
def test_a_detector_that_cannot_read_a_classifier_is_refused_by_the_plan(
    detector: str, image_files: dict[str, str]
) -> None:
    classifier = linear(3)

    def refused() -> None:
        with pytest.raises(OodbenchError, match=UNREADABLE[detector]):
            make_plan(benchmark(image_files, detectors=("msp", detector)), Machine(), [classifier])

    assert count_entering(classifier, refused) == 0


def test_a_head_that_is_not_linear_is_refused_by_the_plan(image_files: dict[str, str]) -> None:
    squared = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3), torch.nn.Softplus())
    classifier = Classifier(squared, num_classes=3, image_shape=(1, 8, 8), name="squared")
    for detector, message in (("knn", "the penultimate features of squared are not known"), ("vim", "features")):
        with pytest.raises(OodbenchError, match=f"{detector} cannot read squared: .*{message}"):
            make_plan(benchmark(image_files, detectors=("msp", detector)), Machine(), [classifier])


def test_a_trained_classifier_is_refused_before_the_next_and_before_any_pass(
    image_files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [linear(3), linear(3)]
    given = iter(made)
    monkeypatch.setattr("oodbench.runner.obtain", lambda *_: Obtained(next(given), None))

    def refused() -> None:
        with pytest.raises(OodbenchError, match="mcd cannot read cnn8: cnn8 has no dropout layer"):
            run(benchmark(image_files, detectors=("msp", "mcd"), models=("cnn8", "resnet20")))

    assert [count_entering(made[0], refused), len([*given])] == [0, 1]


def test_images_in_two_sets_are_said(small_classifier: Classifier, image_files: dict[str, str], tmp_path: Path) -> None:
    """ID images among the OOD ones, test images among those to fit on, and images twice in a set."""
    test, train = (dict(np.load(tmp_path / f"rot_{split}.npz")) for split in ("test", "train"))
    bright = np.load(tmp_path / "bright.npz")["images"]
    train["images"][:4] = test["images"][10:14]
    np.savez(tmp_path / "rot_train.npz", **train)
    np.savez(tmp_path / "mixed.npz", images=np.concatenate([bright, test["images"][:3], bright[:2], bright[:1]]))
    heard = Heard()
    work = benchmark(image_files, ood=(f"npz:{tmp_path / 'mixed.npz'}", image_files["dark"]), detectors=("lc",))
    card = run(work, [small_classifier], reporter=heard).card
    found = [note for note in card.notes if "also among" in note or "repeat" in note]
    assert found == [
        "4 of the 41 test images are also among the images to fit on",
        "3 of the 29 images of mixed are also among the ID test images",
        "3 of the 29 images of mixed repeat another",
    ]
    assert set(found) <= set(heard.said)
    # Also where all of them come from the store.
    again = run(work, [small_classifier]).card
    assert [note for note in again.notes if note in found] == found


def words_of(code: str) -> dict[int, set[str]]:
    """Of every line its names and the words of its texts, but for what is written for readers, and attributes."""
    words: dict[int, set[str]] = defaultdict(set)
    tokens = tokenize.generate_tokens(StringIO(code).readline)
    before = ""
    for one in tokens:
        if one.type not in (tokenize.OP, tokenize.COMMENT) and '"""' not in one.string and before != ".":
            words[one.start[0]] |= set(re.findall(r"\w+", one.string))
        before = one.string
    return words


def test_words_are_found() -> None:
    code = 'odin = 1  # lc\n"""msp"""\nx = torch.random\nf"say {energy} {1}, react(base=odin)"\n'
    found = words_of(code)
    assert found[1] >= {"odin"} and "lc" not in found[1] and not found[2]
    assert found[3] == {"x", "torch"} and found[4] >= {"energy", "react", "odin"}


MIDDLE = ("plan", "runner", "measure", "subject", "record", "store", "outputs", "live", "capture", "example", "testing")


@pytest.mark.parametrize("name", [*MIDDLE, "check"])
def test_the_middle_knows_no_detector(name: str) -> None:
    """Nor what one of them reads of a classifier of its own: a detector is its own file, and perhaps a recipe."""
    text = (ROOT / "oodbench" / f"{name}.py").read_text(encoding="utf-8")
    assert "garbage" not in text.lower()
    found = {line: word for line, words in words_of(text).items() for word in words & catalogue().keys()}
    assert not found, found


def test_a_known_classifier_is_fine_tuned_and_left_as_it_was() -> None:
    """Detectors that have it tuned get another one that starts from it; a network of another project is no start."""
    from oodbench import Benchmark
    from oodbench.models.load import load_classifier

    given = load_classifier(str(CHECKPOINT), num_classes=10, image_shape=(1, 8, 8))
    work = Benchmark(ood=("uniform",), detectors=("msp", "inversion"))
    for name, starts in (("cnn8", True), ("mine", False)):
        plan = make_plan(work, Machine(device="cpu"), [given.called(name)])
        own = plan.assignments[1].wanted
        assert (own.start is not None, own.architecture, own.is_trained) == (starts, "cnn8", True)
        assert not starts or own.start.content_hash() == given.content_hash()


@pytest.mark.slow
def test_fine_tuning_in_a_run_keeps_the_classes() -> None:
    from oodbench import Benchmark

    work = Benchmark(ood=("uniform",), models=(str(CHECKPOINT),), detectors=("msp", "inversion"))
    result = run(work, machine=Machine(device="cpu"))
    before, own = result.card.classifiers
    report = own["training"]["report"]
    assert report["accuracy_before"] is not None
    assert report["class_accuracy"] >= report["accuracy_before"] - own["training"]["settings"]["tolerance"]
    assert before["content_hash"] != own["content_hash"]
    rows = result.table.set_index("detector").auroc
    assert rows["inversion"] > rows["msp"]
