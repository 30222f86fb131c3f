"""Networks of Hugging Face's transformers: those that are installed, and what stands in for them where none are."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from oodbench import Benchmark, Classifier, Machine, run
from oodbench.live import passes
from oodbench.outputs import PENULTIMATE, Needs
from tests.data.forms import pixels

SHAPE = (3, 32, 32)
IMAGES = torch.from_numpy(pixels(6, 32, 32, 3)).permute(0, 3, 1, 2).contiguous()


class ModelOutput(OrderedDict):
    """As transformers has it: entries by name, as attributes and, where they are not None, by number."""

    def __init__(self, **entries: Any) -> None:
        super().__init__((name, value) for name, value in entries.items() if value is not None)
        self.__dict__.update(entries)

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else tuple(self.values())[key]


class Block(nn.Module):
    """Gives a tuple, as many of its blocks do."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.mlp = nn.LayerNorm(12), nn.Sequential(nn.Linear(12, 20), nn.GELU(), nn.Linear(20, 12))

    def forward(self, tokens: Tensor) -> tuple[Tensor, None]:
        return tokens + self.mlp(self.norm(tokens)), None


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Block() for _ in range(3))

    def forward(self, tokens: Tensor) -> ModelOutput:
        for block in self.layer:
            tokens = block(tokens)[0]
        return ModelOutput(last_hidden_state=tokens, hidden_states=None)


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embeddings, self.encoder, self.layernorm = nn.Conv2d(3, 12, 8, 8), Encoder(), nn.LayerNorm(12)

    def forward(self, pixel_values: Tensor) -> ModelOutput:
        tokens = self.encoder(self.embeddings(pixel_values).flatten(2).transpose(1, 2))[0]
        return ModelOutput(last_hidden_state=self.layernorm(tokens), pooler_output=None)


class ForImageClassification(nn.Module):
    """Of the form of its classes of that name."""

    def __init__(self) -> None:
        super().__init__()
        self.base, self.classifier = Backbone(), nn.Linear(12, 4)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> ModelOutput:
        tokens = self.base(pixel_values).last_hidden_state
        return ModelOutput(loss=None, logits=self.classifier(tokens.mean(dim=1)), hidden_states=None)


def check(network: nn.Module, head: str, layers: tuple[str, ...]) -> Classifier:
    """Head, features, logits and layers are those of the network, and a run on them ends."""
    classifier = Classifier(network.eval(), num_classes=4, image_shape=SHAPE, name="net")
    assert classifier.head == head and classifier.layers == (*layers, PENULTIMATE)
    assert any(".logits" in note for note in classifier.notes)
    given: dict[str, Any] = {}
    for name in (head, *layers):
        network.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: given.update({name: (inputs[0], output)})
        )
    (live,) = passes(classifier, [IMAGES], Needs("logits", "features", "layer:*"))
    captured = live.tensors()
    with torch.no_grad():
        expected = network(IMAGES / 255).logits
    torch.testing.assert_close(captured["logits"], expected)
    torch.testing.assert_close(captured["features"], given[head][0])
    weights = classifier.head_weights()
    assert weights is not None
    torch.testing.assert_close(weights(captured["features"].double()).float(), expected)
    for name in layers:
        output = given[name][1][0] if isinstance(given[name][1], tuple) else given[name][1]
        tokens = output[:, 0] if classifier.class_tokens == output.shape[1] else output.mean(dim=1)
        pooled = output.mean(dim=(2, 3)) if output.dim() == 4 else tokens
        torch.testing.assert_close(captured[f"layer:{name}"], pooled)
    sets = {"mine": (pixels(40, 32, 32, 3), np.arange(40) % 4)}
    work = Benchmark(id="mine", ood=("uniform",), detectors=("energy", "odin", "oodl", "knn(k=3)", "gradnorm"))
    result = run(work, [classifier], Machine(store=False, device="cpu", workers=0), sets=sets)
    assert len(result.card.metrics) == 5 and result.card.classifiers[0]["layers"] == [*layers, PENULTIMATE]
    return classifier


def test_a_network_of_its_form() -> None:
    torch.manual_seed(0)
    layers = ("base.embeddings", *(f"base.encoder.layer.{number}" for number in range(3)), "base.layernorm")
    assert check(ForImageClassification(), "classifier", layers).class_tokens is None


def vit() -> tuple[nn.Module, str, tuple[str, ...]]:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=48, image_size=32, patch_size=8,
        num_labels=4,
    )  # fmt: skip
    network = ViTForImageClassification(config)
    (blocks,) = (name for name, one in network.named_modules() if isinstance(one, nn.ModuleList) and len(one) == 3)
    layers = ("vit.embeddings", *(f"{blocks}.{number}" for number in range(3)), "vit.layernorm")
    return network, "classifier", layers


def resnet() -> tuple[nn.Module, str, tuple[str, ...]]:
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 2, 1], num_labels=4)
    layers = ("resnet.embedder", *(f"resnet.encoder.stages.{number}" for number in range(4)))
    return ResNetForImageClassification(config), "classifier.1", layers


def swin() -> tuple[nn.Module, str, tuple[str, ...]]:
    from transformers import SwinConfig, SwinForImageClassification

    config = SwinConfig(
        image_size=32, patch_size=2, embed_dim=8, depths=[1, 1, 2], num_heads=[1, 2, 2], window_size=4, num_labels=4
    )
    layers = ("swin.embeddings", *(f"swin.encoder.layers.{number}" for number in range(3)), "swin.layernorm")
    return SwinForImageClassification(config), "classifier", layers


@pytest.mark.parametrize("make", [vit, resnet, swin])
def test_its_own_networks(make: Any) -> None:
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    check(*make())
