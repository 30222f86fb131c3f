"""What a live batch can be asked: gradients, a changed network, further passes, dropout; against modules by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oodbench.capture import PassCount
from oodbench.classifier import Classifier
from oodbench.errors import OodbenchError
from oodbench.example import Example, make_example
from oodbench.live import Live, passes
from oodbench.outputs import Change, Head, Needs, Outputs
from tests.live_network import example_of_network, network
from tests.test_live import EVERYTHING, batch_out, one_batch, swin
from tests.threads import one_thread as one_thread

EXACT = {"rtol": 1e-9, "atol": 1e-12}


@pytest.fixture
def exact() -> Example:
    """In float64, where the order of sums does not show."""
    return example_of_network(torch.float64)


@contextmanager
def out(classifier: Classifier, images: Tensor, needs: Needs = EVERYTHING) -> Iterator[Live]:
    """A live batch of a classifier while its pass goes on."""
    yield from passes(classifier, [images], needs)


def clipped(features: Tensor) -> Tensor:
    return features.clamp(max=0.3)


def halved(values: Tensor) -> Tensor:
    return values / 2


def pruned(maps: Tensor) -> Tensor:
    """Without what is below an image's mean."""
    return maps.where(maps > maps.mean(dim=(1, 2, 3), keepdim=True), torch.zeros_like(maps))


def top_logit(outputs: Outputs) -> Tensor:
    return outputs.logits.double().amax(dim=1)


def warmth(outputs: Outputs) -> Tensor:
    """A scalar of all that a pass gives."""
    maps = outputs.maps("stem").square().sum(dim=(1, 2, 3)) * outputs.layer("block").sum(dim=1)
    energy = outputs.logits.logsumexp(dim=1) * outputs.features.square().sum(dim=1)
    return energy + maps + outputs.images.mean(dim=(1, 2, 3))


def test_perturbed_pixels_are_clipped_only_when_asked() -> None:
    example, seen = make_example(), []
    with batch_out(example, example.edge_images) as live:
        hook = example.classifier.module.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
        live.perturbed(1000.0, 0.1, "l2")
        live.perturbed(1000.0, 0.1, "l2", clip=True)
        hook.remove()
    std = torch.tensor(example.classifier.std).view(3, 1, 1)
    mean = torch.tensor(example.classifier.mean).view(3, 1, 1)
    free, bounded = ((inputs[: len(example.edge_images)] * std + mean) for inputs in seen)
    assert free.min() < -0.01 or free.max() > 1.01
    assert bounded.min() > -1e-6 and bounded.max() < 1 + 1e-6


def test_every_option_of_a_perturbation_is_its_own() -> None:
    options: list[dict[str, Any]] = [
        {},
        {"norm": "l2"},
        {"norm": "l1"},
        {"norm": "l1", "fraction": 0.5},
        {"sign_of_zero": 1},
        {"clip": True},
    ]
    example = make_example()
    with batch_out(example, example.all_images) as live:
        found = [live.perturbed(1000.0, 0.05, **option).logits for option in options]
    for first in range(len(found)):
        for second in range(first):
            assert not torch.equal(found[first], found[second]), (options[first], options[second])


def test_the_input_gradient_is_that_of_the_summed_cross_entropy_at_the_top_class(exact: Example) -> None:
    live = one_batch(exact, EVERYTHING)
    pixels = (exact.id_images.double() / 255).requires_grad_()
    with exact.classifier.inference():
        logits = exact.classifier(pixels)
        F.cross_entropy(logits / 10, logits.argmax(dim=1), reduction="sum").backward()
    assert pixels.grad is not None
    torch.testing.assert_close(live.input_gradient(10.0), pixels.grad, **EXACT)


def test_the_gradient_of_a_saturated_softmax_survives() -> None:
    # A lead of 30 leaves a gradient of 1e-13, which 1 − p in float32 would have made 0.
    live = one_batch(make_example(head_factor=8.0), EVERYTHING)
    lead = live.logits.topk(2).values
    assert (lead[:, 0] - lead[:, 1] > 17).all()
    assert (live.input_gradient(1.0).flatten(1).abs().amax(dim=1) > 0).all()


