"""Every detector of the catalogue passes every check, and so do the settings that change what is computed."""

from __future__ import annotations

import pytest

from oodbench.detectors.catalogue import catalogue
from oodbench.detectors.spec import build
from oodbench.testing import CHECKS, Check, run_check

SETTINGS = [
    "odin(norm=l2)",
    "odin(norm=l1)",
    "odin(epsilon=0)",
    "lc(mode=boundary)",
    "lc(proxies=pixel-shuffled+patch-shuffled+patch-shuffled-8)",
    "oodl(svm=nystroem)",
    "oodl(layer=block)",
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("spec", [*catalogue(), *SETTINGS])
def test_contract(spec: str, check: Check) -> None:
    run_check(check, build(spec))
