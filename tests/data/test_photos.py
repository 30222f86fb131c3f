"""Windows of scikit-learn's photographs: their pixels, and the matching rule."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_sample_image

from oodbench.data.photos import photos_set

PHOTOGRAPHS = [load_sample_image(name) for name in ("china.jpg", "flower.jpg")]


def place_of(window: np.ndarray) -> tuple[int, int, int] | None:
    """Which photograph the window is cut from, and where; None if it is not."""
    height, width = window.shape[:2]
    for number, photograph in enumerate(PHOTOGRAPHS):
        starts = photograph[: photograph.shape[0] - height + 1, : photograph.shape[1] - width + 1]
        for top, left in np.argwhere(np.all(starts == window[0, 0], axis=2)):
            if np.array_equal(photograph[top : top + height, left : left + width], window):
                return number, int(top), int(left)
    return None


def test_they_say_what_they_are_cut_from_and_can_be_larger_than_any_window() -> None:
    made = photos_set(2, (3, 320, 320), seed=0)
    assert made.read(0, 1)[0].shape == (320, 320, 3)
    assert any("two photographs" in note for note in made.notes)
    assert "china.jpg" in made.origin


def test_windows_are_cut_from_both_photographs_all_over() -> None:
    # Images as large as the largest window are not resized.
    places = [place_of(window) for window in photos_set(40, (3, 300, 300), seed=0).read(0, 40)]
    assert None not in places
    numbers, tops, lefts = zip(*(place for place in places if place), strict=True)
    assert 10 < sum(numbers) < 30
    assert min(tops) < 30
    assert max(tops) > 97
    assert min(lefts) < 60
    assert max(lefts) > 280


def test_grey_is_the_luminance_of_the_same_window() -> None:
    grey, colour = (photos_set(3, (channels, 300, 300), seed=1).read(0, 3) for channels in (1, 3))
    luminance = np.asarray(colour) @ np.array([0.299, 0.587, 0.114])
    assert np.abs(np.asarray(grey) - luminance).max() <= 0.5 + 1e-4


def test_resized_is_what_the_window_looks_like() -> None:
    # The mean of a window survives bilinear resizing with antialias; which window it is depends on the shape
    # only through its smallest side, which is 48 for both.
    small, large = (photos_set(40, (3, side, side), seed=2).read(0, 40) for side in (24, 48))
    means = [np.asarray(images, dtype=float).mean(axis=(1, 2)) for images in (small, large)]
    assert np.abs(means[0] - means[1]).max() < 2
    assert len({tuple(mean) for mean in means[0].round(3)}) == 40
