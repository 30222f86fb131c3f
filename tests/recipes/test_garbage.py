"""Garbage training: what is trained on, when it stops, which round is kept, what is left on disk."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor

from oodbench.classifier import Classifier
from oodbench.data.seeding import set_generator
from oodbench.data.splits import stratified
from oodbench.errors import OodbenchError
from oodbench.models.checkpoint import load_checkpoint
from oodbench.models.load import load_classifier, recipe_of
from oodbench.progress import Reporter
from oodbench.recipes import garbage
from oodbench.recipes.holdout import ALTERED, HELD_OUT_DERIVED, HELD_OUT_NOISE, garbage_shares, hold_out
from oodbench.recipes.realism import Realism
from oodbench.recipes.rounds import GarbageSettings, RoundReport, best_round, kept_sheet
from oodbench.training import Pixels
from tests.recipes.conftest import QUICK, quick_training, turned_ramps


def facts(reports: list[RoundReport]) -> list[dict[str, Any]]:
    return [asdict(replace(report, seconds=0)) for report in reports]


class StopsAfter(Reporter):
    """Interrupts when it has heard of so many rounds."""

    def __init__(self, rounds: int) -> None:
        self.left = rounds

    def say(self, text: str) -> None:
        self.left -= text.startswith("round")
        if not self.left:
            raise KeyboardInterrupt


def test_what_is_left_on_disk(checkpoint: Path) -> None:
    reports = quick_training(checkpoint)
    stored = load_checkpoint(checkpoint)
    assert stored.num_classes == 4 and recipe_of(str(checkpoint)) == "garbage"
    assert stored.record["id"] == "ramps" and 0 <= stored.record["accuracy"] <= 1
    kept = load_checkpoint(Path(f"{checkpoint}.rounds") / f"round-{stored.record['round']:02d}.safetensors")
    assert all(torch.equal(kept.state[name], stored.state[name]) for name in stored.state)
    table = pd.read_csv(Path(f"{checkpoint}.rounds") / "rounds.csv")
    assert list(table["round"]) == [1, 2, 3] and list(table.accuracy) == [report.accuracy for report in reports]
    for number in (1, 2, 3):
        assert Image.open(Path(f"{checkpoint}.rounds") / f"round-{number:02d}.png").size[0] > 100
    assert not Path(f"{checkpoint}.resume").exists()
    load_classifier(str(checkpoint), num_classes=4, image_shape=(1, 8, 8))


def test_the_sheet_is_that_of_the_round_whose_network_is_kept(checkpoint: Path, tmp_path: Path) -> None:
    quick_training(checkpoint)
    number = load_checkpoint(checkpoint).record["round"]
    sheet = kept_sheet(checkpoint)
    assert sheet is not None and f"round {number}" in sheet.caption and "garbage" in sheet.caption
    assert sheet.png == (Path(f"{checkpoint}.rounds") / f"round-{number:02d}.png").read_bytes()
    # Another training has begun under the name of this one.
    quick_training(tmp_path / "other.safetensors", replace(QUICK, training=replace(QUICK.training, seed=1)))
    shutil.rmtree(f"{checkpoint}.rounds")
    assert kept_sheet(checkpoint) is None
    shutil.copytree(tmp_path / "other.safetensors.rounds", f"{checkpoint}.rounds")
    assert kept_sheet(checkpoint) is None


def test_an_interrupted_training_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    expected = facts(quick_training(whole))
    with pytest.raises(KeyboardInterrupt):
        quick_training(parts, reporter=StopsAfter(2))
    assert not parts.exists()
    assert facts(quick_training(parts)) == expected
    first, second = load_checkpoint(whole).state, load_checkpoint(parts).state
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_resume_file_of_another_training_is_refused(checkpoint: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        quick_training(checkpoint, reporter=StopsAfter(1))
    with pytest.raises(OodbenchError, match="other settings or images"):
        quick_training(checkpoint, replace(QUICK, added=0.25))
    Path(f"{checkpoint}.resume").write_bytes(b"half of it")
    with pytest.raises(OodbenchError, match="cannot be read"):
        quick_training(checkpoint)


def test_callers_random_numbers_are_left_alone(checkpoint: Path) -> None:
    before = torch.random.get_rng_state()
    quick_training(checkpoint, replace(QUICK, rounds=1))
    assert torch.equal(before, torch.random.get_rng_state())


def test_classes_weigh_the_same_and_the_garbage_set_is_bounded(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Tensor, Tensor]] = []
    original = garbage.run_epoch

    def noting(classifier: Any, optimiser: Any, data: Any, settings: Any, epoch: int, objective: Any) -> float:
        seen.append((torch.bincount(data.labels, minlength=4), objective.weight))
        return original(classifier, optimiser, data, settings, epoch, objective)

    monkeypatch.setattr(garbage, "run_epoch", noting)
    reports = quick_training(checkpoint, replace(QUICK, noise=0.5, added=1.0, most=1.5, rounds=4, patience=4))
    # 90 images less 9 held out are 27 a class.
    assert [int(counts[3]) for counts, _ in seen] == [14, 14 + 27, 14 + 40, 14 + 40]
    assert [report.garbage_images for report in reports] == [14, 41, 54, 54]
    for counts, weights in seen:
        torch.testing.assert_close(counts * weights, torch.full((4,), float(counts.sum()) / 4))


def test_realistic_inversions_are_counted_and_can_be_left_out(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def every_other(_realism: Realism, images: Tensor) -> Tensor:
        return torch.arange(len(images)) % 2 == 0

    monkeypatch.setattr(Realism, "passes", every_other)
    # 27 fit images a class, so 14 join a round.
    kept = quick_training(checkpoint)
    without = quick_training(tmp_path / "without.safetensors", replace(QUICK, keep_realistic=False))
    assert [report.realistic for report in kept] == [0.5, 0.5, 0.5]
    assert [report.garbage_images for report in kept] == [27, 41, 55]
    assert [report.garbage_images for report in without] == [27, 34, 41]


def test_the_holdout_is_not_trained_on_and_has_no_kind_of_the_training() -> None:
    fit = turned_ramps(90, 0)
    holdout, kept = hold_out(fit, 3, (1, 8, 8), seed=0)
    assert len(kept) == 81 and len(holdout.known.labels) == 9
    held = fit.subset(stratified(fit.labels, 9, set_generator(0, "held out ramps")), "")  # type: ignore[arg-type]
    assert not set(held.image_hashes) & set(kept.image_hashes)
    assert torch.equal(holdout.known.images[:, 0], torch.from_numpy(np.asarray(held.read(0, 9))))
    assert set(holdout.noise) == {*HELD_OUT_NOISE, *HELD_OUT_DERIVED} and "gaussian" not in holdout.noise
    assert set(holdout.altered) == set(ALTERED)


def test_altered_images_by_hand() -> None:
    first, second = torch.zeros(1, 1, 4, 4, dtype=torch.uint8), torch.full((1, 1, 4, 4), 101, dtype=torch.uint8)
    second[0, 0, 1, 1] = 255
    known = Pixels(torch.cat([first, second, first]), torch.tensor([0, 1, 0]))
    assert set(ALTERED["blended"](known).unique().tolist()) == {50, 127}
    zoomed = ALTERED["zoomed"](known)[1, 0]
    assert zoomed[0, 0] == 255 and zoomed[3, 3] == 101 and (zoomed[:2, :2] >= zoomed[1:3, 1:3]).all()
    swapped = ALTERED["quarters-swapped"](known)[1, 0]
    assert swapped[3, 3] == 255 and (swapped == 255).sum() == 1
    assert torch.equal(ALTERED["quarters-swapped"](Pixels(swapped[None, None], known.labels[:1]))[0, 0], second[0, 0])


def test_garbage_shares_are_of_the_largest_logit(small_classifier: Classifier) -> None:
    images = torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with small_classifier.inference(), torch.no_grad():
        classes = small_classifier(images / 255).argmax(dim=1)
    for number in range(3):
        shares = garbage_shares(small_classifier, number, {"all": images, "one": images[:1]})
        assert shares == {"all": float((classes == number).float().mean()), "one": float(classes[0] == number)}


def report(accuracy: float, share: float) -> RoundReport:
    return RoundReport(1, accuracy, share, 0.5, {}, 1.0, 0, 0.0, 0.0, 0.0, 0, 0.0)


@pytest.mark.parametrize(
    ("rounds", "held_out", "best"),
    [
        ([(0.99, 0.5), (0.99, 0.7), (0.99, 0.6)], 1000, 1),
        ([(0.99, 0.5), (0.98, 0.9)], 1000, 0),
        ([(0.99, 0.5), (0.986, 0.9)], 1000, 1),
        ([(0.99, 0.5), (0.98, 0.9)], 100, 1),
        ([(0.99, 0.5), (0.99, 0.5)], 1000, 0),
    ],
)
def test_the_round_that_is_kept(rounds: list[tuple[float, float]], held_out: int, best: int) -> None:
    assert best_round([report(*one) for one in rounds], held_out) == best


def test_it_stops_when_rounds_bring_nothing(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of noise and of altered images, round by round.
    shares = iter([0.4, 0.5, 0.4, 0.7, 0.5, 0.5, 0.6, 0.4, 0.9, 0.9])
    monkeypatch.setattr(garbage, "garbage_shares", lambda *_: {"kind": next(shares)})
    monkeypatch.setattr(garbage, "accuracy", lambda *_: 1.0)
    reports = quick_training(checkpoint, replace(QUICK, rounds=9, patience=2))
    assert len(reports) == 4 and load_checkpoint(checkpoint).record["round"] == 2


def test_a_collapsed_generator_is_noticed_and_begun_anew(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reached = iter([0.9, 0.2, 0.8, 0.85])
    original = garbage.invert

    def scripted(*given: Any, **named: Any) -> Any:
        made = original(*given, **named).generator
        return SimpleNamespace(generator=made, history=[SimpleNamespace(inversion_accuracy=next(reached))])

    monkeypatch.setattr(garbage, "invert", scripted)
    reports = quick_training(checkpoint)
    assert [one.inversion_accuracy for one in reports] == [0.9, 0.8, 0.85]
    assert [one.new_generators for one in reports] == [0, 1, 0]
    assert "collapsed" in str(reports[1]) and "collapsed" not in str(reports[0])


@pytest.mark.parametrize(
    ("epochs", "snapshots", "expected"), [(8, 3, [(3, 4), (6, 5), (8, 5)]), (2, 4, [(1, 7), (2, 7)]), (3, 1, [(3, 14)])]
)
def test_images_are_taken_while_the_generator_is_trained(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, epochs: int, snapshots: int, expected: list[tuple[int, int]]
) -> None:
    now: list[int] = []
    taken: list[tuple[int, int]] = []
    inverting, generating = garbage.invert, garbage.generate

    def watched(*given: Any, after_epoch: Any) -> Any:
        def noted(epoch: Any, generator: Any) -> None:
            now.append(epoch.epoch)
            after_epoch(epoch, generator)

        return inverting(*given, after_epoch=noted)

    def counted(generator: Any, count: int, seed: int) -> Any:
        taken.append((now[-1], count))
        return generating(generator, count, seed)

    monkeypatch.setattr(garbage, "invert", watched)
    monkeypatch.setattr(garbage, "generate", counted)
    inversion = QUICK.inversion.replaced(epochs=epochs)
    # 27 fit images a class, so 14 join a round.
    quick_training(checkpoint, replace(QUICK, rounds=1, snapshots=snapshots, inversion=inversion))
    assert taken == expected


def test_each_round_is_calibrated(checkpoint: Path) -> None:
    """Untrained as they are, the networks put as many held-out images into garbage as is allowed."""
    lost = []
    for allowed in (0.0, 0.4):
        quick_training(checkpoint, replace(QUICK, rounds=1, allowed=allowed))
        classifier = load_classifier(str(checkpoint), num_classes=4, image_shape=(1, 8, 8))
        known = hold_out(turned_ramps(90, 0), 3, (1, 8, 8), QUICK.training.seed)[0].known
        with classifier.inference(), torch.no_grad():
            logits = classifier(known.images / 255)
        right = logits[:, :-1].argmax(dim=1) == known.labels
        assert right.sum() >= 3
        lost.append(int((logits.argmax(dim=1)[right] == 3).sum()) - int(allowed * int(right.sum())))
    assert set(lost) <= {0, 1}  # one image stands on the boundary, where rounding decides


@pytest.mark.parametrize(
    "change",
    [{"rounds": 0}, {"patience": 0}, {"snapshots": 0}, {"allowed": 1.0}, {"noise": -1.0}, {"most": float("inf")}],
)
def test_settings_out_of_range_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(OodbenchError, match=next(iter(change))):
        GarbageSettings(**change)
