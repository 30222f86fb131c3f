"""Passes in less than float32: what they are, what they leave alone, and that they are kept apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from oodbench import Classifier, Machine, OodbenchError, run
from oodbench.capture import PassCount
from oodbench.live import passes
from oodbench.outputs import Needs
from oodbench.precision import Precision
from tests.small_runs import ANEW, benchmark, count_entering

BF16 = Precision("bf16")
IMAGES = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_the_pass_is_torchs_autocast_and_detectors_read_float32(small_classifier: Classifier) -> None:
    with small_classifier.inference(), torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = small_classifier(IMAGES.float() / 255)
    assert expected.dtype == torch.bfloat16
    (live,) = passes(small_classifier, [IMAGES], Needs("logits", "features", "layer:*"), precision=BF16)
    assert {one.dtype for one in live.tensors().values()} == {torch.float32}
    assert torch.equal(live.logits, expected.float())


def test_gradients_are_in_full_precision_and_change_nothing_that_is_kept(small_classifier: Classifier) -> None:
    count = PassCount()
    for live in passes(small_classifier, [IMAGES], Needs("logits", "gradient"), count, precision=BF16):
        rounded, gradient = live.logits, live.input_gradient(1000.0)
    assert count == PassCount(forward=20, gradient=20, further=20)
    for live in passes(small_classifier, [IMAGES], Needs("logits", "gradient")):
        assert torch.equal(gradient, live.input_gradient(1000.0))
        assert not torch.equal(rounded, live.logits)
    (live,) = passes(small_classifier, [IMAGES], Needs("logits"), precision=BF16)
    assert torch.equal(rounded, live.logits)


def test_another_precision_is_kept_elsewhere_and_stands_on_the_card(
    small_classifier: Classifier, image_files: dict[str, str]
) -> None:
    work = benchmark(image_files, detectors=("energy", "odin"))
    whole = run(work, [small_classifier])
    low = Machine(precision="bf16")
    assert count_entering(small_classifier, lambda: run(work, [small_classifier], low)) > 0
    assert count_entering(small_classifier, lambda: run(work, [small_classifier], low)) == 0
    found = run(work, [small_classifier], replace(low, store=False))
    assert found.card.machine["precision"] == "bf16" and whole.card.machine["precision"] == "float32"
    for key, scores in whole.scores.items():
        assert not np.array_equal(found.scores[key], scores)
        np.testing.assert_allclose(found.scores[key], scores, rtol=0.05, atol=0.05)


def test_a_detector_beside_others_reads_what_it_reads_alone(
    small_classifier: Classifier, image_files: dict[str, str]
) -> None:
    low = replace(ANEW, precision="bf16")
    alone = run(benchmark(image_files, detectors=("energy",)), [small_classifier], low)
    beside = run(benchmark(image_files, detectors=("odin", "energy")), [small_classifier], low)
    for key, scores in alone.scores.items():
        assert np.array_equal(beside.scores[key], scores)


@pytest.mark.parametrize(("precision", "message"), [("float8", "float8"), ("tf32", "NVIDIA")])
def test_a_precision_that_is_not_there_is_refused(
    small_classifier: Classifier, image_files: dict[str, str], precision: str, message: str
) -> None:
    with pytest.raises(OodbenchError, match=message):
        run(benchmark(image_files), [small_classifier], Machine(device="cpu", precision=precision))
