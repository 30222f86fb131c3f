"""A pass: what it captures, against the module called by hand; that it leaves nothing behind; and its errors."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.models import SwinTransformer, VisionTransformer

from oodbench.capture import PassCount, pooled
from oodbench.classifier import Classifier
from oodbench.errors import OodbenchError
from oodbench.example import Example, make_example
from oodbench.live import Live, collected, passes
from oodbench.models.catalogue import build as build_model
from oodbench.outputs import PENULTIMATE, Needs, Outputs
from tests.live_network import example_of_network
from tests.threads import one_thread as one_thread

EVERYTHING = Needs("logits", "features", "layer:*", "maps:*", "images", "gradient")


@pytest.fixture
def example() -> Example:
    return make_example()


def one_batch(example: Example, needs: Needs, images: Tensor | None = None, count: PassCount | None = None) -> Live:
    images = example.id_images if images is None else images
    (live,) = passes(example.classifier, [images], needs, count)
    return live


@contextmanager
def batch_out(example: Example, images: Tensor, count: PassCount | None = None) -> Iterator[Live]:
    """A live batch while its pass goes on."""
    yield from passes(example.classifier, [images], EVERYTHING, count)


def test_captures_what_the_module_computes() -> None:
    example = example_of_network()
    live, module = one_batch(example, EVERYTHING), example.classifier.module
    pixels = example.id_images / 255
    with example.classifier.inference(), torch.no_grad():
        normalised = example.classifier.normalise(pixels)
        stem = module.stem(normalised)
        block = module.block(stem)
        logits = module.head(block.mean(dim=(2, 3)))
    assert live.layer_names == ("stem", "block", PENULTIMATE) and live.map_names == ("stem", "block")
    for found, expected in (
        (live.images, pixels),
        (live.layer("stem"), stem.mean(dim=(2, 3))),
        (live.layer("block"), block.mean(dim=(2, 3))),
        (live.features, block.mean(dim=(2, 3))),
        (live.layer(PENULTIMATE), live.features),
        (live.maps("stem"), stem),
        (live.maps("block"), block),
        (live.logits, logits),
    ):
        torch.testing.assert_close(found, expected)
        assert not found.requires_grad
    assert len(live) == len(example.id_images)


def test_logits_are_the_head_of_the_features(example: Example) -> None:
    live = one_batch(example, EVERYTHING)
    torch.testing.assert_close(live.logits, example.classifier.module.head(live.features).detach())


def test_a_live_batch_leaves_the_module_as_it_was(example: Example) -> None:
    module = example.classifier.module
    module.train()
    module.block.eval()
    modes = [part.training for part in module.modules()]
    before = example.classifier.content_hash()
    for live in example.passes(example.id_images, EVERYTHING, 16):
        live.perturbed(1000.0, 0.01)
        assert not any(part.training for part in module.modules())
    assert [part.training for part in module.modules()] == modes
    assert example.classifier.content_hash() == before
    assert all(weights.requires_grad and weights.grad is None for weights in module.parameters())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def test_a_pass_given_up_midway_leaves_the_module_as_it_was(example: Example) -> None:
    batches = example.passes(example.id_images, EVERYTHING, 16)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    module = example.classifier.module
    assert all(part.training for part in module.modules())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def test_train_mode_does_not_show(example: Example) -> None:
    example.classifier.module.eval()
    expected = one_batch(example, Needs("logits")).logits
    example.classifier.module.train()
    assert torch.equal(one_batch(example, Needs("logits")).logits, expected)


@pytest.mark.parametrize("batch_size", [1, 2, 7, 15, 16, 17])
def test_any_batch_size_gives_the_same(example: Example, batch_size: int) -> None:
    whole = one_batch(example, EVERYTHING)
    parts = list(example.passes(example.id_images, EVERYTHING, batch_size))
    joined = Outputs.concatenate(parts)
    for name, tensor in whole.tensors().items():
        torch.testing.assert_close(joined.tensors()[name], tensor, rtol=1e-6, atol=1e-6)
    gradients = torch.cat([part.input_gradient(1000.0) for part in parts])
    torch.testing.assert_close(gradients, whole.input_gradient(1000.0), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_real_network_rounds_alike_in_any_batch(batch_size: int) -> None:
    # Without `SMALLEST_PASS` the logits of a trained ResNet-20 differ by 1e-5 between batches of 1 and of 16.
    torch.manual_seed(0)
    resnet = Classifier(build_model("resnet20", 10, (3, 32, 32)), num_classes=10, image_shape=(3, 32, 32))
    resnet.module(torch.rand(32, 3, 32, 32))  # batch norm sees data
    images = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8)
    whole, *parts = (
        [(live.logits, live.input_gradient(1000.0)) for live in passes(resnet, batches, Needs("logits", "gradient"))]
        for batches in ((images,), images.split(batch_size)[:2])
    )
    for index in (0, 1):
        found = torch.cat([part[index] for part in parts[0]])
        expected = whole[0][index][: len(found)]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-8 * float(expected.abs().max()))


def test_counts_what_enters_and_computes_nothing_twice(example: Example) -> None:
    count, n = PassCount(), len(example.id_images)
    with batch_out(example, example.id_images, count) as live:
        assert count == PassCount(forward=n)
        assert live.perturbed(1000.0, 0.0) is live
        assert count == PassCount(forward=n)
        first = live.perturbed(1000.0, 0.01)
        assert count == PassCount(forward=n, gradient=n, perturbed=n)
        assert live.perturbed(1000.0, 0.01) is first
        assert live.input_gradient(1000.0) is live.input_gradient(1000.0)
        assert count == PassCount(forward=n, gradient=n, perturbed=n)
        assert not torch.equal(live.perturbed(1000.0, 0.02).logits, first.logits)
        assert count == PassCount(forward=n, gradient=n, perturbed=2 * n)
        live.input_gradient(1.0)
        assert count.gradient == 2 * n


def test_a_batch_whose_pass_is_over_is_not_perturbed_in_train_mode(example: Example) -> None:
    (live,) = passes(example.classifier, [example.id_images], Needs("logits", "gradient"))
    with pytest.raises(OodbenchError, match="pass was over"):
        live.perturbed(1000.0, 0.01)
    with pytest.raises(OodbenchError, match="pass was over"):
        live.forward()


def test_a_named_layer_beside_all_layers_is_one_of_them(example: Example) -> None:
    needs = Needs("layer:*") | Needs("layer:block")
    assert one_batch(example, needs).layer_names == ("stem", "block", PENULTIMATE)


def test_named_layers_come_in_order_from_the_input(example: Example) -> None:
    assert one_batch(example, Needs("layer:block", "layer:stem")).layer_names == ("stem", "block")


def test_only_what_is_needed_is_captured(example: Example) -> None:
    live = one_batch(example, Needs("logits"))
    assert set(live.tensors()) == {"logits"}
    for ask in (
        lambda: live.features,
        lambda: live.images,
        lambda: live.layer("stem"),
        lambda: live.input_gradient(1.0),
    ):
        with pytest.raises(OodbenchError, match=r"captured|needs"):
            ask()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 3, 16, 16, dtype=torch.int64), "int64"),
        (torch.zeros(2, 1, 16, 16), "3×16×16"),
        (torch.zeros(2, 1, 16, 16, dtype=torch.uint8), "3×16×16"),
        (torch.zeros(0, 3, 16, 16, dtype=torch.uint8), r"shape \(0"),
    ],
)
def test_images_of_another_form_are_refused(example: Example, images: Tensor, message: str) -> None:
    with pytest.raises(OodbenchError, match=message):
        one_batch(example, Needs("logits"), images)


def test_images_as_numbers_from_0_to_1_give_the_same_and_stay_as_they_are(example: Example) -> None:
    pixels = example.id_images / 255
    for images in (pixels, pixels.double()):
        copy = images.clone()
        live = one_batch(example, EVERYTHING, images)
        assert torch.equal(live.logits, one_batch(example, EVERYTHING).logits) and live.images.dtype == torch.float32
        live.images.zero_()
        assert torch.equal(images, copy) and not images.requires_grad


def test_a_layer_that_is_no_candidate_is_refused_with_the_nearest(example: Example) -> None:
    with pytest.raises(OodbenchError, match=r"candidate layer.*'blok'.*did you mean block"):
        one_batch(example, Needs("layer:blok"))


def test_maps_are_of_candidates_that_have_them(example: Example) -> None:
    live = one_batch(example, Needs("maps:last", "maps:stem"))
    assert live.map_names == ("last", "stem") and "logits" in live.tensors()
    assert torch.equal(live.maps(), one_batch(example, Needs("maps:block")).maps("block"))
    with pytest.raises(OodbenchError, match=r"candidate layer.*'penultimate'.* block, stem"):
        one_batch(example, Needs("maps:penultimate"))
    module = nn.Sequential(nn.Flatten(), nn.Linear(48, 5), nn.ReLU(), nn.Linear(5, 2))
    flat = Classifier(module, num_classes=2, image_shape=(3, 4, 4), name="flat")
    for needs in (Needs("maps:last"), Needs("maps:1")):
        with pytest.raises(OodbenchError, match=r"flat has no candidate layer that gives maps .*layers="):
            list(passes(flat, [torch.zeros(2, 3, 4, 4, dtype=torch.uint8)], needs))


class _Odd(nn.Module):
    """A layer that is never called, one that gives a tuple, a good one, and no linear layer at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(2, 2)
        self.good = nn.Softplus()
        self.named = _Named()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.named(self.good(images))["logits"]
        return logits


