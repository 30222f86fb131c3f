"""Inversion: it works, leaves everything else alone, is repeatable, and shows when it goes wrong."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from oodbench.classifier import Classifier
from oodbench.errors import OodbenchError
from oodbench.inversion.generator import Generator
from oodbench.inversion.invert import (
    CHUNK,
    Inversion,
    generate,
    inversion_accuracy,
    invert,
    new_generator,
)
from oodbench.inversion.settings import CONDITIONINGS, LOSSES, Conditioning, InversionSettings
from oodbench.progress import Reporter
from tests.inversion.conftest import SMALL


class Listening(Reporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(scope="module")
def inverted(bars_classifier: Classifier) -> Inversion:
    return invert(bars_classifier, SMALL.replaced(epochs=8), "cpu", Reporter())


def state(module: nn.Module) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in module.state_dict().values()]


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_generated_images_get_the_class_they_were_made_for(inverted: Inversion, bars_classifier: Classifier) -> None:
    assert inverted.history[-1].inversion_accuracy > 0.9
    assert inversion_accuracy(inverted.generator, bars_classifier, 600, seed=1) > 0.9


def test_the_history_has_every_loss_and_the_accuracy_of_every_epoch(inverted: Inversion) -> None:
    curves = inverted.curves()
    assert list(curves) == ["epoch", "inversion_accuracy", "loss", *LOSSES, "seconds", "measuring_share"]
    assert list(curves["epoch"]) == list(range(1, 9))
    weighted = sum(getattr(inverted.settings.weights, name) * curves[name] for name in LOSSES)
    assert curves["loss"].to_numpy() == pytest.approx(weighted.to_numpy())
    assert curves["cross_entropy"].iloc[-1] < curves["cross_entropy"].iloc[0]
    assert curves["measuring_share"].between(0, 1, inclusive="neither").all() and (curves["seconds"] > 0).all()


def test_one_seed_gives_one_result_and_another_seed_another(
    bars_classifier: Classifier, small_settings: InversionSettings
) -> None:
    settings = small_settings.replaced(epochs=2, dropout=0.3)
    one = invert(bars_classifier, settings, "cpu", Reporter())
    torch.manual_seed(123)  # The caller's own random state must not matter.
    again = invert(bars_classifier, settings, "cpu", Reporter())
    other = invert(bars_classifier, settings.replaced(seed=1), "cpu", Reporter())
    assert equal(state(one.generator), state(again.generator))
    assert [epoch.terms for epoch in one.history] == [epoch.terms for epoch in again.history]
    assert [e.inversion_accuracy for e in one.history] == [e.inversion_accuracy for e in again.history]
    assert not equal(state(one.generator), state(other.generator))


def test_the_classifier_and_the_random_state_are_left_as_they_were(
    bars_classifier: Classifier, small_settings: InversionSettings
) -> None:
    module = bars_classifier.module
    module.train()
    module[0].requires_grad_(False)
    try:
        weights, random = state(module), torch.get_rng_state()
        invert(bars_classifier, small_settings.replaced(epochs=1), "cpu", Reporter())
        assert equal(weights, state(module)) and torch.equal(random, torch.get_rng_state())
        assert all(part.training for part in module.modules())
        assert [part.requires_grad for part in module.parameters()] == [False] * 2 + [True] * 6
        assert all(part.grad is None for part in module.parameters())
        assert not any(part._forward_pre_hooks for part in module.modules())
    finally:
        module.requires_grad_(True)


def test_the_losses_on_features_and_images_reach_the_generator(
    bars_classifier: Classifier, small_settings: InversionSettings
) -> None:
    """Planted fault: with features detached, as in `outputs.Capture`, nothing would be learned here."""
    alone = dict.fromkeys(LOSSES, 0.0)
    for name in ("cosine", "orthogonality", "statistics", "image_cosine", "total_variation"):
        history = invert(bars_classifier, small_settings.replaced(**(alone | {name: 1.0})), "cpu", Reporter()).history
        assert history[-1].terms[name] < 0.8 * history[0].terms[name]


def test_without_cross_entropy_and_kl_nothing_ties_images_to_classes(
    bars_classifier: Classifier, small_settings: InversionSettings
) -> None:
    settings = small_settings.replaced(cross_entropy=0.0, kl=0.0, accuracy_images=600)
    accuracy = invert(bars_classifier, settings, "cpu", Reporter()).history[-1].inversion_accuracy
    assert accuracy < 0.7


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_every_conditioning_inverts(
    conditioning: Conditioning, bars_classifier: Classifier, small_settings: InversionSettings
) -> None:
    settings = small_settings.replaced(conditioning=conditioning)
    assert invert(bars_classifier, settings, "cpu", Reporter()).history[-1].inversion_accuracy > 0.8


def test_a_warm_start_goes_on_where_the_generator_was(
    inverted: Inversion, bars_classifier: Classifier, small_settings: InversionSettings
) -> None:
    generator = deepcopy(inverted.generator)
    settings = small_settings.replaced(epochs=1, steps_per_epoch=1, learning_rate=1e-4, seed=5)
    warm = invert(bars_classifier, settings, "cpu", Reporter(), generator)
    assert warm.generator is generator
    assert warm.history[0].inversion_accuracy > 0.9
    assert invert(bars_classifier, settings, "cpu", Reporter()).history[0].inversion_accuracy < 0.7


def test_a_collapsed_generator_shows_in_the_history(
    inverted: Inversion, bars_classifier: Classifier, small_settings: InversionSettings
) -> None:
    generator = deepcopy(inverted.generator)
    nn.init.zeros_(generator.to_image.weight)
    settings = small_settings.replaced(epochs=1, steps_per_epoch=1, learning_rate=1e-9)
    history = invert(bars_classifier, settings, "cpu", Reporter(), generator).history
    assert history[-1].inversion_accuracy < 0.45
    assert history[-1].terms["cosine"] > 0.99


def test_a_generator_for_something_else_is_refused(
    bars_classifier: Classifier, small_settings: InversionSettings
) -> None:
    fitting = {"num_classes": 3, "image_shape": (1, 8, 8), "noise_size": 8, "width": 8}
    others = {"num_classes": 4, "image_shape": (3, 8, 8), "conditioning": "vector", "width": 9, "dropout": 0.1}
    for name, value in others.items():
        with pytest.raises(OodbenchError, match=f"has {name} .*; start from a new generator"):
            other = Generator(**(fitting | {name: value}))  # type: ignore[arg-type]
            invert(bars_classifier, small_settings, "cpu", Reporter(), other)


def test_a_loss_that_is_no_longer_finite_stops_the_training(
    bars_classifier: Classifier, small_settings: InversionSettings
) -> None:
    broken = deepcopy(bars_classifier)
    nn.init.constant_(broken.module[8].bias, float("nan"))
    with pytest.raises(OodbenchError, match="no longer finite in epoch 1"):
        invert(broken, small_settings, "cpu", Reporter())


def test_a_classifier_without_known_features_is_refused(small_settings: InversionSettings) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.Softplus())
    with pytest.raises(OodbenchError, match="name its head"):
        invert(Classifier(module, num_classes=3, image_shape=(1, 8, 8)), small_settings, "cpu", Reporter())


def test_accuracy_is_the_share_of_right_classes_with_dropout_off(bars_classifier: Classifier) -> None:
    generator = Generator(3, (1, 8, 8), noise_size=8, width=8, dropout=0.9).train()
    counted = inversion_accuracy(generator, bars_classifier, CHUNK + 7, seed=3)
    assert generator.training
    assert counted == inversion_accuracy(generator.eval(), bars_classifier, CHUNK + 7, seed=3)
    assert 0 < counted * (CHUNK + 7) == pytest.approx(round(counted * (CHUNK + 7)))

    class Echo(nn.Module):
        """Takes images of one pixel value, class k at k/3, for the class."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return -(images.mean(dim=(1, 2, 3))[:, None] - torch.arange(3) / 3).abs()

    class Fixed(Generator):
        """Right for classes 0 and 1, wrong for class 2."""

        def forward(self, conditions: object, noise: torch.Tensor) -> torch.Tensor:
            value = torch.tensor([0.0, 1.0, 0.0])[conditions.targets] / 3  # type: ignore[attr-defined]
            return value[:, None, None, None].expand(-1, 1, 8, 8)

    echo = Classifier(Echo(), num_classes=3, image_shape=(1, 8, 8))
    assert inversion_accuracy(Fixed(3, (1, 8, 8)), echo, 3000, seed=0) == pytest.approx(2 / 3, abs=0.03)


