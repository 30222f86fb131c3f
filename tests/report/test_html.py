"""The page as text: self-contained, well-formed, escaped, complete, small. What it does is tested in a browser."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oodbench.report.comparison import Leaderboard, compare
from oodbench.report.formats import to_html
from oodbench.run_folder import Result
from tests.report.conftest import gaussian_scores, write_run
from tests.report.test_worst import run_with_pictures

Board = Callable[..., Leaderboard]

VOID = {"meta", "link", "input", "img", "br"}


class Reader(HTMLParser):
    """Every element with its attributes, and whether they are nested as they should be."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert len(dict(attributes)) == len(attributes), (tag, attributes)
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def values(self, attribute: str) -> list[str]:
        return [value or "" for _, attributes in self.elements for key, value in attributes.items() if key == attribute]


SHEET = {"file": "pictures/inversions-net.png", "caption": "inverted to <these> in round 3"}


def with_sheet(folder: Path) -> Path:
    """A sheet beside the card of a run, which names it; an older one lies there too."""
    card = json.loads((folder / "card.json").read_text())
    card["classifiers"][0]["sheet"] = SHEET
    (folder / "card.json").write_text(json.dumps(card))
    (folder / "pictures").mkdir()
    Image.new("L", (4, 4)).save(folder / SHEET["file"])
    Image.new("L", (5, 5)).save(folder / "pictures" / "of another run.png")
    return folder


@pytest.fixture
def page(tmp_path: Path) -> str:
    """Of a run with pictures of the worst images and a sheet of inverted ones."""
    run_with_pictures(tmp_path)
    with_sheet(tmp_path)
    return to_html(compare([Result.load(tmp_path)], intervals=True, grouped=True))


def test_nothing_comes_from_elsewhere(page: str) -> None:
    reader = Reader(page)
    links = reader.values("href") + reader.values("src") + reader.values("xlink:href") + reader.values("srcset")
    assert links and all(link.startswith(("#", "data:")) for link in links)
    assert not re.search(r"https?:|@import|url\((?!data:)|fetch\(|XMLHttp", page)
    assert "default-src 'none'" in page


def test_links_lead_somewhere_and_every_id_is_one(page: str) -> None:
    reader = Reader(page)
    ids = reader.values("id")
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in reader.values("href") if link.startswith("#")} <= set(ids)
    assert set(reader.values("aria-labelledby")) <= set(ids)


def test_tables_plots_and_pictures_have_words(page: str) -> None:
    elements = Reader(page).elements
    count = [tag for tag, _ in elements].count
    assert count("table") == count("caption") == 7
    heads = [attributes for tag, attributes in elements if tag == "th"]
    assert all(attributes["scope"] in ("col", "row") for attributes in heads)
    for tag, attributes in elements:
        if tag == "svg" or attributes.get("role") == "img":
            assert attributes.get("aria-label") or attributes.get("aria-hidden") == "true"
        if tag == "img":
            assert attributes["alt"]
        if tag == "button":
            assert attributes["type"] in ("button", "reset")


def test_every_measurement_has_its_plots_and_worst_images(page: str) -> None:
    reader = Reader(page)
    count = [tag for tag, _ in reader.elements].count
    assert count("article") == count("polyline") == 4
    # Of each detector on each set the OOD images, and of each detector once the ID images.
    shown = [json.loads(images) for images in reader.values("data-images")]
    assert [len(images) for images in shown] == [8] * (4 + 2)
    # A picture is in the page once, whatever the number of detectors that show it.
    assert page.count("data:image/webp;base64,") - page.count("<img") == 3
    assert "OOD taken for ID" in page and "ID images taken for OOD" in page


def test_pictures_are_cut_from_their_sprite_where_they_lie(page: str, tmp_path: Path) -> None:
    """Each picture of `run_with_pictures` is as grey as its index says."""
    reader = Reader(page)
    sprites = json.loads(page[page.index('id="pictures">') + 14 : page.index("</script>")])
    lists = [a for tag, a in reader.elements if tag == "ol" and "data-images" in a]
    assert lists
    for attributes in lists:
        sprite = sprites[int(attributes["data-sprite"] or 0)]
        with Image.open(io.BytesIO(base64.b64decode(sprite["source"].rstrip(")").partition(",")[2]))) as image:
            grey = np.asarray(image.convert("L"))
        side = grey.shape[1] // sprite["across"]
        for place, index, *_ in json.loads(attributes["data-images"] or ""):
            row, column = divmod(place, sprite["across"])
            assert (grey[row * side : (row + 1) * side, column * side : (column + 1) * side] == index).all()


def test_what_is_known_of_a_picture_is_in_the_page(tmp_path: Path) -> None:
    run = run_with_pictures(tmp_path)
    known = {
        key: one._replace(labels=one.indices % 10, answers=one.indices % 7, files=one.indices.astype(str))
        for key, one in run.pictures.items()
    }
    replace(run, pictures=known).save(tmp_path)
    page = to_html(compare([Result.load(tmp_path)]))
    for sprite in json.loads(page[page.index('id="pictures">') + 14 : page.index("</script>")]):
        indices = [int(file) for file in sprite["files"]]
        assert sprite["labels"] == [f"class {one % 10}" for one in indices]
        assert sprite["answers"] == [f"seen as class {one % 7}" for one in indices]


