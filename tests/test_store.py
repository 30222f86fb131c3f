"""The store: what was computed once is not computed again, nothing is read for something else, and damage is seen."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from oodbench import Benchmark, Classifier, Machine, OodbenchError, Result, run
from oodbench.progress import Reporter
from oodbench.store import NO_STORE, Store, address
from tests.small_runs import ANEW, BRIGHT, DARK, TEST, benchmark, count_entering

DETECTORS = ("energy", "odin")
PASSES = 2
"""Of an image, for these: one, and one that is perturbed."""


class Heard(Reporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def passed(work: Benchmark, classifier: Classifier, reporter: Reporter | None = None) -> tuple[Result, int]:
    """A run, and how many images entered the network in it."""
    results: list[Result] = []
    entered = count_entering(classifier, lambda: results.append(run(work, [classifier], reporter=reporter)))
    return results[0], entered


def check_equal(found: Result, expected: Result) -> None:
    assert found.scores.keys() == expected.scores.keys()
    for key, scores in expected.scores.items():
        assert scores.tobytes() == found.scores[key].tobytes(), key
    assert found.card.metrics == expected.card.metrics


def test_a_second_run_passes_no_image(small_classifier: Classifier, image_files: dict[str, str]) -> None:
    """With the same detectors, and with others, which read what nobody read before."""
    work = benchmark(image_files, detectors=("msp", "odin", "oodl"))
    first, entered = passed(work, small_classifier)
    assert entered > 0
    again, entered = passed(work, small_classifier)
    assert entered == 0
    check_equal(again, first)
    assert again.card.sets == first.card.sets
    more = replace(work, detectors=(*work.detectors, "lc", "knn", "mahalanobis", "vim", "react", "gradnorm", "energy"))
    result, entered = passed(more, small_classifier)
    assert entered == 0
    check_equal(result, run(more, [small_classifier], ANEW))


def test_only_what_is_new_is_passed(small_classifier: Classifier, image_files: dict[str, str]) -> None:
    work = benchmark(image_files, ood=(image_files["bright"],), detectors=DETECTORS)
    run(work, [small_classifier])
    _, entered = passed(replace(work, ood=(image_files["bright"], image_files["dark"])), small_classifier)
    assert entered == PASSES * DARK
    _, entered = passed(replace(work, detectors=("energy", "odin", "odin(norm=l2)")), small_classifier)
    assert entered == PASSES * (TEST + BRIGHT)


@dataclass
class Setting:
    """What a run is of, to be changed."""

    classifier: Classifier
    files: dict[str, str]
    work: Benchmark
    patch: pytest.MonkeyPatch

    def remade(self, **changes: Any) -> None:
        """Another classifier of the same module."""
        one = self.classifier
        known: dict[str, Any] = {name: getattr(one, name) for name in ("num_classes", "image_shape", "mean", "std")}
        known |= {"name": one.name, "layers": one.layers}
        self.classifier = Classifier(one.module, **known | changes)

    @property
    def folder(self) -> Path:
        return Path(self.files["bright"].removeprefix("npz:")).parent


def one_weight(one: Setting) -> None:
    one.classifier.module[6].weight.data[0, 0] += 1e-3  # type: ignore[index, union-attr, operator]


def one_buffer(one: Setting) -> None:
    one.classifier.module[1].running_var[0] += 1e-3  # type: ignore[index, union-attr, operator]


def one_pixel(one: Setting) -> None:
    images = np.load(one.folder / "dark.npz")["images"]
    images[7, 3, 4] += 9
    np.savez(one.folder / "dark.npz", images=images)


def of_equal_size(one: Setting, keep_time: bool) -> None:
    file = one.folder / "flat" / "3.bmp"
    before = file.stat()
    Image.new("L", (8, 8), 77).save(file)
    assert file.stat().st_size == before.st_size
    if keep_time:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def a_layer_more(one: Setting) -> None:
    one.remade(layers=("0", "2", "penultimate"))


def other_format(one: Setting) -> None:
    one.patch.setattr("oodbench.store.FORMAT", 10**6)


def drawn(one: Setting, **changes: int) -> None:
    one.work = replace(one.work, **changes)


FLAT = 16  # a smaller batch would be filled up
EVERY = 20 + 20 + DARK + FLAT
DRAWN = 20 + 20
"""Of the ID images and the bright ones, the others are fewer than the limit."""

CHANGES: dict[str, tuple[Callable[[Setting], None], int]] = {
    "one weight": (one_weight, EVERY),
    "one buffer": (one_buffer, EVERY),
    "mean": (lambda one: one.remade(mean=0.41), EVERY),
    "std": (lambda one: one.remade(std=0.31), EVERY),
    "image form": (lambda one: one.remade(image_shape=(1, 10, 10)), EVERY),
    "a layer more": (a_layer_more, EVERY),
    "one pixel": (one_pixel, DARK),
    "other content of equal size": (lambda one: of_equal_size(one, keep_time=False), FLAT),
    "and of the same time": (lambda one: of_equal_size(one, keep_time=True), FLAT),
    "limit": (lambda one: drawn(one, limit=19), 19 + 19),
    "seed": (lambda one: drawn(one, seed=1), DRAWN),
    "format": (other_format, EVERY),
}


@pytest.fixture
def setting(
    small_classifier: Classifier, image_files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Setting:
    (tmp_path / "flat").mkdir()
    for number in range(FLAT):
        Image.new("L", (8, 8), 15 * number).save(tmp_path / "flat" / f"{number}.bmp")
    ood = (image_files["bright"], image_files["dark"], f"folder:{tmp_path / 'flat'}")
    work = benchmark(image_files, ood=ood, detectors=DETECTORS, limit=20)
    return Setting(small_classifier, image_files, work, monkeypatch)


@pytest.mark.parametrize(("change", "images"), CHANGES.values(), ids=CHANGES)
def test_what_decides_outputs_decides_where_they_lie(
    setting: Setting, change: Callable[[Setting], None], images: int
) -> None:
    before = run(setting.work, [setting.classifier])
    assert passed(setting.work, setting.classifier)[1] == 0
    change(setting)
    after, entered = passed(setting.work, setting.classifier)
    assert entered == PASSES * images
    check_equal(after, run(setting.work, [setting.classifier], ANEW))
    moved = any(before.scores[key].tobytes() != scores.tobytes() for key, scores in after.scores.items())
    assert moved or change in (a_layer_more, other_format)


@pytest.fixture
def stored(small_classifier: Classifier, image_files: dict[str, str], own_cache: Path) -> Iterator[list[Path]]:
    """The files of a run's store, those of the bright images."""
    run(benchmark(image_files, detectors=DETECTORS), [small_classifier])
    yield [entry.path for entry in Store.default().entries() if entry.facts["set"] == "bright"]


