"""The page in a real headless Chromium: sorts, filters, leads to plots, by keyboard too, and asks for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oodbench.report.comparison import compare
from oodbench.report.formats import to_html
from oodbench.report.worst import Pictures
from oodbench.run_folder import Result
from tests.report.chromium import Page, browser, find_chromium
from tests.report.conftest import gaussian_scores, write_run
from tests.report.kept import indices_to_keep
from tests.report.test_html import with_sheet
from tests.report.test_worst import run_with_pictures

pytestmark = pytest.mark.skipif(
    not find_chromium(), reason="no Chromium on this machine (Debian: apt-get install chromium)"
)

VISIBLE = "[...document.querySelectorAll('#every-row tbody tr')].filter(row => !row.hidden)"
CELLS = f"(column) => {VISIBLE}.map(row => row.cells[column].dataset.value ?? row.cells[column].textContent.trim())"
AUROC, RANK = 2, 8


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    with browser() as page:
        yield page


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classifiers on two sets of two groups, controls, pictures, a garbage class, intervals and group means."""
    folder = tmp_path_factory.mktemp("page")
    run_with_pictures(folder / "pictured")
    with_sheet(folder / "pictured")
    contest = gaussian_scores({"good": 2.0, "twin": 1.9, "odin(norm=l2)": 1.0, "random": 0.0}, seed=2)
    write_run(
        folder / "plain", contest, model="large", content="b2" * 32, groups={"near": "near"}, own={"twin": (0.8, 0.25)}
    )
    runs = [Result.load(folder / name) for name in ("plain", "pictured")]
    page = folder / "report.html"
    page.write_text(to_html(compare(runs, intervals=True, grouped=True)), encoding="utf-8")
    return page


def cells(tab: Page, column: int) -> list[Any]:
    values: list[Any] = tab.evaluate(f"({CELLS})({column})")
    return values


def sort_by(tab: Page, column: int) -> str:
    """Press the column's button; how it is sorted then."""
    head = f"document.querySelectorAll('#every-row thead th')[{column}]"
    tab.evaluate(f"{head}.querySelector('button').click()")
    state: str = tab.evaluate(f"{head}.getAttribute('aria-sort')")
    return state


def test_it_asks_for_nothing_and_complains_of_nothing(tab: Page, report: Path) -> None:
    tab.open(report)
    tab.evaluate("for (const d of document.querySelectorAll('details')) d.open = true; scrollTo(0, 1e6)")
    tab.evaluate("for (const b of document.querySelectorAll('button')) b.click()")
    tab.evaluate("new Promise(done => setTimeout(done, 200))")
    assert [address for address in tab.requests() if not address.startswith("data:")] == [report.as_uri()]
    assert tab.complaints() == []


def test_the_watch_for_requests_and_complaints_can_bark(tab: Page, tmp_path: Path) -> None:
    """The same page with a request and an error in it is caught."""
    page = tmp_path / "bad.html"
    page.write_text("<title>bad</title><img src='http://127.0.0.1:9/x.png'><script>nothing.at.all</script>")
    tab.open(page)
    assert "http://127.0.0.1:9/x.png" in tab.requests()
    assert any("ReferenceError" in complaint for complaint in tab.complaints())


def test_sorting_goes_best_first_then_the_other_way(tab: Page, report: Path) -> None:
    tab.open(report)
    assert sort_by(tab, AUROC) == "descending"
    values = [float(value) for value in cells(tab, AUROC)]
    assert len(values) == 12 and values == sorted(values, reverse=True)
    assert sort_by(tab, AUROC) == "ascending"
    assert [float(value) for value in cells(tab, AUROC)] == values[::-1]
    sorts = "[...document.querySelectorAll('#every-row thead th')].map(head => head.getAttribute('aria-sort'))"
    assert tab.evaluate(sorts).count("none") == len(tab.evaluate(sorts)) - 1


def test_sorting_by_name_and_with_empty_cells_last(tab: Page, report: Path) -> None:
    tab.open(report)
    assert sort_by(tab, 0) == "ascending"
    names = cells(tab, 0)
    assert names == sorted(names)
    for expected in ("ascending", "descending"):
        assert sort_by(tab, RANK) == expected
        ranks = cells(tab, RANK)
        assert ranks[-2:] == ["", ""] and "" not in ranks[:-2]