class _Named(nn.Module):
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"logits": images.mean(dim=(2, 3)), "images": images}


def odd(*layers: str) -> Classifier:
    return Classifier(_Odd(), num_classes=3, image_shape=(3, 4, 4), name="odd", layers=layers)


ODD_IMAGES = [torch.zeros(2, 3, 4, 4, dtype=torch.uint8)]


@pytest.mark.parametrize("welcome", [None, Needs("layer:*")])
@pytest.mark.parametrize(
    ("needs", "message"),
    [
        (Needs("layer:unused"), "'unused' of odd was not called"),
        (Needs("layer:named"), "'named' .* gives dict"),
        (Needs("features"), "name its head"),
    ],
)
def test_what_cannot_be_captured_is_said_in_words(needs: Needs, message: str, welcome: Needs | None) -> None:
    classifier = odd("unused", "good", "named")
    with pytest.raises(OodbenchError, match=message):
        list(passes(classifier, ODD_IMAGES, needs, welcome=welcome))
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in classifier.module.modules())


def test_what_is_welcome_is_taken_as_far_as_it_goes() -> None:
    (live,) = passes(odd("unused", "good", "named"), ODD_IMAGES, Needs("logits"), welcome=Needs("layer:*"))
    assert set(live.tensors()) == {"logits", "layer:good"}
    (live,) = passes(odd("good", PENULTIMATE), ODD_IMAGES, Needs("logits"), welcome=Needs("features", "layer:*"))
    assert set(live.tensors()) == {"logits", "layer:good"}