@pytest.mark.parametrize("count", [3, 40])
@pytest.mark.parametrize("wrt", ["images", "features", "maps:stem", "maps:block", "maps:last"])
def test_a_gradient_is_that_of_autograd_by_hand(exact: Example, wrt: str, count: int) -> None:
    images, module = exact.id_images[:count], exact.classifier.module
    with exact.classifier.inference():
        pixels = (images.double() / 255).requires_grad_()
        stem = module.stem(exact.classifier.normalise(pixels))
        block = module.block(stem)
        features = block.mean(dim=(2, 3))
        logits = module.head(features)
        total = (logits.logsumexp(dim=1) * features.square().sum(dim=1)).sum() + pixels.mean(dim=(1, 2, 3)).sum()
        total = total + (stem.square().sum(dim=(1, 2, 3)) * block.mean(dim=(2, 3)).sum(dim=1)).sum()
        places = {"images": pixels, "features": features, "maps:stem": stem, "maps:block": block, "maps:last": block}
        (expected,) = torch.autograd.grad(total, places[wrt])
    with out(exact.classifier, images, EVERYTHING | Needs("maps:last")) as live:
        found = live.gradient(warmth, wrt)
        assert found.shape == live.tensor(wrt).shape and not found.requires_grad
        torch.testing.assert_close(found, expected, **EXACT)
        assert not live.logits.requires_grad and not live.features.requires_grad


def test_the_gradient_of_the_top_logit_is_the_heads_row(exact: Example) -> None:
    with out(exact.classifier, exact.id_images) as live:
        rows = live.head.weight[live.logits.argmax(dim=1)]
        torch.testing.assert_close(live.gradient(top_logit, "features"), rows, **EXACT)
        through_head = live.gradient(lambda outputs: outputs.head(outputs.features).amax(dim=1), "features")
        torch.testing.assert_close(through_head, rows, **EXACT)
        of_maps = live.gradient(top_logit, "maps:block")
        torch.testing.assert_close(of_maps, (rows / 64)[:, :, None, None].expand_as(of_maps), **EXACT)


def test_an_images_gradient_is_its_own_and_goes_into_no_weights(exact: Example) -> None:
    whole, alone = (one_batch(exact, EVERYTHING, images) for images in (exact.all_images, exact.all_images[3:4]))
    for wrt in ("images", "features", "maps:stem"):
        torch.testing.assert_close(alone.gradient(warmth, wrt)[0], whole.gradient(warmth, wrt)[3], **EXACT)
    assert all(weights.grad is None for weights in exact.classifier.module.parameters())


def test_the_gradient_by_maps_has_their_form_where_channels_are_last() -> None:
    images = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8)
    with out(swin(8), images, Needs("logits", "features", "gradient", "maps:norm")) as live:
        found = live.gradient(top_logit, "maps:norm")
        assert found.shape == live.maps("norm").shape == (5, 16, 2, 2)
        expected = (live.head.weight[live.logits.argmax(dim=1)] / 4)[:, :, None, None].expand_as(found)
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("needs", "wrt", "message"),
    [
        (Needs("logits", "features"), "images", "does not declare it in its needs"),
        (Needs("logits", "gradient"), "features", "by features, but does not declare it"),
        (Needs("logits", "gradient"), "maps:stem", "by maps:stem, but does not declare it"),
        (Needs("logits", "gradient"), "maps:sten", r"no candidate layer .*'sten'; did you mean stem"),
        (Needs("logits", "gradient", "layer:*"), "layer:stem", "no gradient by 'layer:stem'.*maps:NAME"),
        (Needs("logits", "gradient"), "logits", "no gradient by 'logits'"),
    ],
)
def test_what_there_is_no_gradient_by_is_said(exact: Example, needs: Needs, wrt: str, message: str) -> None:
    with out(exact.classifier, exact.id_images, needs) as live, pytest.raises(OodbenchError, match=message):
        live.gradient(top_logit, wrt)


def masked(head: Head) -> Head:
    return Head(head.weight * (head.weight > 0), head.bias)


def doubled(head: Head) -> Head:
    return Head(2 * head.weight, head.bias - 1)


CHANGES: list[tuple[dict[str, Change], dict[str, Change]]] = [
    ({"features": clipped}, {"features": clipped}),
    ({"maps:stem": pruned}, {"stem": pruned}),
    ({"maps:block": pruned}, {"block": pruned}),
    ({"maps:last": pruned}, {"block": pruned}),
    ({"maps:stem": halved, "maps:block": pruned}, {"stem": halved, "block": pruned}),
    ({"maps:block": pruned, "features": clipped}, {"block": pruned, "features": clipped}),
    ({"head": masked}, {"head": masked}),
    ({"maps:stem": pruned, "features": clipped, "head": masked}, {"stem": pruned, "features": clipped, "head": masked}),
]


