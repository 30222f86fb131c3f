"""Inversion by latents: it inverts, stops each image after its own steps, and leaves the network alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oodbench.classifier import Classifier
from oodbench.inversion import losses
from oodbench.inversion.compositions import Compositions, Latents, draw_compositions
from oodbench.inversion.conditioning import seeded
from oodbench.inversion.invert import Generated
from oodbench.inversion.latents import invert_latents
from oodbench.inversion.settings import LatentSettings
from tests.inversion.conftest import bars

SETTINGS = LatentSettings(steps=8, images=64)


@pytest.fixture(scope="module")
def with_garbage(bars_classifier: Classifier) -> Classifier:
    """`bars_classifier` with a fourth output of 3 for any image: what is not surely a class is garbage."""
    head = bars_classifier.module[-1]
    wide = nn.Linear(16, 4)
    with torch.no_grad():
        wide.weight.zero_()
        wide.weight[:3], wide.bias[:3], wide.bias[3] = head.weight, head.bias, 3.0  # type: ignore[union-attr]
    module = nn.Sequential(*list(bars_classifier.module)[:-1], wide)  # type: ignore[call-overload]
    return Classifier(module, num_classes=4, image_shape=(1, 8, 8), mean=0.4, std=0.3, name="bars")


def drawn(count: int = 64, settings: LatentSettings = SETTINGS, seed: int = 0) -> list[Compositions]:
    known = bars(50, 7)[0].mul(255).round().to(torch.uint8)
    return draw_compositions(count, known, settings, seeded(seed, "compositions"))


def inverted(classifier: Classifier, settings: LatentSettings = SETTINGS, **given: Any) -> Generated:
    return invert_latents(classifier, drawn(settings=settings), settings, seeded(0, "latents"), **given)


def escaped(classifier: Classifier, made: Generated) -> float:
    with classifier.inference(), torch.no_grad():
        return float((classifier(made.images).argmax(dim=1) == made.targets).float().mean())


def test_it_leads_out_of_garbage_into_the_class(with_garbage: Classifier) -> None:
    shares = [escaped(with_garbage, inverted(with_garbage, replace(SETTINGS, steps=n))) for n in (0, 10, 200)]
    assert shares[0] < shares[1] < shares[2] and shares[0] < 0.1 and shares[2] > 0.35


def test_targets_can_be_given_and_are_all_classes_otherwise(with_garbage: Classifier) -> None:
    assert set(inverted(with_garbage).targets.tolist()) == {0, 1, 2}
    targets = torch.full((64,), 2)
    assert torch.equal(inverted(with_garbage, targets=targets).targets, targets)


def test_the_network_is_left_as_it_was(with_garbage: Classifier) -> None:
    with_garbage.module.train()
    before = with_garbage.content_hash()
    inverted(with_garbage)
    assert with_garbage.content_hash() == before
    assert all(parameter.grad is None and parameter.requires_grad for parameter in with_garbage.module.parameters())
    assert with_garbage.module.training
    with_garbage.module.eval()


def test_a_seed_decides_everything(with_garbage: Classifier) -> None:
    first, again = inverted(with_garbage), inverted(with_garbage)
    assert torch.equal(first.images, again.images) and torch.equal(first.targets, again.targets)
    other = invert_latents(with_garbage, drawn(), SETTINGS, seeded(1, "latents"))
    assert not torch.equal(first.images, other.images)


def test_no_steps_are_the_compositions_as_drawn(with_garbage: Classifier) -> None:
    settings = replace(SETTINGS, steps=0)
    made = inverted(with_garbage, settings)
    compositions = drawn(settings=settings)
    random = seeded(0, "latents")
    torch.randint(3, (64,), generator=random)  # the targets
    for one, images in zip(compositions, made.images.split([len(one) for one in compositions]), strict=True):
        torch.randint(1, 2, (len(one),), generator=random)  # the steps
        assert torch.equal(images, one.render(one.latents(random)))


def one_by_one(classifier: Classifier, settings: LatentSettings) -> tuple[Tensor, list[int]]:
    """Every image by itself, with torch's Adam, and how many steps each took."""
    random = seeded(0, "latents")
    targets = torch.randint(3, (64,), generator=random)
    images, taken, number = [], [], 0
    with classifier.inference():
        for group in drawn(settings=settings):
            steps = torch.randint(1, settings.steps + 1, (len(group),), generator=random).sort(descending=True).values
            start = group.latents(random)
            for row in range(len(group)):
                moved = Latents(*(part[row : row + 1].clone().requires_grad_() for part in start))
                fields = {k: v[row : row + 1] for k, v in vars(group).items() if isinstance(v, Tensor)}
                own = replace(group, **fields)
                optimiser = torch.optim.Adam(moved, lr=settings.step_size)
                for _ in range(int(steps[row])):
                    logits = classifier(own.render(moved))
                    out = (logits[0, 3] - logits[0, targets[number]]).clamp_min(-8)
                    optimiser.zero_grad()
                    (out + F.cross_entropy(logits[:, :3], targets[number : number + 1])).backward()
                    optimiser.step()
                images.append(own.render(moved).detach())
                taken.append(int(steps[row]))
                number += 1
    return torch.cat(images), taken


def test_each_image_stops_after_its_own_steps_as_if_it_were_alone(with_garbage: Classifier) -> None:
    expected, taken = one_by_one(with_garbage, SETTINGS)
    assert set(taken) == set(range(1, 9))
    torch.testing.assert_close(inverted(with_garbage).images, expected, atol=2e-3, rtol=0)


def test_images_that_have_stopped_pass_the_network_no_more(with_garbage: Classifier) -> None:
    _, taken = one_by_one(with_garbage, SETTINGS)
    passed: list[int] = []

    def noting(logits: Tensor, targets: Tensor) -> Tensor:
        passed.append(len(logits))
        return losses.escape(logits, targets)

    inverted(with_garbage, loss=noting)
    assert passed == [sum(own >= number for own in taken) for number in range(1, 9)]


def test_escape_by_hand() -> None:
    logits = torch.tensor([[1.0, 0.0, 2.0], [0.0, 20.0, 3.0]])
    ln = torch.tensor([1.0, 0.0]).logsumexp(0) - 1
    expected = [2.0 - 1.0 + float(ln), -8.0 + float(torch.tensor([0.0, 20.0]).logsumexp(0)) - 20]
    assert losses.escape(logits, torch.tensor([0, 1])).tolist() == pytest.approx(expected, abs=1e-5)


def test_large_images_and_many_classes() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 7, stride=8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1001)
    )
    classifier = Classifier(module, num_classes=1001, image_shape=(3, 224, 224))
    known = torch.randint(0, 256, (3, 3, 224, 224), dtype=torch.uint8)
    compositions = draw_compositions(9, known, SETTINGS, seeded(0, "compositions"))
    made = invert_latents(classifier, compositions, replace(SETTINGS, steps=2), seeded(0, "latents"))
    assert made.images.shape == (9, 3, 224, 224) and int(made.targets.max()) < 1000
