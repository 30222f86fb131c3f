"""`oodbench invert` as a user meets it, with settings so small that the images are poor."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from oodbench.cli.invert import command
from oodbench.data.load import load_images
from oodbench.inversion.ablation import VARIANTS
from oodbench.inversion.generator import load_generator
from oodbench.inversion.settings import SETTINGS, InversionSettings, PyramidSettings
from oodbench.parameters import parameters, to_text
from tests.cli.conftest import Ended, check_interrupted
from tests.inversion.conftest import COLUMNS
from tests.threads import one_thread as one_thread

Command = Callable[..., Ended]

TINY = (
    *("--id", "digits", "--steps-per-epoch", "2", "--batch-size", "16", "--width", "4", "--noise-size", "5"),
    *("--accuracy-images", "50"),
)

FEW = ("--id", "digits", "--images", "60", "--batch-size", "30", "--steps", "3")

PNG = b"\x89PNG"


def test_one_generator_gives_every_file(oodbench: Command, tmp_path: Path) -> None:
    ended = oodbench(
        "invert", "--by", "generator", *TINY, "--epochs", "3", "--seed", "4", "--kl", "0.5", "--out", tmp_path / "out"
    )
    assert ended.code == 0, ended.err
    out = tmp_path / "out"
    figures = {"grid.pdf", "grid-wide.pdf"}
    names = figures | {"grid.png", "curves.png", "curves.csv", "generator.safetensors", "record.json"}
    assert {path.name for path in out.iterdir()} == names and all(name in ended.err for name in names)
    assert all((out / name).read_bytes().startswith(PNG) for name in ("grid.png", "curves.png"))
    assert "epoch 3: inversion accuracy" in ended.err and "| " in ended.out
    curves = pd.read_csv(out / "curves.csv")
    assert list(curves["epoch"]) == [1, 2, 3]
    generator = load_generator(out / "generator.safetensors")
    assert (generator.width, generator.noise_size, generator.image_shape) == (4, 5, (1, 8, 8))


def test_the_record_says_what_repeats_it(oodbench: Command, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        ended = oodbench(
            "invert", "--by", "generator", *TINY, "--epochs", "1", "--seed", "4", "--out", tmp_path / folder
        )
        assert ended.code == 0, ended.err
    record, again = (json.loads((tmp_path / folder / "record.json").read_text()) for folder in ("a", "b"))
    assert record["settings"]["seed"] == 4 and record["settings"]["weights"]["cosine"] == 20
    assert len(record["classifier"]["content_hash"]) == 64 and record["classifier"]["name"] == "cnn8"
    assert 0 <= record["inversion_accuracy"] <= 1 and record["seconds"] > 0 and record["versions"]["torch"]
    assert set(record["diversity"]) == {"feature_cosine", "within_class_cosine", "coverage"}
    assert record["real_images"]["count"] > 1000 and record["generated_images"] == 2000
    when = {"created", "seconds"}
    assert {key: value for key, value in record.items() if key not in when} == {
        key: value for key, value in again.items() if key not in when
    }
    weights = [(tmp_path / folder / "generator.safetensors").read_bytes() for folder in ("a", "b")]
    assert weights[0] == weights[1]


def test_a_checkpoint_is_inverted_and_names_the_folder(
    oodbench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert oodbench("train", "--id", "digits", "--epochs", "1", "--out", "mine.safetensors").code == 0
    ended = oodbench("invert", *FEW, "--model", "cnn8=mine.safetensors")
    assert ended.code == 0, ended.err
    assert (tmp_path / "results/inversion/digits-cnn8/record.json").is_file()


def test_by_latents_is_the_default_and_gives_a_set_and_a_sheet(oodbench: Command, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        ended = oodbench("invert", *FEW, "--seed", "4", "--statistics", "7", "--out", tmp_path / folder)
        assert ended.code == 0, ended.err
    out = tmp_path / "a"
    figures = {"grid.pdf", "grid-wide.pdf"}
    assert {path.name for path in out.iterdir()} == figures | {"grid.png", "images.npz", "record.json"}
    assert (out / "grid.png").read_bytes().startswith(PNG)
    record = json.loads((out / "record.json").read_text())
    assert record["settings"]["statistics"] == 7 and record["generated_images"] == 60
    assert {"inversion_accuracy", "feature_cosine", "within_class_cosine", "coverage"} <= set(record)
    made, again = (np.load(tmp_path / folder / "images.npz") for folder in ("a", "b"))
    assert made["images"].shape == (60, 8, 8) and made["images"].dtype == np.uint8
    assert made["labels"].tolist() == [number % 10 for number in range(60)]
    assert np.array_equal(made["images"], again["images"])
    # What was made is a set that a run can read.
    read = load_images(f"npz:{out / 'images.npz'}", data_root=None)
    assert np.array_equal(read.read(0, 60).reshape(60, 8, 8), made["images"])


def test_a_reconstruction_is_compared_with_what_a_network_was_overfitted_on(oodbench: Command, tmp_path: Path) -> None:
    ended = oodbench(
        "invert", *FEW, "--reconstruct", "--overfit", "60", "--overfit-epochs", "30", "--out", tmp_path / "out"
    )
    assert ended.code == 0, ended.err
    out = tmp_path / "out"
    names = {"pairs.png", "pairs.pdf", "pairs-wide.pdf", "reconstruction.csv", "images.npz", "record.json"}
    assert {path.name for path in out.iterdir()} == names and (out / "pairs.png").read_bytes().startswith(PNG)
    table, record = pd.read_csv(out / "reconstruction.csv"), json.loads((out / "record.json").read_text())
    assert len(table) == 60 and table["nearest"].between(0, 59).all() and table["ssim"].between(-1, 1).all()
    assert record["training_images"] == 60 and record["settings"]["overfit"] == 60
    assert record["ssim"] == pytest.approx(table["ssim"].mean())
    assert record["within_own_distance"] == pytest.approx((table["distance"] < table["own"]).mean())
    assert record["nearer_than_unseen"] == pytest.approx(table["nearer"].mean())


def test_an_ablation_has_a_row_a_variant_and_seed(oodbench: Command, tmp_path: Path) -> None:
    ended = oodbench(
        "invert", *TINY, "--ablate", "--seeds", "2", "--seed", "7", "--epochs", "1", "--out", tmp_path / "out"
    )
    assert ended.code == 0, ended.err
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {
        "ablation.csv",
        "ablation_curves.csv",
        "ablation.png",
        "ablation.json",
    }
    table = pd.read_csv(out / "ablation.csv")
    assert list(table) == ["variant", *COLUMNS]
    assert list(zip(table["variant"], table["seed"], strict=True)) == [
        (name, seed) for name in VARIANTS for seed in (7, 8)
    ]
    record = json.loads((out / "ablation.json").read_text())
    assert record["seeds"] == [7, 8] and record["variants"]["no_ce"] == {"cross_entropy": 0}
    assert all(name in ended.out for name in VARIANTS)


def test_a_sweep_has_a_row_a_value_and_a_figure_a_setting(oodbench: Command, tmp_path: Path) -> None:
    ended = oodbench(
        "invert", *TINY, "--sweep", "learning_rate=0.001, 0.003", "--sweep", "batch_size=8,16", "--seeds", "1",
        "--sweep", "conditioning=one-hot", "--epochs", "1", "--out", tmp_path / "out",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    out = tmp_path / "out"
    figures = {f"sweep_{name}.png" for name in ("learning_rate", "batch_size", "conditioning")}
    assert {path.name for path in out.iterdir()} == {"sweep.csv", "sweep_curves.csv", "sweep.json", *figures}
    table = pd.read_csv(out / "sweep.csv")
    assert list(table) == ["parameter", "value", *COLUMNS]
    assert list(table["value"]) == ["0.001", "0.003", "8", "16", "one-hot"]
    assert json.loads((out / "sweep.json").read_text())["swept"]["batch_size"] == [8, 16]


def test_every_setting_has_an_option_that_says_its_defaults() -> None:
    """Settings and loss weights are declared once; the options are made from them."""
    options = {parameter.name: parameter for parameter in command.params}
    for name in SETTINGS:
        assert f"generator {to_text(InversionSettings().value(name))}" in options[name].help
    for one in parameters(PyramidSettings):
        assert f"latents {to_text(one.default)}" in options[one.name].help
    assert "--reconstruct 200" in options["images"].help and "latents 2000" in options["images"].help
    assert {"epochs", "batch_size", "cross_entropy", "l1", "conditioning", "seed"} <= set(SETTINGS)


def test_help_does_not_import_torch() -> None:
    code = (
        "import sys; from oodbench.cli.invert import command; command(['--help'], standalone_mode=False); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


GENERATOR = ("--id", "digits", "--by", "generator")

BAD = {
    "no id": ([], "--id"),
    "unknown id": (["--id", "minst"], "did you mean mnist"),
    "id as group": (["--id", "noise"], "group"),
    "unknown model": (["--id", "digits", "--model", "cnn9"], "did you mean cnn8"),
    "missing checkpoint": (["--id", "digits", "--model", "cnn8=nowhere.th"], "nowhere.th"),
    "no epochs": ([*GENERATOR, "--epochs", "0"], "epochs must be finite and from 1"),
    "not a number": ([*GENERATOR, "--learning-rate", "fast"], "fast"),
    "rate of zero": ([*GENERATOR, "--learning-rate", "0"], "learning_rate must be finite and from 1e-12"),
    "no width": ([*GENERATOR, "--width", "0"], "width must be finite and from 1"),
    "negative seed": (["--id", "digits", "--seed", "-1"], "seed must be finite and from 0"),
    "bad conditioning": ([*GENERATOR, "--conditioning", "matrices"], "vector-matrix"),
    "negative weight": ([*GENERATOR, "--kl", "-1"], "kl must be finite and from 0"),
    "nan weight": ([*GENERATOR, "--cosine", "nan"], "cosine must be finite and from 0"),
    "ablation of nothing": (
        ["--id", "digits", "--ablate", "--kl", "0", "--cosine", "0", "--orthogonality", "0"],
        "all losses have weight 0",
    ),
    "both studies": (["--id", "digits", "--ablate", "--sweep", "kl=1"], "not both"),
    "seeds of nothing": (["--id", "digits", "--seeds", "2"], "--seeds"),
    "no seeds": (["--id", "digits", "--ablate", "--seeds", "0"], "at least 1"),
    "sweep without values": (["--id", "digits", "--sweep", "kl"], "SETTING=VALUE"),
    "sweep of nothing": (["--id", "digits", "--sweep", "kl="], "SETTING=VALUE"),
    "sweep of an unknown setting": (["--id", "digits", "--sweep", "learning-rat=1"], "did you mean learning_rate"),
    "sweep out of range": (["--id", "digits", "--sweep", "kl=1,-1"], "kl must be finite and from 0"),
    "sweep of another type": (["--id", "digits", "--sweep", "batch_size=16,16.5"], "whole number"),
    "sweep of a bad choice": (
        ["--id", "digits", "--sweep", "conditioning=vector,matrices"],
        "must be one of vector, matrix,",
    ),
    "sweep twice": (["--id", "digits", "--sweep", "kl=1", "--sweep", "kl=2"], "once"),
    "value twice": (["--id", "digits", "--sweep", "kl=1,1.0"], "once"),
    "sweep of seeds": (["--id", "digits", "--sweep", "seed=1,2"], "--seeds"),
    "setting of another way": (["--id", "digits", "--kl", "1"], "--kl is no setting of --by latents; leave it out, or"),
    "overfit without reconstruction": (["--id", "digits", "--overfit", "9"], "or give --reconstruct"),
    "reconstruction by a generator": ([*GENERATOR, "--reconstruct"], "by latents"),
    "ablation by latents": (["--id", "digits", "--by", "latents", "--ablate"], "studies of the generator"),
    "no class asked for": (["--id", "digits", "--cross-entropy", "0"], "no class is asked for"),
    "no cuda": (["--id", "digits", "--device", "tpu"], "there is no device 'tpu'"),
    "unknown option": (["--id", "digits", "--epoch", "3"], "--epochs"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused_in_words_before_anything_is_trained(
    oodbench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.setenv("OODBENCH_CACHE", str(tmp_path / "cache"))
    ended = oodbench("invert", *arguments, "--out", tmp_path / "deep" / "out")
    assert ended.code == 2
    assert message in ended.err and "Traceback" not in ended.err and ended.out == ""
    assert list(tmp_path.iterdir()) == [], "something was trained or left behind"


def test_an_out_that_cannot_be_written_is_refused_at_once(oodbench: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = oodbench("invert", *FEW, "--out", tmp_path / "file" / "out")
    assert ended.code == 2 and "cannot write into" in ended.err


@pytest.mark.parametrize(
    "arguments",
    [["--by", "generator", "--epochs", "200"], pytest.param(["--epochs", "30", "--ablate"], marks=pytest.mark.slow)],
    ids=["one", "ablation"],
)
def test_ctrl_c_exits_with_130_and_leaves_nothing(tmp_path: Path, arguments: list[str]) -> None:
    check_interrupted(["invert", *TINY, *arguments, "--out", "out"], "inversion accuracy", tmp_path)
