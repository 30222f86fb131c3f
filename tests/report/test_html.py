"""The page as text: self-contained, well-formed, escaped, complete, small. What it does is tested in a browser."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
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
    assert count("table") == count("caption") == 3
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
    assert count("article") == 4 and count("polyline") == 4 * 3
    assert sum(attributes.get("role") == "img" for tag, attributes in reader.elements if tag == "span") == 4 * 16
    # A picture is in the page once, whatever the number of detectors that show it.
    assert page.count("background-image: url(data:image/png;base64,") == 3
    assert "OOD taken for ID" in page and "ID taken for OOD" in page


def test_the_sheet_that_the_card_names_is_shown_with_words(page: str, tmp_path: Path) -> None:
    (picture,) = [attributes for tag, attributes in Reader(page).elements if tag == "img"]
    assert picture["alt"] == "net: inverted to <these> in round 3"
    png = base64.b64decode((picture["src"] or "").removeprefix("data:image/png;base64,"))
    assert png == (tmp_path / SHEET["file"]).read_bytes()


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
    assert "taken for" not in page and "background-image" not in page and "group-means" not in page


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
    assert tags.count("script") == 1 and "b" not in tags and tags.count("h1") == 1
    assert "<script>x&\"'" in reader.values("data-detector")


def test_repeats_have_plots_each(tmp_path: Path) -> None:
    paths = [
        write_run(tmp_path / str(n), gaussian_scores({"a": 1.0}, ("near",), n), content=f"{n:02d}" * 32) for n in (0, 1)
    ]
    page = to_html(compare([Result.load(path) for path in paths]))
    assert page.count("<article") == 1 and page.count("<polyline") == 6
    assert "classifier 000000, seed 0: AUROC" in page and "classifier 010101, seed 0: AUROC" in page


def test_eight_detectors_on_nine_sets_of_many_images_stay_small(board: Board) -> None:
    draw = np.random.default_rng(0)
    names = ["shapes", *(f"set{n}" for n in range(9))]
    scores = {(f"d{d}", name): draw.normal(name == "shapes", 1, 5000) for d in range(8) for name in names}
    assert len(to_html(board(scores))) < 800_000
