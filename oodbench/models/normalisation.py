"""Input normalisation as users write it: numbers, or the name of the set whose statistics they are."""

from __future__ import annotations

from oodbench.data.preprocess import refuse_bytes
from oodbench.errors import OodbenchError, unknown_name

Statistics = tuple[float, ...]

NORMALISATIONS: dict[str, tuple[Statistics, Statistics]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "mnist": ((0.1307,), (0.3081,)),
    "fashion-mnist": ((0.2860,), (0.3530,)),
    "svhn": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "half": ((0.5,), (0.5,)),
    "none": ((0.0,), (1.0,)),
}
"""Mean and standard deviation per channel over the training images, in units of [0, 1]."""


def parse_normalisation(mean: str | None, std: str | None, channels: int) -> tuple[Statistics, Statistics] | None:
    """Mean and standard deviation per channel, or None where neither is given.

    Args:
        mean, std: numbers joined by commas (one for all channels, or one each), or a name of
            `NORMALISATIONS`. A name given for one of the two stands for both.

    Raises:
        OodbenchError: a name or number cannot be read, their count does not fit the channels, a standard
            deviation is not positive, or one of the two is missing.
    """
    if mean is None and std is None:
        return None
    mean, std = mean if mean is not None else _named(std), std if std is not None else _named(mean)
    if mean is None or std is None:
        given, missing = ("--mean", "--std") if std is None else ("--std", "--mean")
        raise OodbenchError(f"{given} is given in numbers, but {missing} is missing: give both, or a name for both")
    means, deviations = _values(mean, 0, channels), _values(std, 1, channels)
    if not all(value > 0 for value in deviations):
        raise OodbenchError(f"--std {std}: standard deviations must be positive")
    refuse_bytes(means, deviations, "--")
    return means, deviations


def _named(text: str | None) -> str | None:
    return text if text is not None and not _is_number(text.split(",")[0]) else None


def _values(text: str, which: int, channels: int) -> Statistics:
    option = ("--mean", "--std")[which]
    if _named(text):
        if text not in NORMALISATIONS:
            raise unknown_name(f"normalisation ({option})", text, NORMALISATIONS, "or numbers: 0.5,0.5,0.5")
        values = NORMALISATIONS[text][which]
    else:
        parts = [part.strip() for part in text.split(",")]
        unreadable = [part for part in parts if not _is_number(part)]
        if unreadable:
            raise OodbenchError(f"{option} {text}: '{unreadable[0]}' is not a number; write e.g. 0.485,0.456,0.406")
        values = tuple(map(float, parts))
    if len(values) == 1:
        return values * channels
    if len(values) != channels:
        raise OodbenchError(
            f"{option} {text} has {len(values)} values, but the classifier takes images of {channels} "
            f"channel(s): give one value, or one per channel"
        )
    return values


def _is_number(text: str) -> bool:
    try:
        return float(text) - float(text) == 0  # neither infinite nor NaN
    except ValueError:
        return False
