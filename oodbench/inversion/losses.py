"""The losses of network inversion, each a pure function of what the classifier made of a generated batch.

N images, K classes, D penultimate features. Source, where no other is named: METHODS section 1.2 after Suhail &
Sethi (arXiv 2407.18002) and Suhail et al. (arXiv 2411.17777); where public code differs, the formula holds, and a
test plants the difference.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
    """−(1/N) Σ_n Σ_k ỹ_nk log p_k(x_n) with ỹ = (1−s) e_y + s/K.

    Args:
        logits: N×K.
        targets: int64 N.
        label_smoothing: s, in [0, 1].
    """
    return F.cross_entropy(logits, targets, label_smoothing=label_smoothing)


def escape(logits: Tensor, targets: Tensor) -> Tensor:
    """max(z_G − z_y, −8) + CE(z_1..K, y) of each image: out of the garbage class, and into class y; N.

    The first term ends where an image is well out, so that none is driven far into its class. Not the source
    document's, whose generator gets no such term.

    Args:
        logits: N×(K+1), the last of them garbage's, z_G.
        targets: int64 N, in 0 … K−1.
    """
    known, garbage = logits[:, :-1], logits[:, -1]
    wanted = known.gather(1, targets[:, None]).squeeze(1)
    return (garbage - wanted).clamp_min(-8) + F.cross_entropy(known, targets, reduction="none")


def kl_divergence(logits: Tensor, distribution: Tensor) -> Tensor:
    """KL(c ‖ p) = (1/N) Σ_n Σ_k c_nk (log c_nk − log p_k(x_n)): how far the output is from the conditioning.

    Args:
        logits: N×K, the classifier's, not yet softmaxed.
        distribution: N×K, the conditioning c, rows that sum to 1; 0·log 0 is 0.
    """
    # "batchmean" is the mean over N; F.kl_div's own default divides by N·K.
    return F.kl_div(logits.log_softmax(dim=1), distribution, reduction="batchmean")


def cosine(features: Tensor) -> Tensor:
    """(1/(N(N−1))) Σ_{i≠j} cos(φ_i, φ_j), in [−1/(N−1), 1], in O(N·D): Σ_{i≠j} cos = ‖Σ_i φ̂_i‖² − Σ_i ‖φ̂_i‖².

    Args:
        features: N×D, N ≥ 2; a row of zeros has cosine 0 with every other.
    """
    unit = normalised(features)
    count = len(unit)
    return (unit.sum(dim=0).square().sum() - unit.square().sum()) / (count * (count - 1))


def within_class(features: Tensor, targets: Tensor) -> Tensor:
    """Mean cos(φ_i, φ_j) over the pairs i ≠ j of one class, in [−1, 1]; 0 where there is no such pair.

    Args:
        features: N×D.
        targets: int64 N.
    """
    unit = normalised(features)
    same = (targets[:, None] == targets) & ~torch.eye(len(targets), dtype=torch.bool, device=targets.device)
    return (unit @ unit.T)[same].sum() / same.sum().clamp_min(1)


def head_gradient(logits: Tensor, features: Tensor, targets: Tensor) -> Tensor:
    """Mean over the images of ‖∂CE/∂(W, b)‖², of the last linear layer z = W φ + b: ‖p − e_y‖² (‖φ‖² + 1).

    Small on images that the classifier was trained on (Suhail & Sethi, arXiv 2410.16884, who take all weights; the
    head's have a closed form and need no second derivative).

    Args:
        logits: N×K.
        features: N×D, the layer's inputs.
        targets: int64 N.
    """
    error = logits.softmax(dim=1) - F.one_hot(targets, logits.shape[1])
    return (error.square().sum(dim=1) * (features.square().sum(dim=1) + 1)).mean()


def orthogonality(features: Tensor) -> Tensor:
    """(1/N²) Σ_ij (Ĝ_ij − δ_ij)² with Ĝ the Gram matrix of the L2-normalised features, in [0, 1].

    Expanded to (‖Ĝ‖² − 2 tr Ĝ + N)/N², where ‖Φ̂Φ̂ᵀ‖² = ‖Φ̂ᵀΦ̂‖²: the smaller of the N×N and the D×D matrix
    will do.

    Args:
        features: N×D.
    """
    unit = normalised(features)
    count, width = unit.shape
    gram = unit.T @ unit if width < count else unit @ unit.T
    return (gram.square().sum() - 2 * gram.trace() + count) / count**2


def image_cosine(images: Tensor) -> Tensor:
    """`cosine` of the pixels themselves, each image's mean taken off: low where the images look different.

    The cosine of the features alone does not see to that: one picture with traces of noise can drive them apart.

    Args:
        images: N×C×H×W, N ≥ 2; a flat image has cosine 0 with every other.
    """
    pixels = images.flatten(1)
    return cosine(pixels - pixels.mean(dim=1, keepdim=True))


def statistics(inputs: Tensor, mean: Tensor, variance: Tensor, epsilon: float) -> Tensor:
    """How far a layer's inputs are from what a BatchNorm remembers of the images that the classifier was trained on.

    The mean over channels of KL(N(μ, σ²) ‖ N(μ̂, σ̂²)) = ½ (σ²/σ̂² + (μ − μ̂)²/σ̂² − 1 − ln(σ²/σ̂²)): the idea of
    Yin et al. (DeepInversion, arXiv 1912.08795, eq. 4), who take norms of the differences, which depend on the
    scale of the layer.

    Args:
        inputs: N×C×…, of which μ and σ² are taken per channel.
        mean, variance: C, the remembered μ̂ and σ̂².
        epsilon: added to both variances.
    """
    others = [dimension for dimension in range(inputs.dim()) if dimension != 1]
    spread, centre = torch.var_mean(inputs, others, correction=0)
    ratio = (spread + epsilon) / (variance + epsilon)
    return (ratio + (centre - mean).square() / (variance + epsilon) - 1 - ratio.log()).mean() / 2


def total_variation(images: Tensor) -> Tensor:
    """Mean |difference| of vertical neighbours plus that of horizontal ones (anisotropic; Rudin et al. 1992).

    Args:
        images: N×C×H×W; means, so that the weight does not depend on the image's size.
    """
    return images.diff(dim=2).abs().mean() + images.diff(dim=3).abs().mean()


def l1(parameters: Iterable[Tensor]) -> Tensor:
    """Σ |w| over all weights of the generator."""
    return torch.stack([parameter.abs().sum() for parameter in parameters]).sum()


def normalised(features: Tensor) -> Tensor:
    """Rows of unit length; a row of zeros stays zeros."""
    length = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    # Dividing zeros by a tiny epsilon instead would give them a gradient of 1/epsilon.
    return features / length.masked_fill(length == 0, torch.inf)
