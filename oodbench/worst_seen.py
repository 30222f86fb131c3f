"""The images that detectors get most wrong, caught while the images are at hand."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from oodbench.data.imageset import ImageSet
from oodbench.data.inputs import AnyForm, as_pictures, brought
from oodbench.data.reading import Shard
from oodbench.report.worst import WORST, Pictures, shrunk

Key = tuple[str, str]
"""(model, set)."""


class WorstSeen:
    """Which images of each set any detector got most wrong so far, with small pictures of them."""

    def __init__(self) -> None:
        self._sets: dict[Key, tuple[ImageSet, AnyForm]] = {}
        self._worst: dict[Key, dict[str, tuple[NDArray[np.float64], NDArray[np.int64]]]] = {}
        self._pictures: dict[Key, dict[int, NDArray[np.uint8]]] = {}

    def see(
        self, model: str, shard: Shard, form: AnyForm, scores: Mapping[str, NDArray[np.float64]], lowest: bool
    ) -> None:
        """Look at the scores of a shard, by detector.

        Args:
            lowest: whether the lowest scores are the most wrong, as for ID images, or the highest.
        """
        key = model, shard.images.name
        self._sets[key] = shard.images, form
        worst = self._worst.setdefault(key, {})
        for label, values in scores.items():
            wrong, indices = worst.get(label, (np.empty(0), np.empty(0, np.int64)))
            wrong = np.concatenate([wrong, values if lowest else -values])
            indices = np.concatenate([indices, np.arange(shard.start, shard.stop)])
            # Stable: of equal scores those that come first in the set.
            kept = np.argsort(wrong, kind="stable")[:WORST]
            worst[label] = wrong[kept], indices[kept]
        wanted = self._wanted(key)
        pictures = {index: one for index, one in self._pictures.get(key, {}).items() if index in wanted}
        # Where the outputs came from the store nothing was read; those few are read in the end.
        new = [index for index in sorted(wanted - pictures.keys()) if index >= shard.start] if shard.is_read else []
        if new:
            chosen = as_pictures(shard.matched(form)[np.array(new) - shard.start], form)
            pictures |= dict(zip(new, shrunk(chosen.permute(0, 2, 3, 1).numpy()), strict=True))
        self._pictures[key] = pictures

    def pictures(self, answers: Mapping[Key, NDArray[np.int64]]) -> dict[Key, Pictures]:
        """The pictures of those that remained.

        Args:
            answers: the classes that the model put all images of the set into.
        """
        return {key: self._all(key, answers[key]) for key in self._sets}

    def _all(self, key: Key, answers: NDArray[np.int64]) -> Pictures:
        images, form = self._sets[key]
        pictures, wanted = self._pictures[key], self._wanted(key)
        missing = sorted(wanted - pictures.keys())
        if missing:
            read = as_pictures(brought(images, images.subset(np.array(missing), "").read(0, len(missing)), form), form)
            pictures |= dict(zip(missing, shrunk(read.permute(0, 2, 3, 1).numpy()), strict=True))
        indices = np.array(sorted(wanted), dtype=np.int64)
        return Pictures(
            indices,
            np.stack([pictures[int(index)] for index in indices]),
            np.full(len(indices), -1) if images.labels is None else images.labels[indices],
            answers[indices],
            np.array([images.file(int(index)) or "" for index in indices]),
        )

    def _wanted(self, key: Key) -> set[int]:
        return {int(index) for _, indices in self._worst[key].values() for index in indices}
