"""Garbage training: what is trained on, how it is weighted and calibrated, resuming, fine-tuning, what is left."""

from __future__ import annotations

import io
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from oodbench import training
from oodbench.classifier import Classifier
from oodbench.errors import OodbenchError
from oodbench.inversion.settings import LatentSettings
from oodbench.models.catalogue import build
from oodbench.models.checkpoint import load_checkpoint
from oodbench.models.load import load_classifier, recipe_of
from oodbench.parameters import changed
from oodbench.pixels import in_memory
from oodbench.progress import Reporter
from oodbench.recipes import garbage
from oodbench.recipes.extend import blend, extended
from oodbench.recipes.garbage import GarbageReport
from oodbench.recipes.holdout import garbage_shares, hold_out
from oodbench.recipes.settings import GarbageSettings, default_garbage_settings, finetuning_settings
from oodbench.recipes.sheet import kept_sheet
from oodbench.training import TrainingSettings, accuracy, train
from tests.recipes.conftest import QUICK, quick_training, turned_ramps


def facts(report: GarbageReport) -> dict[str, Any]:
    return asdict(replace(report, seconds=0, inversion_seconds=0))


class Listener(Reporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def test_what_is_left_on_disk(checkpoint: Path) -> None:
    listener = Listener()
    report = quick_training(checkpoint, reporter=listener)
    stored = load_checkpoint(checkpoint)
    assert stored.num_classes == 4 and recipe_of(str(checkpoint)) == "garbage"
    assert stored.record["id"] == "ramps" and 0 <= stored.record["accuracy"] <= 1
    assert stored.record["report"]["calibration"]["images"] == report.calibration.images
    assert stored.record["held_out"]["images"] == 9
    assert not Path(f"{checkpoint}.resume").exists()
    (said,) = listener.said
    assert str(report) in said and f"{100 * stored.record['accuracy']:.2f} % on the ID test images" in said
    load_classifier(str(checkpoint), num_classes=4, image_shape=(1, 8, 8))


def test_the_sheet_is_of_the_training_that_made_the_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    quick_training(checkpoint)
    sheet = kept_sheet(checkpoint)
    assert sheet is not None and min(Image.open(io.BytesIO(sheet.png)).size) > 100
    other = tmp_path / "other.safetensors"
    quick_training(other, replace(QUICK, training=replace(QUICK.training, seed=1)))
    Path(f"{checkpoint}.png").write_bytes(Path(f"{other}.png").read_bytes())
    assert kept_sheet(checkpoint) is None
    Path(f"{other}.png").unlink()
    assert kept_sheet(other) is None


def killed_after(monkeypatch: pytest.MonkeyPatch, epochs: int, checkpoint: Path, settings: Any = QUICK) -> None:
    """A training that is interrupted when it begins with the next epoch."""
    with monkeypatch.context() as patch:
        original = training.run_epoch

        def interrupted(*given: Any) -> float:
            if given[4] == epochs:
                raise KeyboardInterrupt
            return original(*given)

        patch.setattr(training, "run_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            quick_training(checkpoint, settings)


@pytest.mark.parametrize("by", ["latents", pytest.param("generator", marks=pytest.mark.slow)])
@pytest.mark.parametrize("output", ["learned", "constant"])
def test_an_interrupted_training_goes_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str, output: str
) -> None:
    settings = changed(QUICK, {"by": by, "output": output})
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    expected = facts(quick_training(whole, settings))
    killed_after(monkeypatch, 2, parts, settings)
    assert not parts.exists()
    assert facts(quick_training(parts, settings)) == expected
    first, second = load_checkpoint(whole), load_checkpoint(parts)
    assert all(torch.equal(first.state[name], second.state[name]) for name in first.state)
    assert first.record["sheet_sha256"] == second.record["sheet_sha256"]


def test_a_resume_file_of_another_training_is_refused(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed_after(monkeypatch, 1, checkpoint)
    with pytest.raises(OodbenchError, match="other settings or images"):
        quick_training(checkpoint, replace(QUICK, weight=0.25))
    Path(f"{checkpoint}.resume").write_bytes(b"half of it")
    with pytest.raises(OodbenchError, match="is damaged"):
        quick_training(checkpoint)


def test_callers_random_numbers_are_left_alone(checkpoint: Path) -> None:
    before = torch.random.get_rng_state()
    quick_training(checkpoint)
    assert torch.equal(before, torch.random.get_rng_state())


def test_batches_and_their_loss(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """81 images are trained on, in batches of 27 with 0.5 × 27 of garbage; the loss against one written out."""
    entered: list[tuple[Tensor, Tensor]] = []
    losses: list[Tensor] = []
    calling, losing = Classifier.__call__, garbage.Garbage.forward

    def noting(self: Classifier, images: Tensor) -> Tensor:
        logits = calling(self, images)
        if self.module.training:
            entered.append((images, logits.detach()))
        return logits

    def noting_too(self: Any, logits: Tensor, labels: Tensor) -> Tensor:
        loss = losing(self, logits, labels)
        losses.append(loss.detach())
        return loss

    monkeypatch.setattr(Classifier, "__call__", noting)
    monkeypatch.setattr(garbage.Garbage, "forward", noting_too)
    settings = changed(QUICK, {"share": 0.5, "weight": 0.6})
    quick_training(checkpoint, replace(settings, training=replace(QUICK.training, epochs=1, label_smoothing=0.1)))
    assert [len(images) for images, _ in entered] == [27 + 14] * 3
    known = in_memory(turned_ramps(90, 0), 3, (1, 8, 8))
    seen = 0
    for (images, logits), loss in zip(entered, losses, strict=True):
        pixels = images.mul(255).round().to(torch.uint8)
        labels = [known.labels[(known.images == one).flatten(1).all(dim=1)] for one in pixels]
        assert all(len(found) == 1 for found in labels[:27]) and not any(len(found) for found in labels[27:])
        p = logits.double().softmax(dim=1)
        smooth = 0.9 * F.one_hot(torch.cat(labels[:27]), 4) + 0.1 / 4
        of_id = -(smooth * p[:27].log()).sum(dim=1).mean()
        assert float(loss) == pytest.approx(float(of_id - 0.6 * p[27:, 3].log().mean()) / 1.6, rel=1e-5)
        seen += 27
    assert seen == 81


def test_inversions_join_and_are_thinned_out(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pools: list[int] = []
    original = garbage.Garbage._invert

    def noting(self: Any, step: int) -> None:
        original(self, step)
        pools.append(len(self.inverted))

    monkeypatch.setattr(garbage.Garbage, "_invert", noting)
    # 3 epochs of 3 batches: before steps 2, 4, 6 and 8.
    report = quick_training(checkpoint, changed(QUICK, {"most": 40}))
    assert pools == [16, 32, 40, 40] and report.inversions == 64 and 0 <= report.fooled <= 1


@pytest.mark.parametrize("least", [0.0, 0.997, 1.0])
def test_only_inversions_as_uncertain_as_asked_join(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, least: float
) -> None:
    joined: list[bool] = []
    inverting = garbage.invert_for_garbage

    def noting(classifier: Classifier, *given: Any) -> Tensor:
        made = inverting(classifier, *given)
        with torch.no_grad(), classifier.inference():
            p = classifier(made.double().div(255).float()).double().softmax(dim=1)
        # UE(p) of arXiv 2505.23448, by its definition.
        joined.extend((4 / 3 * (1 - p.square().sum(dim=1)) >= least).tolist())
        return made

    pools: list[int] = []
    original = garbage.Garbage._invert

    def counting(self: Any, step: int) -> None:
        original(self, step)
        pools.append(len(self.inverted))

    monkeypatch.setattr(garbage, "invert_for_garbage", noting)
    monkeypatch.setattr(garbage.Garbage, "_invert", counting)
    report = quick_training(checkpoint, changed(QUICK, {"uncertainty": least}))
    assert len(joined) == report.inversions == 64 and pools[-1] == sum(joined)
    assert {0.0: pools[-1] == 64, 0.997: 0 < pools[-1] < 64, 1.0: pools[-1] == 0}[least]


def test_without_steps_and_compositions_nothing_passes_the_network_to_be_inverted(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the ablation: images as drawn, whatever the network says."""
    from oodbench.inversion import latents

    def forbidden(*_: Any) -> Any:
        raise AssertionError("a gradient was asked for")

    monkeypatch.setattr(garbage, "save_sheet", lambda *_: b"")
    monkeypatch.setattr(latents.losses, "escape", forbidden)
    for start in ("compositions", "noise"):
        assert quick_training(checkpoint, changed(QUICK, {"steps": 0, "start": start})).inversions == 64


def test_garbage_is_told_from_ramps_and_the_classes_are_learned(checkpoint: Path) -> None:
    settings = replace(
        QUICK, training=replace(QUICK.training, epochs=30), inversion=LatentSettings(images=64), every=10
    )
    report = quick_training(checkpoint, settings, fit=turned_ramps(600, 0))
    assert report.accuracy >= 0.95 and report.mean_share > 0.9
    assert set(report.shares) >= {"uniform", "blobs", "gratings", "glyphs", "white arcs"}


def plain_classifier() -> Classifier:
    return train(
        "cnn8",
        turned_ramps(300, 3),
        turned_ramps(60, 4),
        num_classes=3,
        form=(1, 8, 8),
        settings=TrainingSettings(epochs=8, batch_size=32),
    )


def test_fine_tuning_starts_from_the_network_and_leaves_it_alone(checkpoint: Path) -> None:
    plain, listener = plain_classifier(), Listener()
    before = plain.content_hash()
    settings = changed(QUICK, {"learning_rate": 1e-9, "output": "constant"})
    fresh = turned_ramps(200, 5)
    report = quick_training(checkpoint, settings, listener, start_from=plain, calibrate_on=fresh)
    assert plain.content_hash() == before
    assert report.accuracy_before == pytest.approx(report.class_accuracy, abs=0.02)
    tuned = load_classifier(str(checkpoint), num_classes=4, image_shape=(1, 8, 8))
    # At such a rate all but BatchNorm's memory stays.
    weights, old = dict(tuned.module.named_parameters()), dict(plain.module.named_parameters())
    for name, value in old.items():
        torch.testing.assert_close(weights[name][: len(value)], value, atol=1e-6, rtol=0)
    assert tuned.mean == plain.mean and load_checkpoint(checkpoint).record["held_out"]["images"] == 200
    assert not weights["head.weight"][3].any()
    logits = tuned.module(torch.randn(9, 1, 8, 8))
    torch.testing.assert_close(logits[:, 3], weights["head.bias"][3].expand(9))
    assert "before: " in listener.said[0]


@pytest.mark.parametrize(("tolerance", "kept"), [(0.0, False), (1.0, True)])
def test_no_more_accuracy_is_lost_than_tolerated(checkpoint: Path, tolerance: float, kept: bool) -> None:
    """A ruinous learning rate: what is tuned is averaged away, or kept where all may be lost."""
    plain, fresh = plain_classifier(), turned_ramps(200, 5)
    ruined = replace(QUICK, training=replace(QUICK.training, epochs=1, learning_rate=30.0), tolerance=tolerance)
    report = quick_training(checkpoint, ruined, start_from=plain, calibrate_on=fresh)
    assert report.accuracy_before is not None and (report.blended == 1) == kept
    assert report.class_accuracy >= report.accuracy_before - tolerance
    assert kept == (report.class_accuracy < report.accuracy_before - 0.1)


def test_blending_by_hand() -> None:
    """The largest share in tenths that keeps the accuracy; every weight and statistic lies so far on the way."""
    known = in_memory(turned_ramps(60, 0), 3, (1, 8, 8))
    classifier = extended(plain_classifier(), "cnn8", 3, known)
    before = {name: value.clone() for name, value in classifier.module.state_dict().items()}
    reached = {}
    torch.manual_seed(1)
    tuned = {k: v + 0.5 * torch.randn_like(v) if v.is_floating_point() else v + 7 for k, v in before.items()}
    tuned = {k: v.abs() if k.endswith("running_var") else v for k, v in tuned.items()}
    for tenths in range(11):
        state = {
            k: (1 - tenths / 10) * before[k] + tenths / 10 * v if v.is_floating_point() else v for k, v in tuned.items()
        }
        classifier.module.load_state_dict(state)
        reached[tenths / 10] = accuracy(classifier, known.images, known.labels, 3)
    least = (reached[0.0] + reached[1.0]) / 2
    assert reached[1.0] < least < reached[0.0]
    classifier.module.load_state_dict(tuned)
    share = blend(classifier, before, known, least)
    assert share == max(tenths for tenths, value in reached.items() if value >= least) and 0 < share < 1
    for name, value in classifier.module.state_dict().items():
        wanted = (1 - share) * before[name] + share * tuned[name] if value.is_floating_point() else tuned[name]
        torch.testing.assert_close(value, wanted)
    assert blend(classifier, before, known, 2.0) == 0


def test_a_network_that_does_not_fit_is_refused(checkpoint: Path, small_classifier: Classifier) -> None:
    with pytest.raises(OodbenchError, match="not a network of the architecture cnn8"):
        quick_training(checkpoint, start_from=small_classifier)
    four = Classifier(small_classifier.module, num_classes=3, image_shape=(1, 8, 8), head="6")
    four.num_classes = 4
    with pytest.raises(OodbenchError, match="4 classes"):
        quick_training(checkpoint, start_from=four)


def test_a_constant_output_stays_one(checkpoint: Path) -> None:
    report = quick_training(checkpoint, changed(QUICK, {"output": "constant"}))
    tuned = load_classifier(str(checkpoint), num_classes=4, image_shape=(1, 8, 8))
    torch.manual_seed(0)
    first = build("cnn8", 4, (1, 8, 8)).state_dict()["head.bias"][3]
    state = tuned.module.state_dict()
    assert not state["head.weight"][3].any()
    assert float(state["head.bias"][3]) == pytest.approx(float(first) + report.calibration.raised)


def test_the_holdout_is_not_trained_on() -> None:
    fit = turned_ramps(90, 0)
    held, kept = hold_out(fit, seed=0)
    assert len(kept) == 81 and len(held) == 9 and [int((held.labels == k).sum()) for k in range(3)] == [3, 3, 3]  # type: ignore[union-attr]
    assert not set(held.image_hashes) & set(kept.image_hashes)
    assert set(held.image_hashes) | set(kept.image_hashes) == set(fit.image_hashes)


def test_garbage_shares_are_of_the_largest_logit(small_classifier: Classifier) -> None:
    images = torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with small_classifier.inference(), torch.no_grad():
        logits = small_classifier(images / 255)
        small_classifier.module[-1].bias[2] -= (logits[:, 2] - logits[:, :2].amax(dim=1)).median()  # type: ignore[index, union-attr, operator]
        classes = small_classifier(images / 255).argmax(dim=1)
    shares = garbage_shares(small_classifier, {"all": images, "one": images[:1]})
    assert shares == {"all": float((classes == 2).float().mean()), "one": float(classes[0] == 2)}
    assert 0 < shares["all"] < 1


@pytest.mark.parametrize(
    "change",
    [
        {"every": 0},
        {"share": 0.0},
        {"noise": 1.1},
        {"most": 0},
        {"weight": -1.0},
        {"allowed": 1.0},
        {"confidence": 1.0},
        {"by": "magic"},
        {"output": "both"},
        {"start": "photos"},
        {"steps": -1},
        {"images": 0},
        {"border": 1.5},
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(OodbenchError, match=next(iter(change))):
        changed(GarbageSettings(), change)


def test_settings_as_text() -> None:
    other = changed(GarbageSettings(), {"steps": "0", "weight": "1", "by": "generator"})
    assert (other.inversion.steps, other.weight, other.by) == (0, 1.0, "generator")
    for name, text, said in (("step", "1", "no setting 'step'"), ("steps", "two", "whole number")):
        with pytest.raises(OodbenchError, match=said):
            changed(GarbageSettings(), {name: text})


def test_defaults_are_valid_for_every_kind_of_set() -> None:
    assert default_garbage_settings("digits", "cnn8").every < default_garbage_settings("mnist", "cnn28").every
    assert default_garbage_settings("cifar10", "cnn32").output == "constant"
    assert default_garbage_settings("mine", "resnet50").training.learning_rate == pytest.approx(0.008)
    tuned = finetuning_settings("cifar10", "resnet20", 50_000)
    assert tuned.training.epochs == 2 and finetuning_settings("cifar10", "resnet20", 960).training.epochs == 40
    assert tuned.output == "constant" and tuned.training.augment and tuned.training.learning_rate == 0.02