def test_group_means_sort_on_their_own(tab: Page, report: Path) -> None:
    tab.open(report)
    before = cells(tab, 0)
    tab.evaluate("document.querySelectorAll('#group-means thead button')[2].click()")
    values = tab.evaluate("[...document.querySelectorAll('#group-means tbody tr')].map(r => +r.cells[2].dataset.value)")
    assert values == sorted(values, reverse=True) and cells(tab, 0) == before


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("form.text.value = 'odin large'", {"odin(norm=l2)"}),
        ("form.text.value = 'NEAR goo'", {"good"}),
        ("form.text.value = 'nothing like it'", set()),
        ("form.model.value = 'net'", {"good", "poor"}),
        ("form.set.value = 'far'; form.model.value = 'large'", {"good", "twin", "odin(norm=l2)", "random control"}),
        ("form.controls.checked = false", {"good", "poor", "twin", "odin(norm=l2)"}),
    ],
)
def test_filtering(tab: Page, report: Path, action: str, expected: set[str]) -> None:
    tab.open(report)
    act = f"{{ const form = document.querySelector('.filters'); {action};"
    tab.evaluate(f"{act} form.dispatchEvent(new Event('input')) }}")
    shown = cells(tab, 0)
    assert set(shown) == expected
    assert tab.evaluate("document.getElementById('count').textContent") == f"{len(shown)} of 12 rows"
    assert tab.evaluate("document.getElementById('none').checkVisibility()") is not bool(shown)
    tab.evaluate("document.querySelector('.filters [type=reset]').click()")
    tab.evaluate("new Promise(done => setTimeout(done, 50))")
    assert len(cells(tab, 0)) == 12


def test_a_detector_leads_to_its_plots(tab: Page, report: Path) -> None:
    tab.open(report)
    assert not tab.evaluate("document.querySelector('details[open]')")
    tab.evaluate(f"{VISIBLE}[5].querySelector('a').click()")
    tab.evaluate("new Promise(done => setTimeout(done, 100))")
    link = tab.evaluate(f"{VISIBLE}[5].querySelector('a').hash")
    assert tab.evaluate("location.hash") == link
    assert tab.evaluate("document.activeElement.id") == link[1:]
    assert tab.evaluate("document.activeElement.closest('details').open")
    assert -1 < tab.evaluate("document.activeElement.getBoundingClientRect().top") < 900


def test_the_metric_is_switched(tab: Page, report: Path) -> None:
    """One table a block is seen, that of the metric asked for; other blocks keep theirs."""
    tab.open(report)
    seen = "[...document.querySelectorAll('[data-metric]')].filter(e => e.checkVisibility()).map(e => e.dataset.metric)"
    assert tab.evaluate(seen) == ["auroc", "auroc"]
    tab.evaluate("document.querySelector('.switch [value=fpr_at_95_id_recall]').click()")
    assert tab.evaluate(seen) == ["fpr_at_95_id_recall", "auroc"]


def test_pictures_come_when_their_set_is_opened(tab: Page, report: Path) -> None:
    tab.open(report)
    count = "document.querySelectorAll('.thumbnail').length"
    assert tab.evaluate(count) == 0
    tab.evaluate("for (const d of document.querySelectorAll('details.set')) d.open = d.querySelector('[data-images]')")
    tab.evaluate("new Promise(done => setTimeout(done, 200))")
    assert tab.evaluate(count) == 6 * 8
    described = (
        "[...document.querySelectorAll('.thumbnail')].every(e => /^(near|far|shapes), image \\d+/.test(e.ariaLabel))"
    )
    assert tab.evaluate(described)


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 900)])
def test_the_first_screen_is_the_result(tab: Page, report: Path, width: int, height: int) -> None:
    """Accuracy, verdicts and figure of the first block; its table begins there too, or right after."""
    tab.open(report, width=width, height=height)
    bottom = "document.querySelector('{}').getBoundingClientRect().bottom"
    assert tab.evaluate(bottom.format(".verdicts")) < height and tab.evaluate(bottom.format(".dots")) < height
    top = tab.evaluate("document.querySelector('table').getBoundingClientRect().top")
    assert top < height or (width == 390 and top < tab.evaluate(bottom.format(".switch")) + 20)


def test_heads_stay_when_a_table_scrolls_down(tab: Page, report: Path) -> None:
    tab.open(report, height=300)
    places = tab.evaluate("""
        (() => {
          const table = document.getElementById('every-row'), box = table.parentElement;
          box.scrollTop = 200;
          return [table.tHead, table.tBodies[0]].map(
            part => part.rows[0].cells[0].getBoundingClientRect().top - box.getBoundingClientRect().top);
        })()""")
    assert 0 <= places[0] <= 2 and places[1] < 0


