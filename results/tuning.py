"""What tuning is worth, for docs/tune.md: `python results/tuning.py DATA [NETWORK ...]` writes tuning.csv and the page.

DATA is the folder of the data sets, with the public CIFAR-10 ResNets in its weights/; without it the page alone is
written. Each detector is scored on the same images as it comes, as picked on proxies, as picked on a named validation
set, and as an oracle picks it; the interval of a gain over the default is of DeLong's paired variance over all sets.
"""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pandas as pd
from tables import filled

RESULTS = Path(__file__).parent
PAGE = RESULTS.parent / "docs/tune.md"
WEIGHTS = {"resnet20": "resnet20-12fca82f.th", "resnet32": "resnet32-d509ac18.th", "resnet44": "resnet44-014dd654.th"}
SCORED = ("textures", "scenes", "cifar100", "tinyimagenet", "mnist")
VALIDATION = ("notmnist",)
DETECTORS = ("odin", "react", "ash_s", "knn", "vim", "oodl")
GRIDS = {
    "odin.temperature": ("1", "1000"),
    "odin.epsilon": ("0", "0.0005", "0.0014", "0.0028", "0.005"),
    # Of OODL the layer alone is picked; as it comes it chooses one on proxies by itself.
    "oodl.nu": ("0.001",),
}
"""Instead of those declared; each point of ODIN's costs passes."""
KINDS = ("default", "proxies", "validation", "oracle")


def measure(data: Path, model: str) -> list[dict[str, object]]:
    """A row a detector and way of choosing: the pick, its mean AUROC over the scored sets, and its gain."""
    from oodbench import Benchmark, Machine, run
    from oodbench.models.load import load_classifier
    from oodbench.tuning import tune

    machine = Machine(data_root=data, device="cpu")
    classifier = load_classifier(
        f"{model}={data / 'weights' / WEIGHTS[model]}",
        num_classes=10,
        image_shape=(3, 32, 32),
        mean="imagenet",
        std="imagenet",
    )
    benchmark = Benchmark(id="cifar10", ood=SCORED, detectors=DETECTORS, limit=1000, fit_limit=2000)
    picks = {name: {"default": name} for name in DETECTORS}
    for kind, given in (("proxies", ()), ("validation", VALIDATION), ("oracle", ())):
        search = replace(benchmark, validation_ood=given)
        grids = {**GRIDS, "oodl.layer": classifier.layers}
        for found in tune(search, [classifier], machine, grids=grids, oracle=kind == "oracle"):
            picks[found.asked][kind] = found.picked
    labels = tuple(dict.fromkeys(label for own in picks.values() for label in own.values()))
    scores = run(replace(benchmark, detectors=labels), [classifier], machine).scores
    return [
        {"model": model, "detector": name, "chosen on": kind, "pick": own[kind]}
        | gain(scores, model, own["default"], own[kind])
        for name, own in picks.items()
        for kind in KINDS
    ]


def gain(scores: dict[tuple[str, str, str], np.ndarray], model: str, default: str, pick: str) -> dict[str, float]:
    """Mean AUROC of a pick over the scored sets, how much more than the default's, and a 95 % interval of that."""
    from oodbench.statistics import auroc_influence

    def influences(label: str) -> list:
        of_id = scores[model, label, "cifar10"]
        return [auroc_influence(of_id, scores[model, label, ood]) for ood in SCORED]

    pairs = list(zip(influences(pick), influences(default), strict=True))
    difference = float(np.mean([one.value - other.value for one, other in pairs]))
    id_part = np.mean([one.id_part - other.id_part for one, other in pairs], axis=0)
    variance = np.var(id_part, ddof=1) / len(id_part)
    # ID images are the same on every set, OOD images are not.
    for one, other in pairs:
        part = one.ood_part - other.ood_part
        variance += np.var(part, ddof=1) / len(part) / len(pairs) ** 2
    half = NormalDist().inv_cdf(0.975) * float(np.sqrt(variance))
    mean = float(np.mean([one.value for one, _ in pairs]))
    return {"auroc": mean, "gain": difference, "gain_low": difference - half, "gain_high": difference + half}


def tuned() -> pd.DataFrame:
    """The table of the page: AUROC of the default, gains of the others in points with intervals, picks."""
    rows = pd.read_csv(RESULTS / "tuning.csv")
    table = []
    for (model, detector), own in rows.groupby(["model", "detector"], sort=False):
        by_kind = own.set_index("chosen on")
        line = {"network": model, "detector": detector, "default": f"{100 * by_kind['auroc']['default']:.1f}"}
        for kind in KINDS[1:]:
            one = by_kind.loc[kind]
            low, high = (f"{100 * one[end]:+.1f}" for end in ("gain_low", "gain_high"))
            inside = (found[1] for found in [re.search(r"\((.*)\)", one["pick"])] if found)
            pick = next(inside, "the default")
            value = f"{100 * one['gain']:+.1f} [{low}, {high}]" if pick != "the default" else "0"
            line[kind] = f"{value}: {pick}"
        table.append(line)
    return pd.DataFrame(table)


def shares() -> pd.DataFrame:
    """Per detector, the mean gain over the networks by each way of choosing, and its share of the oracle's."""
    rows = pd.read_csv(RESULTS / "tuning.csv")
    means = rows.pivot_table(index="detector", columns="chosen on", values="gain", sort=False).loc[list(DETECTORS)]
    over = {"mean": means.mean(), "mean without ash_s": means.drop("ash_s").mean()}
    for name, mean in over.items():
        means.loc[name] = mean
    table = []
    for detector, own in means.iterrows():
        line = {"detector": detector}
        for kind in KINDS[1:]:
            share = (
                f" ({100 * own[kind] / own['oracle']:.0f} %)"
                if kind != "oracle" and own[kind] >= 0 and own["oracle"] > 0.001
                else ""
            )
            line[kind] = f"{100 * own[kind]:+.1f}{share}"
        table.append(line)
    return pd.DataFrame(table)


TABLES = {one.__name__: one for one in (shares, tuned)}


def page(text: str) -> str:
    """The page with each table made anew."""
    return filled(text, TABLES)


def main(data: Path | None = None, *networks: str) -> None:
    """Measure, one network after the other, and write the page."""
    rows: list[dict[str, object]] = []
    for model in (networks or WEIGHTS) if data else ():
        rows += measure(data, model)
        pd.DataFrame(rows).to_csv(RESULTS / "tuning.csv", index=False)
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]), *sys.argv[2:])
