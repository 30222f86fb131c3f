"""What the documentation shows runs, and the table of settings is that of the code."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from oodbench.settings_page import settings_page

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


def executed(code: str, name: str, names: dict[str, object]) -> None:
    exec(compile(code, name, "exec", dont_inherit=True), names)


def test_the_detectors_of_the_page_work(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {"__name__": "page_of_detectors"}
    import sys
    import types

    # Where the classes are found again by the name of their module, as in a user's own file.
    module = types.ModuleType("page_of_detectors")
    module.__dict__.update(names)
    sys.modules["page_of_detectors"] = module
    try:
        for number, code in enumerate(blocks("write-a-detector.md")):
            executed(code, f"write-a-detector {number}", module.__dict__)
    finally:
        del sys.modules["page_of_detectors"]
    assert "page_of_detectors:NearestMean(order=1)" in capsys.readouterr().out


def test_the_lines_of_deployment_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from oodbench.models.load import load_classifier

    path = ROOT / "results" / "baselines" / "digits-cnn8.safetensors"
    (tmp_path / "results" / "baselines").mkdir(parents=True)
    (tmp_path / "results" / "baselines" / path.name).write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)
    classifier = load_classifier(str(path), num_classes=10, image_shape=(1, 8, 8))
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 8), dtype=np.uint8)
    names: dict[str, object] = {"classifier": classifier, "network": classifier.module, "images": images}
    for number, code in enumerate(blocks("deploy.md")):
        executed(code, f"deploy {number}", names)
    assert "True" in capsys.readouterr().out, "noise is no digit"


def test_the_lines_on_data_work() -> None:
    from oodbench.models.load import load_classifier

    path = ROOT / "results" / "baselines" / "digits-cnn8.safetensors"
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    names: dict[str, object] = {
        "classifier": load_classifier(str(path), num_classes=10, image_shape=(1, 8, 8)),
        "test_set": (images[:20], np.arange(20) % 10),
        "train_set": (images[20:], np.arange(40) % 10),
        "cars": images[:20] // 2,
    }
    for number, code in enumerate(blocks("data.md")):
        executed(code, f"data {number}", names)
    assert {row["ood"] for row in names["result"].card.metrics} >= {"cars", "gaussian"}  # type: ignore[attr-defined]


def test_the_table_of_settings_is_that_of_the_code() -> None:
    assert (DOCS / "parameters.md").read_text(encoding="utf-8") == settings_page(), (
        "make it anew: python -m oodbench.settings_page > docs/parameters.md"
    )


def test_pages_link_to_files_that_are_there() -> None:
    for page in [*DOCS.glob("*.md"), ROOT / "README.md"]:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"
