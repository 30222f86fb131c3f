"""Training: it learns, repeats itself bit by bit, survives a kill, and judges on held-out images."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import Tensor, nn

from oodbench.classifier import Classifier
from oodbench.data.imageset import ArraySource, ImageSet
from oodbench.errors import OodbenchError
from oodbench.models.checkpoint import load_checkpoint
from oodbench.models.load import load_classifier
from oodbench.training import (
    DEFAULTS,
    EpochReport,
    TrainingSettings,
    augmented,
    channel_statistics,
    default_settings,
    one_cycle,
    train,
)
from tests.conftest import SHARED

QUICK = TrainingSettings(epochs=3, batch_size=64, augment=False)


def image_set(name: str, images: np.ndarray, labels: np.ndarray | None) -> ImageSet:
    return ImageSet(name, ArraySource(images), "a test", labels=None if labels is None else labels.astype(np.int64))


def digits() -> tuple[ImageSet, ImageSet]:
    """scikit-learn's digits: 1,297 to train on, 500 held out."""
    found = load_digits()
    images = (found.images / 16 * 255).round().astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(images))
    fit, held_out = order[:1297], order[1297:]
    return (
        image_set("digits", images[fit], found.target[fit]),
        image_set("digits", images[held_out], found.target[held_out]),
    )


def train_digits(settings: TrainingSettings = QUICK, **changes: object) -> Classifier:
    fit, held_out = digits()
    options = {
        "architecture": "cnn8",
        "fit": fit,
        "held_out": held_out,
        "num_classes": 10,
        "form": (1, 8, 8),
        "settings": settings,
    } | changes
    return train(**options)  # type: ignore[arg-type]


def weights(classifier: Classifier) -> Tensor:
    return torch.cat([p.detach().flatten() for p in classifier.module.parameters() if p.dim() > 1])


def confidence(classifier: Classifier) -> float:
    images = torch.from_numpy(np.stack(digits()[0].read(0, 300)))[:, None].float() / 255
    with classifier.inference(), torch.no_grad():
        return float(classifier(images).softmax(dim=1).amax(dim=1).mean())


def test_digits_are_learnt_with_the_default_settings(tmp_path: Path) -> None:
    reports: list[EpochReport] = []
    path = tmp_path / "digits.safetensors"
    settings = default_settings("digits", "cnn8")
    trained = train_digits(settings, checkpoint=path, progress=reports.append)
    assert [report.epoch for report in reports] == list(range(1, settings.epochs + 1))
    assert reports[-1].accuracy >= 0.97 and reports[-1].loss < reports[0].loss
    assert trained.name == "cnn8" and not trained.module.training
    # The file alone gives the same classifier, and the accuracy that it records is right.
    loaded = load_classifier(str(path), num_classes=10, image_shape=(3, 32, 32))
    assert loaded.content_hash() == trained.content_hash()
    images = torch.from_numpy(np.stack(digits()[1].read(0, 500)))[:, None].float() / 255
    with loaded.inference(), torch.no_grad():
        right = (loaded(images).argmax(dim=1).numpy() == digits()[1].labels).mean()
    record = load_checkpoint(path).record
    assert record["id"] == "digits" and record["accuracy"] == right == reports[-1].accuracy
    assert record["accuracies"] == [report.accuracy for report in reports]
    assert record["settings"]["epochs"] == settings.epochs and trained.training == record
    assert [file.name for file in tmp_path.iterdir()] == ["digits.safetensors"]


def test_same_seed_same_weights_and_the_callers_random_numbers_stay() -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first = train_digits(replace(QUICK, augment=True)).content_hash()
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(12)
    assert train_digits(replace(QUICK, augment=True)).content_hash() == first
    assert train_digits(replace(QUICK, augment=True, seed=1)).content_hash() != first


def test_held_out_images_decide_nothing() -> None:
    _, held_out = digits()
    assert held_out.labels is not None
    accuracies: list[float] = []
    wrong = replace(held_out, labels=(held_out.labels + 1) % 10)
    trained = train_digits(held_out=wrong, progress=lambda report: accuracies.append(report.accuracy))
    assert max(accuracies) < 0.3
    assert trained.content_hash() == train_digits().content_hash()


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from oodbench.data.imageset import ArraySource, ImageSet
from oodbench.training import TrainingSettings, train

def kill(report):
    print(report.epoch, flush=True)
    if report.epoch == 1 and "kill" in sys.argv:
        os.kill(os.getpid(), signal.SIGKILL)

found = np.load(sys.argv[1])
images = ImageSet("digits", ArraySource(found["images"]), "a test", labels=found["labels"])
train("cnn8", images, images, num_classes=10, form=(1, 8, 8), checkpoint=Path(sys.argv[2]),
      settings=TrainingSettings(epochs=3, batch_size=64, augment=True), progress=kill)