def test_a_welcome_layer_is_what_it_would_be_if_it_were_needed(example: Example) -> None:
    (welcome,) = passes(example.classifier, [example.id_images], Needs("logits"), welcome=Needs("features", "layer:*"))
    needed = one_batch(example, Needs("logits", "features", "layer:*"))
    assert welcome.tensors().keys() == needed.tensors().keys()
    assert all(torch.equal(welcome.tensor(name), tensor) for name, tensor in needed.tensors().items())


def test_collecting_keeps_what_is_small_and_what_was_made_of_each_batch(example: Example) -> None:
    made: list[Live] = []

    def brightness(live: Live) -> dict[str, Tensor]:
        made.append(live)
        return {"mean": live.images.mean(dim=(1, 2, 3)), "count": torch.full((len(live),), len(live))}

    outputs, products = collected(example.passes(example.id_images, EVERYTHING, 16), {"own": brightness})
    whole = one_batch(example, EVERYTHING).stored()
    assert type(outputs) is Outputs and set(outputs.tensors()) == {"logits", "features"} | {
        f"layer:{name}" for name in ("stem", "block", PENULTIMATE)
    }
    for name, tensor in whole.tensors().items():
        torch.testing.assert_close(outputs.tensor(name), tensor, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(products["own"]["mean"], (example.id_images / 255).mean(dim=(1, 2, 3)))
    assert products["own"]["count"].tolist() == [16] * 32 + [8] * 8 and len(made) == 3
    assert collected(example.passes(example.id_images, Needs("logits")))[1] == {}


def test_collecting_keeps_no_batch_and_no_graph_alive(example: Example) -> None:
    pixels: list[weakref.ref[Tensor]] = []

    def noting() -> Iterator[Live]:
        for live in example.passes(example.id_images, EVERYTHING, 8):
            pixels.append(weakref.ref(live._pixels))
            yield live

    outputs, _ = collected(noting())
    assert len(pixels) == 5 and not any(one() is not None for one in pixels)
    assert not any(tensor.requires_grad for tensor in outputs.tensors().values())


def test_pooled() -> None:
    maps = torch.arange(16.0).view(1, 2, 2, 4)
    assert pooled(maps, (3, 8, 16)).tolist() == [[3.5, 11.5]]
    assert pooled(maps, (3, 16, 16)).tolist() == [[6.0, 7.0, 8.0, 9.0]]
    assert pooled(torch.tensor([[[1.0, 2.0], [3.0, 6.0]]]), (3, 8, 8)).tolist() == [[2.0, 4.0]]
    assert pooled(torch.tensor([[1.0, 2.0]]), (3, 8, 8)).tolist() == [[1.0, 2.0]]


@given(st.integers(1, 99), st.integers(1, 99), st.integers(1, 99), st.booleans(), st.integers(0, 6))
def test_maps_of_any_proportions_are_averaged_over_space(
    channels: int, height: int, width: int, up: bool, halvings: int
) -> None:
    rows, columns = (max(1, (size + up * ((1 << halvings) - 1)) >> halvings) for size in (height, width))
    maps = torch.rand(2, channels, rows, columns)
    assert torch.equal(pooled(maps, (3, height, width)), maps.mean(dim=(2, 3)))


def swin(channels: int, layers: Sequence[str] | None = None) -> Classifier:
    """torchvision's, tiny: its maps are N×H×W×C, at first 4×4."""
    torch.manual_seed(0)
    network = SwinTransformer([4, 4], channels, [1, 1], [1, 1], [2, 2], num_classes=3)
    return Classifier(network, num_classes=3, image_shape=(3, 16, 16), name="swin", layers=layers)


def test_maps_whose_channels_are_last_are_averaged_over_space() -> None:
    images = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8)
    (live,) = passes(swin(8), [images], Needs("features", "layer:*"))
    assert live.layer_names == (*(f"features.{number}" for number in range(4)), "norm", PENULTIMATE)
    torch.testing.assert_close(live.layer("norm"), live.features)
    assert [live.layer(f"features.{number}").shape for number in range(4)] == [(5, 8), (5, 8), (5, 16), (5, 16)]


