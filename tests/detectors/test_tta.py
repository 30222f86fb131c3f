"""Test-time augmentation: its views are those of the image, drawn by its pixels, and passed once each."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from oodbench.capture import PassCount
from oodbench.detectors.ensemble import MEASURES, agreement
from oodbench.detectors.softmax import Msp
from oodbench.detectors.tta import TestTimeAugmentation as Tta
from oodbench.example import make_example
from oodbench.live import Live, passes
from oodbench.outputs import Needs, Outputs


def seen(detector: Tta, images: Tensor) -> list[Tensor]:
    """The views that the network is shown."""
    example, shown = make_example(precision=torch.float64), []
    for live in example.passes(images, detector.needs, len(images)):
        real = live.forward

        def forward(images: Tensor | None = None, *, dropout: int | None = None, real: object = real) -> Outputs:
            assert images is not None
            shown.append(images)
            return real(images)  # type: ignore[operator, no-any-return]

        live.forward = forward  # type: ignore[method-assign]
        detector(live)
    return shown


def test_views_are_cut_out_of_the_mirrored_image() -> None:
    images = make_example().id_images[:6]
    views = seen(Tta(views=40, shift=0.25), images)
    assert len(views) == 40
    padded = torch.nn.functional.pad(images.double() / 255, (4, 4, 4, 4), mode="reflect")
    found = set()
    for view in views:
        for number in range(6):
            cuts = {
                (top, left, flip): padded[number, :, top : top + 16, left : left + 16].flip([2] if flip else [])
                for top in range(9)
                for left in range(9)
                for flip in (False, True)
            }
            (place,) = [where for where, cut in cuts.items() if torch.equal(cut, view[number])]
            found.add(place)
    assert {top for top, _, _ in found} == {left for _, left, _ in found} == set(range(9))
    assert {flip for *_, flip in found} == {False, True}


def test_without_shift_and_flip_every_view_is_the_image() -> None:
    example = make_example(precision=torch.float64)
    assert all(
        torch.equal(view, example.id_images.double() / 255)
        for view in seen(Tta(shift=0, flip=False), example.id_images)
    )
    found = example.scores(Tta(shift=0, flip=False), example.id_images)
    torch.testing.assert_close(found, example.scores(Msp(), example.id_images), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("measure", MEASURES)
def test_is_the_agreement_of_the_image_and_its_views(measure: str) -> None:
    example = make_example(precision=torch.float64)
    detector, images = Tta(views=3, measure=measure), example.all_images
    stack = torch.stack(
        [torch.cat([one.logits for one in _passed(view)]) for view in (images.double() / 255, *seen(detector, images))]
    )
    found = example.scores(detector, images)
    torch.testing.assert_close(found, agreement(stack, measure), rtol=1e-9, atol=1e-9)


def _passed(pixels: Tensor) -> list[Live]:
    return list(make_example(precision=torch.float64).passes(pixels, Needs("logits"), len(pixels)))


def test_an_image_has_the_same_views_alone_and_beside_others() -> None:
    images = make_example().id_images[:5]
    together, alone = seen(Tta(), images), [seen(Tta(), image[None]) for image in images]
    for number in range(5):
        assert all(torch.equal(view[number], own[0]) for view, own in zip(together, alone[number], strict=True))
    assert not torch.equal(together[0], seen(Tta(seed=1), images)[0])


def test_costs_a_pass_a_view() -> None:
    example, count = make_example(), PassCount()
    for live in passes(example.classifier, [example.id_images], Tta().needs, count):
        Tta()(live)
    assert count == PassCount(forward=40, further=8 * 40)
