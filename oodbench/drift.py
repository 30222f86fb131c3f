"""What two cards differ in, apart from the scores: sets, classifiers, detectors, rows; and a card from its scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from oodbench.card import Card
from oodbench.metrics import METRICS, evaluate
from oodbench.run_folder import Result

Key = tuple[str, str, str]
"""(classifier, detector, set)."""

Rows = Mapping[Key, Mapping[str, Any]]
"""Of a card."""


GARBAGE = "garbage_share"

# Metrics of equal scores differ by the order in which float64 numbers are added, at most.
SUMMATION = 1e-9


class Drift(NamedTuple):
    """One difference, as text: of what, in what, the baseline's value, the value now, and by how much."""

    subject: str
    what: str
    baseline: str
    now: str
    difference: str = ""


def changed_facts(baseline: Card, now: Card) -> Iterator[Drift]:
    """What is another, or is there in one only, of what decides scores."""
    first, second = _facts(baseline), _facts(now)
    for subject in first | second:
        if subject not in first or subject not in second:
            yield Drift(subject, "is there", *("yes" if subject in facts else "no" for facts in (first, second)))
            continue
        before, after = first[subject], second[subject]
        for name in before | after:
            if before.get(name) != after.get(name):
                yield Drift(subject, name.replace("_", " "), _shown(before.get(name)), _shown(after.get(name)))


def _facts(card: Card) -> dict[str, dict[str, Any]]:
    """What decides scores, apart from the scores: subject → name → plain value."""
    facts: dict[str, dict[str, Any]] = {"benchmark": {name: card.benchmark.get(name) for name in ("version", "seed")}}
    for one in card.sets:
        chosen = ("count", "group", "content_hash", "labels_hash", "matching")
        facts[f"set {one['name']} ({one['role']}) of {one['classifier']}"] = {name: one[name] for name in chosen}
    for one in card.classifiers:
        facts[f"classifier {one['name']}"] = {"content_hash": one["content_hash"]}
    for one in card.detectors:
        facts[f"detector {one['label']}"] = one["parameters"]
        for classifier, learned in one["learned"].items():
            # Numbers that were learned show in the scores, for which there is a tolerance.
            words = {f"learned {name}": value for name, value in learned.items() if isinstance(value, str)}
            if words:
                facts[f"detector {one['label']} on {classifier}"] = words
    return facts


def changed_order(baseline: Card, now: Card) -> Iterator[Drift]:
    """Rows and detectors that are in another order, or there twice."""
    orders = {
        "rows": [["/".join(key) for key in _row_keys(card)] for card in (baseline, now)],
        "detectors": [[one["label"] for one in card.detectors] for card in (baseline, now)],
    }
    for what, (first, second) in orders.items():
        if len(set(second)) < len(second):
            yield Drift(what, "is each there once", "yes", "no")
        elif first != second and sorted(first) == sorted(second):
            before, after = next(pair for pair in zip(first, second, strict=True) if pair[0] != pair[1])
            yield Drift(what, "order", before, after)


def _row_keys(card: Card) -> list[Key]:
    return [(row["model"], row["detector"], row["ood"]) for row in card.metrics]


def _shown(value: Any) -> str:
    """A plain value; of a hash, its head."""
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 else text


def inconsistent(run: Result, whose: str) -> Iterator[Drift]:
    """Where a card is not of the scores beside it, however little."""
    on_card = {(row["model"], row["detector"], row[of]) for row in run.card.metrics for of in ("id", "ood")}
    for key in sorted(on_card ^ run.scores.keys()):
        there = "on the card alone" if key in on_card else "not on the card"
        yield Drift(f"{'/'.join(key)}, {whose}", there, "", "")
    for row in run.card.metrics:
        model, detector = row["model"], row["detector"]
        of_id, of_ood = (run.scores.get((model, detector, row[of]), np.empty(0)) for of in ("id", "ood"))
        subject = f"{model}/{detector}/{row['ood']}, {whose}"
        if (len(of_id), len(of_ood)) != (row["n_id"], row["n_ood"]):
            yield Drift(subject, "number", f"{row['n_id']}, {row['n_ood']}", f"{len(of_id)}, {len(of_ood)}")
        elif np.isfinite(of_id).all() and np.isfinite(of_ood).all():
            # Of the same scores, so that a changed metric shows however little it changed.
            yield from _changed_metric(subject, row, row | evaluate(of_id, of_ood), SUMMATION)


