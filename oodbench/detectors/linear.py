"""Linear classifiers on the penultimate features."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge
from torch import Tensor

from oodbench.detectors.base import Detector, State, parameter
from oodbench.detectors.fitting import learned, proxy_sets
from oodbench.detectors.standardised import standardised
from oodbench.errors import OodbenchError
from oodbench.outputs import FitData, Needs, Outputs

PROXIES = ("pixel-shuffled", "patch-shuffled", "patch-shuffled-8")


@dataclass(frozen=True)
class LinearClassifier(Detector):
    """Linear separability of the standardised penultimate features, in two readings.

    proxy: logistic regression of ID against proxies made from ID, both sides with the same weight; the score
    is the log-odds of ID. boundary: one linear classifier a class against the rest, by least squares, on ID
    alone; the score is the largest signed distance (w·h + b)/‖w‖ to the boundary of a class, in units of the
    standardised features. A class without fit images has no boundary.
    """

    mode: str = parameter(
        "proxy",
        "proxy: ID against proxies; boundary: distance to class boundaries",
        choices=("proxy", "boundary"),
    )
    proxies: str = parameter(
        "pixel-shuffled",
        "with mode proxy: the sets that ID is told from, joined by +",
        choices=tuple("+".join(chosen) for count in (1, 2, 3) for chosen in combinations(PROXIES, count)),
    )
    C: float = parameter(
        0.01,
        "inverse strength of the L2 penalty, in scikit-learn's sense",
        low=1e-9,
        high=1e9,
        grid=(1e-4, 1e-3, 0.01, 0.1, 1.0),
    )

    needs = Needs("features")

    @property
    def fit_needs(self) -> Needs:
        if self.mode == "boundary":
            return Needs("features", "labels")
        return Needs("features", *(f"proxy:{name}" for name in self.proxies.split("+")))

    def learn(self, data: FitData) -> State:
        features = data.outputs.features
        if self.mode == "boundary":
            weight, bias = self._class_boundaries(features, data.labels)
        else:
            weight, bias = self._against_proxies(features, proxy_sets(data, self.proxies.split("+")))
        return {"weight": learned(weight, features), "bias": learned(bias, features)}

    def score(self, outputs: Outputs) -> Tensor:
        return (outputs.features.double() @ self.state["weight"].T + self.state["bias"]).amax(dim=1)

    def _against_proxies(self, features: Tensor, proxies: dict[str, Outputs]) -> tuple[np.ndarray, np.ndarray]:
        """Weight (1×D) and bias (1) of the log-odds of ID, on features as they are."""
        others = {f"features of {name}": proxy.features for name, proxy in proxies.items()}
        both, scaler = standardised({"features": features, **others})
        model = LogisticRegression(C=self.C, class_weight="balanced", max_iter=10_000)
        model.fit(both, np.arange(len(both)) < len(features))
        weight = model.coef_ / scaler.scale_
        return weight, model.intercept_ - weight @ scaler.mean_

    def _class_boundaries(self, features: Tensor, labels: Tensor | None) -> tuple[np.ndarray, np.ndarray]:
        """Weight (K×D) and bias (K) of the signed distances, on features as they are."""
        known = np.empty(0) if labels is None else labels.cpu().numpy()
        classes = np.unique(known)
        if len(classes) < 2 or classes[0] < 0:
            found = "none" if labels is None else classes.tolist()
            raise OodbenchError(
                f"lc(mode=boundary) needs the classes of all fit images, at least two, but got {found}; "
                f"give a labelled fit set, or use mode=proxy"
            )
        values, scaler = standardised({"features": features})
        # Least squares solves for all classes at once, where a support vector machine a class takes minutes
        # on 2,048 features. scikit-learn's correspondence of the penalties is alpha = 1/(2C).
        model = Ridge(alpha=1 / (2 * self.C), copy_X=False)
        model.fit(values, np.where(known[:, None] == classes, 1.0, -1.0))
        lengths = np.linalg.norm(model.coef_, axis=1).clip(min=np.finfo(np.float64).tiny)
        weight = model.coef_ / lengths[:, None] / scaler.scale_
        return weight, model.intercept_ / lengths - weight @ scaler.mean_
