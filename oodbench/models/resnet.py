"""Residual networks for small images, under the names that their public checkpoints use."""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from oodbench.models.catalogue import ImageShape


class PaddedShortcut(nn.Module):
    """Option A of He et al. 2016: every second pixel, and zeros for the new channels; no weights."""

    def __init__(self, new_channels: int) -> None:
        super().__init__()
        self.new_channels = new_channels

    def forward(self, maps: Tensor) -> Tensor:
        before = self.new_channels // 2
        return F.pad(maps[:, :, ::2, ::2], (0, 0, 0, 0, before, self.new_channels - before))

    def extra_repr(self) -> str:
        return f"new_channels={self.new_channels}"


def _projected_shortcut(channels: int, width: int, stride: int) -> nn.Module:
    """Option B: a 1×1 convolution."""
    return nn.Sequential(nn.Conv2d(channels, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut."""

    def __init__(self, channels: int, width: int, stride: int, shortcut: nn.Module) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = shortcut

    def forward(self, maps: Tensor) -> Tensor:
        residual = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(maps)))))
        return F.relu(residual + self.shortcut(maps))


def _stage(channels: int, width: int, blocks: int, stride: int, projected: bool) -> nn.Sequential:
    made = []
    for number in range(blocks):
        shortcut: nn.Module = nn.Identity()
        if channels != width:
            shortcut = _projected_shortcut(channels, width, stride) if projected else PaddedShortcut(width - channels)
        made.append(BasicBlock(channels, width, stride if number == 0 else 1, shortcut))
        channels = width
    return nn.Sequential(*made)


class CifarResNet(nn.Module):
    """The CIFAR ResNet of He et al. 2016 (arXiv 1512.03385), section 4.2: three stages, depth 6n + 2.

    The state dict has the keys of https://github.com/akamaster/pytorch_resnet_cifar10. The last stage,
    averaged over space, is the penultimate features.
    """

    candidate_layers = ("relu", "layer1", "layer2", "layer3")

    def __init__(self, num_classes: int, image_shape: ImageShape, depth: int) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(image_shape[0], 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = _stage(16, 16, blocks, 1, projected=False)
        self.layer2 = _stage(16, 32, blocks, 2, projected=False)
        self.layer3 = _stage(32, 64, blocks, 2, projected=False)
        self.linear = nn.Linear(64, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.relu(self.bn1(self.conv1(images)))
        maps = self.layer3(self.layer2(self.layer1(maps)))
        logits: Tensor = self.linear(maps.mean(dim=(2, 3)))
        return logits


class ResNet18For32(nn.Module):
    """ResNet-18 with a 3×3 stem and no pooling before the stages: ResNet18_32x32 of OpenOOD, with its keys.

    The last stage, averaged over space, is the penultimate features.
    """

    candidate_layers = ("relu", "layer1", "layer2", "layer3", "layer4")

    def __init__(self, num_classes: int, image_shape: ImageShape) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(image_shape[0], 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.layer1 = _stage(64, 64, 2, 1, projected=True)
        self.layer2 = _stage(64, 128, 2, 2, projected=True)
        self.layer3 = _stage(128, 256, 2, 2, projected=True)
        self.layer4 = _stage(256, 512, 2, 2, projected=True)
        self.fc = nn.Linear(512, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.relu(self.bn1(self.conv1(images)))
        maps = self.layer4(self.layer3(self.layer2(self.layer1(maps))))
        logits: Tensor = self.fc(maps.mean(dim=(2, 3)))
        return logits


resnet20 = partial(CifarResNet, depth=20)
resnet32 = partial(CifarResNet, depth=32)
resnet44 = partial(CifarResNet, depth=44)
resnet56 = partial(CifarResNet, depth=56)
resnet110 = partial(CifarResNet, depth=110)
resnet18_32 = ResNet18For32
