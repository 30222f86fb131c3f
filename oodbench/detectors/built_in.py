"""The detectors that come with oodbench: a line each, readable without importing torch."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from operator import attrgetter
from typing import TYPE_CHECKING

from oodbench.errors import OodbenchError

if TYPE_CHECKING:
    from oodbench.detectors.base import Detector


@dataclass(frozen=True)
class DetectorEntry:
    """What the catalogue knows of a detector.

    Attributes:
        where: `module:Class`.
        paper: authors, year and arXiv number; of a detector from outside, its package and version.
        aliases: other names that users know it by.
        default: whether it is run where no detectors are named.
    """

    name: str
    where: str
    paper: str
    summary: str
    aliases: tuple[str, ...] = ()
    default: bool = False

    def load(self) -> type[Detector]:
        """Import the class.

        Raises:
            OodbenchError: it cannot be imported, or is no Detector.
        """
        from oodbench.detectors.base import Detector

        module, _, attribute = self.where.partition(":")
        try:
            loaded = attrgetter(attribute)(import_module(module))
        except (ImportError, AttributeError, ValueError) as error:
            raise OodbenchError(
                f"detector '{self.name}' cannot be imported from {self.where}: {error}; "
                f"reinstall or remove the package that it comes from, or look at the path"
            ) from error
        if not (isinstance(loaded, type) and issubclass(loaded, Detector)):
            raise OodbenchError(f"detector '{self.name}': {self.where} is no subclass of oodbench.Detector")
        return loaded


BUILT_IN = (
    DetectorEntry(
        "msp",
        "oodbench.detectors.softmax:Msp",
        "Hendrycks & Gimpel 2017 (arXiv 1610.02136)",
        "maximum softmax probability, as its log-odds, which do not saturate",
        ("smood",),
        default=True,
    ),
    DetectorEntry(
        "lc",
        "oodbench.detectors.linear:LinearClassifier",
        "linear separability of penultimate features; proxies as in Hendrycks et al. 2019 (arXiv 1812.04606)",
        "linear classifier on penultimate features, ID against shuffled ID, or distance to class boundaries "
        "(the literature also writes LC for learned confidence, which is another detector)",
        default=True,
    ),
    DetectorEntry(
        "odin",
        "oodbench.detectors.odin:Odin",
        "Liang, Li & Srikant 2018 (arXiv 1706.02690)",
        "maximum softmax probability at a high temperature, after a small step against the input gradient",
        default=True,
    ),
    DetectorEntry(
        "perturb",
        "oodbench.detectors.perturb:Perturb",
        "Liang, Li & Srikant 2018 (arXiv 1706.02690); Lee et al. 2018 (arXiv 1807.03888)",
        "another detector after a small step up the gradient of its own score",
    ),
    DetectorEntry(
        "oodl",
        "oodbench.detectors.oodl:OodL",
        "Abdelzad et al. 2019 (arXiv 1910.10307)",
        "one-class SVM on the pooled output of the layer that tells ID from shuffled ID best",
        default=True,
    ),
    DetectorEntry(
        "maxlogit",
        "oodbench.detectors.logits:MaxLogit",
        "Hendrycks et al. 2022 (arXiv 1911.11132)",
        "largest logit",
        default=True,
    ),
    DetectorEntry(
        "energy",
        "oodbench.detectors.logits:Energy",
        "Liu et al. 2020 (arXiv 2010.03759)",
        "negative free energy of the logits, T·logsumexp(z/T)",
        default=True,
    ),
    DetectorEntry(
        "inversion",
        "oodbench.detectors.inversion:Inversion",
        "Suhail et al. 2025 (arXiv 2505.23448)",
        "a classifier of its own with a garbage class, trained on noise and on inversions of itself",
        default=True,
    ),
    DetectorEntry(
        "confidence",
        "oodbench.detectors.confidence:Confidence",
        "DeVries & Taylor 2018 (arXiv 1802.04865)",
        "a classifier of its own that learned to say how sure it is, paid in hints",
    ),
    DetectorEntry(
        "react",
        "oodbench.detectors.react:React",
        "Sun, Guo & Li 2021 (arXiv 2111.12797)",
        "another detector on the network whose penultimate features are clipped at a percentile",
    ),
    DetectorEntry(
        "ash_p",
        "oodbench.detectors.ash:AshP",
        "Djurisic et al. 2023 (arXiv 2209.09858)",
        "another detector on the network whose lowest features are pruned, image by image",
    ),
    DetectorEntry(
        "ash_b",
        "oodbench.detectors.ash:AshB",
        "Djurisic et al. 2023 (arXiv 2209.09858)",
        "another detector on the network whose highest features are all alike and the others pruned",
    ),
    DetectorEntry(
        "ash_s",
        "oodbench.detectors.ash:AshS",
        "Djurisic et al. 2023 (arXiv 2209.09858)",
        "another detector on the network whose highest features are sharpened and the others pruned",
    ),
    DetectorEntry(
        "scale",
        "oodbench.detectors.scale:Scale",
        "Xu et al. 2024 (arXiv 2310.00227)",
        "another detector on the network whose features are scaled by how few of them stand out",
    ),
    DetectorEntry(
        "adascale",
        "oodbench.detectors.adascale:AdaScale",
        "Regmi 2025 (arXiv 2503.08023)",
        "scale, at a percentile of each image's own, by how its features shift under a small step",
    ),
    DetectorEntry(
        "lts",
        "oodbench.detectors.lts:Lts",
        "Djurisic, Liu & Nikolić 2024 (arXiv 2409.01175)",
        "another detector on the network whose logits are scaled by how few features stand out",
    ),
    DetectorEntry(
        "vra",
        "oodbench.detectors.vra:Vra",
        "Xu et al. 2023 (arXiv 2302.11716)",
        "another detector on the network whose low features are cut off and high ones clipped",
    ),
    DetectorEntry(
        "dice",
        "oodbench.detectors.dice:Dice",
        "Sun & Li 2022 (arXiv 2111.09805)",
        "another detector on the network that keeps the last weights which contribute most",
    ),
    DetectorEntry(
        "knn",
        "oodbench.detectors.knn:NearestNeighbours",
        "Sun et al. 2022 (arXiv 2204.06507)",
        "distance to the k-th nearest fit image, by normalised penultimate features",
    ),
    DetectorEntry(
        "mahalanobis",
        "oodbench.detectors.mahalanobis:Mahalanobis",
        "Lee et al. 2018 (arXiv 1807.03888)",
        "Mahalanobis distance of the penultimate features to the nearest class, with one covariance for all",
    ),
    DetectorEntry(
        "mahalanobis_layers",
        "oodbench.detectors.mahalanobis_layers:MahalanobisLayers",
        "Lee et al. 2018 (arXiv 1807.03888)",
        "Mahalanobis distances of all layers, weighted by telling ID from shuffled ID",
    ),
    DetectorEntry(
        "vim",
        "oodbench.detectors.vim:Vim",
        "Wang et al. 2022 (arXiv 2203.10807)",
        "energy less a virtual logit, the length of the features outside their principal directions",
    ),
    DetectorEntry(
        "entropy",
        "oodbench.detectors.softmax:Entropy",
        "Chan, Rottmann & Gottschalk 2021 (arXiv 2012.06575)",
        "negative entropy of the softmax probabilities",
    ),
    DetectorEntry(
        "gen",
        "oodbench.detectors.softmax:Gen",
        "Liu, Lochman & Zach 2023 (CVPR)",
        "generalised entropy of the largest softmax probabilities",
    ),
    DetectorEntry(
        "tempscale",
        "oodbench.detectors.tempscale:TemperatureScaling",
        "Guo et al. 2017 (arXiv 1706.04599)",
        "maximum softmax probability at the temperature that makes the fit images' classes likeliest",
    ),
    DetectorEntry(
        "klm",
        "oodbench.detectors.klm:KlMatching",
        "Hendrycks et al. 2022 (arXiv 1911.11132)",
        "KL divergence of the softmax probabilities from the nearest class's mean ones",
    ),
    DetectorEntry(
        "openmax",
        "oodbench.detectors.openmax:OpenMax",
        "Bendale & Boult 2016 (arXiv 1511.06233)",
        "how little an unknown class takes from the logits, by the Weibull tails of the classes' distances",
    ),
    DetectorEntry(
        "rmd",
        "oodbench.detectors.mahalanobis:RelativeMahalanobis",
        "Ren et al. 2021 (arXiv 2106.09022)",
        "Mahalanobis distance to the nearest class, less that to all classes together",
    ),
    DetectorEntry(
        "gmm",
        "oodbench.detectors.gmm:GaussianMixture",
        "Gaussian classes as in Lee et al. 2018 (arXiv 1807.03888)",
        "log-density of the penultimate features, one Gaussian a class",
    ),
    DetectorEntry(
        "cosine",
        "oodbench.detectors.cosine:Cosine",
        "cosine of features as in Techapanurak et al. 2020 (arXiv 1905.10628)",
        "cosine of the penultimate features with the nearest class's mean",
    ),
    DetectorEntry(
        "residual",
        "oodbench.detectors.vim:Residual",
        "Wang et al. 2022 (arXiv 2203.10807)",
        "length of the penultimate features outside their principal directions",
    ),
    DetectorEntry(
        "neco",
        "oodbench.detectors.neco:Neco",
        "Ben Ammar et al. 2024 (arXiv 2310.06823)",
        "share of the features within their principal directions, times the largest logit",
    ),
    DetectorEntry(
        "pnml",
        "oodbench.detectors.pnml:Pnml",
        "Bibas, Feder & Hassner 2021 (arXiv 2110.09246)",
        "regret of the softmax probabilities, the larger the farther the features are from those of fit images",
    ),
    DetectorEntry(
        "she",
        "oodbench.detectors.she:HopfieldEnergy",
        "Zhang et al. 2023 (ICLR)",
        "product of the penultimate features with the predicted class's mean ones",
    ),
    DetectorEntry(
        "nnguide",
        "oodbench.detectors.nnguide:NearestNeighbourGuidance",
        "Park, Jung & Teoh 2023 (arXiv 2309.14888)",
        "energy times the cosine with the nearest fit images, weighted by their energy",
    ),
    DetectorEntry(
        "relation",
        "oodbench.detectors.relation:Relation",
        "Kim et al. 2023 (arXiv 2301.12321)",
        "how many fit images are alike in features and in softmax probabilities",
    ),
    DetectorEntry(
        "fdbd",
        "oodbench.detectors.fdbd:DecisionBoundary",
        "Liu & Qin 2024 (arXiv 2312.11536)",
        "mean distance to the class boundaries, relative to that from the mean features",
    ),
    DetectorEntry(
        "nci",
        "oodbench.detectors.nci:NeuralCollapse",
        "Liu & Qin 2023 (arXiv 2311.01479)",
        "how far the centred features point along the predicted class's weights, and how large they are",
    ),
    DetectorEntry(
        "gradnorm",
        "oodbench.detectors.gradnorm:GradNorm",
        "Huang, Geng & Li 2021 (arXiv 2110.00218)",
        "L1 norm of the last weight's gradient of KL(uniform ‖ softmax), in closed form",
    ),
    DetectorEntry(
        "nac",
        "oodbench.detectors.nac:NeuronCoverage",
        "Liu et al. 2024 (arXiv 2306.02879)",
        "how much of the penultimate neurons' states, features times gradients, ID images cover",
    ),
    DetectorEntry(
        "mcd",
        "oodbench.detectors.mcd:MonteCarloDropout",
        "Gal & Ghahramani 2016 (arXiv 1506.02142)",
        "mean softmax over passes with dropout: its maximum, or how little the passes disagree",
    ),
    DetectorEntry(
        "ensemble",
        "oodbench.detectors.ensemble:Ensemble",
        "Lakshminarayanan, Pritzel & Blundell 2017 (arXiv 1612.01474)",
        "mean softmax over the classifiers under test: its maximum, or how little they disagree",
    ),
    DetectorEntry(
        "tta",
        "oodbench.detectors.tta:TestTimeAugmentation",
        "test-time augmentation",
        "mean softmax over shifted and flipped views: its maximum, or how little the views disagree",
    ),
    DetectorEntry(
        "fusion",
        "oodbench.detectors.fusion:Fusion",
        "fusion of scores",
        "mean of several detectors' z-scores, or ranks, among ID images",
    ),
    DetectorEntry(
        "rankfeat",
        "oodbench.detectors.rankfeat:RankFeat",
        "Song, Sebe & Wang 2022 (arXiv 2209.08590)",
        "another detector on the network whose last maps have lost their first singular component",
    ),
    DetectorEntry(
        "gram",
        "oodbench.detectors.gram:Gram",
        "Sastry & Oore 2020 (arXiv 1912.12510)",
        "how far the Gram matrices of all maps leave what they are on fit images of the predicted class",
    ),
    DetectorEntry(
        "constant",
        "oodbench.detectors.controls:Constant",
        "control",
        "the same score for every image: AUROC must be 0.5, FPR@95 1",
        default=True,
    ),
    DetectorEntry(
        "random",
        "oodbench.detectors.controls:Random",
        "control",
        "a random number that depends on the seed and the pixels alone: what chance looks like",
        default=True,
    ),
    DetectorEntry(
        "smoothness",
        "oodbench.detectors.controls:Smoothness",
        "control",
        "minus the total variation: where it does well, a benchmark tells smooth images from rough ones",
    ),
    DetectorEntry(
        "intensity",
        "oodbench.detectors.controls:Intensity",
        "control",
        "mean pixel: where it does well, a benchmark tells bright images from dark ones",
    ),
    DetectorEntry(
        "jpeg",
        "oodbench.detectors.controls:JpegSize",
        "control",
        "minus the bytes as a JPEG: where it does well, a benchmark tells simple images from complex ones",
    ),
)
