"""Inversion without a generator: images, each a sum of latents of several scales, are moved together, batch by batch.

Of each batch the statistics are brought to those that the network's BatchNorm layers remember of its training images:
the idea of Yin et al. (DeepInversion, arXiv 1912.08795) on images that are smooth by construction.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from oodbench.classifier import Classifier
from oodbench.errors import OodbenchError
from oodbench.inversion import losses
from oodbench.inversion.conditioning import seeded
from oodbench.inversion.invert import Generated
from oodbench.inversion.live import Passes, live_features
from oodbench.inversion.settings import PyramidSettings
from oodbench.progress import Reporter
from oodbench.transfer import sent

COARSEST = 4
"""The fewest latents along a side."""

FINE = 16
"""Images with fewer pixels along a side have a latent for each."""

EDGE = 8.0
"""How fast the frame turns black."""

SPREAD = 0.2
"""Of the frame's half-widths, as the deviation of their logarithm; half of it is that of the middle."""


def invert_pyramids(
    classifier: Classifier, settings: PyramidSettings, device: torch.device | str, reporter: Reporter
) -> Generated:
    """Images that a classifier puts into its classes, in the order 0 … K−1, 0 …, their pixels rounded to 8 bits.

    The images of a batch depend on each other, since the losses compare them; batches do not.

    Args:
        classifier: moved to the device; in eval mode and its weights frozen meanwhile, afterwards as before.

    Raises:
        OodbenchError: fewer images than classes are asked for, the classifier's penultimate features are not known, or
            the loss is no longer finite.
    """
    if settings.images < classifier.num_classes:
        raise OodbenchError(
            f"{classifier.name} has {classifier.num_classes} classes; ask for as many images at least, not "
            f"{settings.images}"
        )
    classifier.to(device)
    random = seeded(settings.seed, "pyramids")
    # The classes go on from batch to batch, so that all have about as many images.
    targets = sent(torch.arange(settings.images) % classifier.num_classes, torch.device(device))
    batches = _batches(targets, settings.batch_size)
    made = []
    with live_features(classifier, statistics=settings.statistics > 0) as passes:
        for classes in reporter.track(batches, "inversion", len(batches)):
            images, loss = _moved(passes, tuple(classifier.image_shape), classes, settings, random)
            made.append(images)
            reporter.say(f"{sum(map(len, made))} of {len(targets)} images: loss {loss:.3f}")
    return Generated(torch.cat(made), targets)


class Pyramid(NamedTuple):
    """What is moved of N images, all N(0, 1) at first.

    Attributes:
        figure: of each scale, coarse to fine, N×1×h×w: where there is something.
        texture: the same, N×C×h×w: how light it is.
        frame: N×4, see `frame`.
    """

    figure: list[Tensor]
    texture: list[Tensor]
    frame: Tensor

    def render(self, side: tuple[int, int], settings: PyramidSettings) -> Tensor:
        """Images, N×C×H×W in [0, 1]: a figure on black, σ(contrast · Σ figure + offset), times its texture, which is
        σ(texture · Σ texture + lightness), times the frame."""
        figure = torch.sigmoid(settings.contrast * _enlarged(self.figure, side) + settings.offset)
        texture = torch.sigmoid(settings.texture * _enlarged(self.texture, side) + settings.lightness)
        return figure * texture * (frame(self.frame, side, settings.frame) if settings.frame else 1)


def _enlarged(scales: list[Tensor], side: tuple[int, int]) -> Tensor:
    """Their sum, each brought up bicubically."""
    parts = [F.interpolate(one, side, mode="bicubic", align_corners=False) for one in scales]
    return torch.stack(parts).sum(dim=0)


def frame(latents: Tensor, side: tuple[int, int], width: float) -> Tensor:
    """N×1×H×W in [0, 1]: 1 inside the superellipse |(x − a)/u|⁴ + |(y − b)/v|⁴ = 1, 0 outside, softly; x, y in [−1, 1].

    Args:
        latents: N×4, of the half-widths u and v, near `width`, and of the middle a and b, near 0.
    """
    u, v = (width * (SPREAD * latents[:, number]).exp()[:, None] for number in (0, 1))
    a, b = (SPREAD * latents[:, number, None] / 2 for number in (2, 3))
    across, down = (torch.linspace(-1, 1, length, device=latents.device) for length in (side[1], side[0]))
    outside = ((down - b) / v)[:, :, None] ** 4 + ((across - a) / u)[:, None, :] ** 4
    return torch.sigmoid(EDGE * (1 - outside))[:, None]


def sides(image: tuple[int, int]) -> list[tuple[int, int]]:
    """(height, width) of the scales, coarse to fine: halved, rounding up, from half of the image, or from the whole of
    one that has fewer than FINE pixels along a side."""
    made = [image if min(image) < FINE else _half(image)]
    while max(made[0]) > COARSEST:
        made.insert(0, _half(made[0]))
    return made


def _half(side: tuple[int, int]) -> tuple[int, int]:
    return -(-side[0] // 2), -(-side[1] // 2)


def _batches(targets: Tensor, size: int) -> list[Tensor]:
    """Batches of nearly equal size, so that none is too small to have statistics."""
    return list(targets.tensor_split(-(-len(targets) // size)))


def _moved(
    passes: Passes, shape: tuple[int, ...], targets: Tensor, settings: PyramidSettings, random: torch.Generator
) -> tuple[Tensor, float]:
    """One batch of images, and the loss of the last step."""
    channels, side = shape[0], (shape[1], shape[2])
    grids = sides(side)
    shapes = [*((1, *grid) for grid in grids), *((channels, *grid) for grid in grids), (4,)]
    moved = [sent(torch.randn(len(targets), *one, generator=random), targets.device).requires_grad_() for one in shapes]
    pyramid = Pyramid(moved[: len(grids)], moved[len(grids) : -1], moved[-1])
    optimiser = torch.optim.Adam(moved, settings.step_size)
    # At full speed for the first half, then slower and slower.
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min(1, 2 * (1 - step / settings.steps)))
    for _ in range(settings.steps):
        loss = _loss(passes, pyramid.render(side, settings), targets, settings, random)
        if not bool(loss.isfinite()):
            raise OodbenchError(
                f"the inversion's loss is no longer finite; lower the step size, now {settings.step_size}, or the "
                f"loss weights"
            )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        return pyramid.render(side, settings).mul(255).round() / 255, float(loss.detach())


def _loss(
    passes: Passes, images: Tensor, targets: Tensor, settings: PyramidSettings, random: torch.Generator
) -> Tensor:
    if settings.shift:
        by = torch.randint(-settings.shift, settings.shift + 1, (2,), generator=random).tolist()
        images = images.roll(by, dims=(2, 3))
    made = passes(images)
    terms = {
        "cross_entropy": lambda: losses.cross_entropy(made.logits, targets, 0.0),
        "statistics": lambda: made.statistics,
        "within_class": lambda: losses.within_class(made.features, targets),
        "image_cosine": lambda: losses.image_cosine(images),
        "total_variation": lambda: losses.total_variation(images),
        "gradient": lambda: losses.head_gradient(made.logits, made.features, targets),
    }
    return torch.stack([weight * term() for name, term in terms.items() if (weight := getattr(settings, name))]).sum()
