"""Settings as data: what the command line and the documentation take from them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from oodbench.errors import OodbenchError
from oodbench.inversion.settings import LOSSES, SETTINGS, InversionSettings, LossWeights, setting

DOCUMENT = (Path(__file__).parents[2] / "docs/inversion.md").read_text(encoding="utf-8")


def test_every_setting_is_declared_with_type_default_and_help() -> None:
    defaults = InversionSettings()
    for name, one in SETTINGS.items():
        assert one.name == name and one.help
        assert defaults.value(name) == one.default and isinstance(one.default, one.type)
        assert defaults.replaced(**{name: one.parsed(str(one.default), "inversion")}) == defaults
    assert set(LOSSES) < set(SETTINGS) and "weights" not in SETTINGS


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [("batch_size", "16.5", "a whole number"), ("kl", "much", "a number"), ("kl", "", "a number")],
)
def test_a_text_of_another_type_is_refused(name: str, text: str, message: str) -> None:
    with pytest.raises(OodbenchError, match=f"{name} must be {message}"):
        setting(name).parsed(text, "inversion")


def test_an_unknown_setting_has_a_guess() -> None:
    with pytest.raises(OodbenchError, match="did you mean learning_rate"):
        setting("learning_rat")


def test_the_documented_weights_are_the_defaults() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([\d.]+) \|$", DOCUMENT, flags=re.MULTILINE)
    assert {name: float(weight) for name, weight in rows} == {name: getattr(LossWeights(), name) for name in LOSSES}