def assert_alike(edited: Outputs, direct: Live, images: Tensor) -> None:
    """Everything that one can ask of an edited batch is as of a network with the change built in."""
    assert type(edited) is Live and edited.tensors().keys() == direct.tensors().keys()
    for name, tensor in direct.tensors().items():
        torch.testing.assert_close(edited.tensor(name), tensor, **EXACT)
    for wrt in ("images", "features", "maps:stem", "maps:block"):
        torch.testing.assert_close(edited.gradient(warmth, wrt), direct.gradient(warmth, wrt), **EXACT)
    torch.testing.assert_close(edited.input_gradient(10.0), direct.input_gradient(10.0), **EXACT)
    moved, expected = (one.perturbed(1000.0, 0.01, "l2") for one in (edited, direct))
    torch.testing.assert_close(moved.logits, expected.logits, **EXACT)
    other = images.double().flip(3) / 255
    torch.testing.assert_close(edited.forward(other).logits, direct.forward(other).logits, **EXACT)


@pytest.mark.parametrize("count", [3, 40])
@pytest.mark.parametrize(("changes", "built"), CHANGES, ids=lambda value: "+".join(value))
def test_an_edited_batch_is_that_of_a_network_with_the_change_built_in(
    exact: Example, changes: Mapping[str, Change], built: dict[str, Change], count: int
) -> None:
    images, other = exact.ood_images[:count], network(torch.float64, **built)
    with out(exact.classifier, images) as live, out(other, images) as direct:
        before = {name: tensor.clone() for name, tensor in live.tensors().items()}
        assert_alike(live.edited(changes), direct, images)
        assert not torch.allclose(live.edited(changes).logits, live.logits), "else the change shows nothing"
        assert all(torch.equal(before[name], tensor) for name, tensor in live.tensors().items())
        torch.testing.assert_close(live.forward().logits, live.logits, **EXACT)


@pytest.mark.parametrize(
    ("steps", "built"),
    [
        ([{"features": clipped}, {"features": halved}], {"features": lambda v: halved(clipped(v))}),
        ([{"maps:block": pruned}, {"maps:block": clipped}], {"block": lambda v: clipped(pruned(v))}),
        ([{"maps:block": clipped}, {"maps:last": torch.neg}], {"block": lambda v: -clipped(v)}),
        ([{"maps:last": clipped}, {"maps:block": torch.neg}], {"block": lambda v: -clipped(v)}),
        ([{"maps:stem": pruned}, {"maps:block": pruned}], {"stem": pruned, "block": pruned}),
        ([{"features": clipped}, {"maps:stem": pruned}], {"stem": pruned, "features": clipped}),
        ([{"maps:stem": pruned}, {"features": clipped}], {"stem": pruned, "features": clipped}),
        ([{"head": masked}, {"features": clipped}], {"features": clipped, "head": masked}),
        ([{"head": masked}, {"head": doubled}], {"head": lambda head: doubled(masked(head))}),
        (
            [{"features": clipped}, {"head": doubled}, {"maps:stem": pruned}, {"head": masked}],
            {"stem": pruned, "features": clipped, "head": lambda head: masked(doubled(head))},
        ),
    ],
)
def test_edits_are_composed_in_their_order(
    exact: Example, steps: list[dict[str, Change]], built: dict[str, Change]
) -> None:
    images, other = exact.ood_images, network(torch.float64, **built)
    with out(exact.classifier, images) as live, out(other, images) as direct:
        edited: Outputs = live
        for step in steps:
            edited = edited.edited(step)
        assert_alike(edited, direct, images)


def test_edited_features_are_as_those_of_stored_outputs(exact: Example) -> None:
    with out(exact.classifier, exact.id_images) as live:
        stored = live.stored().edited({"features": clipped})
        assert torch.equal(live.edited({"features": clipped}).logits, stored.logits)


