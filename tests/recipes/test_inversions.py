"""What joins the garbage class: as many images as asked for, by both ways, and how they are altered."""

from __future__ import annotations

import pytest
import torch

from oodbench.classifier import Classifier
from oodbench.inversion.conditioning import seeded
from oodbench.parameters import changed
from oodbench.recipes import inversions
from oodbench.recipes.inversions import altered, invert_for_garbage
from oodbench.recipes.settings import GarbageSettings

KNOWN = torch.randint(0, 256, (30, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("by", ["latents", "generator"])
@pytest.mark.parametrize("start", ["compositions", "noise"])
@pytest.mark.parametrize("count", [1, 50])
def test_as_many_as_asked_for(small_classifier: Classifier, by: str, start: str, count: int) -> None:
    settings = changed(GarbageSettings(), {"by": by, "start": start, "images": count, "steps": 2})
    first, again = (invert_for_garbage(small_classifier, KNOWN, settings, seeded(0, "test")) for _ in range(2))
    assert first.shape == (count, 1, 8, 8) and first.dtype == torch.uint8
    # A generator's first weights are drawn from the global numbers, which a training seeds.
    assert by == "generator" or torch.equal(first, again)


def test_a_generators_images_are_taken_while_it_learns(
    small_classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    original = inversions.generate

    def noting(generator: object, count: int, seed: int) -> object:
        taken.append(count)
        return original(generator, count, seed)  # type: ignore[arg-type]

    monkeypatch.setattr(inversions, "generate", noting)
    settings = changed(GarbageSettings(), {"by": "generator", "images": 50})
    invert_for_garbage(small_classifier, KNOWN, settings, seeded(0, "test"))
    assert taken == [12, 12, 13, 13]


def test_alterations_are_as_often_as_stated_and_nothing_else() -> None:
    image = torch.tensor([[[10, 20], [40, 80]], [[10, 20], [40, 80]], [[10, 20], [40, 80]]], dtype=torch.uint8)
    image[2] += 5
    torch.manual_seed(0)
    made = altered(image.expand(20_000, -1, -1, -1))
    assert made.dtype == torch.uint8 and made.shape == (20_000, 3, 2, 2)

    def share(wanted: torch.Tensor) -> float:
        return float((made == wanted).flatten(1).all(dim=1).float().mean())

    # Not negative, not lit otherwise and not grey: 0.75 · 0.75 · 0.8, of which half and a quarter are turned over.
    left = 0.75 * 0.75 * 0.8
    for wanted, turned in (
        (image, 0.5 * 0.75),
        (image.flip(2), 0.5 * 0.75),
        (image.flip(1), 0.5 * 0.25),
        (image.flip(1, 2), 0.5 * 0.25),
    ):
        assert share(wanted) == pytest.approx(left * turned, abs=0.015)
    assert share(255 - image) == pytest.approx(0.25 * 0.75 * 0.8 * 0.5 * 0.75, abs=0.01)
    grey = (made[:, 0] == made[:, 2]).flatten(1).all(dim=1) & (made[:, 0] > 0).flatten(1).all(dim=1)
    assert 0.18 < float(grey.float().mean()) < 0.3
