"""Detectors with one fault each, by the check of the battery that must catch it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from oodbench.detectors.base import Detector, State, parameter
from oodbench.outputs import FitData, Needs, Outputs


@dataclass(frozen=True)
class Sound(Detector):
    """Energy around the mean ID logits: nothing wrong with it."""

    temperature: float = parameter(1.0, "temperature", low=0.1)

    fit_needs = Needs("logits")

    def learn(self, data: FitData) -> State:
        return {"mean": data.outputs.logits.double().mean(dim=0)}

    def score(self, outputs: Outputs) -> Tensor:
        logits = outputs.logits.double() - self.state["mean"]
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
    def fit(self, data: FitData, ood: Outputs | None = None) -> SeesOod:
        return super().fit(data)


@planted("check_signatures")
@dataclass(frozen=True)
class ReducesWithLabels(Sound):
    def reduce(self, outputs: Outputs, labels: Tensor | None = None) -> Mapping[str, Tensor]:
        return super().reduce(outputs)


@planted("check_unfitted")
@dataclass(frozen=True)
class ScoresUnfitted(Sound):
    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "_state", {"mean": torch.zeros(1)})


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
    def fit(self, data: FitData) -> None:  # type: ignore[override]
        super().fit(data)


@planted("check_scores")
@dataclass(frozen=True)
class FitsItself(Sound):
    def fit(self, data: FitData) -> FitsItself:
        object.__setattr__(self, "_state", super().fit(data).state)
        return self


@planted("check_scores")
@dataclass(frozen=True)
class CarriesAGraph(Sound):
    def score(self, outputs: Outputs) -> Tensor:
        return super().score(outputs).requires_grad_()


@planted("check_scores")
@dataclass(frozen=True)
class GoesElsewhere(Sound):
    def score(self, outputs: Outputs) -> Tensor:
        return super().score(outputs).to("meta")


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
    needs = Needs("logits", "images")

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
    def learn(self, data: FitData) -> State:
        data.outputs.logits.sub_(data.outputs.logits.mean(dim=0))
        return super().learn(data)


@planted("check_inputs_untouched")
@dataclass(frozen=True)
class SpoilsProxies(Sound):
    fit_needs = Needs("logits", "proxy:pixel-shuffled")

    def learn(self, data: FitData) -> State:
        data.proxies["pixel-shuffled"].logits.zero_()
        return super().learn(data)


@planted("check_inputs_untouched")
@dataclass(frozen=True)
class SpoilsReduced(Sound):
    fit_needs = Needs("logits", "images")

    def reduce(self, outputs: Outputs) -> Mapping[str, Tensor]:
        return {"bright": outputs.images.mean(dim=(1, 2, 3))}

    def learn(self, data: FitData) -> State:
        data.reduced["bright"].zero_()
        return super().learn(data)


@planted("check_inputs_untouched")
@dataclass(frozen=True)
class SpoilsLabels(Sound):
    fit_needs = Needs("logits", "labels")

    def learn(self, data: FitData) -> State:
        assert data.labels is not None
        data.labels.clamp_(max=1)
        return super().learn(data)


@planted("check_determinism")
@dataclass(frozen=True)
class Unseeded(Sound):
    def learn(self, data: FitData) -> State:
        return {"mean": super().learn(data)["mean"] + 1e-9 * torch.rand(1, dtype=torch.float64)}


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
        moved = 0.9 * self.state["mean"] + 0.1 * outputs.logits.double().mean(dim=0)
        object.__setattr__(self, "_state", {**self.state, "mean": moved})
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

    def learn(self, data: FitData) -> State:
        self.shared.update(super().learn(data))
        return super().learn(data)

    def score(self, outputs: Outputs) -> Tensor:
        return super().score(outputs) + self.shared["mean"][0]


@planted("check_refit")
@dataclass(frozen=True)
class AppendsOnRefit(Sound):
    def learn(self, data: FitData) -> State:
        self.__dict__.setdefault("means", []).append(super().learn(data)["mean"])
        return {"mean": self.__dict__["means"][0]}


@planted("check_labels")
@dataclass(frozen=True)
class UsesLabelsInSecret(Sound):
    def learn(self, data: FitData) -> State:
        return {"mean": data.outputs.logits[data.labels == 0].double().mean(dim=0)}


@planted("check_state")
@dataclass(frozen=True)
class KeepsAModel(Sound):
    fit_needs = Needs("logits", "labels")

    def learn(self, data: FitData) -> State:
        return {**super().learn(data), "model": LogisticRegression().fit(data.outputs.logits.numpy(), data.labels)}


@planted("check_state")
@dataclass(frozen=True)
class KeepsHalfOfItElsewhere(Sound):
    def learn(self, data: FitData) -> State:
        object.__setattr__(self, "offset", float(data.outputs.logits.mean()))
        return super().learn(data)

    def score(self, outputs: Outputs) -> Tensor:
        return super().score(outputs) + self.__dict__.get("offset", 0.0)


@planted("check_other_width")
@dataclass(frozen=True)
class TakesAnyWidth(Sound):
    def fit(self, data: FitData) -> TakesAnyWidth:
        return self.with_state(self.learn(data))

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
