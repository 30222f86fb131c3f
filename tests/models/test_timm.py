"""Networks of timm, where it is installed: its own transform is the independent implementation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from oodbench.data.preprocess import Preprocess
from oodbench.errors import OodbenchError
from oodbench.models.load import load_classifier
from tests.data.forms import pixels

NAMES = ("mobilenetv3_small_050", "resnet10t", "vit_tiny_patch16_224")


def test_without_timm_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    torch.save({"weight": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(OodbenchError, match=r"pip install 'oodbench\[timm\]'"):
        load_classifier(f"timm:resnet10t={tmp_path / 'w.pth'}", num_classes=3, image_shape=(3, 32, 32))


@pytest.mark.parametrize("name", NAMES)
def test_it_takes_what_timms_own_transform_gives(name: str, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False, num_classes=7).eval()
    path = tmp_path / "weights.pth"
    torch.save(network.state_dict(), path)
    loaded = load_classifier(f"timm:{name}={path}", num_classes=7, image_shape=(3, 300, 400))
    config = timm.data.resolve_data_config({}, model=network)
    transform = timm.data.create_transform(**config)
    image = pixels(300, 417, 3)
    assert isinstance(loaded.preprocess, Preprocess) and loaded.name == name
    ours = loaded.normalise(loaded.preprocess([image]).float() / 255)[0]
    torch.testing.assert_close(ours, transform(Image.fromarray(image)), rtol=0, atol=1e-6)
    assert "as timm has it" in loaded.preprocess.describe(np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(OodbenchError, match="does not hold the weights of timm's resnet18"):
        load_classifier(f"timm:resnet18={path}", num_classes=7, image_shape=(3, 300, 400))
    with pytest.raises(OodbenchError, match="no network of timm 'resnet10q'"):
        load_classifier(f"timm:resnet10q={path}", num_classes=7, image_shape=(3, 300, 400))


def test_its_preprocess_by_name(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    from oodbench.models.preprocessing import published

    found = published("timm:resnet50.a1_in1k")
    assert isinstance(found, Preprocess)
    assert (found.crop, found.interpolation, found.kernel) == ((224, 224), "bicubic", "pil")
