"""The four conditionings: their form, the class that they stand for, the law of those that are asked for."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, ks_2samp
from torch import Tensor

from oodbench.errors import OodbenchError
from oodbench.inversion.conditioning import cross, draw, seeded, with_largest_at
from oodbench.inversion.settings import CONDITIONINGS, Conditioning

kinds = st.sampled_from(CONDITIONINGS)
classes = st.integers(2, 13)


@given(kind=kinds, count=st.integers(0, 20), num_classes=classes, seed=st.integers(0, 99), asked=st.booleans())
def test_every_part_stands_for_the_target(
    kind: Conditioning, count: int, num_classes: int, seed: int, asked: bool
) -> None:
    wanted = torch.randint(num_classes, (count,)) if asked else None
    conditions = draw(kind, count, num_classes, seeded(seed, "test"), targets=wanted)
    assert len(conditions) == count and conditions.targets.dtype == torch.int64
    if wanted is not None:
        assert torch.equal(conditions.targets, wanted)
    assert (conditions.vector is None) == (kind == "matrix")
    if conditions.vector is not None:
        assert conditions.vector.shape == (count, num_classes)
        assert torch.equal(conditions.vector.argmax(dim=1), conditions.targets)
        torch.testing.assert_close(conditions.vector.sum(dim=1), torch.ones(count))
    assert (conditions.matrix is not None) == (kind in ("matrix", "vector-matrix"))
    if conditions.matrix is not None:
        for target, matrix in zip(conditions.targets.tolist(), conditions.matrix, strict=True):
            for i in range(num_classes):
                for j in range(num_classes):
                    assert matrix[i, j] == (1.0 if target in (i, j) else 0.0)


def test_the_vector_is_the_softmax_of_normal_draws() -> None:
    vector = draw("vector", 20_000, 4, seeded(0, "test")).vector
    assert vector is not None
    # The differences of logs undo the softmax up to a constant: v_0 − v_1 ~ N(0, 2).
    differences = vector.log()[:, 0] - vector.log()[:, 1]
    assert ks_2samp(differences, 2**0.5 * torch.randn(20_000, generator=seeded(1, "test"))).pvalue > 1e-3


@pytest.mark.parametrize("kind", CONDITIONINGS)
def test_all_classes_are_equally_likely(kind: Conditioning) -> None:
    targets = draw(kind, 7_000, 7, seeded(0, "test")).targets
    assert chisquare(targets.bincount(minlength=7)).pvalue > 1e-3


def same_law(made: Tensor, expected: Tensor) -> bool:
    """Whether every entry, and every difference of neighbouring entries, has the same distribution."""
    pairs = [(made[:, k], expected[:, k]) for k in range(made.shape[1])]
    pairs += [(made.diff(dim=1)[:, k], expected.diff(dim=1)[:, k]) for k in range(made.shape[1] - 1)]
    return all(ks_2samp(a, b).pvalue > 1e-4 for a, b in pairs)


def waited_for(target: int, count: int) -> Tensor:
    """Vectors whose argmax happens to be the target: what asked-for vectors should be like."""
    conditions = draw("vector", count, 5, seeded(7, "waiting"))
    assert conditions.vector is not None
    return conditions.vector[conditions.targets == target]


def test_an_asked_for_vector_has_the_law_of_one_that_was_waited_for() -> None:
    asked = draw("vector", 6_000, 5, seeded(3, "test"), targets=torch.full((6_000,), 2)).vector
    assert asked is not None and same_law(asked, waited_for(2, 30_000))


def test_planted_fault_other_ways_to_move_the_maximum_change_the_law() -> None:
    """Moving the largest to the target in a sorted row, or raising the target's entry, would be noticed."""
    vectors = torch.randn(6_000, 5, generator=seeded(3, "test")).softmax(dim=1)
    target = torch.full((6_000,), 2)
    ordered = with_largest_at(vectors.sort(dim=1).values, target)
    raised = vectors.clone()
    raised[:, 2] = vectors.amax(dim=1) + 0.01
    raised /= raised.sum(dim=1, keepdim=True)
    assert not same_law(ordered, waited_for(2, 30_000))
    assert not same_law(raised, waited_for(2, 30_000))


@given(seed=st.integers(0, 99))
def test_the_swap_keeps_each_rows_values(seed: int) -> None:
    random = seeded(seed, "test")
    vectors = torch.rand(9, 6, generator=random)
    targets = torch.randint(6, (9,), generator=random)
    swapped = with_largest_at(vectors, targets)
    assert torch.equal(swapped.sort(dim=1).values, vectors.sort(dim=1).values)
    assert torch.equal(swapped.argmax(dim=1), targets)
    assert ((swapped != vectors).sum(dim=1) <= 2).all()


@pytest.mark.parametrize("kind", CONDITIONINGS)
def test_a_seed_decides_the_draws_and_a_stream_goes_on(kind: Conditioning) -> None:
    one, other = (draw(kind, 50, 10, seeded(5, "test")) for _ in range(2))
    assert torch.equal(one.targets, other.targets)
    stream = seeded(5, "test")
    first, second = draw(kind, 50, 10, stream), draw(kind, 50, 10, stream)
    assert torch.equal(first.targets, one.targets) and not torch.equal(second.targets, one.targets)
    assert not torch.equal(draw(kind, 50, 10, seeded(5, "other")).targets, one.targets)
    assert not torch.equal(draw(kind, 50, 10, seeded(6, "test")).targets, one.targets)


def test_the_kl_loss_compares_with_the_vector_or_else_with_the_target() -> None:
    conditions = draw("vector-matrix", 5, 3, seeded(0, "test"))
    assert conditions.distribution(3) is conditions.vector
    conditions = draw("matrix", 5, 3, seeded(0, "test"))
    assert torch.equal(conditions.distribution(3), torch.eye(3)[conditions.targets])


def test_planted_fault_a_matrix_of_a_transformed_label_is_of_the_wrong_class() -> None:
    """Public code passes Linear(label) to argmax when it builds M; our full row is the target's own."""
    conditions = draw("vector-matrix", 200, 10, seeded(0, "test"))
    assert conditions.matrix is not None and conditions.vector is not None
    of_matrix = conditions.matrix.sum(dim=2).argmax(dim=1)
    torch.manual_seed(0)
    transformed = cross(torch.nn.Linear(10, 10)(conditions.vector).argmax(dim=1), 10)
    assert torch.equal(of_matrix, conditions.targets)
    assert not torch.equal(transformed.sum(dim=2).argmax(dim=1), conditions.targets)


@pytest.mark.parametrize(
    "targets", [torch.tensor([0, 3]), torch.tensor([-1, 0]), torch.tensor([0]), torch.tensor([0.0, 1.0])]
)
def test_targets_that_are_no_classes_are_refused(targets: Tensor) -> None:
    with pytest.raises(OodbenchError, match="targets must be"):
        draw("vector", 2, 3, seeded(0, "test"), targets=targets)


def test_an_unknown_conditioning_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(OodbenchError, match="did you mean vector"):
        draw("vectr", 2, 3, seeded(0, "test"))  # type: ignore[arg-type]