def test_maps_come_with_their_channels_first() -> None:
    network, images = swin(8), torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8)
    (live,) = passes(network, [images], Needs("maps:norm", "layer:norm"))
    assert live.maps("norm").shape == (5, 16, 2, 2)
    torch.testing.assert_close(live.maps("norm").mean(dim=(2, 3)), live.layer("norm"))


def test_a_layer_whose_channels_may_be_first_or_last_is_refused() -> None:
    images = torch.zeros(5, 3, 16, 16, dtype=torch.uint8)
    with pytest.raises(OodbenchError, match=r"'features\.1' .* gives N×4×4×4, which may be"):
        list(passes(swin(4, ["features.1"]), [images], Needs("layer:*")))
    (live,) = passes(swin(4, ["features.1", "norm"]), [images], Needs("logits"), welcome=Needs("layer:*"))
    assert live.layer_names == ("norm",)


class MeanOfTokens(VisionTransformer):
    """Reads the mean of its tokens, where torchvision's reads the class token."""

    def forward(self, images: Tensor) -> Tensor:
        tokens = self._process_input(images)
        token = self.class_token.expand(len(tokens), -1, -1)
        logits: Tensor = self.heads(self.encoder(torch.cat([token, tokens], dim=1)).mean(dim=1))
        return logits


@pytest.mark.parametrize("kind", [VisionTransformer, MeanOfTokens])
def test_tokens_are_read_as_the_network_reads_them(kind: type[VisionTransformer]) -> None:
    torch.manual_seed(0)
    network = kind(8, 4, num_layers=2, num_heads=1, hidden_dim=6, mlp_dim=8, num_classes=3)
    nn.init.normal_(network.heads.head.weight)  # which torchvision starts at zero
    classifier = Classifier(network, num_classes=3, image_shape=(3, 8, 8))
    tokens: list[Tensor] = []
    network.encoder.layers[0].register_forward_hook(lambda _module, _inputs, output: tokens.append(output))
    images = torch.randint(0, 256, (16, 3, 8, 8), dtype=torch.uint8)
    (live,) = passes(classifier, [images], Needs("layer:*", "features"))
    blocks = [f"encoder.layers.encoder_layer_{number}" for number in range(2)]
    assert live.layer_names == ("conv_proj", *blocks, "encoder.ln", PENULTIMATE)
    expected = tokens[-1][:, 0] if kind is VisionTransformer else tokens[-1].mean(dim=1)
    assert tokens[-1].shape == (16, 5, 6) and torch.equal(live.layer(blocks[0]), expected)
    torch.testing.assert_close(live.layer("encoder.ln"), live.features)
    assert "class token" in classifier.notes[0] if kind is VisionTransformer else "averaged" in classifier.notes[0]
    assert classifier.map_layers == ("conv_proj",)


def test_a_float64_classifier_is_passed_in_float64() -> None:
    live = one_batch(make_example(precision=torch.float64), EVERYTHING)
    assert live.logits.dtype == live.input_gradient(1.0).dtype == live.images.dtype == torch.float64
