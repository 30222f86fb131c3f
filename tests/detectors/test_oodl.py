"""OODL: both SVMs against scikit-learn's, the choice of the layer, and what it refuses."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM
from torch import Tensor

from oodbench.detectors.oodl import PROXIES, OodL
from oodbench.errors import OodbenchError
from oodbench.metrics import Counts, detection_error
from oodbench.outputs import FitData, Needs, Outputs

LAYERS = ("first", "second", "third")


def drawn(seed: int, count: int = 200, width: int = 5, shift: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 + 20 * (torch.randn(count, width, generator=generator) + shift)


def of_layers(**layers: Tensor) -> Outputs:
    return Outputs({f"layer:{name}": values for name, values in layers.items()})


def in_layers(shifts: Mapping[str, float], seed: int, count: int = 200) -> Outputs:
    return of_layers(
        **{name: drawn(seed + index, count, 5, shift) for index, (name, shift) in enumerate(shifts.items())}
    )


def fit_data(**far_in: str) -> FitData:
    """ID outputs, and for each set the one layer in which it is far from ID."""
    sets = {
        name.replace("_", "-"): in_layers({layer: 6.0 * (layer == far) for layer in LAYERS}, seed)
        for seed, (name, far) in enumerate(far_in.items(), start=50)
    }
    return FitData(
        in_layers(dict.fromkeys(LAYERS, 0.0), seed=0),
        proxies={name: one for name, one in sets.items() if name in PROXIES},
        validation={name: one for name, one in sets.items() if name not in PROXIES},
    )


@pytest.mark.parametrize("nu", [0.001, 0.1])
def test_exact_is_the_logarithm_of_scikit_learns_scores(nu: float) -> None:
    fit, test = drawn(0), drawn(1)
    scaler = StandardScaler().fit(fit.numpy())
    model = OneClassSVM(nu=nu, gamma="scale").fit(scaler.transform(fit.double().numpy()))
    found = OodL(layer="a", nu=nu).fit(FitData(of_layers(a=fit))).score(of_layers(a=test))
    expected = model.score_samples(scaler.transform(test.double().numpy()))
    np.testing.assert_allclose(found.exp().numpy(), expected, rtol=1e-6)


def test_far_from_id_scores_still_fall() -> None:
    detector = OodL(layer="a").fit(FitData(of_layers(a=drawn(0))))
    far = torch.tensor([1e3, 1e4, 1e5, 1e6])[:, None].expand(4, 5)
    found = detector.score(of_layers(a=far))
    assert found.isfinite().all() and (found.diff() < 0).all()


def test_nystroem_ranks_much_as_exact_does() -> None:
    fit, test = FitData(of_layers(a=drawn(0, 1000))), of_layers(a=drawn(1))
    exact, approximate = (OodL(layer="a", svm=svm, nu=0.1).fit(fit).score(test) for svm in ("exact", "nystroem"))
    assert spearmanr(exact, approximate)[0] > 0.9


@pytest.mark.parametrize("svm", ["exact", "nystroem"])
def test_outputs_that_do_not_vary_are_no_harm(svm: str) -> None:
    varying = drawn(0)
    flat = torch.hstack([varying, torch.zeros(200, 2), torch.full((200, 1), 7.3)])
    test = torch.hstack([drawn(1), torch.zeros(200, 2), torch.full((200, 1), 7.3)])
    detector = OodL(layer="a", svm=svm)
    plain = detector.fit(FitData(of_layers(a=varying))).score(of_layers(a=drawn(1)))
    found = detector.fit(FitData(of_layers(a=flat))).score(of_layers(a=test))
    torch.testing.assert_close(found, plain, rtol=1e-6, atol=1e-6)
    constant = detector.fit(FitData(of_layers(a=torch.ones(200, 3))))
    assert constant.score(of_layers(a=torch.randn(9, 3))).isfinite().all()


@pytest.mark.parametrize("layer", LAYERS)
def test_chooses_the_layer_in_which_the_proxies_are_far(layer: str) -> None:
    outputs = fit_data(pixel_shuffled=layer, patch_shuffled=layer)
    detector = OodL().fit(outputs)
    assert detector.state["layer"] == layer
    assert list(detector.state["curve"]) == list(LAYERS)
    assert detector.state["curve"][layer] < 0.05
    assert all(error > 0.3 for name, error in detector.state["curve"].items() if name != layer)


def test_ties_go_to_the_earlier_layer() -> None:
    detector = OodL().fit(fit_data(pixel_shuffled="third", patch_shuffled="second"))
    curve = detector.state["curve"]
    assert detector.state["layer"] == min(curve, key=curve.__getitem__)
    given = fit_data(pixel_shuffled="first", patch_shuffled="first")
    alike, *proxies = (
        of_layers(**dict.fromkeys(LAYERS, one.layer("first"))) for one in (given.outputs, *given.proxies.values())
    )
    same = FitData(alike, proxies=dict(zip(PROXIES, proxies, strict=True)))
    assert OodL().fit(same).state["layer"] == "first"


def test_a_validation_set_of_the_users_goes_before_proxies() -> None:
    outputs = fit_data(pixel_shuffled="first", patch_shuffled="first", mine="third")
    assert OodL().fit(outputs).state["layer"] == "third"
    without = fit_data(mine="second")
    assert OodL().fit(without).state["layer"] == "second"


def test_the_curve_is_the_mean_detection_error_on_held_out_id() -> None:
    outputs = in_layers({"a": 0.0}, seed=0, count=100)
    proxies = {name: in_layers({"a": 1.0 + index}, seed=9 + index) for index, name in enumerate(PROXIES)}
    order = np.random.default_rng(0).permutation(100)
    values = outputs.layer("a").double().numpy()
    used, held_out = values[order[20:]], values[order[:20]]
    scaler = StandardScaler().fit(used)
    model = OneClassSVM(nu=0.001, gamma="scale").fit(scaler.transform(used))
    kept = model.score_samples(scaler.transform(held_out))
    errors = [
        detection_error(Counts.of(kept, model.score_samples(scaler.transform(proxy.layer("a").double().numpy()))), 0.95)
        for proxy in proxies.values()
    ]
    detector = OodL().fit(FitData(outputs, proxies=proxies))
    assert detector.state["curve"]["a"] == pytest.approx(np.mean(errors), abs=1e-12) and 0 < np.mean(errors) < 0.5
    whole = OodL(layer="a").fit(FitData(outputs))
    assert torch.equal(detector.score(outputs), whole.score(outputs)), "then it is fitted on all images"


def test_images_sorted_or_interleaved_by_class_do_not_leave_a_class_out() -> None:
    # Held-out images are drawn, so that neither a prefix nor every fifth image is left out of the fit.
    order = np.random.default_rng(0).permutation(100)[:20]
    assert len(set(order % 5)) == 5 and len(set(order // 10)) > 5


def test_what_it_needs() -> None:
    assert OodL().fit_needs == Needs("layer:*", *(f"validation-proxy:{name}" for name in PROXIES))
    assert OodL().needs == Needs("layer:*")
    fitted = OodL().fit(fit_data(pixel_shuffled="second", patch_shuffled="second"))
    assert fitted.needs == Needs("layer:second"), "once fitted it reads the chosen layer alone"
    assert OodL(layer="block").fit_needs == OodL(layer="block").needs == Needs("layer:block")


def test_refusals() -> None:
    with pytest.raises(OodbenchError, match="without the proxy set"):
        OodL().fit(FitData(in_layers({"a": 0.0}, 0)))
    few = in_layers({"a": 0.0}, 0, count=9)
    with pytest.raises(OodbenchError, match="10 or more fit images, but got 9"):
        OodL().fit(FitData(few, proxies=dict.fromkeys(PROXIES, few)))
    with pytest.raises(OodbenchError, match=r"layer:b was not captured, but layer:a"):
        OodL(layer="b").fit(FitData(in_layers({"a": 0.0}, 0)))
    infinite = drawn(0)
    infinite[3, 1] = torch.inf
    with pytest.raises(OodbenchError, match=r"outputs of layer 'a' of image 3 are not finite"):
        OodL(layer="a").fit(FitData(of_layers(a=infinite)))
