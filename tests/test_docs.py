"""What the documentation shows runs, and what is made from the code is that of the code."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from oodbench.catalogue_page import catalogue_page
from oodbench.classifier import Classifier
from oodbench.detectors.built_in import BUILT_IN
from oodbench.detectors.entry import FAMILIES
from oodbench.settings_page import settings_page
from tests.doc_commands import commands, parsed
from tests.scripts import INSTALLED

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"])
CHECKPOINT = ROOT / "results" / "baselines" / "digits-cnn8.safetensors"


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def fenced(path: Path) -> list[tuple[str, str]]:
    """The code blocks of a page, also indented ones: language and text."""
    found = re.findall(r"^( *)```(\w*)\n(.*?)^ *```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [(language, re.sub(f"^{indent}", "", text, flags=re.MULTILINE)) for indent, language, text in found]


def blocks(page: str, of: str = "python") -> list[str]:
    return [text for language, text in fenced(DOCS / page) if language == of]


def executed(page: str, names: dict[str, Any]) -> dict[str, Any]:
    """The names that a page's Python leaves, given what it takes for granted."""
    for number, code in enumerate(blocks(page)):
        exec(compile(code, f"{page} {number}", "exec", dont_inherit=True), names)
    return names


def digits_classifier() -> Classifier:
    from oodbench.models.load import load_classifier

    return load_classifier(str(CHECKPOINT), num_classes=10, image_shape=(1, 8, 8))


def labelled(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of 32×32 in colour, and labels."""
    draw = np.random.default_rng(count)
    return draw.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8), np.arange(count) % 10


def small_network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 8 * 8, 10))


def test_all_python_is_executed_by_some_test() -> None:
    """A page whose code is not run does not stay right; here stand those that tests run, in this file or in another."""
    here = Path(__file__).read_text(encoding="utf-8")
    elsewhere = {
        "docs/regression-checks.md": "test_pytest_plugin.py",
        "docs/trackers.md": "test_trackers.py",
        "README.md": "test_readme.py",
    }
    for page in PAGES:
        if any(language == "python" for language, _ in fenced(page)):
            if named(page) in elsewhere:
                assert page.name in (Path(__file__).parent / elsewhere[named(page)]).read_text(encoding="utf-8")
            else:
                assert f'executed("{page.relative_to(DOCS).as_posix()}"' in here, page


def test_every_block_is_of_a_language_that_is_checked() -> None:
    languages = {language for page in PAGES for language, _ in fenced(page)}
    assert languages == {"", "csv", "python", "sh", "toml", "yaml"}


def test_the_detectors_of_the_page_work(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    # Where the classes are found again by the name of their module, as in a user's own file.
    module = types.ModuleType("page_of_detectors")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    executed("write-a-detector.md", module.__dict__)
    assert "page_of_detectors:NearestMean(order=1)" in capsys.readouterr().out


def test_the_lines_of_deployment_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the reader's own network, in six lines to a guard and its scores."""
    monkeypatch.chdir(tmp_path)
    images, labels = labelled(90)
    network = small_network()
    given = {
        "network": network,
        "classifier": Classifier(network, num_classes=10, image_shape=(3, 32, 32), mean=0.0, std=1.0),
        "test_set": (images[:40], labels[:40]),
        "train_set": (images[40:], labels[40:]),
        "images": images[:12],
    }
    assert len([line for line in blocks("deploy.md")[0].splitlines() if line]) <= 6
    guard = executed("deploy.md", given)["guard"]
    assert guard.id_recall == 0.95 and "[" in capsys.readouterr().out
    np.testing.assert_array_equal(guard.is_ood(images), guard(images) < guard.threshold)


def test_the_lines_on_data_work() -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    given = {
        "classifier": digits_classifier(),
        "test_set": (images[:20], np.arange(20) % 10),
        "train_set": (images[20:], np.arange(40) % 10),
        "cars": images[:20] // 2,
    }
    names = executed("data.md", given)
    assert {row["ood"] for row in names["result"].card.metrics} >= {"cars", "gaussian"}


def test_the_quick_start_works(capsys: pytest.CaptureFixture[str]) -> None:
    names = executed("index.md", {"network": small_network(), "test_set": labelled(30), "train_set": labelled(60)})
    assert set(names["result"].table.detector) == {"msp", "energy", "knn"}
    assert "fpr_at_95_id_recall" in capsys.readouterr().out


def test_the_example_of_the_concepts_comes_out_as_the_page_says() -> None:
    figures = executed("concepts.md", {})["figures"]
    text = (DOCS / "concepts.md").read_text(encoding="utf-8")
    assert f"{100 * figures['fpr_at_95_id_recall']:.1f} %" in text and "9.1 %" in text
    assert figures["fpr_at_95_ood_recall"] == 1.0 and "flagged, 100 %" in text


def test_the_lines_on_models_work() -> None:
    classifier = executed("own-model.md", {"network": small_network()})["classifier"]
    assert classifier.head == "3"


class AnySize(nn.Module):
    """1,000 classes of photographs, 10 of small images: the page speaks of both."""

    def __init__(self) -> None:
        super().__init__()
        self.large, self.small = nn.Linear(3, 1000), nn.Linear(3, 10)

    def forward(self, images: Tensor) -> Tensor:
        features = images.mean(dim=(2, 3))
        logits: Tensor = (self.small if images.shape[-1] == 32 else self.large)(features)
        return logits


def test_the_lines_on_preprocess_work() -> None:
    from torchvision.models import ResNet50_Weights

    executed("preprocess.md", {"network": AnySize(), "weights": ResNet50_Weights.DEFAULT})


def test_the_lines_on_leaderboards_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "digits-cnn8-1a2b3c").symlink_to(ROOT / "results" / "digits")
    monkeypatch.chdir(tmp_path)
    executed("leaderboards.md", {})
    assert "oodl gaussian" in capsys.readouterr().out


