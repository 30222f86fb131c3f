"""Outputs: what a pass captures, against the module called by hand; that it leaves nothing behind; and its errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.models import SwinTransformer, VisionTransformer

from oodbench.classifier import PENULTIMATE, Classifier
from oodbench.errors import OodbenchError
from oodbench.example import Example, make_example
from oodbench.models.catalogue import build as build_model
from oodbench.outputs import ALL_LAYERS, LiveOutputs, Needs, Outputs, PassCount, passes, pooled
from tests.threads import one_thread as one_thread

EVERYTHING = Needs(logits=True, features=True, layers=ALL_LAYERS, images=True, input_gradient=True)


@pytest.fixture
def example() -> Example:
    return make_example()


def one_batch(
    example: Example, needs: Needs, images: Tensor | None = None, count: PassCount | None = None
) -> LiveOutputs:
    images = example.id_images if images is None else images
    (live,) = passes(example.classifier, [(images, None)], needs, count)
    return live


@contextmanager
def batch_out(example: Example, images: Tensor, count: PassCount | None = None) -> Iterator[LiveOutputs]:
    """A live batch while its pass goes on."""
    yield from passes(example.classifier, [(images, None)], EVERYTHING, count)


def test_captures_what_the_module_computes(example: Example) -> None:
    live, module = one_batch(example, EVERYTHING), example.classifier.module
    pixels = example.id_images / 255
    with example.classifier.inference(), torch.no_grad():
        normalised = example.classifier.normalise(pixels)
        stem = module.stem(module.white - F.relu(module.white - normalised))
        block = module.block(stem)
        logits = module.head(block.mean(dim=(2, 3)))
    assert live.layer_names == ("stem", "block", PENULTIMATE)
    for found, expected in (
        (live.images, pixels),
        (live.layer("stem"), stem.mean(dim=(2, 3))),
        (live.layer("block"), block.mean(dim=(2, 3))),
        (live.features, block.mean(dim=(2, 3))),
        (live.layer(PENULTIMATE), live.features),
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
    expected = one_batch(example, Needs()).logits
    example.classifier.module.train()
    assert torch.equal(one_batch(example, Needs()).logits, expected)


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
        [(live.logits, live.input_gradient(1000.0)) for live in passes(resnet, batches, Needs(input_gradient=True))]
        for batches in (((images, None),), [(batch, None) for batch in images.split(batch_size)][:2])
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
    (live,) = passes(example.classifier, [(example.id_images, None)], Needs(input_gradient=True))
    with pytest.raises(OodbenchError, match="pass was over"):
        live.perturbed(1000.0, 0.01)


def test_every_option_of_a_perturbation_is_its_own(example: Example) -> None:
    options: list[dict[str, object]] = [
        {},
        {"norm": "l2"},
        {"norm": "l1"},
        {"norm": "l1", "fraction": 0.5},
        {"sign_of_zero": 1},
        {"clip": True},
    ]
    with batch_out(example, example.all_images) as live:
        found = [live.perturbed(1000.0, 0.05, **option).logits for option in options]  # type: ignore[arg-type]
    for first in range(len(found)):
        for second in range(first):
            assert not torch.equal(found[first], found[second]), (options[first], options[second])


def test_perturbed_pixels_are_clipped_only_when_asked(example: Example) -> None:
    seen: list[Tensor] = []
    with batch_out(example, example.edge_images) as live:
        hook = example.classifier.module.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
        live.perturbed(1000.0, 0.1, "l2")
        live.perturbed(1000.0, 0.1, "l2", clip=True)
        hook.remove()
    std = torch.tensor(example.classifier.std).view(3, 1, 1)
    mean = torch.tensor(example.classifier.mean).view(3, 1, 1)
    free, clipped = ((inputs[: len(example.edge_images)] * std + mean) for inputs in seen)
    assert free.min() < -0.01 or free.max() > 1.01
    assert clipped.min() > -1e-6 and clipped.max() < 1 + 1e-6


def test_the_gradient_is_that_of_the_summed_cross_entropy_at_the_top_class(example: Example) -> None:
    live = one_batch(example, EVERYTHING)
    pixels = (example.id_images / 255).requires_grad_()
    with example.classifier.inference():
        logits = example.classifier(pixels)
        F.cross_entropy(logits / 10, logits.argmax(dim=1), reduction="sum").backward()
    assert pixels.grad is not None
    torch.testing.assert_close(live.input_gradient(10.0), pixels.grad, rtol=1e-3, atol=1e-7)


def test_the_gradient_of_a_saturated_softmax_survives() -> None:
    # A lead of 30 leaves a gradient of 1e-13, which 1 − p in float32 would have made 0.
    sure = make_example(head_factor=8.0)
    live = one_batch(sure, EVERYTHING)
    lead = live.logits.topk(2).values
    assert (lead[:, 0] - lead[:, 1] > 17).all()
    assert (live.input_gradient(1.0).flatten(1).abs().amax(dim=1) > 0).all()


def test_needs_join() -> None:
    first, second = Needs(logits=True, layers=frozenset({"a"})), Needs(features=True, layers=frozenset({"b"}))
    assert first | second == Needs(logits=True, features=True, layers=frozenset({"a", "b"}))
    assert first | Needs() == first
    for name in ("images", "input_gradient", "labels"):
        assert getattr(Needs() | Needs(**{name: True}), name) and getattr(Needs(**{name: True}) | Needs(), name)
    for name in ("proxies", "validation_proxies"):
        both = Needs(**{name: frozenset({"p"})}) | Needs(**{name: frozenset({"q"})})
        assert both == Needs(**{name: frozenset({"p", "q"})})


def test_a_named_layer_beside_all_layers_is_one_of_them(example: Example) -> None:
    needs = Needs(layers=ALL_LAYERS) | Needs(layers=frozenset({"block"}))
    assert one_batch(example, needs).layer_names == ("stem", "block", PENULTIMATE)


def test_named_layers_come_in_order_from_the_input(example: Example) -> None:
    assert one_batch(example, Needs(layers=frozenset({"stem", "block"}))).layer_names == ("stem", "block")


def test_only_what_is_needed_is_captured(example: Example) -> None:
    live = one_batch(example, Needs(logits=True))
    assert set(live.tensors()) == {"logits"}
    for ask in (
        lambda: live.features,
        lambda: live.images,
        lambda: live.layer("stem"),
        lambda: live.input_gradient(1.0),
    ):
        with pytest.raises(OodbenchError, match=r"captured|needs"):
            ask()


def test_stored_outputs_say_that_they_are_stored(example: Example) -> None:
    stored = one_batch(example, EVERYTHING).select(slice(None))
    assert stored.perturbed(1000.0, 0.0) is stored
    for ask in (lambda: stored.perturbed(1000.0, 0.1), lambda: stored.input_gradient(1.0)):
        with pytest.raises(OodbenchError, match="live batches only"):
            ask()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 3, 16, 16), "float32"),
        (torch.zeros(2, 1, 16, 16, dtype=torch.uint8), "3×16×16"),
        (torch.zeros(0, 3, 16, 16, dtype=torch.uint8), r"shape \(0"),
    ],
)
def test_images_of_another_form_are_refused(example: Example, images: Tensor, message: str) -> None:
    with pytest.raises(OodbenchError, match=message):
        one_batch(example, Needs(), images)


def test_a_layer_that_is_no_candidate_is_refused_with_the_nearest(example: Example) -> None:
    with pytest.raises(OodbenchError, match=r"candidate layer.*'blok'.*did you mean block"):
        one_batch(example, Needs(layers=frozenset({"blok"})))


class _Odd(nn.Module):
    """A layer that is never called, one that gives a tuple, and no linear layer at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(2, 2)
        self.pair = _Pair()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.pair(images)[0]
        return logits