"""


def run_script(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", KILLED, *arguments]
    return subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)


def test_a_training_that_was_killed_ends_in_the_same_weights(tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed.safetensors", tmp_path / "whole.safetensors"
    fit, _ = digits()
    data = tmp_path / "digits.npz"
    np.savez(data, images=fit.read(0, len(fit)), labels=fit.labels)
    first = run_script(str(data), str(killed), "kill")
    assert first.returncode == -signal.SIGKILL and first.stdout.split() == ["1"]
    # The checkpoint exists only when the training is done.
    assert not killed.exists() and Path(f"{killed}.resume").exists()
    second = run_script(str(data), str(killed))
    assert second.stdout.split() == ["2", "3"], second.stderr
    train_digits(replace(QUICK, augment=True), fit=fit, held_out=fit, checkpoint=whole)
    one, other = load_checkpoint(killed), load_checkpoint(whole)
    assert all(torch.equal(tensor, other.state[name]) for name, tensor in one.state.items())
    assert one.record["accuracies"] == other.record["accuracies"] and len(one.record["accuracies"]) == 3
    assert not Path(f"{killed}.resume").exists()


class Stop(Exception):
    """Ends a training after its first epoch."""


def interrupted(path: Path) -> None:
    def stop(_report: EpochReport) -> None:
        raise Stop

    with pytest.raises(Stop):
        train_digits(checkpoint=path, progress=stop)


def test_resume_file_of_another_training_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    interrupted(path)
    fit, _ = digits()
    assert fit.labels is not None
    for changes in (
        {"settings": replace(QUICK, weight_decay=0.01)},
        {"fit": fit.drawn(1000, seed=0)},
        {"fit": replace(fit, labels=(fit.labels + 1) % 10)},
        {"architecture": "cnn28"},
    ):
        with pytest.raises(OodbenchError, match=r"c\.safetensors\.resume is of an interrupted training with other"):
            train_digits(**({"checkpoint": path} | changes))  # type: ignore[arg-type]
    train_digits(checkpoint=path)
    assert path.exists()


def test_damaged_resume_file_is_said(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    resume = Path(f"{path}.resume")
    resume.write_bytes(b"not of torch")
    with pytest.raises(OodbenchError, match=r"c\.safetensors\.resume, .*delete it"):
        train_digits(checkpoint=path)


def test_penalties_and_label_smoothing_have_their_effect() -> None:
    plain = train_digits(replace(QUICK, weight_decay=0.0))
    decayed = train_digits(replace(QUICK, weight_decay=0.02))
    sparse = train_digits(replace(QUICK, weight_decay=0.0, l1=1e-3))
    smoothed = train_digits(replace(QUICK, weight_decay=0.0, label_smoothing=0.3))
    assert weights(decayed).norm() < 0.9 * weights(plain).norm()
    assert weights(sparse).abs().sum() < 0.7 * weights(plain).abs().sum()
    assert (weights(sparse).abs() < 1e-3).double().mean() > 3 * (weights(plain).abs() < 1e-3).double().mean()
    assert confidence(smoothed) < confidence(plain) - 0.1


def test_a_step_is_that_of_the_loss_by_hand() -> None:
    """One full batch, one step, against SGD written out."""
    fit = digits()[0].drawn(64, seed=0)
    settings = TrainingSettings(
        epochs=1,
        batch_size=64,
        learning_rate=0.05,
        weight_decay=0.01,
        label_smoothing=0.1,
        l1=1e-3,
        augment=False,
    )
    start = train_digits(replace(settings, learning_rate=0.0), fit=fit).module
    trained = train_digits(settings, fit=fit).module
    start.train()
    images = torch.from_numpy(np.stack(fit.read(0, 64)) / 255).float()[:, None]
    mean, std = images.double().mean(), images.double().std(unbiased=False)
    logits = start((images - mean.float()) / std.float())
    spread = 0.9 * F.one_hot(torch.from_numpy(fit.labels), 10) + 0.01
    loss = -(spread * logits.log_softmax(dim=1)).sum(dim=1).mean()
    parameters = dict(start.named_parameters())
    loss = loss + 1e-3 * sum(p.abs().sum() for p in parameters.values() if p.dim() > 1)
    gradients = torch.autograd.grad(loss, list(parameters.values()))
    rate = 0.05 * one_cycle(0.5)
    after = dict(trained.named_parameters())
    for (name, value), gradient in zip(parameters.items(), gradients, strict=True):
        decay = 0.01 * value if value.dim() > 1 else 0.0
        # The first step of Nesterov's momentum 0.9 is 1.9 times the gradient.
        expected = value - rate * 1.9 * (gradient + decay)
        torch.testing.assert_close(after[name], expected, rtol=1e-3, atol=2e-6)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (None, "has no images with labels"),
        ([-1, *range(9)] * 4, "not all are labelled"),
        ([0, 1, 2, 3, 4, 5, 6, 7, 8, 10] * 4, "has the label 10, but the classifier is to have 10 classes"),
        ([0, 1, 2, 3, 4, 5, 6, 6, 6, 6] * 4, "40 images to train on, but none of class 7, 8, 9"),
    ],
)
def test_labels_that_do_not_fit_are_said(labels: list[int] | None, words: str) -> None:
    images = np.zeros((40, 8, 8), np.uint8)
    wrong = image_set("few", images, None if labels is None else np.array(labels))
    with pytest.raises(OodbenchError, match=words):
        train_digits(fit=wrong)


def test_a_loss_that_is_not_finite_is_said() -> None:
    with pytest.raises(OodbenchError, match=r"the loss of epoch \d is (nan|inf); lower the learning rate"):
        train_digits(replace(QUICK, learning_rate=1e12))


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch_size": 1},
        {"learning_rate": -1.0},
        {"label_smoothing": 1.5},
        {"l1": float("nan")},
    ],
)
def test_settings_out_of_range_are_said(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(OodbenchError, match=f"{name} must be finite and from"):
        TrainingSettings(**wrong)  # type: ignore[arg-type]


def test_rgb_images_of_another_size_are_brought_into_form() -> None:
    draw = np.random.default_rng(0)
    labels = np.arange(60) % 3
    images = np.clip(draw.normal(0, 20, (60, 12, 10, 3)) + 100 * np.eye(3)[labels][:, None, None], 0, 255)
    fit = image_set("colours", images.astype(np.uint8), labels)
    reports: list[EpochReport] = []
    settings = TrainingSettings(epochs=12, batch_size=16)
    trained = train("resnet20", fit, fit, num_classes=3, form=(3, 8, 8), settings=settings, progress=reports.append)
    assert trained.image_shape == (3, 8, 8) and len(set(trained.mean)) == 3
    assert reports[-1].accuracy == 1.0


def test_default_settings_by_set_and_architecture() -> None:
    assert default_settings("cifar10", "cnn32") == DEFAULTS["cifar10"] != TrainingSettings()
    assert default_settings("my images", "resnet20") == TrainingSettings()
    assert default_settings("cifar10", "alexnet") == replace(DEFAULTS["cifar10"], learning_rate=0.01)
    # Mirrored digits and letters are other signs.
    assert [name for name in DEFAULTS if default_settings(name, "cnn32").augment] == ["cifar10", "cifar100"]


@given(st.integers(1, 3), st.integers(6, 12), st.integers(6, 12), st.integers(0, 2**31))
def test_augmented_images_are_shifted_and_flipped(channels: int, height: int, width: int, seed: int) -> None:
    images = torch.randint(0, 256, (5, channels, height, width), dtype=torch.uint8)
    torch.manual_seed(seed)
    made = augmented(images)
    assert made.shape == images.shape and made.dtype == torch.uint8
    padded = F.pad(images.float(), (4, 4, 4, 4), mode="reflect").to(torch.uint8)
    for index in range(5):
        shifts = [padded[index, :, y : y + height, x : x + width] for y in range(9) for x in range(9)]
        assert any(torch.equal(made[index], one) or torch.equal(made[index], one.flip(2)) for one in shifts)


def test_augmentation_uses_every_shift_and_flips_half() -> None:
    images = torch.arange(100, dtype=torch.uint8).view(1, 1, 10, 10).repeat(4000, 1, 1, 1)
    torch.manual_seed(0)
    made = augmented(images)
    flipped = (made[:, 0, 5, 4] > made[:, 0, 5, 5]).double().mean()
    assert 0.45 < flipped < 0.55
    assert len(torch.unique(made.flatten(1), dim=0)) == 9 * 9 * 2


@given(st.integers(1, 40), st.integers(1, 3), st.integers(0, 2**31))
def test_channel_statistics_equal_numpys(count: int, channels: int, seed: int) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (count, channels, 4, 3), dtype=np.uint8)
    mean, std = channel_statistics(torch.from_numpy(images))
    np.testing.assert_allclose(mean, (images / 255).mean(axis=(0, 2, 3)))
    np.testing.assert_allclose(std, (images / 255).std(axis=(0, 2, 3)))


def test_a_constant_channel_is_left_as_it_is() -> None:
    mean, std = channel_statistics(torch.full((3, 1, 2, 2), 51, dtype=torch.uint8))
    assert mean == pytest.approx((0.2,)) and std == (1.0,)


@given(st.floats(0, 1))
def test_one_cycle_rises_to_1_and_falls_to_0(progress: float) -> None:
    assert 0 <= one_cycle(progress) <= 1
    assert one_cycle(0) == one_cycle(1) == 0 and one_cycle(0.2) == 1


def test_biases_and_batch_norm_are_not_decayed() -> None:
    slow = replace(QUICK, epochs=1, learning_rate=1e-3)
    plain = train_digits(replace(slow, weight_decay=0.0))
    decayed = train_digits(replace(slow, weight_decay=20.0))
    assert weights(decayed).norm() < 0.8 * weights(plain).norm()
    for module in decayed.module.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.weight.min() > 0.9


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "data").exists(), reason="needs the shared data")
def test_mnist_is_learnt_with_the_default_settings() -> None:
    fit, held_out = (
        image_set("mnist", found["images"], found["labels"])
        for found in (np.load(SHARED / "data" / f"mnist_{split}.npz") for split in ("train", "test"))
    )
    reports: list[EpochReport] = []
    settings = default_settings("mnist", "cnn28")
    train(
        "cnn28",
        fit,
        held_out,
        num_classes=10,
        form=(1, 28, 28),
        settings=settings,
        progress=reports.append,
    )
    assert reports[-1].accuracy >= 0.99
