"""Classifier: finding head and layers, leaving the network as it was, and a hash of all that counts."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from oodbench.classifier import Classifier
from oodbench.errors import OodbenchError
from oodbench.live import passes
from oodbench.outputs import PENULTIMATE, Needs

SHAPE = (3, 8, 8)


def network(*after_head: nn.Module) -> nn.Sequential:
    """Convolution, BatchNorm with statistics of its own, dropout, a head of 4 classes, and more."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 5, 3),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 4),
        *after_head,
    )
    module(torch.rand(32, *SHAPE))
    return module


def classifier(module: nn.Module | None = None, **changes: object) -> Classifier:
    options = {"num_classes": 4, "image_shape": SHAPE, "mean": (0.4, 0.5, 0.6), "std": 0.2} | changes
    return Classifier(module or network(), **options)  # type: ignore[arg-type]


class Nested(nn.Module):
    """Its head is a part of a part, as in torchvision's VGG; its parts are called in another order."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4))
        self.features = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(images).mean(dim=(2, 3)))
        return logits


@pytest.mark.parametrize(
    ("module", "head"),
    [
        (network(), "6"),
        (network(nn.Identity()), "6"),
        (Nested(), "classifier.2"),
        (network(nn.ReLU()), None),
        (network(nn.Linear(4, 4)), "7"),
    ],
    ids=["last", "before an identity", "nested", "before a ReLU", "second linear"],
)
def test_head_is_the_linear_layer_whose_output_is_the_logits(module: nn.Module, head: str | None) -> None:
    assert classifier(module).head == head


def test_layers_declared_default_and_given() -> None:
    assert classifier(Nested()).layers == ("features", PENULTIMATE)
    assert classifier(network()).layers == ("0", "1", PENULTIMATE)
    assert classifier(network(nn.ReLU())).layers == ("0", "1", "6")
    declared = Nested()
    declared.candidate_layers = ("features.0", "features")  # type: ignore[assignment]
    assert classifier(declared).layers == ("features.0", "features")
    assert classifier(declared, layers=["features.1"]).layers == ("features.1",)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"head": "nowhere"}, "no submodule 'nowhere'"),
        ({"layers": ["0", "12"]}, "no submodule '12'"),
        ({"num_classes": 5}, "returned \\(2, 4\\)"),
        ({"image_shape": (3, 2, 2)}, "does not take images of 3 channel\\(s\\), 2×2"),
        ({"image_shape": (1, 8, 8), "mean": 0.5}, "does not take images of 1 channel"),
        ({"mean": (0.1, 0.2)}, "mean has 2 values for images of 3"),
        ({"std": (0.1, 0.0, 0.1)}, "must be positive"),
        ({"std": float("nan")}, "must be positive"),
    ],
)
def test_what_does_not_fit_is_said(changes: dict[str, object], words: str) -> None:
    with pytest.raises(OodbenchError, match=words):
        classifier(**changes)


def test_torchvisions_assertion_on_the_size_is_said() -> None:
    class Asserting(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            torch._assert(images.shape[2] == 224, "Wrong image height!")
            return images

    with pytest.raises(OodbenchError, match="Wrong image height"):
        classifier(Asserting())


def test_logits_are_those_of_normalised_images() -> None:
    made = classifier()
    images = torch.rand(6, *SHAPE)
    by_hand = (images - torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)) / 0.2
    with made.inference(), torch.no_grad():
        torch.testing.assert_close(made(images), made.module(by_hand))


@given(
    modes=st.lists(st.booleans(), min_size=8, max_size=8),
    frozen=st.lists(st.booleans(), min_size=6, max_size=6),
    fails=st.booleans(),
)
def test_inference_restores_every_mode_and_flag(modes: list[bool], frozen: list[bool], fails: bool) -> None:
    made = classifier()
    for module, mode in zip(made.module.modules(), modes, strict=True):
        module.training = mode
    for parameter, flag in zip(made.module.parameters(), frozen, strict=True):
        parameter.requires_grad_(flag)
    try:
        with made.inference():
            assert not any(module.training for module in made.module.modules())
            assert not any(parameter.requires_grad for parameter in made.module.parameters())
            with made.inference():
                pass
            assert not any(module.training for module in made.module.modules())
            if fails:
                raise KeyError("of the block")
    except KeyError:
        assert fails
    assert [module.training for module in made.module.modules()] == modes
    assert [parameter.requires_grad for parameter in made.module.parameters()] == frozen


def test_making_one_leaves_the_module_as_it_was() -> None:
    module = network().train()
    before, generator = copy.deepcopy(module.state_dict()), torch.get_rng_state()
    classifier(module)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert all(submodule.training and not submodule._forward_hooks for submodule in module.modules())
    assert torch.equal(generator, torch.get_rng_state())


def test_hash_is_of_the_content() -> None:
    made = classifier()
    assert made.content_hash() == classifier(copy.deepcopy(made.module), name="another").content_hash()
    assert made.content_hash() == classifier(made.module.to(memory_format=torch.channels_last)).content_hash()


def test_hash_changes_with_every_weight_and_buffer() -> None:
    module = network()
    module.register_buffer("scale", torch.ones(2), persistent=False)
    made = classifier(module)
    seen = {made.content_hash()}
    for tensor in [*module.parameters(), *module.buffers()]:
        tensor.data.view(-1)[-1] += 1
        seen.add(made.content_hash())
    assert len(seen) == 1 + len(list(module.parameters())) + len(list(module.buffers())) == 11


def test_hash_changes_with_normalisation_form_and_architecture() -> None:
    module = network()
    variants = [
        classifier(module),
        classifier(module, mean=0.5),
        classifier(module, std=0.21),
        classifier(module, image_shape=(3, 9, 8)),
        # The same weights, and yet another function.
        classifier(nn.Sequential(*[nn.GELU() if isinstance(part, nn.ReLU) else part for part in module])),
    ]
    assert len({variant.content_hash() for variant in variants}) == len(variants)


@pytest.mark.parametrize("stop_early", [False, True], ids=["to the end", "left after one batch"])
def test_a_pass_leaves_nothing_behind(stop_early: bool) -> None:
    made = classifier(network().train(), layers=["0", "2", PENULTIMATE])
    before = made.content_hash()
    batches = [torch.randint(0, 256, (4, *SHAPE), dtype=torch.uint8)] * 3
    needs = Needs("logits", "features", "layer:*", "gradient")
    live = passes(made, iter(batches), needs)
    for outputs in live:
        outputs.perturbed(1000.0, 0.01)
        if stop_early:
            break
    live.close()
    for submodule in made.module.modules():
        assert not submodule._forward_hooks and not submodule._forward_pre_hooks
        assert submodule.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in made.module.parameters())
    assert made.content_hash() == before
