"""Time `oodbench.metrics.evaluate` against the same values from scikit-learn and print a table.

    python benchmarks/speed/metrics.py

scikit-learn is asked for five values in four calls (one ROC curve serves both FPRs); `evaluate` also gives
the detection error. Both run in turn, in one process; each time is the median of three.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from tabulate import tabulate

from oodbench.metrics import evaluate

SIZES = (10_000, 100_000, 1_000_000)
REPEATS = 3


def with_scikit_learn(id_scores: np.ndarray, ood_scores: np.ndarray) -> dict[str, float]:
    """The five values from scikit-learn's functions."""
    scores = np.concatenate([id_scores, ood_scores])
    is_id = np.arange(len(scores)) < len(id_scores)
    accepted, kept, _ = roc_curve(is_id, scores, drop_intermediate=False)
    return {
        "auroc": roc_auc_score(is_id, scores),
        "fpr_at_95_id_recall": accepted[np.argmax(kept >= 0.95)],
        "fpr_at_95_ood_recall": 1 - kept[np.flatnonzero(1 - accepted >= 0.95)[-1]],
        "aupr_in": average_precision_score(is_id, scores),
        "aupr_out": average_precision_score(~is_id, -scores),
    }


def seconds(function: Callable[..., object], *arguments: np.ndarray) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def main() -> None:
    """Check that both agree, time them in turn, print the table."""
    rows = []
    for size in SIZES:
        generator = np.random.default_rng(0)
        scores = generator.normal(1, 1, size), generator.normal(0, 1, size)
        expected, values = with_scikit_learn(*scores), evaluate(*scores)
        worst = max(abs(values[name] - expected[name]) for name in expected)
        times = np.array([(seconds(evaluate, *scores), seconds(with_scikit_learn, *scores)) for _ in range(REPEATS)])
        ours, theirs = np.median(times, axis=0)
        rows.append((f"{size:,} + {size:,}", f"{ours:.4f}", f"{theirs:.4f}", f"{theirs / ours:.1f}", f"{worst:.0e}"))
    headers = ("ID + OOD scores", "oodbench (s)", "scikit-learn (s)", "ratio", "largest difference")
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
