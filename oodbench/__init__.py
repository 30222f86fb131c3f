"""oodbench: benchmark out-of-distribution detectors for image classifiers."""

from __future__ import annotations

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str

    from oodbench.benchmark import Benchmark
    from oodbench.card import Card
    from oodbench.classifier import Classifier
    from oodbench.data.imageset import ImageSet
    from oodbench.data.preprocess import Preprocess
    from oodbench.detectors.base import Detector, parameter
    from oodbench.errors import NotFittedError, OodbenchError
    from oodbench.guard import Guard, fit, load_guard
    from oodbench.live import passes
    from oodbench.metrics import evaluate
    from oodbench.outputs import FitData, Needs, Outputs
    from oodbench.plan import Machine
    from oodbench.report.write import write_report
    from oodbench.run_folder import Result
    from oodbench.runner import run
    from oodbench.testing import check_detector
    from oodbench.tuning import tune

# Imported when first asked for: `import oodbench` and the command line's --help must not wait for torch.
_PUBLIC = {
    "Benchmark": "oodbench.benchmark",
    "Card": "oodbench.card",
    "Classifier": "oodbench.classifier",
    "Detector": "oodbench.detectors.base",
    "FitData": "oodbench.outputs",
    "Guard": "oodbench.guard",
    "ImageSet": "oodbench.data.imageset",
    "Machine": "oodbench.plan",
    "Needs": "oodbench.outputs",
    "NotFittedError": "oodbench.errors",
    "OodbenchError": "oodbench.errors",
    "Outputs": "oodbench.outputs",
    "Preprocess": "oodbench.data.preprocess",
    "Result": "oodbench.run_folder",
    "check_detector": "oodbench.testing",
    "evaluate": "oodbench.metrics",
    "fit": "oodbench.guard",
    "load_guard": "oodbench.guard",
    "parameter": "oodbench.detectors.base",
    "passes": "oodbench.live",
    "run": "oodbench.runner",
    "tune": "oodbench.tuning",
    "write_report": "oodbench.report.write",
}

__all__ = [
    "Benchmark",
    "Card",
    "Classifier",
    "Detector",
    "FitData",
    "Guard",
    "ImageSet",
    "Machine",
    "Needs",
    "NotFittedError",
    "OodbenchError",
    "Outputs",
    "Preprocess",
    "Result",
    "__version__",
    "check_detector",
    "evaluate",
    "fit",
    "load_guard",
    "parameter",
    "passes",
    "run",
    "tune",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return metadata.version("oodbench")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'oodbench' has no attribute '{name}'")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
