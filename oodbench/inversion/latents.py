"""Network inversion without a generator: the latents of drawn compositions are moved until the network takes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from oodbench.classifier import Classifier
from oodbench.inversion import losses
from oodbench.inversion.compositions import Compositions, Latents
from oodbench.inversion.invert import Generated
from oodbench.inversion.settings import LatentSettings
from oodbench.transfer import sent


def invert_latents(
    classifier: Classifier,
    drawn: Sequence[Compositions],
    settings: LatentSettings,
    random: torch.Generator,
    targets: Tensor | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] = losses.escape,
) -> Generated:
    """Images that a classifier with a garbage class, its last output, takes for one of its other classes, or nearly.

    Each image is moved by a number of steps of its own, from 1 to `settings.steps`, and then stays: some are hardly
    changed, others all but a class. With 0 steps images are the compositions as drawn. No image depends on another.

    Args:
        classifier: of K+1 outputs; in eval mode and its weights frozen meanwhile, afterwards as before.
        drawn: on the classifier's device.
        targets: int64, the class that each image should get; by default drawn, all K equally likely.
        loss: of (logits, targets), N; by default that of a classifier with a garbage class.
    """
    count = sum(map(len, drawn))
    if targets is None:
        targets = torch.randint(classifier.num_classes - 1, (count,), generator=random)
    sizes = [len(one) for one in drawn]
    groups = [
        _Group(one, classes, settings, random)
        for one, classes in zip(drawn, sent(targets, classifier.device).split(sizes), strict=True)
    ]
    with classifier.inference():
        for number in range(1, settings.steps + 1):
            going = [(group, left) for group in groups if (left := int((group.steps >= number).sum()))]
            if not going:
                break
            latents = [group.latents(left) for group, left in going]
            images = [
                group.drawn.first(left).render(moved) for (group, left), moved in zip(going, latents, strict=True)
            ]
            classes = torch.cat([group.targets[:left] for group, left in going])
            total = loss(classifier(torch.cat(images)), classes).sum()
            flat = [latent for moved in latents for latent in moved]
            gradients = torch.autograd.grad(total, flat, materialize_grads=True)
            moving = [adam for group, _ in going for adam in group.moving]
            for adam, gradient in zip(moving, gradients, strict=True):
                adam.step(gradient, number)
    with torch.no_grad():
        return Generated(torch.cat([group.drawn.render(group.latents(len(group.drawn))) for group in groups]), targets)


class _Group:
    """Images of one kind on their way. Those that go on are always the first, so that the others pass no network."""

    def __init__(self, drawn: Compositions, targets: Tensor, settings: LatentSettings, random: torch.Generator) -> None:
        self.drawn, self.targets = drawn, targets
        steps = torch.randint(1, max(settings.steps, 1) + 1, (len(drawn),), generator=random)
        self.steps = steps.sort(descending=True).values
        self.moving = [_Adam(latent, settings.step_size) for latent in drawn.latents(random)]

    def latents(self, count: int) -> Latents:
        """Of the first images, to take gradients with respect to."""
        return Latents(*(adam.values[:count].clone().requires_grad_() for adam in self.moving))


class _Adam:
    """Adam (Kingma & Ba 2014, arXiv 1412.6980) of rows of which fewer and fewer, the first, are moved."""

    def __init__(self, values: Tensor, learning_rate: float) -> None:
        self.values, self.learning_rate = values, learning_rate
        self.mean, self.square = torch.zeros_like(values), torch.zeros_like(values)

    def step(self, gradient: Tensor, number: int) -> None:
        """Move as many rows as there are gradients; steps are numbered from 1."""
        rows = len(gradient)
        mean = self.mean[:rows].lerp_(gradient, 0.1) / (1 - 0.9**number)
        square = self.square[:rows].lerp_(gradient.square(), 0.001) / (1 - 0.999**number)
        self.values[:rows] -= self.learning_rate * mean / (square.sqrt() + 1e-8)
