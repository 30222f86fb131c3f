"""oodbench: benchmark out-of-distribution detectors for image classifiers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oodbench.benchmark import Benchmark
    from oodbench.card import Card
    from oodbench.classifier import Classifier
    from oodbench.data.imageset import ImageSet
    from oodbench.detectors.base import Detector, parameter
    from oodbench.errors import NotFittedError, OodbenchError
    from oodbench.harness import run
    from oodbench.metrics import evaluate
    from oodbench.outputs import Needs, Outputs
    from oodbench.plan import Machine
    from oodbench.run_folder import Result

# Imported when first asked for: `import oodbench` and the command line's --help must not wait for torch.
_PUBLIC = {
    "Benchmark": "oodbench.benchmark",
    "Card": "oodbench.card",
    "Classifier": "oodbench.classifier",
    "Detector": "oodbench.detectors.base",
    "ImageSet": "oodbench.data.imageset",
    "Machine": "oodbench.plan",
    "Needs": "oodbench.outputs",
    "NotFittedError": "oodbench.errors",
    "OodbenchError": "oodbench.errors",
    "Outputs": "oodbench.outputs",
    "Result": "oodbench.run_folder",
    "evaluate": "oodbench.metrics",
    "parameter": "oodbench.detectors.base",
    "run": "oodbench.harness",
}

__all__ = [
    "Benchmark",
    "Card",
    "Classifier",
    "Detector",
    "ImageSet",
    "Machine",
    "Needs",
    "NotFittedError",
    "OodbenchError",
    "Outputs",
    "Result",
    "evaluate",
    "parameter",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'oodbench' has no attribute '{name}'")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
