"""The battery bites: each planted fault is caught, by the check that is named after what it breaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from oodbench.detectors.base import Detector, State, parameter, require_width
from oodbench.example import make_example
from oodbench.outputs import Needs, Outputs
from oodbench.testing import CHECKS, check_detector, run_check
from tests.threads import one_thread as one_thread


@dataclass(frozen=True)
class Sound(Detector):
    """Energy around the mean ID logits: nothing wrong with it."""

    temperature: float = parameter(1.0, "temperature", low=0.1)

    def learn(self, outputs: Outputs) -> State:
        return {"mean": outputs.logits.double().mean(dim=0)}

    def score(self, outputs: Outputs) -> Tensor:
        logits = require_width("logits", outputs.logits, len(self.state["mean"])) - self.state["mean"]
        return self.temperature * (logits / self.temperature).logsumexp(dim=1)


PLANTED: list[tuple[type[Detector], str]] = []


def planted(check: str) -> Any:
    """Register a faulty detector with the check that must catch it."""

    def register(detector_class: type[Detector]) -> type[Detector]:
        PLANTED.append((detector_class, check))
        return detector_class

    return register


def network(outputs: Outputs) -> nn.Module:
    """What a detector can reach if it is ill-behaved."""
    module: nn.Module = outputs._capture.classifier.module  # type: ignore[attr-defined]
    return module


@planted("check_declaration")
class Undecorated(Sound):
    power: int = parameter(2, "never becomes a field")


@planted("check_declaration")
@dataclass(frozen=True)
class SwallowsKeywords(Sound):
    def __init__(self, **_unknown: Any) -> None:
        super().__init__()


@planted("check_signatures")
@dataclass(frozen=True)
class SeesOod(Sound):
    def fit(self, outputs: Outputs, ood: Outputs | None = None) -> SeesOod:
        return super().fit(outputs)


@planted("check_unfitted")
@dataclass(frozen=True)
class ScoresUnfitted(Sound):
    def score(self, outputs: Outputs) -> Tensor:
        return super().score(outputs) if self.__dict__["_state"] else outputs.logits.double().amax(dim=1)


@planted("check_scores")
@dataclass(frozen=True)
class Single(Sound):
    def score(self, outputs: Outputs) -> Tensor:
        return super().score(outputs).float()


@planted("check_scores")
@dataclass(frozen=True)
class Column(Sound):
    def score(self, outputs: Outputs) -> Tensor:
        return super().score(outputs)[:, None]


@planted("check_scores")
@dataclass(frozen=True)
class NotANumber(Sound):
    def score(self, outputs: Outputs) -> Tensor:
        return (super().score(outputs) - 3).sqrt()


@planted("check_scores")
@dataclass(frozen=True)
class FitsNothing(Sound):
    def fit(self, outputs: Outputs) -> None:  # type: ignore[override]
        super().fit(outputs)


@planted("check_scores")
@dataclass(frozen=True)
class ReadsWhatItDoesNotDeclare(Sound):
    def score(self, outputs: Outputs) -> Tensor:
        return outputs.features.double().sum(dim=1)


@planted("check_orientation")
@dataclass(frozen=True)
class SignFlipped(Sound):
    def score(self, outputs: Outputs) -> Tensor:
        return -super().score(outputs)


@planted("check_model_untouched")
@dataclass(frozen=True)
class LeavesHook(Sound):
    def score(self, outputs: Outputs) -> Tensor:
        network(outputs).register_forward_hook(lambda _module, _inputs, output: output.clamp(max=1))
        return super().score(outputs)


@planted("check_model_untouched")
@dataclass(frozen=True)
class TrainsOnTheWay(Sound):
    needs = Needs(logits=True, images=True)

    def score(self, outputs: Outputs) -> Tensor:
        network(outputs).train()
        network(outputs)(outputs.images)
        network(outputs).eval()
        return super().score(outputs)


@planted("check_model_untouched")
@dataclass(frozen=True)
class LeavesTrainMode(Sound):
    def score(self, outputs: Outputs) -> Tensor:
        network(outputs).train()
        return super().score(outputs)


@planted("check_model_untouched")
@dataclass(frozen=True)
class LeavesGradients(Sound):
    def score(self, outputs: Outputs) -> Tensor:
        for weights in network(outputs).parameters():
            weights.grad = torch.zeros_like(weights)
        return super().score(outputs)


@planted("check_inputs_untouched")
@dataclass(frozen=True)
class ScoresInPlace(Sound):
    def score(self, outputs: Outputs) -> Tensor:
        outputs.logits.clamp_(min=-1)
        return super().score(outputs)


@planted("check_inputs_untouched")
@dataclass(frozen=True)
class FitsInPlace(Sound):
    def learn(self, outputs: Outputs) -> State:
        outputs.logits.sub_(outputs.logits.mean(dim=0))
        return super().learn(outputs)


@planted("check_inputs_untouched")
@dataclass(frozen=True)
class SpoilsProxies(Sound):
    needs = Needs(logits=True, proxies=frozenset({"pixel-shuffled"}))

    def learn(self, outputs: Outputs) -> State:
        outputs.proxies["pixel-shuffled"].logits.zero_()
        return super().learn(outputs)


@planted("check_determinism")
@dataclass(frozen=True)
class Unseeded(Sound):
    def learn(self, outputs: Outputs) -> State:
        return {"mean": super().learn(outputs)["mean"] + 1e-9 * torch.rand(1, dtype=torch.float64)}


@planted("check_batches")
@dataclass(frozen=True)
class CentresTheBatch(Sound):
    def score(self, outputs: Outputs) -> Tensor:
        scores = super().score(outputs)
        return scores - 1e-6 * scores.mean()


@planted("check_batches")
@dataclass(frozen=True)
class LooksAtPosition(Sound):
    def score(self, outputs: Outputs) -> Tensor:
        scores = super().score(outputs)
        return scores + 1e-6 * torch.arange(len(scores))


@planted("check_history")
@dataclass(frozen=True)
class LearnsWhileScoring(Sound):
    def score(self, outputs: Outputs) -> Tensor:
        scores = super().score(outputs)
        self.load_state({"mean": 0.9 * self.state["mean"] + 0.1 * outputs.logits.double().mean(dim=0)})
        return scores


@planted("check_history")
@dataclass(frozen=True)
class Counts(Sound):
    def score(self, outputs: Outputs) -> Tensor:
        object.__setattr__(self, "seen", self.__dict__.get("seen", 0) + len(outputs))
        return super().score(outputs) + 1e-6 * self.__dict__["seen"]


@planted("check_side_by_side")
@dataclass(frozen=True)
class SharesItsState(Sound):
    shared: ClassVar[dict[str, Tensor]] = {}

    def learn(self, outputs: Outputs) -> State:
        self.shared.update(super().learn(outputs))
        return super().learn(outputs)

    def score(self, outputs: Outputs) -> Tensor:
        return super().score(outputs) + self.shared["mean"][0]


@planted("check_refit")
@dataclass(frozen=True)
class AppendsOnRefit(Sound):
    def learn(self, outputs: Outputs) -> State:
        self.__dict__.setdefault("means", []).append(super().learn(outputs)["mean"])
        return {"mean": self.__dict__["means"][0]}


@planted("check_labels")
@dataclass(frozen=True)
class UsesLabelsInSecret(Sound):
    def learn(self, outputs: Outputs) -> State:
        return {"mean": outputs.logits[outputs.labels == 0].double().mean(dim=0)}


@planted("check_state")
@dataclass(frozen=True)
class KeepsAModel(Sound):
    needs = Needs(logits=True, labels=True)

    def learn(self, outputs: Outputs) -> State:
        return {**super().learn(outputs), "model": LogisticRegression().fit(outputs.logits.numpy(), outputs.labels)}


@planted("check_state")
@dataclass(frozen=True)
class KeepsHalfOfItElsewhere(Sound):
    def learn(self, outputs: Outputs) -> State:
        object.__setattr__(self, "offset", float(outputs.logits.mean()))
        return super().learn(outputs)

    def score(self, outputs: Outputs) -> Tensor:
        return super().score(outputs) + self.__dict__.get("offset", 0.0)


@planted("check_other_width")
@dataclass(frozen=True)
class TakesAnyWidth(Sound):
    def score(self, outputs: Outputs) -> Tensor:
        return (outputs.logits[:, :3].double() - self.state["mean"][:3]).logsumexp(dim=1)


@planted("check_extreme_logits")
@dataclass(frozen=True)
class Entropy(Detector):
    def score(self, outputs: Outputs) -> Tensor:
        probabilities = outputs.logits.double().softmax(dim=1)
        return (probabilities * probabilities.log()).sum(dim=1)


@planted("check_extreme_logits")
@dataclass(frozen=True)
class Saturates(Detector):
    def score(self, outputs: Outputs) -> Tensor:
        return -(1 - outputs.logits.double().softmax(dim=1).amax(dim=1)).log()


@planted("check_extreme_logits")
@dataclass(frozen=True)
class DividesByTheSpread(Detector):
    def score(self, outputs: Outputs) -> Tensor:
        logits = outputs.logits.double()
        return logits.amax(dim=1) * (logits.amax(dim=1) - logits.mean(dim=1)) / logits.std(dim=1)


@planted("check_parameters")
@dataclass(frozen=True)
class IgnoresAParameter(Sound):
    power: int = parameter(2, "declared, and forgotten", low=1)


@planted("check_parameters")
@dataclass(frozen=True)
class ForgetsAnOption(Sound):
    centre: str = parameter("mean", "one of which never runs", choices=("mean", "median"))


@pytest.mark.parametrize("detector", [Sound, Sound(), Sound(temperature=2.0)])
def test_a_sound_detector_passes(detector: Detector | type[Detector]) -> None:
    check_detector(detector)


@pytest.mark.parametrize(("detector", "check"), PLANTED, ids=lambda value: getattr(value, "__name__", value))
def test_a_planted_fault_is_caught_by_name(detector: type[Detector], check: str) -> None:
    with pytest.raises(AssertionError, match=f"{detector.__name__}.* fails {check}: "):
        run_check(next(one for one in CHECKS if one.__name__ == check), detector)
    with pytest.raises(AssertionError, match=f"{detector.__name__}.* fails check_"):
        check_detector(detector)


def test_there_is_a_planted_fault_for_every_check() -> None:
    assert {check for _, check in PLANTED} == {check.__name__ for check in CHECKS}


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
    (live,) = first.passes(first.fit_images, Needs(logits=True), batch_size=1000)
    assert (live.logits.argmax(dim=1) == first.fit_labels).double().mean() > 0.98
    state = torch.random.get_rng_state()
    make_example(num_classes=3, width=8)
    assert torch.equal(torch.random.get_rng_state(), state), "no global generator is touched"


@pytest.mark.parametrize("factor", [0.0, 2.0])
def test_the_examples_logits_can_be_scaled(factor: float) -> None:
    plain, scaled = make_example(), make_example(head_factor=factor)
    (one,), (two,) = (list(one.passes(one.id_images, Needs(), 1000)) for one in (plain, scaled))
    torch.testing.assert_close(two.logits, factor * one.logits)


def test_stopping_the_fit_outputs_takes_the_proxies_along() -> None:
    example = make_example()
    outputs = example.fit_outputs(Needs(features=True, proxies=frozenset({"patch-shuffled"})), stop=50)
    assert len(outputs) == len(outputs.proxies["patch-shuffled"]) == 50
    assert outputs.labels is not None and torch.equal(outputs.labels, example.fit_labels[:50])
    assert not torch.equal(outputs.features, outputs.proxies["patch-shuffled"].features)
