"""What pytorch-ood makes of stored tensors; `python -m tests.peers.peer_scores` stores that anew, by its version 0.4.0.

The tensors are those of the workload's ResNet-20: of 200 fit images, and of 20 ID, 20 texture and 20 noise images.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

FIXTURE = Path(__file__).parent / "data" / "pytorch_ood.npz"
GRAM_CLASSES = 3
SOFTENED = 4
"""What logits are divided by where pytorch-ood clips probabilities at 1e-7."""


def tensors() -> dict[str, Tensor]:
    """Those of the fixture; maps, which are stored in half precision, as float32."""
    with np.load(FIXTURE) as stored:
        found = {name: torch.from_numpy(stored[name]) for name in stored.files if not name.startswith("score:")}
    return {name: one.float() if one.dtype == torch.float16 else one for name, one in found.items()}


def stored_scores() -> dict[str, np.ndarray]:
    """pytorch-ood's scores in the fixture, the larger, the more OOD."""
    with np.load(FIXTURE) as stored:
        return {name.removeprefix("score:"): stored[name] for name in stored.files if name.startswith("score:")}


def gram_layers(maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Two layers' maps and logits, a small network's: the second pools the first."""
    second = F.avg_pool2d(maps, 2)
    return maps, second, second.mean(dim=(2, 3))[:, :GRAM_CLASSES]


def peer_scores(given: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """pytorch-ood's scores."""
    from pytorch_ood import detector as peer

    head = nn.Linear(64, 10)
    head.weight.data, head.bias.data = given["weight"], given["bias"]
    fit, labels, test, logits = (given[name] for name in ("fit_features", "fit_labels", "features", "logits"))
    gram = peer.Gram(
        head=lambda maps: maps.mean(dim=(2, 3))[:, :GRAM_CLASSES],
        feature_layers=[nn.Identity(), nn.AvgPool2d(2)],
        num_classes=GRAM_CLASSES,
        num_poles_list=list(range(1, 11)),
    )
    # Its bounds are those of the labels' classes, ours of the predicted: here the labels are what is predicted.
    predicted = gram_layers(given["gram_fit_maps"])[2].argmax(dim=1)
    linear = nn.Sequential(head)
    # Its OpenMax learns from all fit images, ours from those that are right: here the labels are what is predicted.
    fit_logits = given["fit_logits"]
    right = fit_logits.argmax(dim=1)
    openmax = peer.OpenMax(None, tailsize=10, alpha=3).fit_logits(fit_logits, right)
    # Features as maps of one place, which is how they take pooled ones.
    places, of_places = test[:, :, None, None], lambda maps: head(maps.flatten(1))
    found = {
        "MSP": peer.MaxSoftmax.score(logits),
        "MaxLogit": peer.MaxLogit.score(logits),
        "Energy": peer.EnergyBased.score(logits),
        "ReAct": peer.ReAct(nn.Identity(), head).fit_feature_maps(fit, labels).predict_feature_maps(test),
        "KNN": peer.KNN(None, k=50).fit_features(fit, labels).predict_features(test),
        "Mahalanobis": peer.Mahalanobis(None).fit_features(fit, labels).predict_features(test),
        "ViM": peer.ViM(None, 32, head.weight, head.bias).fit_features(fit, labels).predict_features(test),
        "GradNorm": peer.GradNorm(linear, param_filter=lambda name: name == "0.weight").predict(test),
        "RankFeat": peer.RankFeat(None, lambda maps: head(maps.mean(dim=(2, 3)))).predict_feature_maps(given["maps"]),
        "Entropy": peer.Entropy.score(logits / SOFTENED),
        "GEN": peer.GEN.score(logits / SOFTENED, gamma=0.1, M=10),
        "KLMatching": peer.KLMatching(None).fit_logits(fit_logits).predict_logits(logits),
        "OpenMax": openmax.predict_logits(logits),
        "OpenMax of the noise alone": openmax.predict_logits(logits[40:]),
        "PNML": peer.PNML(None, head).fit_features(fit, labels).predict_features(test),
        "RMD": peer.RMD(None).fit_features(fit, labels).predict_features(test),
        "SHE": peer.SHE(None, head).fit_features(fit, labels).predict_features(test),
        "NNGuide": peer.NNGuide(None, head, k=10).fit_features(fit, labels).predict_features(test),
        "fDBD": peer.fDBD(None, head).fit_features(fit).predict_features(test),
        "NCI": peer.NCI(None, head, alpha=1e-3).fit_features(fit).predict_features(test),
        **{
            name.upper(): peer.ASH(None, of_places, name, share).predict_feature_maps(places)
            for name, share in (("ash-p", 0.6), ("ash-b", 0.65), ("ash-s", 0.9))
        },
        "SCALE": peer.SCALE(None, of_places, 0.85).predict_feature_maps(places),
        "LTS": peer.LTS(None, head).predict_features(test),
        "DICE": peer.DICE(None, head.weight, head.bias, 0.9).fit_features(fit, labels).predict_features(test),
        "Gram": gram.fit([(given["gram_fit_maps"], predicted)]).predict(given["gram_maps"]),
    }
    return {name: score.detach().numpy() for name, score in found.items()}


def _captured() -> dict[str, np.ndarray]:
    from oodbench.live import passes
    from oodbench.outputs import Needs
    from tests.peers import workload

    classifier = workload.classifier()
    head = classifier.head_weights()
    assert head is not None
    needs = Needs("logits", "features", "maps:*")
    test = torch.cat([workload.images(name)[:20] for name in ("id", "textures", "gaussian")])
    (of_fit,), (of_test,) = (list(passes(classifier, [one], needs)) for one in (workload.images("fit")[:200], test))
    # The layer's first channels at a few places: a small network's maps, of three classes that nine images share.
    small = {name: one.maps("layer1")[:, :6, ::8, ::8].half() for name, one in (("fit", of_fit), ("test", of_test))}
    predicted = gram_layers(small["fit"].float())[2].argmax(dim=1)
    nine = torch.cat([(predicted == k).nonzero()[:3, 0] for k in range(GRAM_CLASSES)])
    assert len(nine) == 9
    kept = {
        "fit_features": of_fit.features,
        "fit_logits": of_fit.logits,
        "fit_labels": workload.fit_labels()[:200],
        "features": of_test.features,
        "logits": of_test.logits,
        "weight": head.weight.float(),
        "bias": head.bias.float(),
        "maps": of_test.maps("layer3")[::8].half(),
        "gram_fit_maps": small["fit"][nine],
        "gram_maps": small["test"],
    }
    return {name: one.numpy() for name, one in kept.items()}


if __name__ == "__main__":
    if not FIXTURE.is_file():  # the tensors stay as they are; take the file away to capture them anew
        np.savez_compressed(FIXTURE, **_captured())
    with np.load(FIXTURE) as stored:
        kept = {name: stored[name] for name in stored.files if not name.startswith("score:")}
    scores = peer_scores(tensors())
    np.savez_compressed(FIXTURE, **kept, **{f"score:{name}": one for name, one in scores.items()})
