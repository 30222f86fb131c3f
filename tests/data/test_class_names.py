"""What classes are called: from folders, lists, tables and torch data sets, to the card and the page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import torch
from pyarrow import parquet as pq
from torch.utils.data import Subset
from torchvision.datasets import ImageFolder

from oodbench import Benchmark, Classifier, Machine, Result, run
from oodbench.data.imageset import ArraySource, ImageSet
from oodbench.data.load import load_id, load_images
from oodbench.data.python_sets import as_image_set
from oodbench.record import LONGEST_NAME, MOST_NAMED
from oodbench.report.comparison import compare
from oodbench.report.html import to_html
from tests.data.forms import class_folders, pixels, png_bytes, save_png, write_cifar

NAMES = ("bee", "cat/tomcat", "=owl")
"""As people call classes, with what a path, a page or a table could stumble over."""


def test_of_class_folders_they_are_the_folders(root: Path) -> None:
    class_folders(root / "own", ["bee", "cat", "owl"], 2)
    images = load_images(f"folder:{root / 'own'}", data_root=root)
    assert images.classes == ("bee", "cat", "owl") and images.class_name(2) == "owl" and images.class_name(3) == "3"
    assert images.subset(np.array([0, 5]), "").classes == images.classes
    class_folders(root / "numbers", [str(number) for number in range(12)], 1)
    assert load_images(f"folder:{root / 'numbers'}", data_root=root).classes == tuple(map(str, range(12)))


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        (["owl/0.png 3", "bee/0.png 0", "bee/1.png 0"], ("bee", "", "", "owl")),
        (["owl/0.png 3", "bee/0.png 0", "owl/1.png 0"], ()),  # a class in two folders
        (["owl/0.png 3", "owl/1.png 1"], ()),  # a folder of two classes
        (["owl/0.png -1", "bee/0.png -1"], ()),
        (["owl/0.png -1", "bee/0.png 1", "cat/0.png 0"], ("cat", "bee")),
        (["bee/0.png 0", f"owl/0.png {2**40}"], ()),
    ],
)
def test_of_a_list_they_are_folders_of_one_class_each(root: Path, lines: list[str], names: tuple[str, ...]) -> None:
    for folder in ("bee", "cat", "owl"):
        for number in range(2):
            save_png(root / folder / f"{number}.png", pixels(1, 6, 6, 3)[0])
    (root / "some.txt").write_text("\n".join(lines))
    assert load_images(f"list:{root / 'some.txt'}", data_root=root).classes == names


@pytest.mark.parametrize(
    ("metadata", "names"),
    [
        ({"info": {"features": {"label": {"names": [*NAMES], "_type": "ClassLabel"}}}}, NAMES),
        ({"info": {"features": {"label": {"dtype": "int64"}}}}, ()),
        ({"info": {"features": {"label": {"names": [1, 2]}}}}, ()),
        (["info"], ()),
        (None, ()),
    ],
)
def test_of_a_table_they_are_those_that_datasets_wrote(root: Path, metadata: object, names: tuple[str, ...]) -> None:
    packed = [png_bytes(one) for one in pixels(3, 6, 6, 3)]
    table = pyarrow.table({"image": pyarrow.array(packed, pyarrow.binary()), "label": [0, 1, 2]})
    if metadata is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps(metadata)})
    pq.write_table(table, root / "some.parquet")
    assert load_images(f"hf:{root / 'some.parquet'}", data_root=root).classes == names


def test_of_torchvisions_data_sets_they_are_its_classes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class_folders(root / "own", ["bee", "cat"], 3)
    dataset = ImageFolder(str(root / "own"))
    assert as_image_set("a", dataset).classes == as_image_set("a", Subset(dataset, [4, 1])).classes == ("bee", "cat")
    assert as_image_set("a", (pixels(2, 6, 6, 3), np.array([0, 1]))).classes == ()
    write_cifar(root / "cifar-10-batches-py", "cifar10", monkeypatch)
    assert load_id("cifar10", data_root=root, seed=0).test.classes == tuple(map(str, range(10)))


def test_classes_without_fit_images_are_noted_by_their_names(root: Path) -> None:
    class_folders(root / "own" / "test", ["bee", "cat", "owl"], 2)
    class_folders(root / "own" / "train", ["bee", "cat"], 2)
    (root / "own" / "train" / "owl").mkdir()
    fit = load_id(f"folder:{root / 'own'}", data_root=root, seed=0).fit
    assert fit.notes[-1] == "no image to fit on of class(es) owl"


def small() -> Classifier:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 6 * 6, 3))
    return Classifier(module, num_classes=3, image_shape=(3, 6, 6), name="small")


def named(count: int, classes: tuple[str, ...], seed: int) -> ImageSet:
    source = ArraySource(pixels(count, 6, 6, 3, seed=seed))
    return ImageSet("made", source, "made by a test", np.arange(count) % 3, classes=classes)


def test_the_page_shows_names_that_the_card_has(tmp_path: Path) -> None:
    sets = {"mine": named(30, NAMES, 1), "theirs": named(12, ("fog", "7", ""), 2), "bare": named(9, (), 3)}
    benchmark = Benchmark(id="mine", ood=("theirs", "bare"), detectors=("msp", "knn(k=1)"))
    run(benchmark, [small()], Machine(store=False, device="cpu"), sets=sets).save(tmp_path)
    result = Result.load(tmp_path)
    assert [(one["name"], one["role"]) for one in result.card.sets if "classes" in one] == [
        ("mine", "ID test"),
        ("theirs", "OOD"),
    ]
    assert result.card.classes("mine") == [*NAMES] and result.card.classes("bare") == []
    page = to_html(compare([result]))
    sprites = json.loads(page[page.index('id="pictures">') + 14 : page.index("</script>")])
    for key, sprite in zip(result.pictures, sprites, strict=True):
        kept = result.pictures[key]
        assert kept.labels is not None and kept.answers is not None
        called = {"mine": NAMES, "theirs": ("fog", "class 7", "class 2")}.get(key[1], ("class 0", "class 1", "class 2"))
        assert sprite["labels"] == [called[label] for label in kept.labels]
        assert sprite["answers"] == [f"seen as {NAMES[answer]}" for answer in kept.answers]


@pytest.mark.parametrize("count", [MOST_NAMED, MOST_NAMED + 1])
def test_the_card_stays_small(count: int) -> None:
    """Names of any length, once for all classifiers; none where there are more classes than anybody reads."""
    classes = tuple(f"{number} {'x' * 1000}" for number in range(count))
    others = [small() for _ in range(2)]
    torch.nn.init.ones_(others[1].module[1].weight)  # type: ignore[index, arg-type]
    work = Benchmark(id="mine", ood=("uniform",), detectors=("msp",))
    card = run(work, others, Machine(store=False, device="cpu"), sets={"mine": named(30, classes, 1)}).card
    assert [len(one) for one in card.classes("mine")] == ([LONGEST_NAME] * count if count == MOST_NAMED else [])
    assert sum("classes" in one for one in card.sets) == (count == MOST_NAMED)
