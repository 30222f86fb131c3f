"""Temperature scaling."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log

from scipy.optimize import brentq
from torch import Tensor

from oodbench.detectors.base import Detector, State
from oodbench.detectors.fitting import ROWS, class_labels, finite
from oodbench.detectors.softmax import top_log_odds
from oodbench.outputs import FitData, Needs, Outputs

COLDEST, HOTTEST = 1e-3, 1e3
"""Where T is looked for."""


@dataclass(frozen=True)
class TemperatureScaling(Detector):
    """Temperature scaling, Guo et al. 2017 (arXiv 1706.04599): max_k softmax(z/T)_k, as log-odds.

    T is where the negative log-likelihood of the fit images' classes is least, the only root of its slope, to ten
    digits. Where it falls to either end of 0.001 … 1,000, as it does to the lower one where the classifier has all
    fit images right, T is that end.
    """

    fit_needs = Needs("logits", "labels")

    def learn(self, data: FitData) -> State:
        logits = finite(data.outputs.logits, "logits")
        labels = class_labels(data, "tempscale")
        low, high = log(COLDEST), log(HOTTEST)
        if slope(logits, labels, COLDEST) >= 0:
            return {"temperature": COLDEST}
        if slope(logits, labels, HOTTEST) <= 0:
            return {"temperature": HOTTEST}
        root = brentq(lambda one: slope(logits, labels, exp(one)), low, high, xtol=1e-10)
        return {"temperature": exp(root)}

    def score(self, outputs: Outputs) -> Tensor:
        return top_log_odds(outputs.logits, self.state["temperature"])


def slope(logits: Tensor, labels: Tensor, temperature: float) -> float:
    """−d/d(1/T) of the mean negative log-likelihood of N×K logits: it has the sign of the derivative by T."""
    total = 0.0
    for z, own in zip(logits.split(ROWS), labels.split(ROWS), strict=True):
        z = z.double()
        expected = ((z / temperature).softmax(dim=1) * z).sum(dim=1)
        total += float((z.gather(1, own[:, None])[:, 0] - expected).sum())
    return total / len(logits)
