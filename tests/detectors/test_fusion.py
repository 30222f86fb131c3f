"""Fusion: z-scores and ranks by NumPy, texts to detectors and back, and what cannot be compared."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from oodbench.detectors.fusion import Fusion
from oodbench.detectors.knn import NearestNeighbours
from oodbench.detectors.logits import Energy
from oodbench.detectors.odin import Odin
from oodbench.detectors.spec import Detectors, build, label
from oodbench.errors import OodbenchError
from oodbench.example import make_example
from oodbench.outputs import FitData, Head, Needs, Outputs
from oodbench.subject import _with_bases

HEAD = Head(torch.randn(3, 6, generator=torch.Generator().manual_seed(9)).double(), torch.arange(3.0).double())


def drawn(count: int, seed: int) -> Outputs:
    features = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed)).relu()
    return Outputs({"features": features, "logits": HEAD(features)}, HEAD)


@pytest.mark.parametrize("by", ["z", "rank"])
def test_is_the_mean_of_what_is_comparable(by: str) -> None:
    fit, test = drawn(100, 0), drawn(30, 1)
    fitted = Fusion(detectors=("energy", NearestNeighbours(k=3)), by=by).fit(FitData(fit))  # type: ignore[arg-type]
    order = np.random.default_rng(0).permutation(100)
    apart, used = (fit.select(torch.from_numpy(one)) for one in (order[:20], order[20:]))
    columns = []
    for one in (Energy(), NearestNeighbours(k=3)):
        known = one.fit(FitData(used)).score(apart).numpy()
        asked = one.fit(FitData(fit)).score(test).numpy()
        shares = [((known < s).sum() + (known <= s).sum()) / (2 * len(known)) for s in asked]
        columns.append((asked - known.mean()) / known.std() if by == "z" else shares)
    np.testing.assert_allclose(fitted.score(test).numpy(), np.mean(columns, axis=0), rtol=1e-9)


def test_ranks_count_ties_half() -> None:
    fit = drawn(100, 0)
    constant = Fusion(detectors="constant+energy", by="rank").fit(FitData(fit)).score(fit)  # type: ignore[arg-type]
    ranks = 2 * constant - 0.5  # the constant is in the middle of its ties
    assert ranks.min() == 0 and ranks.max() == 1
    z = Fusion(detectors="constant+energy").fit(FitData(fit)).score(fit)  # type: ignore[arg-type]
    assert z.isfinite().all() and torch.equal(z.argsort(), Energy().score(fit).argsort())


def test_one_that_reads_the_batch_is_compared_on_the_fit_batches() -> None:
    example = make_example(precision=torch.float64)
    fusion = build("fusion(detectors=energy+odin(norm=l2))")
    assert fusion.reduces and "gradient" in fusion.fit_needs and not build("fusion").reduces
    fitted = example.fitted(fusion)
    order = np.random.default_rng(0).permutation(len(example.fit_images))
    apart = example.fit_images[torch.from_numpy(order[: len(order) // 5])]
    columns = []
    for one in (Energy(), Odin(norm="l2")):
        known, asked = (example.scores(one, images).numpy() for images in (apart, example.all_images))
        columns.append((asked - known.mean()) / known.std())
    found = example.scores(fitted, example.all_images)
    np.testing.assert_allclose(found.numpy(), np.mean(columns, axis=0), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    "spec",
    [
        "fusion(detectors=energy+knn(k=10),by=rank)",
        "fusion(detectors=lc(proxies=pixel-shuffled+patch-shuffled)+odin(norm=l2,clip=true))",
        "fusion(detectors=fusion(detectors=energy+vim)+react(base=fusion(detectors=maxlogit+knn)))",
    ],
)
def test_its_text_is_read_back(spec: str) -> None:
    fusion = build(spec)
    assert label(fusion) == spec and build(label(fusion)) == fusion and hash(fusion) == hash(build(spec))


def test_objects_and_texts_are_one_and_the_same() -> None:
    given = Fusion(detectors=[Energy(), "knn(k=10)"])  # type: ignore[arg-type]
    assert given == build("fusion(detectors=energy+knn(k=10))") and isinstance(given.detectors, Detectors)
    assert label(Fusion()) == "fusion" and str(Fusion().detectors) == "energy+knn"
    assert build("fusion(detectors= energy + knn )") == Fusion()


def test_needs_follow_its_detectors() -> None:
    assert Fusion().needs == Needs("logits", "features") == Fusion().fit_needs
    fusion = Fusion(detectors="oodl(layer=a)+mahalanobis")  # type: ignore[arg-type]
    assert fusion.fit_needs == Needs("layer:a", "features", "labels")


def test_a_run_knows_the_code_of_its_detectors() -> None:
    kinds = [type(one).__name__ for one in _with_bases(build("react(base=fusion(detectors=energy+scale(base=knn)))"))]
    assert kinds == ["React", "Fusion", "Energy", "Scale", "NearestNeighbours"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("energy", "two detectors or more, each once, not 'energy'"),
        ("energy+energy", "each once, not 'energy\\+energy'"),
        ("energy+", "'energy\\+' is not several detectors; write e.g. energy\\+knn"),
        ("energy+gram", "fusion cannot read through gram, which learns and reads the batch itself"),
        ("energy+perturb", "fusion cannot read through perturb"),
        ("energy+inversion", "which reads a classifier of its own"),
        ("energy+odyn", "no detector 'odyn'"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(OodbenchError, match=message):
        build(f"fusion(detectors={text})")


def test_a_few_fit_images_are_too_few() -> None:
    with pytest.raises(OodbenchError, match="fusion compares its detectors on a fifth of 10 or more fit images"):
        Fusion().fit(FitData(drawn(9, 0)))