def test_the_first_words_are_the_result(board: Board) -> None:
    """By hand: near and far first, the best, by how many points, tied with whom; controls take no part."""
    scores = gaussian_scores({"good": 2.0, "twin": 1.99, "poor": 0.3, "random": 9.0}, ("near", "far", "fog"), seed=2)
    made = board(scores, groups={"near": "near", "fog": "noise"}, accuracy=0.8125)
    page = "".join(Reader(to_html(made)).text)
    start = page.index("Which detector is best")
    told = re.sub(r"\s+", " ", page[start : page.index("How to read it")])
    assert "3 detectors and 1 controls of net on shapes (ID accuracy 81.25 % of 120 test images)" in told
    assert told.index("Near-OOD near") < told.index("Far-OOD far") < told.index("Noise fog")
    aurocs = {row.first.detector: row.metrics["auroc"].value for row in made.rows if row.first.ood == "near"}
    lead = f"{100 * (aurocs['good'] - aurocs['poor']):.1f}"
    assert f"good is best: AUROC {100 * aurocs['good']:.1f}" in told
    assert f"Tied with it: twin. The next, poor, is {lead} points below." in told


def test_columns_that_say_the_same_in_every_row_are_folded_away(board: Board, tmp_path: Path) -> None:
    page = to_html(board(gaussian_scores({"good": 2.0})))
    heads = page[page.index('id="every-row"') : page.index("</thead>", page.index('id="every-row"'))]
    assert "The same in every row: Group far, Model net, ID shapes" in page
    assert "AUROC" in heads and not any(f">{name}<" in heads for name in ("Group", "Model", "ID", "n OOD"))


def test_the_sheet_that_the_card_names_is_shown_with_words(page: str, tmp_path: Path) -> None:
    (picture,) = [attributes for tag, attributes in Reader(page).elements if tag == "img"]
    assert picture["alt"] == "net: inverted to <these> in round 3"
    with Image.open(io.BytesIO(base64.b64decode((picture["src"] or "").partition(",")[2]))) as shown:
        assert np.asarray(shown.convert("L")).tolist() == np.asarray(Image.open(tmp_path / SHEET["file"])).tolist()


def test_a_sheet_that_is_gone_or_elsewhere_is_said(tmp_path: Path) -> None:
    folder = with_sheet(run_with_pictures(tmp_path / "run").path.parent)
    (folder / SHEET["file"]).rename(folder / "pictures-net.png")
    for file in (SHEET["file"], "pictures/../pictures-net.png", str(folder / "pictures-net.png")):
        card = json.loads((folder / "card.json").read_text())
        card["classifiers"][0]["sheet"]["file"] = file
        (folder / "card.json").write_text(json.dumps(card))
        page = to_html(compare([Result.load(folder)]))
        assert "<img" not in page and "The picture is not beside the card." in page


def test_a_run_without_pictures_shows_none(board: Board) -> None:
    page = to_html(board(gaussian_scores({"good": 2.0})))
    assert (
        "taken for" not in page[: page.index("<script")] and "data:image/webp" not in page and "group-means" not in page
    )


def test_garbage_shares_are_there_where_a_detector_has_one(board: Board) -> None:
    page = to_html(board(gaussian_scores({"good": 2.0, "poor": 0.5}), own={"poor": (0.5, 0.25)}))
    cells = [a["data-value"] for tag, a in Reader(page).elements if tag == "td" and "data-value" in a]
    assert cells.count("0.25") == 2 and page.count("Garbage share") >= 2 and "nan" not in page.lower()
    assert "of their own: poor 50.00 %" in page


def test_the_card_is_there(page: str) -> None:
    text = "".join(Reader(page).text)
    assert '"content_hash": "near00000000"' in text and '"created": "2026-01-01T00:00:00+00:00"' in text


def test_how_a_classifier_was_trained_is_there_where_its_card_says_so(board: Board) -> None:
    training = {"recipe": "<b>", "settings": {"epochs": 5}, "rounds": [{"round": 1, "accuracy": 0.75}]}
    page = to_html(board(gaussian_scores({"good": 2.0, "poor": 1.0}), own={"poor": (0.5, None)}, training=training))
    reader = Reader(page)
    text = "".join(reader.text)
    assert "<b>" in text and "b" not in [tag for tag, _ in reader.elements]
    assert "settingsepochs 5" in text and "net: rounds of its training" in text
    assert text.count("How it was trained is not recorded.") == 1 and "read by poor" in text


def test_names_are_text_whatever_is_in_them(board: Board) -> None:
    scores = {(f"<script>{d}&\"'", name): s for (d, name), s in gaussian_scores({"x": 1.0}, ('n"<b>',)).items()}
    page = to_html(board(scores, model="</details><h1>"))
    reader = Reader(page)
    tags = [tag for tag, _ in reader.elements]
    assert tags.count("script") == 2 and "b" not in tags and tags.count("h1") == 1
    assert "<script>x&\"'" in reader.values("data-detector")


def test_repeats_have_plots_each(tmp_path: Path) -> None:
    paths = [
        write_run(tmp_path / str(n), gaussian_scores({"a": 1.0}, ("near",), n), content=f"{n:02d}" * 32) for n in (0, 1)
    ]
    page = to_html(compare([Result.load(path) for path in paths]))
    assert page.count("<article") == 1 and page.count("<polyline") == 2
    assert "classifier 000000, seed 0: AUROC" in page and "classifier 010101, seed 0: AUROC" in page


def test_eight_detectors_on_nine_sets_of_many_images_stay_small(board: Board) -> None:
    draw = np.random.default_rng(0)
    names = ["shapes", *(f"set{n}" for n in range(9))]
    scores = {(f"d{d}", name): draw.normal(name == "shapes", 1, 5000) for d in range(8) for name in names}
    assert len(to_html(board(scores))) < 400_000
