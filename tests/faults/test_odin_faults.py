"""One test for each silent fault of ODIN that was found in another suite: none of them may live here.

31 (ε picked on the OOD test set) is to come with tuning.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from oodbench.classifier import Classifier
from oodbench.detectors.odin import Odin
from oodbench.detectors.softmax import Msp
from oodbench.example import Example, make_example
from oodbench.live import Live, passes
from oodbench.outputs import Needs
from tests.threads import one_thread as one_thread

GRADIENT = Needs("logits", "gradient")


def scores(detector: Odin | Msp, example: Example, batch_size: int = 64) -> Tensor:
    return example.scores(detector, example.all_images, batch_size)


@contextmanager
def pixels_that_enter(classifier: Classifier) -> Iterator[list[Tensor]]:
    """The images of each forward pass, in units of [0, 1]."""
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (classifier.mean, classifier.std))
    seen: list[Tensor] = []

    def look(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0].detach() * std + mean)

    hook = classifier.module.register_forward_pre_hook(look)
    yield seen
    hook.remove()


def moved_pixels(classifier: Classifier, images: Tensor, **options: Any) -> Tensor:
    """What a perturbation at T = 1000 and ε = 0.05 adds to the pixels."""
    with pixels_that_enter(classifier) as seen:
        for live in passes(classifier, [images], GRADIENT):
            live.perturbed(1000.0, 0.05, **options)
    before, after = seen
    return (after - before)[: len(images)]


def test_fault_26_the_temperature_does_nothing() -> None:
    """pytorch-ood 0.2 returned the softmax without T, and took the gradient of a loss in which T cancels."""
    example = make_example()
    for epsilon in (0.0, 0.01):
        cold, hot = (scores(Odin(temperature, epsilon), example) for temperature in (1.0, 1000.0))
        assert (cold != hot).all()
        assert not torch.equal(cold.argsort(), hot.argsort())
    assert torch.equal(scores(Odin(temperature=1.0, epsilon=0.0), example), scores(Msp(), example))


def test_fault_26_the_temperature_turns_steps() -> None:
    """The sign of the gradient of CE(z/T) depends on T: a loss in which T only scales would move the same way."""
    (live,) = passes(make_example().classifier, [make_example().ood_images], GRADIENT)
    turned = live.input_gradient(1.0).sign() != live.input_gradient(1000.0).sign()
    assert 0.01 < turned.double().mean() < 0.9


@pytest.mark.parametrize(("mean", "std"), [((0.5, 0.45, 0.4), (0.25, 0.2, 0.3)), (0.0, 1.0)])
def test_fault_28_the_step_is_scaled_by_another_std(mean: Any, std: Any) -> None:
    """OpenOOD divided by the std of a data set's name, 0.5 if it knew none: ε was another one in every channel."""
    example = make_example()
    classifier = Classifier(example.classifier.module, num_classes=4, image_shape=(3, 16, 16), mean=mean, std=std)
    moved = moved_pixels(classifier, example.ood_images)
    for channel in range(3):
        size = moved[:, channel].abs()
        assert size.max() == pytest.approx(0.05, abs=1e-5)
        assert ((size - 0.05).abs() < 1e-5).logical_or(size < 1e-6).all()


class _SeesTheLeftHalf(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3 * 4 * 2, 2)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(images[..., :2].flatten(1))
        return logits


def test_fault_29_sign_of_zero() -> None:
    """+1 in the code of ODIN's authors and OpenOOD, 0 in others: preset paper leaves such pixels, paper-code moves."""
    torch.manual_seed(0)
    half = Classifier(_SeesTheLeftHalf(), num_classes=2, image_shape=(3, 4, 4))
    images = torch.full((5, 3, 4, 4), 128, dtype=torch.uint8)
    paper, code = (moved_pixels(half, images, sign_of_zero=sign) for sign in (0, 1))
    assert (paper[..., 2:] == 0).all()
    torch.testing.assert_close(code[..., 2:], torch.full_like(code[..., 2:], -0.05))
    assert torch.equal(paper[..., :2], code[..., :2]) and (paper[..., :2].abs() > 0.04).all()
    for norm in ("l2", "l1"):
        assert (moved_pixels(half, images, norm=norm)[..., 2:] == 0).all()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("batch_size", [1, 7])
def test_fault_30_a_step_that_depends_on_the_batch(norm: Any, batch_size: int) -> None:
    """OpenOOD's loss is a mean over the batch: a sign hides it, an L2 or L1 step with an epsilon below it does not."""
    classifier, images = make_example().classifier, make_example().ood_images[:21]
    whole = moved_pixels(classifier, images, norm=norm)
    parts = torch.cat([moved_pixels(classifier, batch, norm=norm) for batch in images.split(batch_size)])
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-6)


def test_fault_30_the_gradient_of_an_image_is_its_own() -> None:
    example = make_example(precision=torch.float64)
    (whole,) = passes(example.classifier, [example.ood_images], GRADIENT)
    alone: Live
    (alone,) = passes(example.classifier, [example.ood_images[3:4]], GRADIENT)
    torch.testing.assert_close(alone.input_gradient(1000.0)[0], whole.input_gradient(1000.0)[3], rtol=1e-9, atol=0)


@pytest.mark.parametrize("detector", [Msp(), Odin(), Odin(norm="l2")])
def test_fault_32_nothing_calls_eval(detector: Odin | Msp) -> None:
    """ODIN's code scored batch norm in train mode; pytorch-ood gave AUROC 0.485, 0.472 and 0.612 by batch size."""
    example = make_example()
    example.classifier.module.eval()
    expected = scores(detector, example)
    example.classifier.module.train()
    for batch_size in (1, 7, 64):
        torch.testing.assert_close(scores(detector, example, batch_size), expected, rtol=1e-5, atol=1e-6)
    assert example.classifier.module.training, "and the user's mode is kept"