def test_the_lines_on_processes_work(tmp_path: Path) -> None:
    from oodbench import Benchmark

    names = {"benchmark": Benchmark(ood=("uniform",), detectors=("msp",)), "classifier": digits_classifier()}
    executed("cluster.md", {**names, "folder": tmp_path / "run"})
    assert (tmp_path / "run" / "card.json").exists()


def test_the_version_stands_in_one_place(capsys: pytest.CaptureFixture[str]) -> None:
    executed("versioning.md", {})
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert capsys.readouterr().out.strip() == project["version"]


@pytest.mark.slow
def test_a_detector_of_one_file_is_tuned_and_compared_by_the_commands_of_the_page(tmp_path: Path) -> None:
    code = blocks("write-a-detector.md")[0]
    assert len(code.splitlines()) <= 25
    (tmp_path / "nearest.py").write_text(code, encoding="utf-8")
    script = next(text for text in blocks("write-a-detector.md", "sh") if "tune" in text)
    assert len(script.splitlines()) == 3
    done = carried_out(script, tmp_path)
    assert re.search(r"\| nearest:NearestMean\S* +\| \*\*", done.stdout), "it is the better one there"


def carried_out(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A script of a page as a shell carries it out, its `oodbench` being this one."""
    script = re.sub(r"(^|=\S+ )oodbench ", rf"\1'{INSTALLED}' ", script, flags=re.MULTILINE)
    done = subprocess.run(
        ["bash", "-ec", f"export PYTHONPATH='{ROOT}'\n{script}"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not on this machine (texlive-latex-recommended)")
def test_three_checkpoints_become_a_compiled_table_and_a_figure_by_the_commands_of_the_page(tmp_path: Path) -> None:
    (script,) = [text for text in blocks("leaderboards.md", "sh") if "pdflatex" in text]
    (paper,) = [text for text in blocks("leaderboards.md", "") if "documentclass" in text]
    assert len(script.splitlines()) <= 4 and "twocolumn" in paper
    (tmp_path / "paper.tex").write_text(paper, encoding="utf-8")
    for seed, name in enumerate("abc"):
        carried_out(f"oodbench train --id digits --epochs 2 --seed {seed} --out {name}.safetensors", tmp_path)
    log = carried_out(script, tmp_path).stdout
    assert (tmp_path / "paper.pdf").read_bytes().startswith(b"%PDF")
    assert "Overfull" not in log and "too large" not in log and "undefined" not in log
    assert "over 3 runs" in (tmp_path / "table.tex").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_are_those_of_the_command_line(page: Path) -> None:
    """Parsed by the commands themselves: options, choices, detectors, sets; not run, as they take data and hours."""
    for language, text in fenced(page):
        if language in ("sh", "yaml", ""):
            for line in commands(text):
                parsed(line)


def test_a_command_that_does_not_exist_is_found_out() -> None:
    for wrong in ("run --ood nosuchset", "run --detector nosuch", "run --no-such", "nosuch", "report x --format pdf"):
        with pytest.raises(Exception, match=r"no|No|is not one of"):
            parsed(f"oodbench {wrong}")
    assert commands("pip install x && A=1 oodbench run \\\n  --seed 1 | head\ntorchrun -m oodbench run") == [
        "oodbench run --seed 1",
        "oodbench run",
    ]


def test_toml_and_csv_are_read_as_the_pages_say(tmp_path: Path) -> None:
    from oodbench.report.names import Names
    from oodbench.report.published import read_published

    for page in PAGES:
        for language, text in fenced(page):
            if language == "toml":
                tomllib.loads(text)
    (names,) = blocks("leaderboards.md", "toml")
    (published,) = blocks("leaderboards.md", "csv")
    for name, text in (("names.toml", names), ("published.csv", published)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert Names.load(tmp_path / "names.toml").detector("odin(norm=l2)") == "ODIN, L2"
    assert len(read_published(tmp_path / "published.csv")) == 2


@pytest.mark.parametrize(
    ("page", "made", "module"),
    [
        ("parameters.md", settings_page, "oodbench.settings_page"),
        ("detectors.md", catalogue_page, "oodbench.catalogue_page"),
    ],
)
def test_pages_made_from_the_code_are_those_of_the_code(page: str, made: Any, module: str) -> None:
    assert (DOCS / page).read_text(encoding="utf-8") == made(), f"make it anew: python -m {module} > docs/{page}"


def test_every_detector_has_its_section_in_its_family() -> None:
    page = catalogue_page()
    assert {entry.family for entry in BUILT_IN} == FAMILIES.keys() - {"others"}
    sections = re.findall(r"^### (.*)$", page, re.MULTILINE)
    assert sorted(sections) == sorted(entry.name for entry in BUILT_IN)
    for part in page.split("\n## ")[1:]:
        (family,) = (one for one in FAMILIES if one == part.splitlines()[0].lower())
        assert {entry.family for entry in BUILT_IN if f"### {entry.name}\n" in part} == {family}


def test_pages_link_to_files_that_are_there() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            made = named(page.parent / link) in ("docs/changelog.md", "docs/contributing.md")  # by .ci/site_pages.py
            assert made or (page.parent / link).exists(), f"{page.name} links to {link}"


def test_every_page_is_in_the_site() -> None:
    nav = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(set(nav)) == len(nav)
    assert {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")} <= set(nav), "add it to nav in mkdocs.yml"


def test_public_ci_runs_the_test_command_of_the_readme() -> None:
    command = next(text for language, text in fenced(ROOT / "README.md") if language == "sh" and "tox" in text)
    assert command.strip() in (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert command.strip() in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
