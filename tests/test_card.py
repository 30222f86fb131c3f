"""Cards come from files that anybody can write: whatever stands on one is refused in words, or can be used."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oodbench import OodbenchError, Result
from oodbench.card import Card
from oodbench.check import compare as check
from oodbench.report.comparison import compare
from oodbench.report.formats import FORMATS
from tests.report.conftest import gaussian_scores, write_run
from tests.scripts import ROOT

TRAINING = {"epochs": [{"loss": 1.0}, {"loss": 0.5}], "id": "a", "settings": {"epochs": 2}}
MISSING = object()
WRONG = (None, "text", [], 10**400, MISSING, float("nan"), -1, {}, True, [None], "\udcff", 1e308)


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    scores = gaussian_scores({"msp": 1.0, "constant": 0.0}, ("near",))
    folder = write_run(tmp_path / "run", scores, own={"msp": (0.8, 0.3)}, training=TRAINING)
    values = json.loads((folder / "card.json").read_text())
    values["machine"] = {"device": "cpu", "batch_size": 8}
    (folder / "card.json").write_text(json.dumps(values))
    return folder


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in a card."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield (*path, key)
        yield from places(one, (*path, key))


def mutated(values: Any, path: tuple[Any, ...], wrong: Any) -> Any:
    changed = copy.deepcopy(values)
    *outer, last = path
    place = changed
    for key in outer:
        place = place[key]
    if wrong is MISSING:
        del place[last]
    else:
        place[last] = wrong
    return changed


def use(folder: Path, baseline: Result) -> bool:
    """Read a run and do with it all that is done with one; False where it is refused in words at any time."""
    try:
        run = Result.load(folder)
        drifts = check(baseline, run).drifts, check(run, baseline).drifts
        board = compare([run])
        for form in FORMATS.values():
            form(board)
        repr(run)
        return drifts is not None
    except OodbenchError as error:
        assert str(error)
        return False


def test_every_committed_card_is_read() -> None:
    cards = [*ROOT.glob("results/**/card.json")]
    assert len(cards) >= 5
    for path in cards:
        assert Card.load(path).metrics


def test_every_value_of_a_card_may_be_anything(planted: Path) -> None:
    """910 mutations and more; which wrong values a place gets turns with the place, and the slow test does all."""
    baseline = Result.load(planted)
    values = json.loads((planted / "card.json").read_text())
    paths = [*places(values)]
    refused = 0
    for number, path in enumerate(paths):
        wrong = WRONG[number % len(WRONG)]
        (planted / "card.json").write_text(json.dumps(mutated(values, path, wrong)))
        refused += not use(planted, baseline)
    assert len(paths) > 120 and refused > len(paths) / 2


@pytest.mark.slow
def test_every_value_of_a_card_may_be_each_wrong_one(planted: Path) -> None:
    baseline = Result.load(planted)
    values = json.loads((planted / "card.json").read_text())
    tried = 0
    for path in places(values):
        for wrong in WRONG:
            (planted / "card.json").write_text(json.dumps(mutated(values, path, wrong)))
            use(planted, baseline)
            tried += 1
    assert tried > 910


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_bytes_make_anything_but_an_error_in_words(planted: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["card.json", "scores.npz"]))
    content = bytearray((planted / name).read_bytes())
    honest = bytes(content)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "insert"])):
            case "flip":
                content[at] ^= 1 << data.draw(st.integers(0, 7))
            case "cut":
                del content[at : at + data.draw(st.integers(1, 50))]
            case _:
                content[at:at] = data.draw(st.binary(max_size=20))
        if not content:
            break
    try:
        (planted / name).write_bytes(content)
        Result.load(planted)
    except OodbenchError as error:
        assert name in str(error)
    finally:
        (planted / name).write_bytes(honest)


NO_CARDS = ["", "{", "[]", "null", "3", "[" * 100_000, '{"format": 1}', "\ufeff{}", '{"a": 1e999}', "9" * 10_000]


@pytest.mark.parametrize("text", NO_CARDS)
def test_what_is_no_card_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "card.json").write_text(text, encoding="utf-8")
    with pytest.raises(OodbenchError, match=r"card\.json is (not a|no) card"):
        Card.load(tmp_path / "card.json")
    (tmp_path / "card.json").write_bytes(text.encode("utf-16"))
    with pytest.raises(OodbenchError, match=r"is (not a|no) card"):
        Card.load(tmp_path / "card.json")


def test_a_card_of_many_gigabytes_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "card.json", "wb") as file:
        os.truncate(file.fileno(), 1 << 40)
    with pytest.raises(OodbenchError, match="bytes, and a card at most"):
        Card.load(tmp_path / "card.json")


FAULTS: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "a share above 1": (("metrics", 0, "auroc"), 1.5, "auroc is 1.5, not a number from 0 to 1"),
    "a truth value": (("metrics", 0, "n_id"), True, "n_id is True"),
    "no images": (("metrics", 0, "n_ood"), 0, "n_ood is 0"),
    "a huge number": (("benchmark", "seed"), 10**400, "seed is 1000"),
    "of another model": (("metrics", 0, "model"), "other", "'other' is no classifier"),
    "twice": (("metrics", 0, "detector"), "constant", "'net/constant/near' is there twice"),
    "too deep": (("classifiers", 0, "training", "id"), json.loads("[" * 50 + "]" * 50), "training is "),
    "half a letter": (("classifiers", 0, "name"), "\udcff", "name is "),
    "unknown": (("more",), 3, "more is unknown"),
    "no table": (("sets", 1), 3, "sets is "),
}


@pytest.mark.parametrize(("path", "value", "words"), FAULTS.values(), ids=FAULTS)
def test_the_fault_is_named(planted: Path, path: tuple[Any, ...], value: Any, words: str) -> None:
    values = json.loads((planted / "card.json").read_text())
    (planted / "card.json").write_text(json.dumps(mutated(values, path, value)))
    with pytest.raises(OodbenchError) as raised:
        Card.load(planted / "card.json")
    assert words in str(raised.value)