class _Pair(nn.Module):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return images.mean(dim=(2, 3)), images


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        (Needs(layers=frozenset({"unused"})), "'unused' of odd was not called"),
        (Needs(layers=frozenset({"pair"})), "'pair' .* gives tuple"),
        (Needs(features=True), "name its head"),
    ],
)
def test_what_cannot_be_captured_is_said_in_words(needs: Needs, message: str) -> None:
    odd = Classifier(_Odd(), num_classes=3, image_shape=(3, 4, 4), name="odd", layers=["unused", "pair"])
    with pytest.raises(OodbenchError, match=message):
        list(passes(odd, [(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), None)], needs))
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in odd.module.modules())


def test_concatenate_select_and_len(example: Example) -> None:
    labels = torch.arange(len(example.id_images))
    batches = zip(example.id_images.split(7), labels.split(7), strict=True)
    parts = list(passes(example.classifier, batches, EVERYTHING))
    joined = Outputs.concatenate(parts)
    assert len(joined) == len(example.id_images) and type(joined) is Outputs
    assert joined.labels is not None and torch.equal(joined.labels, labels)
    chosen = joined.select(torch.tensor([30, 2]))
    assert chosen.labels is not None and chosen.labels.tolist() == [30, 2]
    for name, tensor in joined.tensors().items():
        assert torch.equal(chosen.tensors()[name], tensor[[30, 2]])
    assert chosen.layer_names == joined.layer_names
    assert len(Outputs()) == 0


