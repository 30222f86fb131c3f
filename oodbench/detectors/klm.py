"""KL matching."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from oodbench.detectors.base import Detector, State
from oodbench.detectors.fitting import finite
from oodbench.detectors.softmax import log_probabilities
from oodbench.outputs import FitData, Needs, Outputs


@dataclass(frozen=True)
class KlMatching(Detector):
    """KL matching, Hendrycks et al. 2022 (arXiv 1911.11132): −min_k KL(p ‖ d_k).

    p are the softmax probabilities, d_k their mean over the fit images that are predicted to be of class k. A class
    that is predicted for no fit image has no d_k, and stands on the card.
    """

    fit_needs = Needs("logits")

    def learn(self, data: FitData) -> State:
        logits = finite(data.outputs.logits, "logits")
        predicted = logits.argmax(dim=1)
        templates = []
        for k in predicted.unique():
            log_p, _ = log_probabilities(logits[predicted == k])
            templates.append(log_p.logsumexp(dim=0) - log(len(log_p)))  # a mean that does not underflow
        never = sorted(set(range(logits.shape[1])) - set(predicted.tolist()))
        return {"log_templates": torch.stack(templates), "classes never predicted": never}

    def score(self, outputs: Outputs) -> Tensor:
        log_p, _ = log_probabilities(outputs.logits)
        p = log_p.exp()
        cross = p @ self.state["log_templates"].T
        return (cross - (p * log_p).sum(dim=1, keepdim=True)).amax(dim=1)
