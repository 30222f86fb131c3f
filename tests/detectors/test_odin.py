"""ODIN: what it asks of the network, and its score against the module called by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from oodbench.capture import PassCount
from oodbench.detectors.odin import Odin
from oodbench.detectors.softmax import Msp
from oodbench.example import Example, make_example
from oodbench.live import passes
from oodbench.outputs import Needs, Outputs


def scored(detector: Odin, example: Example, images: Tensor, count: PassCount | None = None) -> Tensor:
    batches = passes(example.classifier, images.split(32), detector.needs, count)
    return torch.cat([detector(live) for live in batches])


def by_hand(example: Example, images: Tensor, temperature: float, epsilon: float, norm: str) -> Tensor:
    """Log-odds of the largest probability at T, at x − ε·step, with nothing of oodbench but the normalisation."""
    module = example.classifier.module.eval()
    mean, std = (
        torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1)
        for values in (example.classifier.mean, example.classifier.std)
    )
    pixels = (images.double() / 255).requires_grad_()
    logits = module((pixels - mean) / std)
    F.cross_entropy(logits / temperature, logits.argmax(dim=1), reduction="sum").backward()
    gradient, d = pixels.grad, pixels[0].numel()
    assert gradient is not None
    if norm == "linf":
        direction = gradient.sign()
    elif norm == "l2":
        direction = math.sqrt(d) * gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    else:
        k = math.ceil(0.1 * d)
        least = gradient.flatten(1).abs().topk(k, dim=1).values[:, -1].view(-1, 1, 1, 1)
        direction = math.sqrt(d / k) * gradient.sign() * (gradient.abs() >= least)
    with torch.no_grad():
        probability = (module((pixels - epsilon * direction - mean) / std) / temperature).softmax(dim=1).amax(dim=1)
    return (probability / (1 - probability)).log()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("temperature", [1.0, 1000.0])
def test_equals_the_formula(norm: str, temperature: float) -> None:
    example = make_example(precision=torch.float64)
    images = torch.cat([example.id_images, example.ood_images])
    found = scored(Odin(temperature, epsilon=0.01, norm=norm), example, images)
    torch.testing.assert_close(found, by_hand(example, images, temperature, 0.01, norm), rtol=1e-8, atol=1e-10)


def test_without_a_step_it_costs_no_pass_and_no_gradient() -> None:
    example, count = make_example(), PassCount()
    detector = Odin(epsilon=0.0)
    assert detector.needs == Needs("logits")
    scored(detector, example, example.id_images, count)
    assert count == PassCount(forward=len(example.id_images))
    assert Odin().needs == Needs("logits", "gradient")


def test_with_a_step_it_costs_one_gradient_and_one_pass() -> None:
    example, count = make_example(), PassCount()
    scored(Odin(), example, example.id_images, count)
    n = len(example.id_images)
    assert count == PassCount(forward=n, gradient=n, perturbed=n)


def test_at_temperature_one_without_a_step_it_is_msp_also_on_stored_outputs() -> None:
    logits = 10 * torch.randn(100, 10, generator=torch.Generator().manual_seed(0))
    outputs = Outputs({"logits": logits})
    assert torch.equal(Odin(temperature=1.0, epsilon=0.0).score(outputs), Msp().score(outputs))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_step_makes_the_network_surer(norm: str) -> None:
    example = make_example()
    still = scored(Odin(epsilon=0.0), example, example.id_images)
    assert (scored(Odin(epsilon=0.002, norm=norm), example, example.id_images) > still).all()
