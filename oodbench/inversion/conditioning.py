"""What the generator is conditioned on (never the plain label), and the class that each image should get.

Sources: Suhail & Sethi, Network Inversion of Convolutional Neural Nets (arXiv 2407.18002), and Suhail et al.,
Network Inversion and Its Applications (arXiv 2411.17777); one-hot: arXiv 2503.20187.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from oodbench.data.seeding import set_generator
from oodbench.errors import OodbenchError
from oodbench.inversion.settings import Conditioning, check_conditioning
from oodbench.transfer import sent

HAS_VECTOR = frozenset({"vector", "vector-matrix", "one-hot"})
HAS_MATRIX = frozenset({"matrix", "vector-matrix"})


@dataclass(frozen=True)
class Conditions:
    """One drawn batch of N conditionings for K classes; made by `draw`.

    Attributes:
        targets: int64 N, the class that the classifier should give each image.
        vector: float32 N×K, rows that sum to 1 and whose largest entry is the target's; None for "matrix".
        matrix: float32 N×K×K, ones in the target's row and column, else zeros; None without a matrix.
    """

    targets: Tensor
    vector: Tensor | None
    matrix: Tensor | None

    def __len__(self) -> int:
        return len(self.targets)

    def distribution(self, num_classes: int) -> Tensor:
        """N×K, what the classifier's output should be like, for the KL loss: the vector, else e_target."""
        return self.vector if self.vector is not None else F.one_hot(self.targets, num_classes).float()


def seeded(seed: int, purpose: str) -> torch.Generator:
    """A random stream, on the CPU, that belongs to (seed, purpose) alone."""
    return torch.Generator().manual_seed(int(set_generator(seed, f"inversion {purpose}").integers(2**63)))


def draw(
    conditioning: Conditioning,
    count: int,
    num_classes: int,
    random: torch.Generator,
    device: torch.device | str = "cpu",
    targets: Tensor | None = None,
) -> Conditions:
    """Draw `count` conditionings; all classes are equally likely unless `targets` (int64 N) asks for some.

    vector: v ~ N(0, I_K), softmax(v), target = argmax. vector-matrix: the same, and the matrix of the target.
    matrix and one-hot: the target is drawn uniformly. Everything is drawn on the CPU, so that a seed means
    the same on every device.

    Raises:
        OodbenchError: unknown conditioning, or targets that are not `count` classes.
    """
    check_conditioning(conditioning)
    if targets is not None:
        targets = _checked(targets.detach().cpu(), count, num_classes)
    if conditioning in ("vector", "vector-matrix"):
        vector: Tensor | None = torch.randn(count, num_classes, generator=random).softmax(dim=1)
        if targets is None:
            targets = vector.argmax(dim=1)  # type: ignore[union-attr]
        else:
            vector = with_largest_at(vector, targets)  # type: ignore[arg-type]
    else:
        if targets is None:
            targets = torch.randint(num_classes, (count,), generator=random)
        vector = F.one_hot(targets, num_classes).float() if conditioning == "one-hot" else None
    matrix = sent(cross(targets, num_classes), device) if conditioning in HAS_MATRIX else None
    return Conditions(sent(targets, device), None if vector is None else sent(vector, device), matrix)


def with_largest_at(vectors: Tensor, targets: Tensor) -> Tensor:
    """Swap, in each row of N×K, the largest entry with the one at the target.

    The rows then have exactly the law of the drawn vectors given that their argmax is the target. The K
    entries are exchangeable, so where the largest stands tells nothing about the values, and the order in
    which the others stand is uniform; the swap keeps it uniform. It costs one draw, where waiting for the
    right argmax costs K.
    """
    rows = torch.arange(len(vectors))
    largest = vectors.argmax(dim=1)
    swapped = vectors.clone()
    swapped[rows, largest] = vectors[rows, targets]
    swapped[rows, targets] = vectors[rows, largest]
    return swapped


def cross(targets: Tensor, num_classes: int) -> Tensor:
    """N×K×K in {0, 1}: row y and column y are ones."""
    hot = F.one_hot(targets, num_classes).float()
    return torch.maximum(hot[:, :, None], hot[:, None, :]).expand(-1, num_classes, num_classes)


def _checked(targets: Tensor, count: int, num_classes: int) -> Tensor:
    if targets.shape != (count,) or targets.dtype != torch.int64:
        raise OodbenchError(
            f"targets must be {count} int64 class numbers, one an image, not {targets.dtype} {tuple(targets.shape)}"
        )
    if count and not 0 <= int(targets.min()) <= int(targets.max()) < num_classes:
        raise OodbenchError(
            f"targets must be from 0 to {num_classes - 1}, the classes of the classifier; "
            f"they go from {int(targets.min())} to {int(targets.max())}"
        )
    return targets
