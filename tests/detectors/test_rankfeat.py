"""RankFeat: one matrix by NumPy, the whole network by hand, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from oodbench.capture import PassCount
from oodbench.detectors.rankfeat import RankFeat, WithoutRankOne
from oodbench.errors import OodbenchError
from oodbench.example import make_example
from oodbench.live import passes
from oodbench.outputs import Needs


def drawn(seed: int = 0) -> Tensor:
    return torch.randn(6, 5, 3, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.4


def without(matrix: np.ndarray) -> np.ndarray:
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    s[0] = 0
    rest: np.ndarray = u @ np.diag(s) @ v
    return rest


def test_takes_the_first_singular_component_off_each_images_maps() -> None:
    maps = drawn()
    found = WithoutRankOne(0)(maps)
    for image, rest in zip(maps.numpy(), found.numpy(), strict=True):
        np.testing.assert_allclose(rest.reshape(5, 12), without(image.reshape(5, 12)), atol=1e-12)


def test_power_iterations_come_to_the_same() -> None:
    maps = drawn().abs()
    exact = WithoutRankOne(0)(maps)
    few, many = (float((WithoutRankOne(count)(maps) - exact).abs().max()) for count in (1, 100))
    assert many < 1e-9 < few


@pytest.mark.parametrize("iterations", [0, 3])
def test_maps_of_rank_one_and_of_zeros_vanish(iterations: int) -> None:
    rank_one = torch.rand(2, 5, 1, 1, dtype=torch.float64) * torch.rand(2, 1, 3, 4, dtype=torch.float64)
    for maps in (rank_one, torch.zeros(2, 5, 3, 4)):
        assert WithoutRankOne(iterations)(maps).abs().max() < 1e-12


def test_is_the_energy_of_the_network_by_hand() -> None:
    example = make_example(precision=torch.float64)
    images = torch.cat([example.id_images[:9], example.ood_images[:9]])
    module = example.classifier.module.eval()
    with torch.no_grad():
        maps = module.block(module.stem(_saturated(module, example.classifier.normalise(images.double() / 255))))
        rest = np.stack([without(one.reshape(len(one), -1)).reshape(one.shape) for one in maps.numpy()])
        logits = module.head(F.relu(torch.from_numpy(rest)).mean(dim=(2, 3)))
    torch.testing.assert_close(example.scores(RankFeat(), images), logits.logsumexp(dim=1), rtol=1e-9, atol=1e-9)


def _saturated(module: torch.nn.Module, images: Tensor) -> Tensor:
    return module.white - F.relu(module.white - images)  # type: ignore


def test_costs_one_further_pass_for_all_its_bases() -> None:
    example, count = make_example(), PassCount()
    detectors = [RankFeat(base=base) for base in ("energy", "maxlogit", "gradnorm")]  # type: ignore[arg-type]
    needs = Needs("live").__or__(detectors[2].needs)
    for live in passes(example.classifier, [example.id_images], needs, count):
        for detector in detectors:
            detector(live)
    assert count == PassCount(forward=40, edited=40)


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("odin", "rankfeat cannot read through odin, which reads a gradient; take another base"),
        ("knn", "which learns, on stored outputs"),
        ("confidence", "which reads a classifier of its own"),
    ],
)
def test_refuses_bases(base: str, message: str) -> None:
    with pytest.raises(OodbenchError, match=message):
        RankFeat(base=base)  # type: ignore[arg-type]


def test_refuses_a_layer_without_maps() -> None:
    example = make_example()
    with pytest.raises(OodbenchError, match="penultimate"):
        example.scores(RankFeat(layer="penultimate"), example.id_images)
