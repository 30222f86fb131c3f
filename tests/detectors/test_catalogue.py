"""The catalogue: names, aliases, entry points of other packages, and no torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from oodbench.detectors import catalogue as module
from oodbench.detectors.base import Detector
from oodbench.detectors.catalogue import DETECTORS, catalogue, find, name_of
from oodbench.detectors.entry import DetectorEntry
from oodbench.detectors.odin import Odin
from oodbench.detectors.spec import build, label
from oodbench.errors import OodbenchError
from tests.detectors.sound import Nearest

PLUG_IN = """
from dataclasses import dataclass
from oodbench import Detector, parameter

@dataclass(frozen=True)
class Largest(Detector):
    power: float = parameter(1.0, "a power", low=1.0)

    def score(self, outputs):
        return outputs.logits.double().amax(dim=1) ** self.power
"""


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that acts as an installed package: its detector's module, and its entry points, which a test writes."""
    package, facts = tmp_path / "largest_plug_in", tmp_path / "largest_plug_in-1.2.dist-info"
    package.mkdir()
    facts.mkdir()
    (package / "__init__.py").write_text("from largest_plug_in.inner import Largest\n")
    (package / "inner.py").write_text(PLUG_IN)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: largest-plug-in\nVersion: 1.2\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    catalogue.cache_clear()
    yield facts / "entry_points.txt"
    catalogue.cache_clear()
    for name in ("largest_plug_in", "largest_plug_in.inner"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", DETECTORS)
def test_every_entry_is_complete_and_knows_its_class(name: str) -> None:
    entry = DETECTORS[name]
    assert entry.name == name and entry.paper and entry.summary and entry.summary[-1] != "."
    loaded = entry.load()
    assert name_of(loaded) == name and loaded.__doc__
    for alias in (name, *entry.aliases):
        assert find(alias) is entry


def test_lc_says_what_else_is_called_lc() -> None:
    assert "learned confidence" in DETECTORS["lc"].summary


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(OodbenchError, match=r"no detector 'enrgy'; did you mean energy .*list detectors"):
        find("enrgy")


def test_reading_it_does_not_import_torch() -> None:
    code = (
        "import sys; from oodbench.detectors.catalogue import catalogue, find; find('msp'); catalogue();"
        "assert not {'torch', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_detector_of_another_package(plug_in: Path) -> None:
    plug_in.write_text("[oodbench.detectors]\nlargest = largest_plug_in:Largest\n")
    entry = find("largest")
    assert entry.paper == "package largest-plug-in 1.2" and list(catalogue())[-1] == "largest"
    assert "largest_plug_in" not in sys.modules, "listing imports no package"
    detector = build("largest(power=2)")
    assert label(detector) == "largest(power=2)" and isinstance(detector, Detector)
    assert list(DETECTORS) == list(catalogue())[:-1]


@pytest.mark.parametrize("taken", ["odin", "smood"])
def test_two_detectors_of_one_name_are_refused(plug_in: Path, taken: str) -> None:
    plug_in.write_text(f"[oodbench.detectors]\n{taken} = largest_plug_in:Largest\n")
    with pytest.raises(OodbenchError, match=f"two detectors are called '{taken}'.*largest_plug_in:Largest"):
        find("msp")


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("largest_plug_in:Smallest", "cannot be imported"),
        ("no_such_plug_in:Largest", "cannot be imported"),
        ("largest_plug_in.inner:dataclass", "is no subclass of oodbench.Detector"),
    ],
)
def test_a_broken_plug_in_is_named_when_it_is_used(plug_in: Path, where: str, message: str) -> None:
    plug_in.write_text(f"[oodbench.detectors]\nlargest = {where}\n")
    assert label(build("odin")) == "odin", "it does not stand in the way of others"
    with pytest.raises(OodbenchError, match=f"'largest'.*{message}"):
        build("largest")


def test_the_group_is_what_the_documentation_says() -> None:
    assert module.GROUP == "oodbench.detectors" and module.GROUP in (module.__doc__ or "")
    assert all(point.group == module.GROUP for point in metadata.entry_points(group=module.GROUP))


def test_a_place_is_found_without_being_imported() -> None:
    entry = find("no_such_package.module:Class")
    assert entry.name == entry.where == "no_such_package.module:Class" and entry not in catalogue().values()
    assert find("tests.detectors.sound:Nearest").load() is Nearest
    assert name_of(Nearest) == "tests.detectors.sound:Nearest"


def test_the_current_folder_is_looked_into_for_the_class_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys; from tests.detectors.sound import Nearest; FIRST = sys.path[0]"
    (tmp_path / "beside_me.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    before = [*sys.path]
    assert find("beside_me:Nearest").load() is Nearest and sys.path == before
    assert str(tmp_path) == sys.modules["beside_me"].FIRST
    with pytest.raises(OodbenchError, match="cannot be imported from beside_you:Class"):
        find("beside_you:Class").load()
    assert sys.path == before


def test_a_class_of_an_entry_point_has_its_name_also_by_its_place(plug_in: Path) -> None:
    plug_in.write_text("[oodbench.detectors]\nlargest = largest_plug_in:Largest\n")
    assert label(build("largest_plug_in.inner:Largest(power=2)")) == "largest(power=2)"
    assert label(build("oodbench.detectors.odin:Odin(norm=l2)")) == "odin(norm=l2)"


def test_name_of_a_class_outside() -> None:
    class Elsewhere(Odin):
        pass

    assert name_of(Elsewhere) == f"{__name__}:{Elsewhere.__qualname__}"


def test_entries_are_immutable() -> None:
    with pytest.raises(AttributeError):
        DETECTORS["odin"].name = "other"  # type: ignore[misc]
    assert DetectorEntry("a", "b:C", "", "").aliases == ()
