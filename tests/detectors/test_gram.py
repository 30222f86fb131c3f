"""Gram: an implementation with whole Gram matrices and loops, hand values, and streaming."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from oodbench.detectors.gram import Gram
from oodbench.errors import OodbenchError
from oodbench.example import make_example
from oodbench.outputs import FitData, Outputs


def drawn(count: int, seed: int, classes: int = 3) -> Outputs:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, classes, generator=generator)
    first, second = torch.randn(count, 4, 3, 5, generator=generator), torch.rand(count, 6, 2, 2, generator=generator)
    first += logits.argmax(dim=1).view(-1, 1, 1, 1)
    return Outputs({"logits": logits, "maps:first": first, "maps:second": second})


def fitted(detector: Gram, fit: Outputs) -> Gram:
    return detector.fit(FitData(fit.stored(), reduced=detector.reduce(fit)))


def row_sums(maps: Tensor, order: int) -> np.ndarray:
    found = []
    for image in maps.double().numpy():
        powers = image.reshape(len(image), -1) ** order
        sums = (powers @ powers.T).sum(axis=1)
        found.append(np.sign(sums) * np.abs(sums) ** (1 / order))
    return np.array(found)


def by_hand(fit: Outputs, test: Outputs, orders: int, held_out: np.ndarray) -> np.ndarray:
    used = np.setdiff1d(np.arange(len(fit)), held_out)
    predicted, asked = fit.logits.argmax(dim=1).numpy(), test.logits.argmax(dim=1).numpy()
    total = np.zeros(len(test))
    for layer in fit.map_names:
        deviations = {"test": np.zeros(len(test)), "held out": np.zeros(len(held_out))}
        for order in range(1, orders + 1):
            of_fit, of_test = row_sums(fit.maps(layer), order), row_sums(test.maps(layer), order)
            groups = {"test": (of_test, asked), "held out": (of_fit[held_out], predicted[held_out])}
            for name, (values, classes) in groups.items():
                for index, (row, k) in enumerate(zip(values, classes, strict=True)):
                    members = of_fit[used][predicted[used] == k]
                    low, high = members.min(axis=0), members.max(axis=0)
                    below, above = np.maximum(low - row, 0), np.maximum(row - high, 0)
                    deviations[name][index] += (below / abs(low + 1e-6) + above / abs(high + 1e-6)).sum()
        total += deviations["test"] / deviations["held out"].mean()
    return -total


@pytest.mark.parametrize("orders", [1, 4])
def test_equals_loops_over_whole_gram_matrices(orders: int) -> None:
    fit, test = drawn(90, 0), drawn(20, 1)
    held_out = torch.randperm(90, generator=torch.Generator().manual_seed(0))[:9].numpy()
    expected = by_hand(fit, test, orders, held_out)
    np.testing.assert_allclose(fitted(Gram(orders=orders), fit).score(test).numpy(), expected, rtol=1e-9)
    assert (expected < 0).sum() > 5


def test_row_sums_by_hand() -> None:
    # F = [1 2; 3 −4]: F Fᵀ = [5 −5; −5 25], rows 0 and 20; F² gives [17 73; 73 337], rows 90 and 410, then roots.
    maps = torch.tensor([[1.0, 2.0], [3.0, -4.0]]).view(1, 2, 1, 2)
    (found,) = Gram(orders=2).reduce(Outputs({"maps:a": maps})).values()
    torch.testing.assert_close(found[0], torch.tensor([[0.0, 20.0], [90**0.5, 410**0.5]]).double())


def test_images_within_the_bounds_score_nothing() -> None:
    fit = drawn(90, 0)
    detector = fitted(Gram(orders=3), fit)
    used = torch.randperm(90, generator=torch.Generator().manual_seed(0))[9:]
    assert detector.score(fit.select(used)).abs().max() == 0
    assert (detector.score(fit.select(used).replaced(**{"maps:first": 2 * fit.maps("first")[used]})) <= 0).all()


def test_a_class_that_no_fit_image_was_predicted_as_has_the_bounds_of_all() -> None:
    fit = drawn(60, 0)
    more = torch.hstack([fit.logits, torch.full((60, 1), -9.0)])
    detector = fitted(Gram(orders=2), fit.replaced(logits=more))
    for bounds in detector.state["layers"].values():
        assert torch.equal(bounds["low"][3], bounds["low"][:3].amin(dim=0))
        assert torch.equal(bounds["high"][3], bounds["high"][:3].amax(dim=0))


def test_fewer_than_ten_fit_images_leave_none_out() -> None:
    fit = drawn(9, 0, classes=2)
    detector = fitted(Gram(orders=2), fit)
    assert detector.score(fit).abs().max() == 0
    assert [float(one["expected"]) for one in detector.state["layers"].values()] == [1.0, 1.0]


def test_streams_its_fit_images_and_keeps_no_maps() -> None:
    example = make_example()
    data = example.fit_data(Gram(orders=2))
    assert not data.outputs.map_names and set(data.reduced) == set(example.classifier.map_layers)
    whole = next(example.passes(example.fit_images, Gram().fit_needs, batch_size=len(example.fit_images)))
    for name, sums in Gram(orders=2).reduce(whole).items():
        torch.testing.assert_close(data.reduced[name], sums, rtol=1e-4, atol=1e-4)  # float32 batches


def test_high_orders_of_large_maps_do_not_overflow() -> None:
    fit, test = drawn(40, 0), drawn(10, 1)
    large = [one.replaced(**{"maps:first": 1e6 * one.maps("first")}) for one in (fit, test)]
    found, expected = fitted(Gram(), large[0]).score(large[1]), fitted(Gram(), fit).score(test)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_refuses_logits_that_are_not_finite() -> None:
    fit = drawn(20, 0)
    fit.logits[3] = torch.nan
    with pytest.raises(OodbenchError, match="the logits of image 3 are not finite"):
        fitted(Gram(), fit)
