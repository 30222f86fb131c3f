"""The battery bites: each planted fault is caught, by the check that is named after what it breaks."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from oodbench.detectors.base import Detector
from oodbench.detectors.oodl import OodL
from oodbench.detectors.spec import build
from oodbench.example import make_example
from oodbench.outputs import Needs, Outputs
from oodbench.testing import CHECKS, check_detector, run_check
from tests.detectors.sound import Brightness, Columns, Nearest, Wrapper
from tests.planted_faults import PLANTED, IgnoresAParameter, SignFlipped, Sound
from tests.threads import one_thread as one_thread


@pytest.mark.parametrize(
    "detector",
    [
        Sound,
        Sound(),
        Sound(temperature=2.0),
        Nearest(k=50),
        Columns,
        Brightness,
        Wrapper,
        Wrapper(base=OodL(layer="penultimate"), percentile=95.0),
        Wrapper(base=Wrapper(base=Sound())),
    ],
    ids=str,
)
def test_a_correct_detector_passes(detector: Detector | type[Detector]) -> None:
    check_detector(detector)


@pytest.mark.parametrize(("detector", "check"), PLANTED, ids=lambda value: getattr(value, "__name__", value))
def test_a_planted_fault_is_caught_by_name(detector: type[Detector], check: str) -> None:
    with pytest.raises(AssertionError, match=f"{detector.__name__}.* fails {check}: "):
        run_check(next(one for one in CHECKS if one.__name__ == check), detector)


def test_there_is_a_planted_fault_for_every_check() -> None:
    assert {check for _, check in PLANTED} == {check.__name__ for check in CHECKS}


@dataclass(frozen=True)
class TwoFaults(SignFlipped, IgnoresAParameter):
    """Of two checks, with sound ones between them."""


def test_all_failures_are_told_at_once() -> None:
    with pytest.raises(AssertionError) as caught:
        check_detector(TwoFaults)
    first, second = (line for line in str(caught.value).splitlines() if " fails check_" in line)
    assert first.startswith("TwoFaults fails check_orientation: AUROC of gratings against noise is 0")
    assert second.startswith("TwoFaults fails check_parameters: power changes no score: ")


def test_a_failure_names_the_hyper_parameters_and_what_was_seen() -> None:
    with pytest.raises(AssertionError, match=r"SignFlipped\(temperature=2\) fails check_orientation: AUROC .* is 0"):
        check_detector(SignFlipped(temperature=2.0))


def test_an_error_inside_a_detector_is_told_with_its_type() -> None:
    @dataclass(frozen=True)
    class Crashes(Sound):
        def score(self, outputs: Outputs) -> Tensor:
            raise ZeroDivisionError("of no interest")

    with pytest.raises(AssertionError, match=r"Crashes.* fails check_.*: ZeroDivisionError: of no interest"):
        check_detector(Crashes)


def test_the_example_is_always_the_same_and_as_described() -> None:
    first, second = make_example(), make_example()
    assert first.classifier.content_hash() == second.classifier.content_hash()
    assert first.classifier is not second.classifier
    assert torch.equal(first.all_images, second.all_images) and torch.equal(first.fit_images, second.fit_images)
    (live,) = first.passes(first.fit_images, Needs("logits"), batch_size=1000)
    assert (live.logits.argmax(dim=1) == first.fit_labels).double().mean() > 0.98
    state = torch.random.get_rng_state()
    make_example(num_classes=3, width=8)
    assert torch.equal(torch.random.get_rng_state(), state), "no global generator is touched"


@pytest.mark.parametrize("factor", [0.0, 2.0])
def test_the_examples_logits_can_be_scaled(factor: float) -> None:
    plain, scaled = make_example(), make_example(head_factor=factor)
    (one,), (two,) = (list(one.passes(one.id_images, Needs("logits"), 1000)) for one in (plain, scaled))
    torch.testing.assert_close(two.logits, factor * one.logits)


def test_the_fit_data_are_what_the_detector_says_it_needs() -> None:
    example = make_example()
    data = example.fit_data(build("lc(proxies=patch-shuffled)"), stop=50)
    assert len(data.outputs) == len(data.proxies["patch-shuffled"]) == 50 and list(data.proxies) == ["patch-shuffled"]
    assert data.labels is not None and torch.equal(data.labels, example.fit_labels[:50])
    assert not torch.equal(data.outputs.features, data.proxies["patch-shuffled"].features)
    assert data.outputs.tensors().keys() == {"logits", "features"} and data.reduced == data.validation == {}
    reduced = example.fit_data(Brightness(), stop=50)
    torch.testing.assert_close(reduced.reduced["mean"], (example.fit_images[:50] / 255).double().mean(dim=(1, 2, 3)))
    assert reduced.outputs.tensors().keys() == {"logits"}, "images are not kept"


def test_scores_are_those_of_the_detector_in_any_batches() -> None:
    example = make_example()
    fitted = example.fitted(Sound())
    (live,) = example.passes(example.id_images, fitted.needs, 1000)
    assert torch.equal(example.scores(fitted, example.id_images, 1000), fitted(live))
    torch.testing.assert_close(example.scores(fitted, example.id_images, 7), fitted(live))