def changed_metrics(baseline: Card, now: Card, allowed_change: float) -> Iterator[Drift]:
    """Rows, metrics, accuracies and garbage shares that changed, beyond `allowed_change` and what one image makes."""
    before, after = (dict(zip(_row_keys(one), one.metrics, strict=True)) for one in (baseline, now))
    for key in before | after:
        if key not in before or key not in after:
            yield Drift("/".join(key), "row is there", *("yes" if key in of else "no" for of in (before, after)))
            continue
        allowed = allowed_change + 1 / min(before[key]["n_id"], before[key]["n_ood"])
        yield from _changed_metric("/".join(key), before[key], after[key], allowed)
    yield from _changed_shares(before, after, allowed_change)
    accuracies = {one["name"]: one["id_accuracy"] for one in now.classifiers}
    # Every classifier is tested on the same ID images.
    tested = next(one["count"] for one in baseline.sets if one["role"] == "ID test")
    for one in baseline.classifiers:
        if one["name"] in accuracies:
            first, second = ({"ID accuracy": value} for value in (one["id_accuracy"], accuracies[one["name"]]))
            yield from _changed_values(f"classifier {one['name']}", first, second, allowed_change + 1 / tested)


def _changed_shares(before: Rows, after: Rows, allowed_change: float) -> Iterator[Drift]:
    """Shares of the garbage class that change on all sets of a detector in one direction; one image of all may."""
    changes: dict[tuple[str, str], list[tuple[float, int]]] = {}
    for key in sorted(before.keys() & after.keys()):
        first, second = before[key].get(GARBAGE), after[key].get(GARBAGE)
        if first is not None and second is not None:
            changes.setdefault(key[:2], []).append((second - first, before[key]["n_ood"]))
    for of, parts in changes.items():
        images = sum(count for _, count in parts)
        change = sum(moved * count for moved, count in parts) / images
        if abs(change) > allowed_change + 1 / images:
            yield Drift("/".join(of), f"{GARBAGE} of all sets together", "", "", f"{change:+.6f}")


def _changed_metric(
    subject: str, before: Mapping[str, Any], after: Mapping[str, Any], allowed: float
) -> Iterator[Drift]:
    """What a row says of its sets, where it is another, and its numbers, see `_changed_values`."""
    for name in ("id", "group", "n_id", "n_ood"):
        if before.get(name) != after.get(name):
            yield Drift(subject, name, str(before.get(name)), str(after.get(name)))
    names = (*METRICS, GARBAGE, "id_accuracy")
    first, second = ({name: row.get(name) for name in names} for row in (before, after))
    yield from _changed_values(subject, first, second, allowed)


def _changed_values(
    subject: str, before: Mapping[str, float | None], after: Mapping[str, float | None], allowed: float
) -> Iterator[Drift]:
    """Each value that is in one only or is no number, and of the others that which changed most, beyond the allowed."""
    changes = {}
    for name, first in before.items():
        second = after[name]
        if first is not None and second is not None and np.isfinite([first, second]).all():
            changes[name] = second - first
        elif first is not None or second is not None:
            yield Drift(subject, name, _number(first), _number(second))
    most = max(changes, key=lambda name: abs(changes[name]), default=None)
    if most is not None and abs(changes[most]) > allowed:
        yield Drift(subject, most, _number(before[most]), _number(after[most]), f"{changes[most]:+.6f}")


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.6f}"
