"""`oodbench run` as a user meets it."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torchvision.models import squeezenet1_1

from oodbench.benchmark import Benchmark
from oodbench.card import Card
from oodbench.cli.options import split_list
from oodbench.errors import OodbenchError
from oodbench.files import LARGEST_TEXT
from oodbench.recipes.obtain import WITH_OODBENCH
from oodbench.report.formats import COLUMNS
from tests.cli.conftest import Ended, check_interrupted

ROOT = Path(__file__).parents[2]

Command = Callable[..., Ended]


@pytest.fixture(scope="module")
def default_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `oodbench run` with no arguments, run as a process of its own, in an empty folder."""
    folder = tmp_path_factory.mktemp("default")
    ended = subprocess.run(
        [sys.executable, "-m", "oodbench", "run", "--out", "out"], cwd=folder, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    (folder / "out" / "stdout.txt").write_text(ended.stdout)
    return folder / "out"


def test_default_run_gives_every_file_and_every_row(default_run: Path) -> None:
    table = pd.read_csv(default_run / "leaderboard.csv")
    assert tuple(table.columns) == COLUMNS
    assert set(table.ood) == {"gaussian", "uniform", "structured", "photos"}
    detectors = {"msp", "lc", "odin", "oodl", "maxlogit", "energy", "inversion", "constant", "random"}
    assert set(table.detector) == detectors
    assert (table.pop("garbage_share").notna() == (table.detector == "inversion")).all()
    assert len(table) == 4 * 9 and not table.isna().any().any()
    assert table.id_accuracy.iloc[0] > 0.95
    card = Card.load(default_run / "card.json")
    assert card.benchmark["name"] == "digits" and len(card.metrics) == len(table)
    assert "| oodl" in (default_run / "leaderboard.md").read_text()


def test_default_run_prints_a_table_that_fits_80_columns(default_run: Path) -> None:
    text = (default_run / "stdout.txt").read_text()
    assert "oodl" in text and "photos" in text
    assert max(map(len, text.splitlines())) <= 80


def test_default_run_makes_sense(default_run: Path) -> None:
    table = pd.read_csv(default_run / "leaderboard.csv").pivot(index="detector", columns="ood", values="auroc")
    assert (table.loc["constant"] == 0.5).all()
    assert ((table.loc["random"] - 0.5).abs() < 0.06).all()
    assert (table.loc["msp"] > 0.8).all() and (table.loc["oodl", ["gaussian", "uniform"]] > 0.99).all()
    assert (table.loc["inversion"] > 0.95).all()


def test_default_run_is_small(default_run: Path) -> None:
    """Under 2 GiB; the default run is the largest child of this session."""
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 2 * 1024**2


def test_rows_of_two_parameters_have_two_labels(oodbench: Command, image_files: dict[str, str], tmp_path: Path) -> None:
    ended = oodbench(
        "run", "--detector", "odin,odin(norm=l2,epsilon=0.01)", "--detector", "odin(norm=l1)",
        "--ood", "gaussian,uniform", "--limit", "50", "--set", "odin.temperature=100", "--out", tmp_path,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    table = pd.read_csv(tmp_path / "leaderboard.csv")
    assert set(table.detector) == {
        "odin(temperature=100)",
        "odin(temperature=100,epsilon=0.01,norm=l2)",
        "odin(temperature=100,norm=l1)",
    }
    assert set(table.n_ood) == {50}


def test_own_files_bear_their_stem(oodbench: Command, image_files: dict[str, str], tmp_path: Path) -> None:
    ended = oodbench("run", "--ood", image_files["dark"], "--detector", "msp", "--limit", "15", "--out", tmp_path)
    assert ended.code == 0, ended.err
    table = pd.read_csv(tmp_path / "leaderboard.csv")
    assert list(table.ood) == ["dark"] and list(table.group) == ["other"] and list(table.n_ood) == [15]


def test_benchmark_file_is_the_same_as_options(oodbench: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'version = 1\nood = ["noise"]\ndetectors = ["energy"]\nlimit = 40\n[parameters]\n"energy.temperature" = 2.0\n'
    )
    from_file = oodbench("run", "--benchmark", tmp_path / "mine.toml", "--out", tmp_path / "a")
    assert from_file.code == 0, from_file.err
    spelled = oodbench(
        "run", "--ood", "noise", "--detector", "energy(temperature=2)", "--limit", "40", "--out", tmp_path / "b"
    )
    assert spelled.code == 0, spelled.err
    assert (tmp_path / "a/leaderboard.csv").read_text() == (tmp_path / "b/leaderboard.csv").read_text()
    assert Card.load(tmp_path / "a/card.json").benchmark["name"] == "mine"


def test_by_default_nothing_of_the_users_is_trained_on(oodbench: Command, tmp_path: Path) -> None:
    checkpoint = ROOT / "results/baselines/digits-cnn8.safetensors"
    run = ("run", "--ood", "uniform", "--limit", "30", "--out", tmp_path, "--model", checkpoint)
    ended = oodbench(*run)
    assert ended.code == 0, ended.err
    assert "left out: inversion, which would train a classifier" in ended.err
    assert not {"inversion"} & set(pd.read_csv(tmp_path / "leaderboard.csv").detector)
    more = (*run, "--model", ROOT / "results/baselines/digits-cnn8-garbage.safetensors")
    before = (tmp_path / "card.json").read_bytes()
    ended = oodbench(*more)
    assert ended.code == 2 and "the run of another benchmark" in ended.err and "--force" in ended.err
    assert (tmp_path / "card.json").read_bytes() == before
    ended = oodbench(*more, "--force")
    assert ended.code == 0, ended.err
    assert "left out" not in ended.err
    assert "inversion" in set(pd.read_csv(tmp_path / "leaderboard.csv").detector)


def test_a_normalisation_that_is_not_used_is_said(oodbench: Command, tmp_path: Path) -> None:
    ended = oodbench(
        "run", "--mean", "mnist", "--detector", "energy", "--ood", "uniform", "--limit", "30", "--out", tmp_path
    )
    assert ended.code == 0 and "--mean: not used for what is trained here, with the images of digits" in ended.err


def test_without_out_it_says_where(oodbench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ended = oodbench("run", "--detector", "energy", "--ood", "uniform", "--limit", "30")
    folder = re.search(r"in (results/digits-cnn8-[0-9a-f]{6})", ended.err)
    assert folder and (tmp_path / folder[1] / "card.json").is_file(), ended.err


BAD = {
    "unknown detector": (["--detector", "odim"], "did you mean odin"),
    "unknown set": (["--ood", "gausian"], "did you mean gaussian"),
    "unknown id": (["--id", "minst"], "did you mean mnist"),
    "unknown model": (["--model", "resnet21"], "did you mean resnet"),
    "unknown parameter": (["--set", "odin.epsilom=1"], "did you mean epsilon"),
    "parameter without value": (["--set", "odin.epsilon"], "--set takes NAME=VALUE"),
    "wrong type": (["--detector", "odin(temperature=warm)"], "temperature"),
    "out of range": (["--detector", "odin(temperature=-1)"], "temperature"),
    "bad choice": (["--detector", "odin(norm=l3)"], "l1"),
    "unclosed parenthesis": (["--detector", "odin(norm=l2"], "odin"),
    "lsun without data": (["--ood", "lsun"], "lsun"),
    "missing npz": (["--ood", "npz:nowhere.npz"], "nowhere.npz"),
    "missing folder": (["--ood", "folder:nowhere"], "nowhere"),
    "zero limit": (["--limit", "0"], "limit"),
    "negative limit": (["--limit", "-3"], "limit"),
    "one image": (["--limit", "1"], "at least 2"),
    "zero batch": (["--batch-size", "0"], "batch size"),
    "negative workers": (["--workers", "-1"], "workers"),
    "no cuda": (["--device", "cuda"], "--device cpu"),
    "unknown device": (["--device", "tpu"], "there is no device 'tpu'"),
    "unknown benchmark": (["--benchmark", "digit"], "did you mean digits"),
    "id as ood": (["--ood", "digits"], "digits"),
    "missing checkpoint": (["--model", "cnn8=nowhere.th"], "nowhere.th"),
    "unknown option": (["--detectors", "odin"], "--detector"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused_in_words(oodbench: Command, tmp_path: Path, arguments: list[str], message: str) -> None:
    out = tmp_path / "deep" / "out"
    ended = oodbench("run", *arguments, "--out", out)
    assert ended.code == 2
    assert message in ended.err and "Traceback" not in ended.err
    assert not (tmp_path / "deep").exists(), "something was left behind"


def test_a_missing_set_is_said_before_a_classifier_is_trained(
    oodbench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OODBENCH_CACHE", str(tmp_path / "cache"))
    ended = oodbench("run", "--ood", "uniform,npz:nowhere.npz", "--out", tmp_path / "out")
    assert ended.code == 2 and "nowhere.npz" in ended.err
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ood = [", "not valid TOML"),
        ("oood = []", "did you mean ood"),
        ('id = ["a"]', "id"),
        ("partial = 3", "partial is 3, not true or false"),
        ("expected = 3", "expected is 3, not a table"),
        ('[expected.svhn]\nimages = "many"', "expected must be tables"),
        ("[expected.svhn]\nimage = 3", "expected must be tables"),
        ("source = 3", "source is 3, not text"),
        ("mean = 0.5", "mean is 0.5, not text or nothing"),
        ("std = [0.5]", "std is [0.5], not text or nothing"),
        ("fit = 3", "fit is 3, not text"),
        ("parameters = 3", "parameters is 3, not a table"),
        ("seed = true", "seed is True, not a whole number"),
        ("seed = 9007199254740993", "not a whole number from 0 to 2^53"),
        ("limit = 1" + "0" * 5000, "is not valid TOML"),
        ("limit = 2.5", "limit is 2.5, not a whole number"),
        ("version = true", "version is True, not a whole number"),
        ("[parameters]\n'odin.epsilon' = 2026-01-01", "parameters is "),
        ("parameters = " + "{a = " * 15 + "1" + "}" * 15, "parameters is "),
        ("name = []", "name is [], not a name"),
        ("ood = 3", "'ood' must be a list of names"),
        ("tuning = 3", "tuning is 3, not a list"),
        ("a = " + "[" * 100_000, "is not valid TOML"),
    ],
)
def test_bad_benchmark_files_are_refused(oodbench: Command, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.toml").write_text(text)
    ended = oodbench("run", "--benchmark", tmp_path / "bad.toml", "--out", tmp_path / "out")
    assert ended.code == 2 and message in ended.err


def test_a_benchmark_in_another_encoding_is_refused_and_a_byte_order_mark_is_not(
    oodbench: Command, tmp_path: Path
) -> None:
    text = 'ood = ["uniform"]\nname = "grün"\n'
    path = tmp_path / "benchmark.toml"
    for encoding in ("utf-16", "utf-32", "latin-1"):
        path.write_bytes(text.encode(encoding))
        ended = oodbench("run", "--benchmark", path, "--out", tmp_path / "out")
        assert ended.code == 2 and "benchmark.toml is not valid TOML: it is not UTF-8" in ended.err
    path.write_bytes(text.encode("utf-8-sig"))
    assert Benchmark.load(str(path)).name == "grün"
    path.write_bytes(b"#" * (LARGEST_TEXT + 1))
    with pytest.raises(OodbenchError, match="more than 16,777,216 bytes"):
        Benchmark.load(str(path))


def test_an_out_that_cannot_be_written_is_refused_at_once(oodbench: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = oodbench("run", "--out", tmp_path / "file" / "out")
    assert ended.code == 2 and "cannot write into" in ended.err


def test_checkpoint_of_other_classes_is_refused(oodbench: Command, tmp_path: Path) -> None:
    import numpy as np

    (checkpoint,) = WITH_OODBENCH.glob("digits-cnn8-????????????.safetensors")
    draw = np.random.default_rng(0)
    np.savez(
        tmp_path / "twelve.npz", images=draw.integers(0, 256, (60, 8, 8)).astype(np.uint8), labels=np.arange(60) % 12
    )
    ended = oodbench("run", "--id", f"npz:{tmp_path / 'twelve.npz'}", "--model", checkpoint, "--out", tmp_path / "out")
    assert ended.code == 2 and "classes" in ended.err and not (tmp_path / "out").exists()


def test_ctrl_c_exits_with_130_and_leaves_nothing(tmp_path: Path) -> None:
    check_interrupted(["run", "--ood", "noise", "--batch-size", "1", "--out", "out"], "comes with oodbench", tmp_path)


def test_squeezenet_from_the_command_line(oodbench: Command, tmp_path: Path) -> None:
    """Its features are read; a detector that reads the head's weights is refused in words that one can follow."""
    draw = np.random.default_rng(0)
    for name, count in (("own_train", 6), ("own_test", 4)):
        images = draw.integers(0, 256, (count, 8, 8), dtype=np.uint8)
        np.savez(tmp_path / f"{name}.npz", images=images, labels=np.arange(count) % 2)
    torch.manual_seed(0)
    torch.save({"state_dict": squeezenet1_1(num_classes=2).state_dict()}, tmp_path / "s.pth")
    work = [
        "run",
        "--id",
        f"npz:{tmp_path}/own_test.npz",
        "--ood",
        "uniform",
        "--mean",
        "half",
        "--resize",
        "64x64",
        "--out",
        tmp_path / "out",
    ]
    work += ["--model", f"squeezenet1_1={tmp_path}/s.pth"]
    ended = oodbench(*work, "--detector", "energy,lc,knn(k=1)")
    assert ended.code == 0 and "the logits of squeezenet1_1 are no linear function of its features" in ended.err
    ended = oodbench(*work, "--detector", "react", "--force")
    assert ended.code == 2 and "leave the detector out" in ended.err


def test_a_cache_that_cannot_be_written_is_said_before_anything_is_done(
    oodbench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("OODBENCH_CACHE", str(tmp_path / "file" / "cache"))
    options = ("run", "--ood", "uniform", "--detector", "msp", "--limit", "30", "--out", tmp_path / "out")
    ended = oodbench(*options)
    assert ended.code == 2 and "OODBENCH_CACHE" in ended.err and "training" not in ended.err
    (tmp_path / "out" / "card.json").mkdir(parents=True)
    ended = oodbench(*options)
    assert ended.code == 2 and "card.json is a folder" in ended.err and "training" not in ended.err


def test_a_path_may_have_a_comma_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it leads to something; else commas part, whatever the list's length."""
    monkeypatch.chdir(tmp_path)
    for name in ("comma, and space", "x,y"):
        Path(name).mkdir()
    Path("x,y/b.pth").touch()
    for given, meant in (
        (("folder:comma, and space",), ("folder:comma, and space",)),
        (("msp, mine=folder:comma, and space,textures", "b"), ("msp", "mine=folder:comma, and space", "textures", "b")),
        (("npz:x,y/b.pth,npz:x,y/b.pth",), ("npz:x,y/b.pth", "npz:x,y/b.pth")),
        ((f"net={tmp_path}/x,y/b.pth#ema,a",), (f"net={tmp_path}/x,y/b.pth#ema", "a")),
        (("folder:comma, and more",), ("folder:comma", "and more")),
        ((",".join("abc" * 200), ""), tuple("abc" * 200)),
    ):
        assert split_list(given) == meant
