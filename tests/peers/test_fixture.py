"""Against pytorch-ood 0.4.0 on stored tensors of a ResNet-20, score by score; it need not be installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

from oodbench.detectors.base import Detector
from oodbench.detectors.spec import build
from oodbench.outputs import Change, FitData, Head, Outputs
from tests.peers.peer_scores import SOFTENED, gram_layers, peer_scores, stored_scores, tensors

GIVEN, THEIRS = tensors(), stored_scores()
HEAD = Head(GIVEN["weight"].double(), GIVEN["bias"].double())
FIT = Outputs({"logits": GIVEN["fit_logits"], "features": GIVEN["fit_features"]}, HEAD)
TEST = Outputs({"logits": GIVEN["logits"], "features": GIVEN["features"]}, HEAD)
SOFT = Outputs({"logits": GIVEN["logits"] / SOFTENED})


class OfMaps(Outputs):
    """The last maps of a ResNet, which its head reads averaged over space."""

    def edited(self, changes: Mapping[str, Change]) -> Outputs:
        return Outputs({"logits": HEAD(changes["maps:last"](self.maps()).mean(dim=(2, 3)))})


def of_small_network(maps: Tensor) -> Outputs:
    first, second, logits = gram_layers(maps)
    return Outputs({"logits": logits, "maps:first": first, "maps:second": second})


def in_probability(log_odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-log_odds))


def of_scatter(distances: np.ndarray) -> np.ndarray:
    """Theirs halves the distance, and does not divide the scatter by the number of fit images."""
    return distances / (2 * len(FIT))


def relative(distances: np.ndarray) -> np.ndarray:
    """Theirs divides neither scatter by the number of fit images."""
    return distances / len(FIT)


def of_unknown(log_odds: np.ndarray) -> np.ndarray:
    return -1 / (1 + np.exp(log_odds))


def in_classes(regret: np.ndarray) -> np.ndarray:
    """Theirs has logarithms to the base of the number of classes."""
    return regret / np.log(10)


def mean_of_ten(scores: np.ndarray) -> np.ndarray:
    return scores / 10


def as_is(scores: np.ndarray) -> np.ndarray:
    return scores


# Our detector, what it reads, theirs, what makes one of the other, and the relative tolerance: they compute in float32.
CASES: tuple[tuple[str, Outputs, str, Callable[[np.ndarray], np.ndarray], float], ...] = (
    ("msp", TEST, "MSP", in_probability, 1e-6),
    ("maxlogit", TEST, "MaxLogit", as_is, 1e-6),
    ("energy", TEST, "Energy", as_is, 1e-6),
    ("react", TEST, "ReAct", as_is, 1e-6),
    ("ash_p", TEST, "ASH-P", as_is, 1e-6),
    ("ash_b", TEST, "ASH-B", as_is, 1e-6),
    ("ash_s", TEST, "ASH-S", as_is, 1e-5),
    ("scale", TEST, "SCALE", as_is, 1e-5),
    ("lts", TEST, "LTS", as_is, 1e-5),
    ("dice", TEST, "DICE", as_is, 1e-6),
    ("knn", TEST, "KNN", as_is, 1e-5),
    ("mahalanobis(shrinkage=0)", TEST, "Mahalanobis", of_scatter, 1e-5),
    # Their residual is a difference of float32 features around an origin that is far from them.
    ("vim", TEST, "ViM", as_is, 1e-3),
    ("gradnorm", TEST, "GradNorm", as_is, 1e-5),
    ("rankfeat", OfMaps({"maps:last": GIVEN["maps"]}), "RankFeat", as_is, 1e-5),
    ("entropy", SOFT, "Entropy", as_is, 1e-5),
    ("gen", SOFT, "GEN", mean_of_ten, 1e-5),
    ("klm", TEST, "KLMatching", as_is, 1e-5),
    ("openmax(tail=10,alpha=3)", TEST, "OpenMax", of_unknown, 1e-3),
    ("pnml(preset=pytorch-ood)", TEST, "PNML", in_classes, 1e-4),
    ("rmd(shrinkage=0)", TEST, "RMD", relative, 1e-4),
    ("she", TEST, "SHE", as_is, 1e-5),
    ("nnguide", TEST, "NNGuide", as_is, 1e-5),
    ("fdbd", TEST, "fDBD", as_is, 1e-5),
    ("nci", TEST, "NCI", as_is, 1e-5),
    ("gram", of_small_network(GIVEN["gram_maps"]), "Gram", as_is, 1e-5),
)


@pytest.mark.parametrize(("spec", "test", "peer", "change", "tolerance"), CASES, ids=[case[0] for case in CASES])
def test_scores_agree(
    spec: str, test: Outputs, peer: str, change: Callable[[np.ndarray], np.ndarray], tolerance: float
) -> None:
    detector: Detector = build(spec)
    if spec == "gram":
        fit = of_small_network(GIVEN["gram_fit_maps"])
        fitted = detector.fit(FitData(fit.stored(), reduced=detector.reduce(fit)))
    else:
        # Their OpenMax takes all fit images to be right.
        labels = GIVEN["fit_logits"].argmax(dim=1) if spec.startswith("openmax") else GIVEN["fit_labels"]
        fitted = detector.fit(FitData(FIT, labels))
    found = change(fitted.score(test).numpy())
    assert len(np.unique(THEIRS[peer])) > len(test) / 2
    np.testing.assert_allclose(found, -THEIRS[peer], rtol=tolerance, atol=tolerance * THEIRS[peer].std())


def test_their_openmax_depends_on_the_batch_and_ours_does_not() -> None:
    """Theirs takes a class that is predicted for no image of the batch to be at no distance."""
    together, alone = THEIRS["OpenMax"][40:], THEIRS["OpenMax of the noise alone"]
    assert np.abs(together - alone).max() > 0.01
    right = FitData(FIT, GIVEN["fit_logits"].argmax(dim=1))
    fitted = build("openmax(tail=10,alpha=3)").fit(right)
    torch.testing.assert_close(fitted.score(TEST)[40:], fitted.score(TEST.select(slice(40, None))), rtol=1e-12, atol=0)


def test_the_stored_scores_are_what_the_installed_library_gives() -> None:
    pytest.importorskip("pytorch_ood", reason="pytorch-ood is not installed")
    torch.manual_seed(0)
    for name, found in peer_scores(GIVEN).items():
        np.testing.assert_allclose(found, THEIRS[name], rtol=1e-4, atol=1e-5, err_msg=name)
