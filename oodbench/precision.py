"""How precisely the network computes where no gradient is asked for; detectors compute in float64 whatever it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from oodbench.errors import unknown_name

LOW = {"bf16": torch.bfloat16, "fp16": torch.float16}
PRECISIONS = ("float32", "tf32", *LOW)


@dataclass(frozen=True)
class Precision:
    """One of `PRECISIONS`; a module in float64 stays there under float32 and tf32.

    Attributes:
        name: float32; tf32, products of 10 bits on NVIDIA GPUs; bf16 and fp16, by torch's autocast.

    Raises:
        OodbenchError: there is no such precision.
    """

    name: str = "float32"

    def __post_init__(self) -> None:
        if self.name not in PRECISIONS:
            raise unknown_name("precision", self.name, PRECISIONS)

    @property
    def is_low(self) -> bool:
        """Whether passes without a graph are in another precision than those with one."""
        return self.name in LOW

    def passing(self, device: torch.device) -> AbstractContextManager[object]:
        """Around a pass without a graph."""
        return torch.autocast(device.type, LOW[self.name]) if self.is_low else nullcontext()

    def widened(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of a pass as detectors read them: none below float32."""
        return {name: one.float() if one.dtype in LOW.values() else one for name, one in tensors.items()}

    @contextmanager
    def exact(self, device: torch.device) -> Iterator[None]:
        """While a classifier is in use: products in float32 in full, unless tf32 was asked for.

        torch lets cuDNN's convolutions round to tf32 unless it is told otherwise.
        """
        if device.type != "cuda":
            yield
            return
        matmul, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
        before = matmul.allow_tf32, convolutions.allow_tf32
        matmul.allow_tf32 = convolutions.allow_tf32 = self.name == "tf32"
        try:
            yield
        finally:
            matmul.allow_tf32, convolutions.allow_tf32 = before


FULL = Precision()