def test_images_can_be_asked_for_by_class_or_by_number(inverted: Inversion) -> None:
    targets = torch.arange(CHUNK + 10) % 3
    asked = generate(inverted.generator, targets, seed=2)
    assert torch.equal(asked.targets, targets) and asked.images.shape == (CHUNK + 10, 1, 8, 8)
    assert asked.images.min() >= 0 and asked.images.max() <= 1 and not asked.images.requires_grad
    assert torch.equal(asked.images, generate(inverted.generator, targets, seed=2).images)
    assert not torch.equal(asked.images, generate(inverted.generator, targets, seed=3).images)
    assert len(asked.images.flatten(1).unique(dim=0)) == CHUNK + 10
    drawn = generate(inverted.generator, CHUNK + 10, seed=2)
    assert len(drawn.images) == CHUNK + 10 and set(drawn.targets.tolist()) == {0, 1, 2}


@pytest.mark.parametrize("nothing", [0, -1, torch.zeros(0, dtype=torch.int64)])
def test_no_images_are_refused(nothing: int | torch.Tensor, inverted: Inversion) -> None:
    with pytest.raises(OodbenchError, match="ask for at least one"):
        generate(inverted.generator, nothing, seed=0)


def test_initial_weights_are_decided_by_the_seed(
    bars_classifier: Classifier, small_settings: InversionSettings
) -> None:
    one, again = (new_generator(bars_classifier, small_settings) for _ in range(2))
    other = new_generator(bars_classifier, small_settings.replaced(seed=1))
    assert equal(state(one), state(again)) and not equal(state(one), state(other))


