"""The losses: hand values, naive formulas, gradients, invariances, and the faults of public code, planted."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from oodbench.errors import OodbenchError
from oodbench.inversion import losses
from oodbench.inversion.settings import LOSSES, LossWeights

seeds = st.integers(0, 999)


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# p = (3/4, 1/4) for both, so that every value below can be worked out by hand.
LOGITS = torch.tensor([[math.log(3), 0.0], [5 + math.log(3), 5.0]], dtype=torch.float64)


def test_cross_entropy_by_hand() -> None:
    targets = torch.tensor([0, 1])
    assert losses.cross_entropy(LOGITS, targets, 0).item() == pytest.approx((math.log(4 / 3) + math.log(4)) / 2)
    # s = 0.2 and K = 2: ỹ = (0.9, 0.1) for class 0.
    smoothed = 0.9 * math.log(4 / 3) + 0.1 * math.log(4)
    assert losses.cross_entropy(LOGITS[:1], targets[:1], 0.2).item() == pytest.approx(smoothed)
    assert losses.cross_entropy(torch.zeros(3, 8), torch.tensor([0, 1, 2]), 0.7).item() == pytest.approx(math.log(8))


@given(seed=seeds, smoothing=st.floats(0, 1))
def test_cross_entropy_is_its_formula(seed: int, smoothing: float) -> None:
    logits, targets = random(seed, 5, 4), torch.arange(5) % 4
    smoothed = (1 - smoothing) * F.one_hot(targets, 4) + smoothing / 4
    expected = -(smoothed * logits.softmax(1).log()).sum() / 5
    torch.testing.assert_close(losses.cross_entropy(logits, targets, smoothing), expected)


def test_kl_by_hand() -> None:
    conditioning = torch.tensor([[0.5, 0.5], [1.0, 0.0]], dtype=torch.float64)
    first = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert losses.kl_divergence(LOGITS, conditioning).item() == pytest.approx((first + math.log(4 / 3)) / 2)


@given(seed=seeds)
def test_kl_is_zero_at_the_conditioning_alone_and_its_gradient_is_p_minus_c(seed: int) -> None:
    conditioning = random(seed, 6, 5).softmax(dim=1)
    assert losses.kl_divergence(conditioning.log() + 3, conditioning).item() == pytest.approx(0, abs=1e-12)
    logits = random(seed + 1, 6, 5).requires_grad_()
    loss = losses.kl_divergence(logits, conditioning)
    loss.backward()
    assert loss.item() > 0 and logits.grad is not None
    torch.testing.assert_close(logits.grad, (logits.detach().softmax(dim=1) - conditioning) / 6)


FAULTY_KL: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "double softmax": lambda z, c: F.kl_div(z.softmax(1).log_softmax(1), c, reduction="batchmean"),
    "direction swapped": lambda z, c: F.kl_div(c.log(), z.softmax(1), reduction="batchmean"),
    "mean over K·N": lambda z, c: (c * (c.log() - z.log_softmax(1))).mean(),
}


@pytest.mark.parametrize("fault", FAULTY_KL)
def test_planted_faults_of_the_kl_loss_are_noticed(fault: str) -> None:
    conditioning = torch.tensor([[0.9, 0.1], [0.2, 0.8]], dtype=torch.float64)
    expected = sum(c * math.log(c / p) for row in conditioning.tolist() for c, p in zip(row, (0.75, 0.25), strict=True))
    assert losses.kl_divergence(LOGITS, conditioning).item() == pytest.approx(expected / 2)
    assert FAULTY_KL[fault](LOGITS, conditioning).item() != pytest.approx(expected / 2, rel=0.05)


def naive_cosine(features: Tensor) -> float:
    pairs = [
        F.cosine_similarity(a, b, dim=0).item()
        for i, a in enumerate(features)
        for j, b in enumerate(features)
        if i != j
    ]
    return sum(pairs) / len(pairs)


@given(seed=seeds, count=st.integers(2, 9), width=st.integers(1, 9))
def test_cosine_is_the_mean_over_pairs_of_different_images(seed: int, count: int, width: int) -> None:
    features = random(seed, count, width)
    assert losses.cosine(features).item() == pytest.approx(naive_cosine(features), abs=1e-12)


def test_cosine_by_hand() -> None:
    assert losses.cosine(torch.tensor([[1.0, 0.0], [0.0, 2.0]])).item() == 0
    assert losses.cosine(torch.tensor([[3.0, 4.0], [6.0, 8.0]])).item() == pytest.approx(1)
    # cos = 1, −1, −1 over the three pairs.
    assert losses.cosine(torch.tensor([[1.0], [1.0], [-1.0]])).item() == pytest.approx(-1 / 3)
    assert losses.cosine(torch.tensor([[0.0, 0.0], [1.0, 0.0]])).item() == 0


def test_planted_faults_of_the_cosine_loss_are_noticed() -> None:
    features = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    unit = F.normalize(features)
    gram = unit @ unit.T
    assert losses.cosine(features).item() == pytest.approx(-1 / 3)
    absolute = (gram.abs().sum() - 3) / 6
    with_diagonal = gram.sum() / 9
    assert absolute.item() == pytest.approx(1 / 3) and with_diagonal.item() == pytest.approx(1 / 9)


def naive_orthogonality(features: Tensor) -> float:
    unit = [row / row.norm() for row in features]
    errors = [(float(a @ b) - (i == j)) ** 2 for i, a in enumerate(unit) for j, b in enumerate(unit)]
    return sum(errors) / len(unit) ** 2


@given(seed=seeds, count=st.integers(1, 9), width=st.integers(1, 9))
def test_orthogonality_is_its_formula_whichever_matrix_is_smaller(seed: int, count: int, width: int) -> None:
    features = random(seed, count, width)
    assert losses.orthogonality(features).item() == pytest.approx(naive_orthogonality(features), abs=1e-12)


def test_orthogonality_by_hand() -> None:
    assert losses.orthogonality(7 * torch.eye(4)).item() == pytest.approx(0, abs=1e-7)
    assert losses.orthogonality(torch.ones(4, 3)).item() == pytest.approx((16 - 4) / 16)
    assert losses.orthogonality(torch.tensor([[1.0, 0.0], [1.0, 1.0]])).item() == pytest.approx(2 * 0.5 / 4)


def test_planted_fault_orthogonality_of_unnormalised_features_is_noticed() -> None:
    features = 7 * torch.eye(4)
    unnormalised = (features @ features.T - torch.eye(4)).square().mean()
    assert unnormalised.item() > 100 > losses.orthogonality(features).item()


@pytest.mark.parametrize("loss", [losses.cosine, losses.orthogonality])
@given(seed=seeds)
def test_feature_losses_ignore_lengths_and_order(loss: Callable[[Tensor], Tensor], seed: int) -> None:
    features = random(seed, 7, 4)
    value = loss(features)
    torch.testing.assert_close(loss(features * (random(seed + 1, 7, 1).abs() + 0.1)), value)
    torch.testing.assert_close(loss(features.flip(0)), value)
    rotation, _ = torch.linalg.qr(random(seed + 2, 4, 4))
    torch.testing.assert_close(loss(features @ rotation), value)


@pytest.mark.parametrize("loss", [losses.cosine, losses.orthogonality])
@pytest.mark.parametrize("shape", [(6, 3), (3, 6)])
def test_feature_losses_have_the_right_gradients(loss: Callable[[Tensor], Tensor], shape: tuple[int, int]) -> None:
    assert torch.autograd.gradcheck(loss, (random(0, *shape).requires_grad_(),))


@pytest.mark.parametrize("loss", [losses.cosine, losses.orthogonality])
def test_a_feature_vector_of_zeros_gets_no_gradient_and_spoils_none(loss: Callable[[Tensor], Tensor]) -> None:
    features = random(0, 5, 3)
    features[2] = 0
    features.requires_grad_()
    loss(features).backward()
    assert features.grad is not None and features.grad.isfinite().all()
    assert not features.grad[2].any() and features.grad[0].any()


@pytest.mark.parametrize("loss", [losses.cosine, losses.orthogonality])
def test_feature_losses_need_no_matrix_of_images(loss: Callable[[Tensor], Tensor]) -> None:
    # An N×N float32 matrix would take 640 GB.
    assert 0 <= loss(torch.rand(400_000, 4)).item() <= 1


def test_total_variation_by_hand() -> None:
    image = torch.tensor([[[[0.0, 1.0, 1.0], [0.5, 0.5, 0.5]]]])
    assert losses.total_variation(image).item() == pytest.approx(0.5 + (1 + 0 + 0 + 0) / 4)
    assert losses.total_variation(torch.full((2, 3, 4, 5), 0.3)).item() == 0
    assert losses.total_variation(torch.cat([image, image])) == losses.total_variation(image)


def test_image_cosine_by_hand() -> None:
    ramp = torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]])
    assert losses.image_cosine(torch.cat([ramp, 2 * ramp + 5])).item() == pytest.approx(1)
    assert losses.image_cosine(torch.cat([ramp, -ramp])).item() == pytest.approx(-1)
    across = torch.tensor([[[[0.0, 0.0], [1.0, 1.0]]], [[[0.0, 1.0], [0.0, 1.0]]]])
    assert losses.image_cosine(across).item() == pytest.approx(0, abs=1e-7)
    assert losses.image_cosine(torch.cat([ramp, torch.full_like(ramp, 0.3)])).item() == 0


@given(seed=seeds)
def test_statistics_are_the_divergence_of_normal_distributions(seed: int) -> None:
    inputs, epsilon = random(seed, 7, 3, 4, 5), 1e-3
    mean, variance = random(seed + 1, 3), random(seed + 2, 3).square() + 0.1
    by_channel = inputs.transpose(0, 1).flatten(1)
    here = torch.distributions.Normal(by_channel.mean(1), (by_channel.var(1, correction=0) + epsilon).sqrt())
    there = torch.distributions.Normal(mean, (variance + epsilon).sqrt())
    expected = torch.distributions.kl_divergence(here, there).mean()
    torch.testing.assert_close(losses.statistics(inputs, mean, variance, epsilon), expected)


@given(seed=seeds, scale=st.floats(0.01, 100))
def test_statistics_are_zero_at_what_is_remembered_and_do_not_depend_on_scale(seed: int, scale: float) -> None:
    inputs = random(seed, 50, 3)
    mean, variance = inputs.mean(0), inputs.var(0, correction=0)
    assert losses.statistics(inputs, mean, variance, 0.0).item() == pytest.approx(0, abs=1e-12)
    other = random(seed + 1, 50, 3)
    torch.testing.assert_close(
        losses.statistics(scale * other, scale * mean, scale**2 * variance, 0.0),
        losses.statistics(other, mean, variance, 0.0),
    )


def test_l1_by_hand() -> None:
    parameters = [torch.tensor([[1.0, -2.0]], requires_grad=True), torch.tensor(-0.5, requires_grad=True)]
    value = losses.l1(parameters)
    value.backward()
    assert value.item() == 3.5
    assert parameters[0].grad is not None and parameters[0].grad.tolist() == [[1, -1]]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_weights_that_make_no_sense_are_refused(name: str, value: float) -> None:
    with pytest.raises(OodbenchError, match=name):
        LossWeights(**{name: value})


def test_weights_that_leave_nothing_are_refused() -> None:
    with pytest.raises(OodbenchError, match="above 0"):
        LossWeights(**dict.fromkeys(LOSSES, 0.0))


@given(seed=seeds)
def test_within_class_is_the_mean_over_pairs_of_one_class(seed: int) -> None:
    features, targets = random(seed, 9, 4), torch.tensor([0, 1, 2, 0, 1, 0, 0, 1, 5])
    pairs = [(i, j) for i in range(9) for j in range(9) if i != j and targets[i] == targets[j]]
    expected = sum(float(F.cosine_similarity(features[i], features[j], dim=0)) for i, j in pairs) / len(pairs)
    assert losses.within_class(features, targets).item() == pytest.approx(expected)
    assert losses.within_class(features[:3], targets[:3]).item() == 0


@given(seed=seeds)
def test_the_heads_gradient_is_that_of_autograd(seed: int) -> None:
    weight, bias = random(seed, 3, 5).requires_grad_(), random(seed + 1, 3).requires_grad_()
    features, targets = random(seed + 2, 4, 5), torch.tensor([0, 2, 1, 1])
    squares = []
    for one, target in zip(features, targets, strict=True):
        loss = F.cross_entropy((weight @ one + bias)[None], target[None])
        squares.append(sum(float(part.square().sum()) for part in torch.autograd.grad(loss, [weight, bias])))
    logits = (features @ weight.T + bias).detach()
    assert losses.head_gradient(logits, features, targets).item() == pytest.approx(sum(squares) / 4)