def flipped(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << position % 8
    path.write_bytes(content)


@pytest.mark.parametrize("place", ["header", "middle", "end", "cut", "emptied"])
def test_a_damaged_file_is_said_and_made_anew(
    small_classifier: Classifier, image_files: dict[str, str], stored: list[Path], place: str
) -> None:
    work = benchmark(image_files, detectors=DETECTORS)
    assert len(stored) == 2
    whole = run(work, [small_classifier], ANEW)
    passes = []
    for path in stored:
        size = path.stat().st_size
        if place in ("cut", "emptied"):
            os.truncate(path, size - 9 if place == "cut" else 0)
        else:
            flipped(path, {"header": 30, "middle": size // 2, "end": size - 1}[place])
        heard = Heard()
        result, entered = passed(work, small_classifier, heard)
        passes.append(entered)
        check_equal(result, whole)
        assert [text for text in heard.said if str(path) in text and "damaged" in text]
    # What lies in the one is the outputs, in the other odin's scores.
    assert sorted(passes) == [BRIGHT, PASSES * BRIGHT]
    heard = Heard()
    assert passed(work, small_classifier, heard)[1] == 0
    assert not any("damaged" in text for text in heard.said)


def test_every_flipped_bit_is_seen(tmp_path: Path) -> None:
    store = Store(tmp_path)
    tensors, facts = {"logits": torch.arange(6.0).view(3, 2), "layer:a": torch.ones(3, 1)}, {"set": "a", "role": "fit"}
    where = address("here")
    store.write(where, tensors, facts)
    (path,) = tmp_path.glob("*/*.safetensors")
    honest = path.read_bytes()
    for position in range(len(honest)):
        path.write_bytes(honest)
        flipped(path, position)
        read = store.read(where)
        if read is not None:
            # Spaces that pad the header, and nothing else.
            assert honest[position : position + 1] == b" " and read[1] == {**facts, "address": where}
            assert all(torch.equal(read[0][name], tensor) for name, tensor in tensors.items())
    path.write_bytes(honest)
    assert store.read(where) is not None
    other = address("there")
    (tmp_path / other[:2]).mkdir(exist_ok=True)
    path.rename(tmp_path / other[:2] / f"{other}.safetensors")
    assert store.read(other) is None, "a file under another name is of something else"


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    store = Store(tmp_path)
    random = torch.Generator().manual_seed(0)
    tensors = {
        "float64": torch.randn(5, 3, generator=random, dtype=torch.float64),
        "a view": torch.randn(6, 4, generator=random)[1:4, ::2],
        "none": torch.empty(0, 3),
        "int64": torch.tensor([2**62, -1]),
        "bfloat16": torch.randn(4, generator=random).bfloat16(),
        "not finite": torch.tensor([torch.nan, torch.inf]),
    }
    store.write(address(1), tensors, {"set": "ä"})
    read = store.read(address(1))
    assert read is not None and read[1]["set"] == "ä" and read[0].keys() == tensors.keys()
    for name, tensor in tensors.items():
        torch.testing.assert_close(read[0][name], tensor, rtol=0, atol=0, equal_nan=True)
    assert store.read(address(2)) is None
    assert NO_STORE.read(address(1)) is None and not NO_STORE.keeps and [*NO_STORE.entries()] == []


def test_without_a_store_nothing_is_kept(
    small_classifier: Classifier, image_files: dict[str, str], own_cache: Path
) -> None:
    work = benchmark(image_files, detectors=DETECTORS)
    for _ in range(2):
        entered = count_entering(small_classifier, lambda: run(work, [small_classifier], Machine(store=False)))
        assert entered == PASSES * (TEST + BRIGHT + DARK)
    assert not (own_cache / "store").exists()


def test_the_longest_unused_goes_first(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number in range(6):
        store.write(address(number), {"logits": torch.zeros(100, 10)}, {"number": str(number)})
    size = next(store.entries()).size
    for entry in list(store.entries()):
        os.utime(entry.path, (1e9, 1e9 + int(entry.facts["number"])))
    assert store.read(address(0)) is not None  # used just now
    assert [entry.facts["number"] for entry in store.entries()] == ["1", "2", "3", "4", "5", "0"]
    assert store.trim() == 0
    assert replace(store, limit=3.5 * size).trim() == 3 * size
    assert [entry.facts["number"] for entry in store.entries()] == ["4", "5", "0"]
    assert replace(store, limit=0).trim() == 3 * size and not [*store.entries()]


def test_a_run_leaves_no_more_than_the_limit(
    small_classifier: Classifier, image_files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = benchmark(image_files, detectors=DETECTORS)
    run(work, [small_classifier])
    sizes = [entry.size for entry in Store.default().entries()]
    assert len(sizes) == 6
    limit = sum(sizes) - 1
    monkeypatch.setenv("OODBENCH_STORE_GB", str(limit / 1e9))
    run(work, [small_classifier])
    left = [entry.size for entry in Store.default().entries()]
    assert len(left) == 5 and sum(left) <= limit
    for wrong in ("much", "-1", "nan"):
        monkeypatch.setenv("OODBENCH_STORE_GB", wrong)
        with pytest.raises(OodbenchError, match="OODBENCH_STORE_GB"):
            run(work, [small_classifier])


BUSY = """
import sys
import torch
from pathlib import Path
from oodbench.progress import Reporter
from oodbench.store import Store, address

class Strict(Reporter):
    def say(self, text):
        raise SystemExit(text)

store = Store(Path(sys.argv[1]), 20_000, Strict())
for number in range(200):
    where = address(number % 7)
    store.write(where, {"logits": torch.full((100, 10), float(number % 7))}, {})
    read = store.read(address((number + 3) % 7))
    assert read is None or (read[0]["logits"] == (number + 3) % 7).all()
    list(store.entries())
    store.trim()
"""


def test_processes_may_write_read_and_trim_one_store_at_once(tmp_path: Path) -> None:
    started = [
        subprocess.Popen([sys.executable, "-c", BUSY, str(tmp_path)], stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in started:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 20_000


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OodbenchError, match="--no-store"):
        Store(tmp_path / "file").write(address(1), {"logits": torch.zeros(2)}, {})
