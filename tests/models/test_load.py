"""From a reference to a Classifier: nothing is guessed, and what does not fit is said."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification

from oodbench.classifier import Classifier
from oodbench.data.preprocess import Preprocess, stretched
from oodbench.errors import OodbenchError
from oodbench.models.checkpoint import load_checkpoint, save_checkpoint
from oodbench.models.load import load_classifier
from oodbench.training import accuracy
from tests.conftest import SHARED

Make = Callable[..., Classifier]
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
WEIGHTS = SHARED / "data" / "weights"
ACCURACIES = {"resnet20": 0.9173, "resnet32": 0.9262, "resnet44": 0.9309}
needs_shared_data = pytest.mark.skipif(not WEIGHTS.exists(), reason="needs the shared data")


@pytest.fixture
def foreign(make_classifier: Make, tmp_path: Path) -> Path:
    """A state dict of resnet20, 10 classes, RGB, that says nothing more; its path has an = in it."""
    path = tmp_path / "lr=0.1" / "r.pth"
    path.parent.mkdir()
    module = make_classifier("resnet20", shape=(3, 32, 32)).module
    torch.save({"state_dict": {f"module.{name}": value for name, value in module.state_dict().items()}}, path)
    return path


def test_own_checkpoint_knows_all_by_itself(make_classifier: Make, own_checkpoint: Path) -> None:
    generator = torch.get_rng_state()
    loaded = load_classifier(str(own_checkpoint), num_classes=10, image_shape=(3, 32, 32))
    assert torch.equal(generator, torch.get_rng_state())
    assert loaded.content_hash() == make_classifier().content_hash()
    # Its own form, not that of the ID images: they are brought into it.
    assert (loaded.name, loaded.image_shape, loaded.layers) == ("cnn8", (1, 8, 8), ("block1", "block2"))
    assert not loaded.module.training
    assert loaded.training == load_checkpoint(own_checkpoint).record and loaded.training
    again = load_classifier(f"cnn8={own_checkpoint}", num_classes=10, image_shape=(1, 8, 8), mean="0.3", std="0.25")
    assert again.content_hash() == loaded.content_hash()


def test_foreign_checkpoint_with_normalisation(make_classifier: Make, foreign: Path) -> None:
    def load(reference: str, **given: str) -> Classifier:
        return load_classifier(reference, num_classes=10, image_shape=(1, 28, 26), **given)

    loaded = load(str(foreign), mean="imagenet", std="0.229,0.224,0.225")
    assert (loaded.name, loaded.mean, loaded.std) == ("resnet20", *IMAGENET) and not loaded.training
    # Channels as the weights have them; height and width as the ID images, since it takes any.
    assert loaded.image_shape == (3, 28, 26)
    state = make_classifier("resnet20", shape=(3, 32, 32)).module.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in loaded.module.state_dict().items())
    assert load(f"resnet20={foreign}", mean="imagenet").content_hash() == loaded.content_hash()
    with pytest.raises(OodbenchError, match=r"how its input was normalised.*--mean 0\.485,0\.456,0\.406 --std"):
        load(str(foreign))


def test_what_does_not_fit_is_said(own_checkpoint: Path, foreign: Path, tmp_path: Path) -> None:
    def fails(words: str, reference: str, num_classes: int = 10, **given: str) -> None:
        with pytest.raises(OodbenchError, match=words):
            load_classifier(reference, num_classes=num_classes, image_shape=(3, 32, 32), **given)

    fails("tells 10 classes apart, but the ID set has 100", str(own_checkpoint), num_classes=100)
    fails("tells 10 classes apart, but the ID set has 100", str(foreign), num_classes=100, mean="none")
    fails(
        "trained with mean \\(0.3,\\) and std \\(0.25,\\); leave out",
        str(own_checkpoint),
        mean="0.5",
        std="0.25",
    )
    fails("holds a cnn8, not a cnn28; write only", f"cnn28={own_checkpoint}")
    fails("there is no checkpoint file .*missing.pt", str(tmp_path / "missing.pt"))
    fails("there is no checkpoint file", str(tmp_path))
    fails("no model 'resnet21'; did you mean", f"resnet21={foreign}")
    fails("cnn28 is an architecture, not a checkpoint; write cnn28=PATH", "cnn28")
    fails("has 2 values, but the classifier takes images of 3", str(foreign), mean="0.5,0.5", std="0.2")
    fails(
        "hold the weights of resnet32: missing: layer1.3.conv1.weight, layer1.3.bn1.weight, .* and 57 more",
        f"resnet32={foreign}",
        mean="none",
    )
    fails("hold the weights of cnn8: missing: block1", f"cnn8={foreign}", mean="none")


def test_images_of_other_channels_are_refused(make_classifier: Make, tmp_path: Path) -> None:
    state = dict(make_classifier("resnet20", shape=(3, 32, 32)).module.state_dict())
    state["conv1.weight"] = torch.zeros(16, 4, 3, 3)
    torch.save(state, tmp_path / "infrared.pt")
    with pytest.raises(OodbenchError, match="images of 4 channels"):
        load_classifier(str(tmp_path / "infrared.pt"), num_classes=10, image_shape=(3, 32, 32), mean="none")


def test_torchvision_network_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = torchvision.models.squeezenet1_1(num_classes=5)
    path = tmp_path / "s.pth"
    torch.save(network.state_dict(), path)
    generator = torch.get_rng_state()
    with pytest.raises(OodbenchError, match="how its input was normalised"):
        load_classifier(f"squeezenet1_1={path}", num_classes=5, image_shape=(1, 28, 28))
    loaded = load_classifier(f"squeezenet1_1={path}", num_classes=5, image_shape=(1, 28, 28), mean="half")
    assert torch.equal(generator, torch.get_rng_state())
    # A network of another project was trained on images of their own size, and not on torchvision's.
    assert (loaded.image_shape, loaded.num_classes, loaded.mean) == ((3, 28, 28), 5, (0.5, 0.5, 0.5))
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in loaded.module.state_dict().items())
    with pytest.raises(OodbenchError, match=r"recognises .* name it: ARCHITECTURE="):
        load_classifier(str(path), num_classes=5, image_shape=(1, 28, 28), mean="half")
    # A file that torchvision publishes is known by the hash in its address, whatever it is called here.
    published = SimpleNamespace(
        url=f"https://example.org/squeezenet1_1-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth",
        transforms=lambda: ImageClassification(crop_size=60, resize_size=70, interpolation=InterpolationMode.BICUBIC),
    )
    monkeypatch.setattr(torchvision.models, "get_model_weights", lambda name: [published])
    loaded = load_classifier(f"squeezenet1_1={path}", num_classes=5, image_shape=(3, 32, 32))
    assert loaded.preprocess == Preprocess(70, 60, "bicubic", mean=IMAGENET[0], std=IMAGENET[1])
    assert "as torchvision publishes it" in loaded.preprocess.describe(np.zeros((90, 80, 3), np.uint8))
    with pytest.raises(OodbenchError, match="leave out --mean and --std"):
        load_classifier(f"squeezenet1_1={path}", num_classes=5, image_shape=(3, 32, 32), mean="half")
    other = load_classifier(f"squeezenet1_1={path}", num_classes=5, image_shape=(3, 32, 32), resize="64x62")
    assert isinstance(loaded.preprocess, Preprocess)
    assert other.preprocess == replace(loaded.preprocess, resize=(64, 62), crop=None)


def test_size_and_kernel_as_the_user_says_them(tmp_path: Path) -> None:
    network = torchvision.models.squeezenet1_1(num_classes=5)
    path = tmp_path / "s.pth"
    torch.save(network.state_dict(), path)

    def loaded(shape: tuple[int, int, int] = (3, 300, 400), **said: Any) -> Preprocess:
        found = load_classifier(f"squeezenet1_1={path}", num_classes=5, image_shape=shape, **said).preprocess
        assert isinstance(found, Preprocess)
        return found

    half = (0.5, 0.5, 0.5)
    assert loaded(mean="half", resize="70", crop=64) == Preprocess(70, 64, mean=half, std=half)
    stretching = Preprocess((70, 60), None, "lanczos", mean=half, std=half)
    assert loaded(mean="half", resize="70x60", interpolation="lanczos") == stretching
    boxed = loaded((3, 32, 32), mean="half", interpolation="box")
    assert boxed == Preprocess((32, 32), None, "box", mean=half, std=half)
    assert loaded((3, 32, 32), mean="half") == stretched((3, 32, 32), 0.5, 0.5)
    named = loaded(preprocess="ResNet50_Weights.IMAGENET1K_V2")
    assert named == Preprocess(232, 224, mean=IMAGENET[0], std=IMAGENET[1])
    assert loaded(preprocess="ResNet50_Weights.IMAGENET1K_V2", crop="64") == replace(named, crop=64)
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("photographs: give --resize and --crop", {"mean": "half"}),
        ("did you mean ResNet50_Weights.IMAGENET1K_V", {"preprocess": "ResNet50_Weights.IMAGENET1K_V3"}),
        ("--resize 2x5x6 is no size", {"mean": "half", "resize": "2x5x6"}),
        ("give a crop", {"mean": "half", "resize": "256"}),
        ("leave out --mean", {"mean": "half", "preprocess": "ResNet50_Weights.IMAGENET1K_V2"}),
    ]
    for words, said in wrong:
        with pytest.raises(OodbenchError, match=words):
            loaded(**said)


def test_a_checkpoint_of_ours_keeps_its_preprocess(tmp_path: Path) -> None:
    module = torchvision.models.squeezenet1_1(num_classes=5)
    preprocess = Preprocess(70, 64, "bicubic", mean=(0.5,), std=(0.25,))
    classifier = Classifier(module, num_classes=5, preprocess=preprocess)
    save_checkpoint(classifier, "squeezenet1_1", tmp_path / "own.safetensors", {})
    loaded = load_classifier(str(tmp_path / "own.safetensors"), num_classes=5, image_shape=(3, 9, 9))
    assert loaded.preprocess == classifier.preprocess
    assert loaded.content_hash() == classifier.content_hash()


def load_public(name: str) -> tuple[Classifier, torch.Tensor, torch.Tensor]:
    (path,) = WEIGHTS.glob(f"{name}-*.th")
    classifier = load_classifier(str(path), num_classes=10, image_shape=(3, 32, 32), mean="imagenet")
    assert classifier.name == name and load_checkpoint(path).architecture is None
    test = np.load(SHARED / "data" / "cifar10_test.npz")
    return classifier, torch.from_numpy(test["images"]).permute(0, 3, 1, 2), torch.from_numpy(test["labels"])


@needs_shared_data
@pytest.mark.parametrize("name", ACCURACIES)
def test_public_checkpoints_on_a_sample(name: str) -> None:
    classifier, images, labels = load_public(name)
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:500]
    assert accuracy(classifier, images[chosen], labels[chosen]) >= 0.88


@pytest.mark.slow
@needs_shared_data
@pytest.mark.parametrize("name", ACCURACIES)
def test_public_checkpoints_on_all_images(name: str) -> None:
    assert accuracy(*load_public(name)) == pytest.approx(ACCURACIES[name], abs=1e-4)


def test_first_few_names_only(foreign: Path) -> None:
    with pytest.raises(OodbenchError) as caught:
        load_classifier(f"resnet110={foreign}", num_classes=10, image_shape=(3, 32, 32), mean="none")
    assert len(str(caught.value)) < 400 and re.search(r"and \d+ more", str(caught.value))