def test_maps_are_edited_with_their_channels_first() -> None:
    classifier, images = swin(8), torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8)
    gains = torch.linspace(0, 2, 16)
    with out(classifier, images, Needs("logits", "features", "maps:norm")) as live:
        edited = live.edited({"maps:norm": lambda maps: maps * gains.view(16, 1, 1)})
        torch.testing.assert_close(edited.features, live.features * gains)
        torch.testing.assert_close(edited.maps("norm"), live.maps("norm") * gains.view(16, 1, 1))
        torch.testing.assert_close(edited.logits, live.head(live.features * gains).float())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("logits", "'logits' cannot be changed in a pass; features, head and maps:NAME can"),
        ("layer:stem", "'layer:stem' cannot be changed"),
        ("maps:sten", "did you mean stem"),
    ],
)
def test_what_cannot_be_edited_is_said(exact: Example, name: str, message: str) -> None:
    with out(exact.classifier, exact.id_images) as live, pytest.raises(OodbenchError, match=message):
        live.edited({name: halved})
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in exact.classifier.module.modules())


def test_a_further_pass_is_that_of_the_images_given(exact: Example) -> None:
    flipped = exact.id_images.flip(3)
    expected = one_batch(exact, EVERYTHING, flipped)
    with out(exact.classifier, exact.id_images) as live:
        found = live.forward(flipped.float() / 255)
        torch.testing.assert_close(found.logits, expected.logits, rtol=1e-5, atol=1e-6)
        found = live.forward(flipped.double() / 255)
        for name in ("logits", "features", "layer:stem", "maps:block"):
            torch.testing.assert_close(found.tensor(name), expected.tensor(name), **EXACT)
        assert len(live.forward(flipped[:3].double() / 255)) == 3
        torch.testing.assert_close(live.forward().logits, live.logits, **EXACT)


def test_each_verb_is_computed_once_per_argument_and_counted(exact: Example) -> None:
    n, count = len(exact.id_images), PassCount()

    def asked(**counts: int) -> bool:
        return count == PassCount(forward=n, **{name: times * n for name, times in counts.items()})

    (verb,) = (passes(exact.classifier, [exact.id_images], EVERYTHING, count),)
    live = next(verb)
    for _ in range(2):
        live.gradient(warmth), live.gradient(top_logit), live.gradient(top_logit, "features")
        assert asked(gradient=3)
    for _ in range(2):
        assert live.forward() is live.forward() and live.forward(dropout=1) is live.forward(dropout=1)
        assert live.forward(dropout=2) is not live.forward(dropout=1)
        assert asked(gradient=3, further=3)
    assert live.edited({"features": clipped}) is live.edited({"features": clipped})
    assert asked(gradient=3, further=3), "the logits of other features cost no pass"
    for _ in range(2):
        live.edited({"features": clipped}).gradient(top_logit)
        assert asked(gradient=4, further=3, edited=1)
    for _ in range(2):
        live.edited({"maps:stem": pruned}).gradient(top_logit)
        assert asked(gradient=5, further=3, edited=2)
    assert live.edited({"maps:stem": halved}) is not live.edited({"maps:stem": pruned})
    assert asked(gradient=5, further=3, edited=3)
    for _ in range(2):
        live.edited({"maps:stem": pruned}).perturbed(1000.0, 0.01)
        assert asked(gradient=6, further=3, edited=3, perturbed=1)
    live.forward(exact.ood_images.double() / 255)
    assert asked(gradient=6, further=4, edited=3, perturbed=1)
    verb.close()


def test_dropout_is_the_same_for_an_image_in_any_batch_and_another_for_another_seed(exact: Example) -> None:
    images = exact.all_images

    def dropped(batch_size: int, seed: int, images: Tensor = images) -> Tensor:
        live = exact.passes(images, Needs("logits"), batch_size)
        return torch.cat([batch.forward(dropout=seed).logits for batch in live])

    first = dropped(len(images), 1)
    for batch_size in (1, 7, 64):
        torch.testing.assert_close(dropped(batch_size, 1), first, **EXACT)
    torch.testing.assert_close(dropped(64, 1, images.flip(0)), first.flip(0), **EXACT)
    assert (dropped(64, 2) != first).any(dim=1).all()


