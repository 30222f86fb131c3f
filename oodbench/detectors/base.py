"""The detector contract: a frozen dataclass of hyper-parameters, `learn` on ID outputs, `score` on any."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any, ClassVar, Self, get_type_hints

import torch
from torch import Tensor

from oodbench.errors import NotFittedError, OodbenchError
from oodbench.outputs import Needs, Outputs

State = Mapping[str, Any]
"""What a detector learned: tensors, and plain values that JSON can hold."""


def parameter(
    default: Any,
    help: str,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    choices: Sequence[Any] = (),
    grid: Sequence[Any] = (),
    training: bool = False,
) -> Any:
    """Declare a hyper-parameter: its default, what it is, its range (inclusive) or choices, a search grid.

    Args:
        training: it decides how the detector's own classifier is trained (see `Detector.recipe`), not how its
            outputs are read.
    """
    facts = {"help": help, "low": low, "high": high, "choices": tuple(choices), "grid": tuple(grid)}
    return field(default=default, metadata=facts | {"training": training})


@dataclass(frozen=True)
class Detector(ABC):
    """A score for each image from what the classifier makes of it: **the higher, the more in-distribution**.

    A detector's fields are its hyper-parameters, int, float, bool or str, declared with `parameter`. It says
    in `needs` what it reads. Where it learns from ID data, it overrides `learn`.

    Raises:
        OodbenchError: on construction, a hyper-parameter of the wrong type or out of its range.
    """

    control: ClassVar[bool] = False
    """Whether it ignores on purpose what tells ID from OOD."""

    recipe: ClassVar[str | None] = None
    """The recipe, of `oodbench.recipes`, that trains the classifier which it reads; None: it reads any classifier."""

    @property
    def needs(self) -> Needs:
        """What it reads: the logits, unless a subclass says otherwise."""
        return Needs(logits=True)

    @abstractmethod
    def score(self, outputs: Outputs) -> Tensor:
        """One finite float64 score an image, shape (N,); pure: an image's score does not depend on others."""

    def learn(self, outputs: Outputs) -> State:
        """What is to be learned from the outputs of ID fit images."""
        return {}

    def fit(self, outputs: Outputs) -> Self:
        """Learn from ID outputs; nothing of an earlier fit remains. Returns itself."""
        self._set_state(None)
        return self.load_state(self.learn(outputs))

    def __post_init__(self) -> None:
        types = get_type_hints(type(self))
        for declared in fields(self):
            value = _checked(type(self).__name__, declared, getattr(self, declared.name), types[declared.name])
            object.__setattr__(self, declared.name, value)
        self._set_state(None if self.learns() else {})

    @classmethod
    def learns(cls) -> bool:
        """Whether there is anything to fit."""
        return cls.learn is not Detector.learn

    @property
    def state(self) -> State:
        """What was learned.

        Raises:
            NotFittedError: nothing was learned yet.
        """
        state: State | None = self.__dict__["_state"]
        if state is None:
            raise NotFittedError(f"{type(self).__name__} must be fitted before it can score: call fit(outputs)")
        return state

    def load_state(self, state: State) -> Self:
        """Take what an equal detector learned earlier (see `oodbench.detectors.state`). Returns itself."""
        self._set_state(dict(state))
        return self

    def to(self, device: torch.device | str) -> Self:
        """Move what was learned. Returns itself."""
        moved = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in self.state.items()}
        return self.load_state(moved)

    def _set_state(self, state: State | None) -> None:
        # Hyper-parameters are frozen; what was learned is not one of them.
        object.__setattr__(self, "_state", state)


def require_width(name: str, tensor: Tensor, width: int) -> Tensor:
    """`tensor` in float64, if it is N×width.

    Raises:
        OodbenchError: the detector was fitted on outputs of another width, that is of another classifier.
    """
    if tensor.dim() != 2 or tensor.shape[1] != width:
        raise OodbenchError(
            f"fitted on {name} of width {width}, asked to score {name} of shape {tuple(tensor.shape)}: "
            f"fit the detector on the classifier that it scores"
        )
    return tensor.double()


def _checked(owner: str, declared: Field[Any], value: Any, wanted: type) -> Any:
    """The value of a hyper-parameter in its declared type, if it may have it."""
    name, facts = declared.name, declared.metadata
    if not facts or wanted not in (int, float, bool, str):
        raise TypeError(f"{owner}.{name} must be an int, float, bool or str declared with parameter(...)")
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        raise OodbenchError(f"{owner}: {name} must be of type {wanted.__name__}, not {value!r}")
    if facts["choices"] and value not in facts["choices"]:
        raise OodbenchError(f"{owner}: {name} must be one of {', '.join(map(str, facts['choices']))}, not {value!r}")
    if isinstance(value, str) and not re.fullmatch(r"[^\s,()=]+", value):
        raise OodbenchError(f"{owner}: {name} must be a word without spaces, commas, ( ) or =, not {value!r}")
    finite = not isinstance(value, float) or math.isfinite(value)
    if isinstance(value, int | float) and not (facts["low"] <= value <= facts["high"] and finite):
        raise OodbenchError(f"{owner}: {name} must be finite and from {facts['low']} to {facts['high']}, not {value!r}")
    return wanted(value)
