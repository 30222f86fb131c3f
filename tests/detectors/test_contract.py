"""Every detector of the catalogue passes every check, and so do the settings that change what is computed."""

from __future__ import annotations

import pytest
import torch

from oodbench.detectors.catalogue import catalogue
from oodbench.detectors.spec import build
from oodbench.testing import CHECKS, Check, check_detector, run_check

MORE = [
    "react(base=knn)",
    "react(base=oodl)",
    "react(base=rankfeat)",
    "react(base=mcd)",
    "knn(k=1)",
    "gram(orders=1)",
    "rankfeat(layer=stem)",
    "rankfeat(iterations=20)",
    "rankfeat(base=gradnorm)",
    "react(base=fdbd)",
    "react(base=nnguide)",
    "react(base=neco)",
    "nnguide(k=1,bank=50)",
    "openmax(tail=5,alpha=1)",
    "scale(base=knn)",
    "lts(base=vim)",
    "lts(base=rankfeat)",
    "lts(base=perturb(base=vim))",
    "dice(base=react(base=lts))",
    "dice(base=oodl)",
    "vra(base=lc)",
    "vra(amplification=0.6)",
    "react(base=tta)",
    "react(base=fusion)",
    "adascale(base=odin)",
    "adascale(base=knn)",
    "perturb(base=gram(orders=2))",
    "perturb(base=mahalanobis_layers)",
    "perturb(base=fusion,norm=l1)",
    "perturb(base=lts,norm=l2)",
    "fusion(detectors=energy+odin)",
    "tta(measure=mutual_information,flip=false)",
]
"""Further ones, for the slow tests."""

SETTINGS = [
    "odin(norm=l2)",
    "odin(norm=l1)",
    "lc(mode=boundary)",
    "oodl(svm=nystroem)",
    "oodl(layer=block)",
    "react(base=odin)",
    "ash_s(base=odin)",
    "lts(base=odin)",
    "dice(base=odin)",
    "fusion(by=rank)",
    "mahalanobis(shrinkage=0)",
    "vim(dimensions=8)",
    "ensemble(measure=mutual_information)",
    "gmm(covariance=own)",
    "pnml(preset=pytorch-ood)",
    "neco(maxlogit=false)",
    "fdbd(over=norm)",
    "tests.detectors.sound:Nearest",
    "tests.detectors.sound:Columns",
    "tests.detectors.sound:Brightness",
    "tests.detectors.sound:Wrapper",
    "tests.detectors.sound:Wrapper(base=lc(mode=boundary),percentile=95)",
    "tests.detectors.sound:Wrapper(base=odin(norm=l2))",
    "tests.detectors.sound:Wrapper(base=tests.detectors.sound:Wrapper(base=maxlogit))",
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(
    "spec", [*catalogue(), *SETTINGS, *(pytest.param(one, marks=pytest.mark.slow) for one in MORE)]
)
def test_contract(spec: str, check: Check) -> None:
    run_check(check, build(spec))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("spec", [*catalogue(), *SETTINGS])
def test_contract_on_a_gpu(spec: str) -> None:
    check_detector(build(spec), device="cuda")
