"""The page of what is found of architectures, docs/architectures.md: python -m oodbench.models.architectures_page."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor, nn

from oodbench.classifier import Classifier
from oodbench.models.catalogue import build
from oodbench.outputs import PENULTIMATE

CLASSES = 10

SIZES = {
    "cnn8": (1, 8),
    "cnn28": (1, 28),
    "cnn32": (3, 32),
    "resnet20": (3, 32),
    "resnet44": (3, 32),
    "resnet18-32": (3, 32),
    "resnet18": (3, 32),
    "resnet50": (3, 32),
    "resnext50_32x4d": (3, 32),
    "wide_resnet50_2": (3, 32),
    "vgg11": (3, 32),
    "vgg11_bn": (3, 32),
    "alexnet": (3, 64),
    "densenet121": (3, 32),
    "mobilenet_v2": (3, 32),
    "mobilenet_v3_small": (3, 32),
    "mobilenet_v3_large": (3, 32),
    "efficientnet_b0": (3, 32),
    "efficientnet_v2_s": (3, 32),
    "convnext_tiny": (3, 32),
    "regnet_y_400mf": (3, 32),
    "regnet_x_400mf": (3, 32),
    "shufflenet_v2_x0_5": (3, 32),
    "squeezenet1_1": (3, 32),
    "googlenet": (3, 32),
    "inception_v3": (3, 75),
    "mnasnet0_5": (3, 32),
    "vit_b_32": (3, 224),
    "swin_t": (3, 32),
    "swin_v2_t": (3, 32),
    "maxvit_t": (3, 224),
}
"""Architecture → channels and side of the images, the smallest that it takes."""

QUICK = ("cnn8", "resnet20", "resnet18", "mobilenet_v2", "regnet_y_400mf", "shufflenet_v2_x0_5", "squeezenet1_1")
"""Those that take a moment."""

HEAD = """# Architectures

What oodbench finds of a network by one pass of random images: its head, the width D of the penultimate features, and
the candidate layers, which detectors such as OODL choose among. Made by `python -m oodbench.models.architectures_page`
of untrained networks of 10 classes. From Python, `Classifier(module, head=..., layers=[...])` names others.

- **Head**: the linear layer, or 1×1 convolution, with `head(features) = logits`, checked on the images. "Not linear":
  its input is the features, but something comes after it (in SqueezeNet a ReLU), so that detectors that read the head's
  weights cannot be used.
- **Candidate layers**: those that the network declares (`candidate_layers`), else its blocks, in the order of the pass,
  and the penultimate features. A layer after which the network goes on in place (a ReLU) is read as that left it.
- **Pooling**: what makes a vector of a layer's output. Maps are averaged over space; of tokens the class token is read,
  where the network goes on with it alone, else their mean is.
- **Wrappers** (`nn.Sequential(Norm(), network)`, a module around it) are looked into; of data-parallel and compiled
  networks what is inside is run. Logits may stand in a dictionary, a tuple, or an object with `.logits`. A network that
  ends in a softmax is refused, unless `head=` names the layer before it.

Of timm 1.0.31, 32 architectures were tried (ResNet, RegNet, EfficientNet, MobileNet, DenseNet, VGG, ConvNeXt, ViT,
DINOv2, BEiT, CaiT, XCiT, Swin, MaxViT, PVT, CoaT, MobileViT, MLP-Mixer and others): the head is found in all but DeiT
distilled, LeViT and EfficientFormer, whose logits are the mean of two heads, and which have no penultimate features.
"""


def architectures_page() -> str:
    """Markdown: a table of the architectures."""
    return f"{HEAD}\n{table(SIZES)}\n"


def table(names: Iterable[str]) -> str:
    """Of these architectures, a row each."""
    return tabulate(map(row, names), headers="keys", tablefmt="github", disable_numparse=True)


def row(name: str) -> dict[str, Any]:
    """What is found of an architecture."""
    channels, side = SIZES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build(name, CLASSES, (channels, side, side))
    classifier = Classifier(network, num_classes=CLASSES, image_shape=(channels, side, side), name=name)
    head, given = classifier.head_weights(), _outputs(classifier)
    layers = [layer for layer in classifier.layers if layer != PENULTIMATE]
    linear = "" if head else " (not linear)"
    return {
        "architecture": name,
        "images": f"{channels}×{side}×{side}",
        "head": f"`{classifier.head}`{linear}",
        "D": classifier.features_of(given[""]).shape[1],
        "layers": len(classifier.layers),
        "first": f"`{layers[0]}`",
        "last": f"`{layers[-1]}`",
        "pooling": " and ".join(dict.fromkeys(_pooling(classifier, given[layer]) for layer in layers)),
    }


def _outputs(classifier: Classifier) -> dict[str, Tensor]:
    """The outputs of the candidate layers by name, and under "" what enters the head."""
    taken: dict[str, Tensor] = {}

    def taker(name: str, entering: bool) -> Any:
        def take(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            taken[name] = inputs[0] if entering else output

        return take

    module = classifier.module
    hooks = [module.get_submodule(classifier.head or "").register_forward_hook(taker("", True))]
    names = [name for name in classifier.layers if name != PENULTIMATE]
    hooks += [module.get_submodule(name).register_forward_hook(taker(name, False)) for name in names]
    with classifier.inference(), torch.no_grad():
        classifier(torch.zeros(1, *classifier.image_shape))
    for hook in hooks:
        hook.remove()
    return taken


def _pooling(classifier: Classifier, output: Tensor) -> str:
    if output.dim() == 4:
        return "space" if output.shape[2] == output.shape[3] else "space (channels last)"
    if output.dim() == 3:
        return "class token" if output.shape[1] == classifier.class_tokens else "tokens"
    return "none"


if __name__ == "__main__":
    print(architectures_page(), end="")
