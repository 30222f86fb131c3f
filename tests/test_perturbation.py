"""Steps: hand cases, energy, invariances, and the step that ODIN makes against finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from oodbench.errors import OodbenchError
from oodbench.example import make_example
from oodbench.live import passes
from oodbench.outputs import Needs
from oodbench.perturbation import step
from tests.threads import one_thread as one_thread

NORMS = ("linf", "l2", "l1")
HAND = torch.tensor([[3.0, -4.0, 0.0, 12.0]]).view(1, 1, 2, 2)


def drawn(seed: int, count: int = 5, side: int = 4) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def test_linf_is_the_sign() -> None:
    assert step(HAND, "linf").flatten().tolist() == [1, -1, 0, 1]


def test_linf_of_the_authors_moves_where_the_gradient_is_zero() -> None:
    assert step(HAND, "linf", sign_of_zero=1).flatten().tolist() == [1, -1, 1, 1]
    assert step(torch.tensor([[-0.0]]), "linf", sign_of_zero=1).item() == 1  # torch.ge(-0.0, 0) is true


def test_l2_is_the_scaled_gradient() -> None:
    # ‖(3, −4, 0, 12)‖ = 13 and √d = 2.
    torch.testing.assert_close(step(HAND, "l2").flatten(), torch.tensor([6 / 13, -8 / 13, 0, 24 / 13]))


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [(0.25, [0, 0, 0, 2]), (0.26, [0, -math.sqrt(2), 0, math.sqrt(2)]), (1e-6, [0, 0, 0, 2]), (1.0, [1, -1, 0, 1])],
)
def test_l1_moves_the_largest(fraction: float, expected: list[float]) -> None:
    torch.testing.assert_close(step(HAND, "l1", fraction).flatten(), torch.tensor(expected, dtype=torch.float32))


@pytest.mark.parametrize(("fraction", "d", "k"), [(0.1, 3072, 308), (0.07, 100, 7), (0.1, 30, 3), (0.5, 3, 2)])
def test_l1_moves_exactly_the_share_rounded_up(fraction: float, d: int, k: int) -> None:
    gradient = torch.randn(3, d, 1, 1, generator=torch.Generator().manual_seed(0))
    moved = step(gradient, "l1", fraction).flatten(1)
    assert (moved != 0).sum(dim=1).tolist() == [k] * 3
    least_moved = gradient.flatten(1).abs()[moved != 0].view(3, k).amin(dim=1)
    assert (gradient.flatten(1).abs() > least_moved[:, None]).sum(dim=1).tolist() == [k - 1] * 3


@given(norm=st.sampled_from(NORMS), seed=st.integers(0, 99), exponent=st.floats(-30, 30))
def test_one_epsilon_is_one_energy_in_every_norm_at_every_scale(norm: str, seed: int, exponent: float) -> None:
    moved = step(drawn(seed) * 10.0**exponent, norm)  # type: ignore[arg-type]
    torch.testing.assert_close(moved.flatten(1).norm(dim=1), torch.full((5,), math.sqrt(48)))
    torch.testing.assert_close(moved, step(drawn(seed), norm), rtol=1e-4, atol=1e-5)  # type: ignore[arg-type]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_gradient_no_step_and_the_neighbours_move(norm: str, dtype: torch.dtype) -> None:
    gradient = drawn(0).to(dtype)
    gradient[2] = 0
    moved = step(gradient, norm)  # type: ignore[arg-type]
    assert moved.dtype == dtype and moved.isfinite().all()
    assert (moved[2] == 0).all() and (moved[[0, 1, 3, 4]].flatten(1).norm(dim=1) > 1).all()


@pytest.mark.parametrize("norm", NORMS)
def test_the_least_float32_gradient_survives(norm: str) -> None:
    gradient = torch.zeros(1, 1, 2, 2)
    gradient[0, 0, 0, 1] = -1e-45
    moved = step(gradient, norm)  # type: ignore[arg-type]
    assert moved[0, 0, 0, 1] < 0 and moved.count_nonzero() == 1


@given(norm=st.sampled_from(NORMS), seed=st.integers(0, 99))
def test_an_image_moves_alike_in_any_batch(norm: str, seed: int) -> None:
    gradient = drawn(seed).round(decimals=1)  # with ties, which an unstable sort would break by batch
    for index in range(5):
        assert torch.equal(step(gradient, norm)[index], step(gradient[index : index + 1], norm)[0])  # type: ignore[arg-type]


def test_unknown_norm_is_named() -> None:
    with pytest.raises(OodbenchError, match=r"no norm 'l3'.*linf, l2, l1"):
        step(HAND, "l3")  # type: ignore[arg-type]


@pytest.mark.parametrize("temperature", [1.0, 1000.0])
def test_odins_step_is_against_finite_differences_of_the_cross_entropy(temperature: float) -> None:
    example = make_example(precision=torch.float64)
    classifier, images = example.classifier, example.id_images[:3]
    (live,) = passes(classifier, [images], Needs("logits", "gradient"))
    gradient = live.input_gradient(temperature)
    pixels, delta = images.double() / 255, 1e-6
    top = live.logits.argmax(dim=1)

    def loss(inputs: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(classifier(inputs) / temperature, top, reduction="none")

    with classifier.inference(), torch.no_grad():
        for channel, row, column in ((0, 3, 3), (1, 8, 0), (2, 15, 15), (0, 7, 12)):
            moved = torch.zeros_like(pixels)
            moved[:, channel, row, column] = delta
            slope = (loss(pixels + moved) - loss(pixels - moved)) / (2 * delta)
            found = gradient[:, channel, row, column]
            torch.testing.assert_close(found, slope, rtol=1e-4, atol=1e-9 / temperature)
            assert (slope.abs() > 1e-7 / temperature).all(), "too small for its sign to be tested"
            assert torch.equal(-0.01 * step(gradient, "linf")[:, channel, row, column], -0.01 * slope.sign())