def test_dropout_loses_its_share_by_masks_of_each_images_own(exact: Example) -> None:
    with out(exact.classifier, exact.id_images) as live:
        still, features = live.features, live.forward(dropout=5).features
        lit = (still > 0).all(dim=0)  # behind a ReLU that is shut nothing can be lost
        still, features = still[:, lit], features[:, lit]
        kept = features != 0
        torch.testing.assert_close(features[kept], 2 * still[kept], **EXACT)  # p is 1/2
        assert lit.sum() > 12 and abs(kept.double().mean() - 0.5) < 4 * 0.5 / kept.numel() ** 0.5
        assert len({tuple(mask) for mask in kept.tolist()}) == len(kept)
        torch.testing.assert_close(live.forward(dropout=5).layer("block"), live.layer("block"), **EXACT)
        assert not any(part.training for part in exact.classifier.module.modules())
    assert not any(part._forward_hooks for part in exact.classifier.module.modules())


def test_over_many_seeds_a_linear_networks_dropout_is_its_mean(exact: Example) -> None:
    with out(exact.classifier, exact.id_images[:8]) as live:
        drawn = torch.stack([live.forward(dropout=seed).logits for seed in range(400)])
        error = drawn.std(dim=0) / 400**0.5
        assert ((drawn.mean(dim=0) - live.logits).abs() < 5 * error).all() and (error > 0).all()


def noisy(*dropouts: nn.Module, layers: tuple[str, ...] = ()) -> Classifier:
    module = nn.Sequential(nn.Identity(), *dropouts, nn.Flatten(), nn.Linear(192, 2))
    return Classifier(module, num_classes=2, image_shape=(3, 8, 8), name="noisy", layers=layers)


GREY = torch.full((4, 3, 8, 8), 51, dtype=torch.uint8) + torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1)


def dropped_features(classifier: Classifier, needs: Needs = Needs("features")) -> tuple[Tensor, Outputs]:  # noqa: B008
    with out(classifier, GREY, needs) as live:
        outputs = live.forward(dropout=0)
    return outputs.features.view(4, 3, 64), outputs


def test_dropout_of_channels_drops_whole_ones() -> None:
    values, _ = dropped_features(noisy(nn.Dropout2d(0.5)))
    empty = (values == 0).all(dim=2)
    assert ((values == 0).any(dim=2) == empty).all() and 0 < empty.sum() < 12
    single, _ = dropped_features(noisy(nn.Dropout(0.5)))
    assert not (single == 0).all(dim=2).any()


def test_each_layer_and_each_call_of_it_drops_by_masks_of_its_own() -> None:
    one, two = dropped_features(noisy(nn.Dropout(0.5)))[0], dropped_features(noisy(nn.Dropout(0.5), nn.Dropout(0.5)))[0]
    shared = nn.Dropout(0.5)
    twice, _ = dropped_features(noisy(shared, shared))
    for values, share in ((one, 0.5), (two, 0.25), (twice, 0.25)):
        assert abs((values != 0).double().mean() - share) < 0.08
    assert ((one != 0) | (two == 0)).all(), "the first layer's masks are the same, whatever follows"


def test_what_a_dropout_layer_gives_is_captured_as_dropped() -> None:
    values, outputs = dropped_features(noisy(nn.Dropout(0.5), layers=("1",)), Needs("features", "maps:1"))
    assert torch.equal(outputs.maps("1").flatten(2), values) and (values == 0).any()


def test_alpha_dropout_drops_as_torch_does() -> None:
    values, _ = dropped_features(noisy(nn.AlphaDropout(0.3)))
    drawn = F.alpha_dropout(GREY.float() / 255, 0.3, training=True).flatten(2)
    for image in range(4):
        found, expected = (set(one[image].flatten().round(decimals=4).tolist()) for one in (values, drawn))
        assert found == expected and len(found) == 2
    assert abs((values < 0).double().mean() - 0.3) < 0.08


@pytest.mark.parametrize("dropouts", [(), (nn.Dropout(0.0),)])
def test_a_network_without_dropout_says_so(dropouts: tuple[nn.Module, ...]) -> None:
    with pytest.raises(OodbenchError, match="noisy has no dropout layer, so there is nothing to be drawn"):
        dropped_features(noisy(*dropouts))


def test_dropout_of_an_edited_network(exact: Example) -> None:
    other = network(torch.float64, block=pruned)
    with out(exact.classifier, exact.id_images) as live, out(other, exact.id_images) as direct:
        found: Callable[[Outputs], Tensor] = lambda one: one.forward(dropout=3).logits  # noqa: E731
        torch.testing.assert_close(found(live.edited({"maps:block": pruned})), found(direct), **EXACT)