def test_the_reporter_hears_the_running_accuracy_but_not_of_every_epoch(
    bars_classifier: Classifier, small_settings: InversionSettings
) -> None:
    listening = Listening()
    settings = small_settings.replaced(epochs=45, steps_per_epoch=1, batch_size=2, accuracy_images=2)
    history = invert(bars_classifier, settings, "cpu", listening).history
    assert len(listening.said) <= 20
    assert listening.said[-1] == f"epoch 45: inversion accuracy {history[-1].inversion_accuracy:.3f}"


@pytest.mark.parametrize(
    "values",
    [
        {"epochs": 0},
        {"steps_per_epoch": 0},
        {"batch_size": 1},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"weight_decay": -1.0},
        {"label_smoothing": 1.5},
        {"dropout": 1.0},
        {"accuracy_images": 0},
        {"conditioning": "label"},
        {"kl": -1.0},
    ],
)
def test_settings_out_of_range_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(OodbenchError, match=next(iter(values))):
        InversionSettings().replaced(**values)


def test_settings_are_replaced_by_name_and_unknown_names_refused() -> None:
    settings = InversionSettings().replaced(learning_rate=0.5, kl=7.0)
    assert (settings.learning_rate, settings.weights.kl) == (0.5, 7.0)
    assert settings.weights.cross_entropy == InversionSettings().weights.cross_entropy
    with pytest.raises(OodbenchError, match="did you mean learning_rate"):
        InversionSettings().replaced(learning_rte=1)
