"""Which images a detector got most wrong, and their pictures beside the card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oodbench.errors import OodbenchError
from oodbench.report.html import worst_thumbnails
from oodbench.report.runs import measurements
from oodbench.report.worst import (
    LONGEST_SIDE,
    WORST,
    Pictures,
    shrunk,
    worst_images,
)
from oodbench.run_folder import Result
from tests.report.conftest import gaussian_scores, write_run
from tests.report.kept import indices_to_keep

scores = st.lists(st.integers(-5, 5), min_size=2, max_size=30)


def test_by_hand() -> None:
    worst = worst_images([3, -1, 2, -1, 9], [0, 7, 1, 7], count=3)
    assert worst.id_images.tolist() == [1, 3, 2]
    assert worst.ood_images.tolist() == [1, 3, 2]


@given(scores, scores, st.integers(1, 40))
def test_no_image_left_out_is_more_wrong(id_scores: list[int], ood_scores: list[int], count: int) -> None:
    worst = worst_images(id_scores, ood_scores, count)
    for chosen, wrongness in ((worst.id_images, -np.array(id_scores)), (worst.ood_images, np.array(ood_scores))):
        assert len(chosen) == min(count, len(wrongness)) == len(set(chosen.tolist()))
        assert (np.diff(wrongness[chosen]) <= 0).all()
        left_out = np.delete(wrongness, chosen)
        assert not len(left_out) or left_out.max() <= wrongness[chosen].min()


@given(st.lists(st.tuples(*[st.lists(st.floats(-1, 1), min_size=12, max_size=12)] * 2), min_size=1, max_size=4))
def test_what_is_kept_serves_every_detector(pairs: list[tuple[list[float], list[float]]]) -> None:
    kept = indices_to_keep(pairs, count=3)
    for pair in pairs:
        worst = worst_images(*pair, count=3)
        assert set(worst.id_images) <= set(kept.id_images) and set(worst.ood_images) <= set(kept.ood_images)
    assert len(kept.ood_images) <= 3 * len(pairs) and (np.diff(kept.ood_images) > 0).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_large_pictures_are_shrunk_in_proportion(channels: int) -> None:
    small = shrunk(np.full((2, 100, 200, channels), 77, np.uint8))
    assert small.shape == (2, LONGEST_SIDE // 2, LONGEST_SIDE, channels) and (small == 77).all()


def run_with_pictures(folder: Path, shift: int = 0) -> Result:
    """Image i of a set is of the grey value i (+ shift: pictures of another run)."""
    planted = gaussian_scores({"good": 2.0, "poor": 0.5})
    write_run(folder, planted)
    pictures = {}
    for ood in ("near", "far"):
        kept = indices_to_keep([(planted[d, "shapes"], planted[d, ood]) for d in ("good", "poor")])
        for name, indices in (("shapes", kept.id_images), (ood, kept.ood_images)):
            pixels = np.broadcast_to(indices[:, None, None, None], (len(indices), 8, 8, 1)).astype(np.uint8)
            pictures["net", name] = Pictures(indices + shift, pixels)
    replace(Result.load(folder), pictures=pictures).save(folder)
    return Result.load(folder)


def test_thumbnails_are_the_worst_images_with_their_scores(tmp_path: Path) -> None:
    run = run_with_pictures(tmp_path)
    for one in measurements([run]):
        shown = worst_thumbnails(one)
        worst = worst_images(one.id_scores, one.ood_scores)
        # The 114th highest of 120: 95 % of ID is kept at it.
        threshold = np.sort(one.id_scores)[6]
        for title, name, indices, values in (
            ("OOD taken for ID", one.ood, worst.ood_images, one.ood_scores),
            ("ID taken for OOD", "shapes", worst.id_images, one.id_scores),
        ):
            pictures = run.pictures["net", name]
            assert [some.index for some in shown[title].images] == indices.tolist() and len(indices) == WORST
            assert [some.score for some in shown[title].images] == values[indices].tolist()
            assert [pictures.pixels[some.place, 0, 0, 0] for some in shown[title].images] == indices.tolist()
            taken_for_id = (values >= threshold)[indices].tolist()
            assert [some.wrong == (name != "shapes") for some in shown[title].images] == taken_for_id


def test_what_is_on_the_right_side_is_not_called_wrong(tmp_path: Path) -> None:
    """A perfect detector has a highest-scoring OOD image too."""
    planted = gaussian_scores({"perfect": 50.0})
    write_run(tmp_path, planted)
    kept = indices_to_keep([(planted["perfect", "shapes"], planted["perfect", "near"])])
    pictures = {
        ("net", name): Pictures(indices, np.zeros((len(indices), 8, 8, 1), np.uint8))
        for name, indices in (("shapes", kept.id_images), ("near", kept.ood_images))
    }
    run = replace(Result.load(tmp_path), pictures=pictures)
    shown = worst_thumbnails(measurements([run])[0])
    assert not any(some.wrong for some in shown["OOD taken for ID"].images)
    # 5 % of 120 ID images lie below the threshold, whatever the detector.
    assert [some.wrong for some in shown["ID taken for OOD"].images] == [True] * 6 + [False] * 2


def test_a_run_without_pictures_has_no_thumbnails(tmp_path: Path) -> None:
    one = measurements([Result.load(write_run(tmp_path, gaussian_scores({"good": 2.0})))])[0]
    assert worst_thumbnails(one) == {}


def test_pictures_of_another_run_are_refused(tmp_path: Path) -> None:
    run = run_with_pictures(tmp_path, shift=1000)
    with pytest.raises(OodbenchError, match="of another run"):
        worst_thumbnails(measurements([run])[0])
