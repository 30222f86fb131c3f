"""Every detector of the catalogue passes every check, and so do the settings that change what is computed."""

from __future__ import annotations

import pytest
import torch

from oodbench.detectors.catalogue import catalogue
from oodbench.detectors.spec import build
from oodbench.testing import CHECKS, Check, check_detector, run_check

SETTINGS = [
    "odin(norm=l2)",
    "odin(norm=l1)",
    "lc(mode=boundary)",
    "oodl(svm=nystroem)",
    "oodl(layer=block)",
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("spec", [*catalogue(), *SETTINGS])
def test_contract(spec: str, check: Check) -> None:
    run_check(check, build(spec))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("spec", [*catalogue(), *SETTINGS])
def test_contract_on_a_gpu(spec: str) -> None:
    check_detector(build(spec), device="cuda")
