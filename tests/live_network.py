"""A small network that tests compute by hand, with changes that can be built in."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from oodbench.classifier import Classifier
from oodbench.example import Example, make_example
from oodbench.outputs import PENULTIMATE, Change, Head

MEAN, STD = (0.5, 0.45, 0.4), (0.25, 0.2, 0.3)


class Apply(nn.Module):
    def __init__(self, change: Change | None) -> None:
        super().__init__()
        self.change = change

    def forward(self, values: Tensor) -> Tensor:
        return values if self.change is None else self.change(values)


class Network(nn.Module):
    candidate_layers = ("stem", "block", PENULTIMATE)

    def __init__(self, stem: Change | None, block: Change | None, features: Change | None) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 5, stride=2, padding=2), nn.BatchNorm2d(6), nn.ReLU(), Apply(stem))
        self.block = nn.Sequential(nn.Conv2d(6, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), Apply(block))
        self.dropout, self.changed, self.head = nn.Dropout(0.5), Apply(features), nn.Linear(24, 4)

    def forward(self, images: Tensor) -> Tensor:
        pooled = self.block(self.stem(images)).mean(dim=(2, 3))
        logits: Tensor = self.head(self.changed(self.dropout(pooled)))
        return logits


def network(
    precision: torch.dtype = torch.float32,
    stem: Change | None = None,
    block: Change | None = None,
    features: Change | None = None,
    head: Change | None = None,
) -> Classifier:
    """The classifier, always of the same weights, of 3×16×16 images and 4 classes, in train mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = Network(None, None, None)
        module(torch.randn(64, 3, 16, 16))  # batch norm sees data
        changed = Network(stem, block, features)
    changed.load_state_dict(module.state_dict())
    classifier = Classifier(changed, num_classes=4, image_shape=(3, 16, 16), mean=MEAN, std=STD)
    classifier.module.to(precision)
    if head is not None:
        built = head(Head(changed.head.weight.detach().double(), changed.head.bias.detach().double()))
        changed.head.load_state_dict({"weight": built.weight, "bias": built.bias})
    return classifier


def example_of_network(precision: torch.dtype = torch.float32) -> Example:
    """The example's images and this classifier."""
    return replace(make_example(), classifier=network(precision))
