"""The detector contract: a frozen dataclass of hyper-parameters, `learn` on ID outputs, `score` on any."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from oodbench.errors import NotFittedError, OodbenchError
from oodbench.outputs import FitData, Needs, Outputs
from oodbench.parameters import check_parameters, parameter

__all__ = ["Detector", "State", "parameter"]

State = Mapping[str, Any]
"""What a detector learned: tensors, plain values that JSON can hold, and mappings of such."""

WIDTHS = "widths"
"""Under this name a state has the forms of what was learned from."""


@dataclass(frozen=True)
class Detector(ABC):
    """A score for each image from what the classifier makes of it: **the higher, the more in-distribution**.

    A detector's fields are its hyper-parameters, declared with `parameter`. It says in `needs` what its `score`
    reads. Where it learns from ID data, it overrides `learn` and says in `fit_needs` what that reads.

    Raises:
        OodbenchError: on construction, a hyper-parameter of the wrong type or out of its range.
    """

    control: ClassVar[bool] = False
    """Whether it ignores on purpose what tells ID from OOD."""

    reads: ClassVar[str | None] = None
    """The recipe, of `oodbench.recipes`, that makes the classifier which it reads; None: it reads any classifier."""

    @property
    def needs(self) -> Needs:
        """What `score` reads; once fitted it may be less."""
        return Needs("logits")

    @property
    def fit_needs(self) -> Needs:
        """What `learn` and `reduce` read."""
        return Needs()

    @property
    def passes(self) -> float:
        """How much scoring an image costs beside the pass that all share, in passes; an estimate, for the time left."""
        # With a gradient: the way back, which takes twice as long as that forward, and one more pass.
        return 3.0 if "gradient" in self.needs else 1.0 if self.needs.live else 0.0

    @abstractmethod
    def score(self, outputs: Outputs) -> Tensor:
        """One finite float64 score an image, shape (N,); pure: an image's score does not depend on others."""

    def learn(self, data: FitData) -> State:
        """What is to be learned from the outputs of ID fit images."""
        return {}

    def reduce(self, outputs: Outputs) -> Mapping[str, Tensor]:
        """What `learn` is to be given of a live batch whose outputs are too large to be kept: tensors of N rows."""
        return {}

    def fit(self, data: FitData) -> Self:
        """A copy that has learned from ID outputs; this object stays as it is."""
        # Cloned: a view of the fit outputs would keep them all, and products of a tensor that lies otherwise in memory,
        # as it does once saved and read, can differ in their last bit.
        learned = _mapped(self.learn(data), lambda tensor: tensor.detach().clone(memory_format=torch.contiguous_format))
        fitted = self.with_state(learned)
        forms = {name: list(data.outputs.tensors()[name].shape[1:]) for name in fitted._reads(data.outputs)}
        return fitted.with_state({**fitted.state, WIDTHS: forms}) if self.learns() else fitted

    def __call__(self, outputs: Outputs) -> Tensor:
        """`score`, checked.

        Raises:
            OodbenchError: the outputs are of another classifier than that which it was fitted on, or the scores are
                not float64 of shape (N,).
        """
        forms = self.state.get(WIDTHS, {})
        for name in self._reads(outputs) & forms.keys():
            found = list(outputs.tensors()[name].shape[1:])
            if found != forms[name]:
                raise OodbenchError(
                    f"fitted on {name} of width {_form(forms[name])}, asked to score {name} of width {_form(found)}: "
                    f"fit the detector on the classifier that it scores"
                )
        scores = self.score(outputs)
        if scores.shape != (len(outputs),) or scores.dtype != torch.float64:
            raise OodbenchError(
                f"{type(self).__name__} gave scores of shape {tuple(scores.shape)} and type {scores.dtype} for "
                f"{len(outputs)} images; its score(outputs) must return float64 of shape (N,)"
            )
        return scores

    def __post_init__(self) -> None:
        check_parameters(self)
        object.__setattr__(self, "_state", None if self.learns() else {})

    @classmethod
    def learns(cls) -> bool:
        """Whether there is anything to fit."""
        return cls.learn is not Detector.learn

    @property
    def reduces(self) -> bool:
        """Whether `learn` is to be given what `reduce` makes of the fit batches."""
        return type(self).reduce is not Detector.reduce

    @property
    def fitted(self) -> bool:
        """Whether it can score."""
        return self.__dict__["_state"] is not None

    @property
    def state(self) -> State:
        """What was learned.

        Raises:
            NotFittedError: nothing was learned yet.
        """
        state: State | None = self.__dict__["_state"]
        if state is None:
            raise NotFittedError(f"{type(self).__name__} must be fitted before it can score: call fit(data)")
        return state

    def with_state(self, state: State) -> Self:
        """A copy that has learned what an equal detector learned earlier."""
        other = copy.copy(self)
        # Hyper-parameters are frozen; what was learned is not one of them.
        object.__setattr__(other, "_state", dict(state))
        return other

    def to(self, device: torch.device | str) -> Self:
        """A copy with what was learned on another device."""
        return self.with_state(_mapped(self.state, lambda tensor: tensor.to(device)))

    @staticmethod
    def from_text(text: str) -> Detector:
        """The detector of a spec such as `odin(norm=l2)`."""
        from oodbench.detectors.spec import build

        return build(text)

    def __str__(self) -> str:
        """The spec: its name, and the parameters that differ from the defaults."""
        from oodbench.detectors.spec import label

        return label(self)

    def _reads(self, outputs: Outputs) -> set[str]:
        """The quantities among the outputs that the score reads."""
        return self.needs.among(outputs.tensors()) - {"images"}


def _mapped(state: State, change: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    """The state with every tensor changed."""
    changed: dict[str, Any] = {}
    for name, value in state.items():
        if isinstance(value, Mapping):
            changed[name] = _mapped(value, change)
        else:
            changed[name] = change(value) if isinstance(value, Tensor) else value
    return changed


def _form(widths: list[int]) -> str:
    return "×".join(map(str, widths))
