"""Controls: scores that know nothing, for what chance looks like and for mistakes in a benchmark."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from oodbench.detectors.base import Detector, parameter
from oodbench.outputs import Needs, Outputs


@dataclass(frozen=True)
class Constant(Detector):
    """The same score, 0, for every image."""

    control = True

    def score(self, outputs: Outputs) -> Tensor:
        return torch.zeros(len(outputs), dtype=torch.float64, device=outputs.logits.device)


@dataclass(frozen=True)
class Random(Detector):
    """A number in [0, 1) drawn by the seed and the image's 8-bit pixels: equal images get equal scores."""

    seed: int = parameter(0, "seed of the draw", low=0, high=2**63 - 1, grid=(0, 1, 2))

    control = True
    needs = Needs("images")

    def score(self, outputs: Outputs) -> Tensor:
        pixels = (outputs.images * 255).round().to(torch.uint8).cpu().numpy()
        key = self.seed.to_bytes(8, "little")
        digests = (hashlib.blake2b(image.tobytes(), digest_size=8, key=key).digest() for image in pixels)
        # 53 bits are what float64 holds exactly.
        drawn = [(int.from_bytes(digest, "little") >> 11) * 2.0**-53 for digest in digests]
        return torch.tensor(drawn, dtype=torch.float64, device=outputs.images.device)