def test_concatenate_refuses_nothing_and_unlike_parts() -> None:
    with pytest.raises(OodbenchError, match="empty"):
        Outputs.concatenate([])
    logits = torch.zeros(2, 3)
    for parts in ([Outputs(logits=logits, labels=torch.zeros(2)), Outputs(logits=logits)],) * 2:
        with pytest.raises(OodbenchError, match="cannot be joined"):
            Outputs.concatenate(parts)
        parts.reverse()


def test_joining_keeps_no_batch_and_no_graph_alive(example: Example) -> None:
    alive = 0

    def batches() -> Iterator[tuple[Tensor, None]]:
        for batch in example.id_images.split(8):
            yield batch, None

    parts = []
    for live in passes(example.classifier, batches(), Needs(logits=True, input_gradient=True)):
        parts.append(live.select(slice(None)))
        alive += live.logits.requires_grad
    assert alive == 0 and Outputs.concatenate(parts).logits.grad_fn is None


def test_moving_takes_proxies_and_validation_along() -> None:
    inner = Outputs(logits=torch.ones(1, 2))
    moved = Outputs(logits=torch.zeros(1, 2), proxies={"p": inner}, validation={"v": inner}).to("meta")
    assert moved.logits.device.type == moved.proxies["p"].logits.device.type == "meta"
    assert moved.validation["v"].logits.device.type == "meta"


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
    (live,) = passes(swin(8), [(images, None)], Needs(features=True, layers=ALL_LAYERS))
    assert live.layer_names == ("features", "norm", PENULTIMATE)
    torch.testing.assert_close(live.layer("norm"), live.features)
    assert live.layer("features").shape == (5, 16)


def test_a_layer_whose_channels_may_be_first_or_last_is_refused() -> None:
    images = torch.zeros(5, 3, 16, 16, dtype=torch.uint8)
    with pytest.raises(OodbenchError, match=r"'features\.1' .* gives N×4×4×4, which may be"):
        list(passes(swin(4, ["features.1"]), [(images, None)], Needs(layers=ALL_LAYERS)))


def test_tokens_are_averaged() -> None:
    torch.manual_seed(0)
    network = VisionTransformer(8, 4, num_layers=1, num_heads=1, hidden_dim=6, mlp_dim=8, num_classes=3)
    classifier = Classifier(network, num_classes=3, image_shape=(3, 8, 8), layers=["encoder"])
    tokens: list[Tensor] = []
    network.encoder.register_forward_hook(lambda _module, _inputs, output: tokens.append(output))
    images = torch.randint(0, 256, (16, 3, 8, 8), dtype=torch.uint8)
    (live,) = passes(classifier, [(images, None)], Needs(layers=ALL_LAYERS))
    assert tokens[-1].shape == (16, 5, 6) and torch.equal(live.layer("encoder"), tokens[-1].mean(dim=1))


def test_a_float64_classifier_is_passed_in_float64() -> None:
    live = one_batch(make_example(precision=torch.float64), EVERYTHING)
    assert live.logits.dtype == live.input_gradient(1.0).dtype == live.images.dtype == torch.float64