def test_a_page_of_600_measurements_with_pictures_is_light(tmp_path: Path) -> None:
    """As large as results/cifar10: 14 detectors on 15 sets, three networks, 3,000 images a set, pictures in colour."""
    draw = np.random.default_rng(0)
    names = [f"set{number}" for number in range(14)]
    runs = []
    for net in range(3):
        hidden = {name: draw.normal(name == "shapes", 1, 3000) for name in ("shapes", *names)}
        scores = {
            (f"d{d}", name): values + 0.3 * draw.normal(0, 1, 3000)
            for d in range(15)
            for name, values in hidden.items()
        }
        folder = write_run(tmp_path / str(net), scores, model=f"net{net}", content=f"{net}c" * 32)
        pairs = {name: [(scores[f"d{d}", "shapes"], scores[f"d{d}", name]) for d in range(15)] for name in names}
        kept = {name: indices_to_keep(of).ood_images for name, of in pairs.items()}
        kept["shapes"] = indices_to_keep(pairs["set0"]).id_images
        smooth = {
            name: np.kron(draw.integers(0, 256, (len(some), 8, 8, 3)), np.ones((1, 4, 4, 1)))
            for name, some in kept.items()
        }
        pictures = {(f"net{net}", name): Pictures(some, smooth[name].astype(np.uint8)) for name, some in kept.items()}
        runs.append(replace(Result.load(folder), pictures=pictures))
    assert len(to_html(compare(runs, grouped=True)).encode()) < 3_000_000


def test_an_address_with_plots_in_it_opens_them(tab: Page, report: Path) -> None:
    tab.open(report, fragment="#plots-3")
    assert tab.evaluate("document.getElementById('plots-3').closest('details').open")


def test_by_keyboard(tab: Page, report: Path) -> None:
    """Tab reaches the search field and then the heads' buttons; Enter and Space sort; typing filters."""
    tab.open(report)

    def focus() -> str:
        return str(tab.evaluate("document.activeElement.name || document.activeElement.textContent.trim()"))

    def tab_to(wanted: str) -> None:
        for _ in range(40):
            tab.press("Tab")
            if focus() == wanted:
                return
        raise AssertionError(f"the Tab key never came to {wanted}")

    tab_to("text")
    tab.type("large")
    assert len(cells(tab, 0)) == 8
    tab_to("AUROC")
    tab.press("Enter")
    head = "document.querySelectorAll('#every-row thead th')[2].getAttribute('aria-sort')"
    assert tab.evaluate(head) == "descending"
    tab.press(" ")
    assert tab.evaluate(head) == "ascending"
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert tab.evaluate(outline) == "solid"


def test_as_a_screen_reader_hears_it(tab: Page, report: Path) -> None:
    tab.open(report)
    nodes = tab.send("Accessibility.getFullAXTree")["nodes"]
    heard = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]
    assert ("search", "Filter the rows") in heard and ("searchbox", "Search") in heard
    assert ("button", "AUROC") in [(role, name.removesuffix("\u00a0↕")) for role, name in heard]
    cells_heard = [name for role, name in heard if role in ("cell", "gridcell")]
    assert any(name.endswith(" best") for name in cells_heard)
    assert any(name.endswith(" tied with the best") for name in cells_heard)
    tables = [name for role, name in heard if role == "table"]
    assert len(tables) == 4 and all(tables)
    assert any(role == "image" and name.endswith(": inverted to <these> in round 3") for role, name in heard)


def test_the_first_column_stays_with_its_title_when_a_table_scrolls_sideways(tab: Page, report: Path) -> None:
    tab.open(report, width=390)
    places = tab.evaluate("""
        (() => {
          const table = document.getElementById('every-row');
          const left = (element) => Math.round(element.getBoundingClientRect().left);
          table.parentElement.scrollLeft = 300;
          const rows = [table.tHead.rows[0], table.tBodies[0].rows[0]];
          return rows.map(row => [left(row.cells[0]) - left(table.parentElement), left(row.cells[1])]);
        })()""")
    assert all(0 <= first <= 1 and second < 0 for first, second in places)


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_and_can_be_read(tab: Page, report: Path, width: int, dark: bool) -> None:
    """The page itself never scrolls sideways, and words stand out from their ground (4.5 to 1, as WCAG asks)."""
    tab.open(report, width=width, dark=dark, fragment="#plots-0")
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    contrast = tab.evaluate("""
        (() => {
          const light = (colour) => {
            const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
            const [r, g, b] = colour.match(/[\\d.]+/g).map(v => linear(v / 255));
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const ground = (element) => {
            const colour = getComputedStyle(element).backgroundColor;
            return colour === 'rgba(0, 0, 0, 0)' && element.parentElement ? ground(element.parentElement) : colour;
          };
          const words = 'p, td, th, small, summary, caption span, figcaption, .tied, li, label, legend, nav a';
          return [...document.querySelectorAll(words)].map(e => {
            const [a, b] = [light(getComputedStyle(e).color), light(ground(e))];
            return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
          });
        })()""")
    assert len(contrast) > 100 and min(contrast) >= 4.5
    background = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") is not dark
