"""A step up a detector's own score: by finite differences, against ODIN and Mahalanobis, and over what has learned."""

from __future__ import annotations

import pytest
import torch

from oodbench.capture import PassCount
from oodbench.detectors.perturb import Perturb
from oodbench.detectors.spec import build
from oodbench.errors import OodbenchError
from oodbench.example import make_example
from oodbench.live import passes
from oodbench.outputs import Needs


@pytest.mark.parametrize("base", ["energy", "mahalanobis(shrinkage=0.01)", "knn(k=5)", "vim", "mahalanobis_layers"])
def test_moves_up_the_slope_of_its_own_score(base: str) -> None:
    example = make_example(precision=torch.float64)
    images = example.id_images[:3]
    fitted = example.fitted(build(base))
    (live,) = list(example.passes(images, fitted.needs | Needs("images")))

    def scored(pixels: torch.Tensor) -> torch.Tensor:
        return torch.cat([fitted(one) for one in passes(example.classifier, [pixels], fitted.needs)])

    direction, small = torch.zeros_like(live.images), 1e-6
    for place in ((0, 3, 4), (1, 8, 8), (2, 15, 0)):
        one = torch.zeros_like(live.images)
        one[:, *place] = small
        slope = (scored(live.images + one) - scored(live.images - one)) / (2 * small)
        assert slope.abs().min() > 1e-6, "else its sign says nothing"
        direction[:, *place] = slope.sign()
    for live in example.passes(images, fitted.needs | Needs("gradient", "images")):
        moved = []
        real = live.forward
        live.forward = lambda images, real=real, moved=moved: moved.append(images) or real(images)  # type: ignore
        found = example.fitted(Perturb(base=base, epsilon=0.01))(live)  # type: ignore[arg-type]
        step = (moved[0] - live.images) / 0.01
        torch.testing.assert_close(step[direction != 0], direction[direction != 0], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(found, scored(moved[0]), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_over_msp_it_is_odin_at_temperature_one(norm: str) -> None:
    # The slope of log(p/(1 − p)) is that of −CE = log p over 1 − p: it has the same direction.
    example = make_example(precision=torch.float64)
    ours = example.fitted(build(f"perturb(base=msp,epsilon=0.01,norm={norm})"))
    odin = build(f"odin(temperature=1,epsilon=0.01,norm={norm})")
    found, expected = (example.scores(one, example.id_images) for one in (ours, odin))
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)


def test_without_a_step_it_is_its_base_and_costs_nothing() -> None:
    example = make_example()
    ours, base = (example.fitted(build(one)) for one in ("perturb(epsilon=0)", "mahalanobis"))
    assert ours.needs == base.needs
    assert torch.equal(example.scores(ours, example.all_images), example.scores(base, example.all_images))


def test_bases_that_learned_otherwise_share_no_gradient() -> None:
    example = make_example()
    alone = [example.fitted(Perturb(base="knn(k=3)"), stop) for stop in (None, 60)]  # type: ignore[arg-type]
    expected = [example.scores(one, example.id_images) for one in alone]
    assert alone[0] == alone[1] and not torch.equal(*expected)
    for live in example.passes(example.id_images, alone[0].needs, 40):
        assert torch.equal(alone[0](live), expected[0]) and torch.equal(alone[1](live), expected[1])


def test_on_an_edited_network_gradient_and_pass_are_of_it() -> None:
    example, count = make_example(), PassCount()
    react = example.fitted(build("react(base=perturb(base=energy,epsilon=0.01),percentile=60)"))
    inside = example.fitted(build("perturb(base=react(percentile=60),epsilon=0.01)"))
    for live in passes(example.classifier, [example.all_images], react.needs | inside.needs, count):
        torch.testing.assert_close(react(live), inside(live), rtol=1e-4, atol=1e-4)


def test_what_it_costs() -> None:
    example, count = make_example(), PassCount()
    fitted = example.fitted(build("perturb"))
    for live in passes(example.classifier, [example.id_images], fitted.needs, count):
        fitted(live)
    assert count == PassCount(forward=40, gradient=40, further=40)


@pytest.mark.parametrize("base", ["odin", "mcd", "random", "rankfeat", "tta", "perturb"])
def test_refuses_what_passes_images_itself(base: str) -> None:
    with pytest.raises(OodbenchError, match=f"perturb cannot read through {base}, which passes images again itself"):
        build(f"perturb(base={base})")
