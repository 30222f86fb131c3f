"""Which generated images pass for ID images: put into garbage, they would teach a classifier to refuse the like."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

REFERENCES = 10_000
"""Real images that nearest ones are looked for among, at most."""

PASSING = 0.95
"""This share of held-out real images passes."""

CHUNK = 1000


class Realism:
    """Looks for the nearest real image; what is as near as real images are to each other passes for one.

    Nearness is the correlation of pixels, not a network's features: those of the network that is inverted are
    what the inversion drives. By distance instead, a flat grey image would be nearer to most images than they are
    to each other.
    """

    def __init__(self, real: Tensor, held_out: Tensor, device: torch.device | str = "cpu") -> None:
        """
        Args:
            real, held_out: uint8 N×C×H×W, different ID images.
            device: where images are compared.
        """
        self.real = _standardised(real[:: -(-len(real) // REFERENCES)].to(device))
        self.threshold = float(self._nearest(held_out).quantile(1 - PASSING))

    def passes(self, images: Tensor) -> Tensor:
        """bool N, of uint8 N×C×H×W."""
        return self._nearest(images) >= self.threshold

    def _nearest(self, images: Tensor) -> Tensor:
        chunks = (_standardised(chunk.to(self.real.device)) for chunk in images.split(CHUNK))
        return torch.cat([(chunk @ self.real.T).amax(dim=1) for chunk in chunks]).cpu()


def _standardised(images: Tensor) -> Tensor:
    flat = images.flatten(1).float()
    return F.normalize(flat - flat.mean(dim=1, keepdim=True), dim=1)
