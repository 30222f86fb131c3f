"""Test-time augmentation."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from oodbench.detectors.base import Detector, parameter
from oodbench.detectors.ensemble import MEASURES, agreement
from oodbench.outputs import Needs, Outputs


@dataclass(frozen=True)
class TestTimeAugmentation(Detector):
    """Test-time augmentation: p̄ = mean_v softmax(z(view_v(x))), of the image itself and of shifted, flipped views.

    A view is cut out of the image, mirrored at its borders, at an offset of up to `shift` in each direction, and
    flipped left to right with probability ½; each image's are drawn by its own pixels and the seed. The score is the
    largest p̄, as log-odds, the mean log-odds, or the negative mutual information of answer and view: see `agreement`.
    """

    views: int = parameter(8, "views beside the image itself", low=1, high=1000, grid=(2, 4, 8, 16))
    shift: float = parameter(
        0.125, "largest offset of a view, as a share of the image's side", low=0.0, high=0.5, grid=(0.0625, 0.125, 0.25)
    )
    flip: bool = parameter(True, "views that are flipped: not for digits")
    measure: str = parameter("max_probability", "what is read of the views' probabilities", choices=MEASURES)
    seed: int = parameter(0, "of the views", low=0, high=2**31)

    needs = Needs("logits", "live", "images")

    @property
    def passes(self) -> float:
        return self.views

    def score(self, outputs: Outputs) -> Tensor:
        images = outputs.images
        drawn = torch.stack([self._drawn(image) for image in images])
        seen = [outputs.logits, *(outputs.forward(self._view(images, one)).logits for one in drawn.unbind(dim=1))]
        return agreement(torch.stack([logits.double() for logits in seen]), self.measure)

    def _drawn(self, image: Tensor) -> Tensor:
        """Three numbers in [0, 1) a view: two offsets, and whether it is flipped."""
        pixels = (image * 255).round().to(torch.uint8).cpu().numpy()
        digest = hashlib.blake2b(pixels.tobytes(), digest_size=8, key=self.seed.to_bytes(8, "little")).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
        return torch.rand(self.views, 3, generator=generator)

    def _view(self, images: Tensor, drawn: Tensor) -> Tensor:
        height, width = images.shape[2:]
        # A mirror image has one pixel less than the image.
        across, down = (min(math.ceil(self.shift * side), side - 1) for side in (width, height))
        padded = F.pad(images, (across, across, down, down), mode="reflect")
        views = []
        for image, (x, y, side) in zip(padded, drawn.tolist(), strict=True):
            top, left = int(y * (2 * down + 1)), int(x * (2 * across + 1))
            view = image[:, top : top + height, left : left + width]
            views.append(view.flip(2) if self.flip and side < 0.5 else view)
        return torch.stack(views)
