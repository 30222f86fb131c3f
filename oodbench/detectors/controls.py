"""Controls: scores that know nothing, or pixels alone, for what chance looks like and for how easy a benchmark is."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from io import BytesIO

import torch
from PIL import Image
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
        pixels = _eight_bit(outputs).numpy()
        key = self.seed.to_bytes(8, "little")
        digests = (hashlib.blake2b(image.tobytes(), digest_size=8, key=key).digest() for image in pixels)
        # 53 bits are what float64 holds exactly.
        drawn = [(int.from_bytes(digest, "little") >> 11) * 2.0**-53 for digest in digests]
        return torch.tensor(drawn, dtype=torch.float64, device=outputs.images.device)


@dataclass(frozen=True)
class Smoothness(Detector):
    """Minus the mean total variation: of |differences| of neighbouring pixels, down and across, in [0, 1]."""

    control = True
    needs = Needs("images")

    def score(self, outputs: Outputs) -> Tensor:
        pixels = outputs.images.double()
        down, across = pixels.diff(dim=2).abs(), pixels.diff(dim=3).abs()
        return -(down.sum(dim=(1, 2, 3)) + across.sum(dim=(1, 2, 3))) / pixels.shape[1:].numel()


@dataclass(frozen=True)
class Intensity(Detector):
    """The mean of the pixels in [0, 1]: the brighter, the more ID."""

    control = True
    needs = Needs("images")

    def score(self, outputs: Outputs) -> Tensor:
        return outputs.images.double().mean(dim=(1, 2, 3))


@dataclass(frozen=True)
class JpegSize(Detector):
    """Minus the bytes of the image as a JPEG: the simpler, the more ID; channels other than three apart, as grey."""

    quality: int = parameter(75, "JPEG quality", low=1, high=95, grid=(25, 75, 95))

    control = True
    needs = Needs("images")

    def score(self, outputs: Outputs) -> Tensor:
        pixels = _eight_bit(outputs)
        if pixels.shape[1] == 3:
            sizes = [self._bytes(Image.fromarray(one.permute(1, 2, 0).numpy())) for one in pixels]
        else:
            sizes = [sum(self._bytes(Image.fromarray(channel.numpy())) for channel in one) for one in pixels]
        return -torch.tensor(sizes, dtype=torch.float64, device=outputs.images.device)

    def _bytes(self, image: Image.Image) -> int:
        written = BytesIO()
        image.save(written, "jpeg", quality=self.quality)
        return written.tell()


def _eight_bit(outputs: Outputs) -> Tensor:
    return (outputs.images * 255).round().to(torch.uint8).cpu()
