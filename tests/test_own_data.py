"""Runs on people's own data: given from Python, under names of their own, and on part of a benchmark."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from oodbench import Benchmark, Card, Classifier, OodbenchError, run
from oodbench.benchmark import embedded_benchmarks
from oodbench.data.npz import read_npz
from oodbench.guard import fit
from oodbench.plan import Machine, make_plan
from oodbench.report.comparison import compare
from oodbench.report.formats import FORMATS
from oodbench.run_folder import Result
from tests.cli.conftest import Ended, oodbench  # noqa: F401 (a fixture)
from tests.data.forms import pixels, save_png, write_pngs

DETECTORS = ("energy", "oodl", "lc")


def tensors(path: str) -> TensorDataset:
    """What an npz file holds, as a torch data set."""
    with np.load(path.removeprefix("npz:")) as file:
        images = torch.from_numpy(file["images"])[:, None]
        labels = file["labels"] if "labels" in file else np.zeros(len(images), int)
    return TensorDataset(images, torch.from_numpy(labels))


def test_sets_from_python_score_as_from_files(
    small_classifier: Classifier, image_files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    train = image_files["id"].replace("rot_test", "rot_train")
    files = run(Benchmark(id=image_files["id"], ood=(image_files["bright"],), detectors=DETECTORS), [small_classifier])
    with np.load(image_files["bright"].removeprefix("npz:")) as file:
        bright = file["images"]
    # The names of the sets decide on draws and proxies; `bright` is no name that oodbench knows.
    sets = {"rot_test": tensors(image_files["id"]), "fits": tensors(train), "bright": bright}
    benchmark = Benchmark(id="rot_test", fit="fits", ood=("bright",), detectors=DETECTORS)
    given = run(benchmark, [small_classifier], sets=sets)
    assert {one["name"]: one["content_hash"] for one in given.card.sets if one["role"] != "fit"} == {
        one["name"]: one["content_hash"] for one in files.card.sets if one["role"] != "fit"
    }
    for key, scores in files.scores.items():
        if key[1] != "lc":  # its proxies are drawn by the name of the fit set
            np.testing.assert_array_equal(given.scores[key], scores)
    assert given.card.benchmark["ood"] == ["bright"]


def test_names_given_from_python_come_first(small_classifier: Classifier, image_files: dict[str, str]) -> None:
    sets = {"uniform": pixels(30, 8, 8), "digits": DataLoader(tensors(image_files["id"]), batch_size=7)}
    result = run(Benchmark(id="digits", ood=("uniform",), detectors=("energy",)), [small_classifier], sets=sets)
    assert [(row["n_id"], row["n_ood"], row["group"]) for row in result.card.metrics] == [(20, 30, "other")]
    with pytest.raises(OodbenchError, match="no data set 'mine'"):
        run(Benchmark(id="mine", ood=("uniform",)), [small_classifier], sets={"other": pixels(3, 8, 8)})


def test_fit_and_score_take_data_sets(small_classifier: Classifier, image_files: dict[str, str]) -> None:
    train = image_files["id"].replace("rot_test", "rot_train")
    images = read_npz("rot_train", Path(train.removeprefix("npz:")))
    expected = fit("oodl", small_classifier, images).score(read_npz("x", Path(image_files["bright"][4:])))
    fitted = fit("oodl", small_classifier, DataLoader(tensors(train), batch_size=9, shuffle=True))
    np.testing.assert_allclose(fitted.score(tensors(image_files["bright"])), expected, rtol=0, atol=1e-12)


def test_two_folders_called_alike(small_classifier: Classifier, image_files: dict[str, str], tmp_path: Path) -> None:
    folders = [tmp_path / name / "scans" for name in ("mr", "ct")]
    for seed, folder in enumerate(folders):
        write_pngs(folder, pixels(9, 8, 8, seed=seed))
    benchmark = Benchmark(id=image_files["id"], detectors=("energy",))
    alike = replace(benchmark, ood=tuple(f"folder:{folder}" for folder in folders))
    with pytest.raises(OodbenchError, match=r"two OOD sets are called 'scans'; .*mine=folder:PATH"):
        run(alike, [small_classifier])
    apart = replace(benchmark, ood=tuple(f"{folder.parent.name}=folder:{folder}" for folder in folders))
    assert [row["ood"] for row in run(apart, [small_classifier]).card.metrics] == ["mr", "ct"]


def test_the_fit_draw_has_every_class(small_classifier: Classifier, tmp_path: Path) -> None:
    labels = np.repeat(np.arange(3), [400, 20, 3])
    np.savez(tmp_path / "own_train.npz", images=pixels(423, 8, 8), labels=labels)
    np.savez(tmp_path / "own_test.npz", images=pixels(30, 8, 8, seed=1), labels=np.arange(30) % 3)
    benchmark = Benchmark(id=f"npz:{tmp_path / 'own_test.npz'}", ood=("uniform",), fit_limit=50)
    drawn = make_plan(benchmark, Machine(), [small_classifier]).id_set.fit
    assert drawn.labels is not None and np.bincount(drawn.labels).tolist() == [47, 2, 1]


def openood(root: Path, name: str, without: tuple[str, ...] = (), classes: int = 3) -> Benchmark:
    """OpenOOD's layout of a benchmark, with twelve images a set, and the benchmark without its numbers of images."""
    benchmark = Benchmark.load(name)
    for number, reference in enumerate((benchmark.id, benchmark.fit, *benchmark.ood)):
        path = root / str(reference).partition(":")[2]
        if str(reference).partition("=")[0] in without:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = "images_classic" if "cifar" in name or "texture" in path.stem else "images_largescale"
        lines = []
        for index, image in enumerate(pixels(12, 8, 8, 3, seed=number)):
            save_png(root / folder / path.stem / f"{index}.png", image)
            lines.append(f"{path.stem}/{index}.png {index % classes if number < 2 else -1}")
        path.write_text("\n".join(lines) + "\n")
    groups = {one: {"group": facts["group"]} for one, facts in benchmark.expected.items() if "group" in facts}
    return replace(benchmark, expected=groups, detectors=("energy",))


GROUPS = {
    "openood-cifar10": {"near": ["cifar100", "tinyimagenet"], "far": ["mnist", "svhn", "textures", "places365"]},
    "openood-cifar100": {"near": ["cifar10", "tinyimagenet"], "far": ["mnist", "svhn", "textures", "places365"]},
    "openood-imagenet200": {"near": ["ssb-hard", "ninco"], "far": ["inaturalist", "textures", "openimage-o"]},
    "openood-imagenet1k": {"near": ["ssb-hard", "ninco"], "far": ["inaturalist", "textures", "openimage-o"]},
}


@pytest.mark.parametrize("name", GROUPS)
def test_openoods_benchmarks_run_from_its_layout(name: str, tmp_path: Path, small_classifier: Classifier) -> None:
    benchmark = openood(tmp_path, name)
    result = run(benchmark, [small_classifier], Machine(data_root=tmp_path))
    found: dict[str, list[str]] = {}
    for row in result.card.metrics:
        found.setdefault(row["group"], []).append(row["ood"])
    assert found == GROUPS[name] and result.card.benchmark["name"] == name
    assert {row["id"] for row in result.card.metrics} == {name.removeprefix("openood-")}


def test_a_shorter_list_than_the_published_one_is_refused(tmp_path: Path, small_classifier: Classifier) -> None:
    openood(tmp_path, "openood-cifar10")
    with pytest.raises(OodbenchError, match=r"cifar10 .* has 12 images where the benchmark has 9,000"):
        run(Benchmark.load("openood-cifar10"), [small_classifier], Machine(data_root=tmp_path))


def test_all_that_is_missing_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(OodbenchError) as raised:
        make_plan(Benchmark.load("openood-cifar10"), Machine(data_root=tmp_path))
    told = str(raised.value)
    assert told.startswith("benchmark 'openood-cifar10' needs 8 thing(s) that are not here")
    for stem in ("test_cifar10", "train_cifar10", "test_tin", "test_places365"):
        assert f"cifar10/{stem}.txt" in told
    assert "scripts/download/download.py" in told and "--partial" not in told
    with pytest.raises(OodbenchError, match=r"(?s)odin-cifar10.*lsun-crop is not.*isun is not.*facebookresearch/odin"):
        make_plan(Benchmark.load("odin-cifar10"), Machine(data_root=tmp_path))


def test_what_is_there_is_run_if_asked_and_every_table_says_so(tmp_path: Path, small_classifier: Classifier) -> None:
    benchmark = openood(tmp_path, "openood-cifar10", without=("svhn", "tinyimagenet"))
    with pytest.raises(
        OodbenchError, match=r"(?s)needs 2 thing.*test_tin.*test_svhn.*on the 4 OOD set\(s\).*--partial"
    ):
        run(benchmark, [small_classifier], Machine(data_root=tmp_path))
    result = run(replace(benchmark, partial=True), [small_classifier], Machine(data_root=tmp_path))
    assert [row["ood"] for row in result.card.metrics] == ["cifar100", "mnist", "textures", "places365"]
    assert any(note.startswith("partial: 4 of 6 sets; not here: tinyimagenet=list:") for note in result.card.notes)
    result.save(tmp_path / "kept")
    kept = Result.load(tmp_path / "kept")
    for name, table in FORMATS.items():
        assert "partial: 4 of 6 sets" in table(compare([kept])), name
    for file in ("leaderboard.md", "leaderboard.csv"):
        assert "partial: 4 of 6 sets" in (tmp_path / "kept" / file).read_text()
    assert Card.load(tmp_path / "kept" / "card.json").benchmark["missing"] == [benchmark.ood[1], benchmark.ood[3]]
    # A whole run says nothing of the kind.
    whole = run(openood(tmp_path, "openood-cifar10"), [small_classifier], Machine(data_root=tmp_path))
    assert not any("partial:" in table(compare([whole])) for table in FORMATS.values())


def test_partial_from_the_command_line(tmp_path: Path, oodbench: Callable[..., Ended]) -> None:  # noqa: F811
    benchmark = openood(tmp_path, "openood-cifar10", without=("svhn",), classes=10)
    lines = ["version = 1", 'name = "some"', f'id = "{benchmark.id}"', f'fit = "{benchmark.fit}"']
    lines += [f"ood = {[*benchmark.ood]!r}", 'detectors = ["energy"]']
    (tmp_path / "some.toml").write_text("\n".join(lines))
    call = ("run", "--benchmark", tmp_path / "some.toml", "--data-root", tmp_path, "--out", tmp_path / "out")
    weights = Path(__file__).parents[1] / "results" / "baselines" / "digits-cnn8.safetensors"
    refused = oodbench(*call, "--model", weights)
    assert refused.code == 2 and "test_svhn.txt" in refused.err
    ended = oodbench(*call, "--model", weights, "--partial")
    assert ended.code == 0, ended.err
    assert "partial: 5 of 6 sets" in ended.out and Card.load(tmp_path / "out" / "card.json").benchmark["name"] == "some"


def test_every_embedded_benchmark_can_be_loaded_and_says_where_its_data_are() -> None:
    for name in embedded_benchmarks():
        benchmark = Benchmark.load(name)
        assert benchmark.name == name and (benchmark.source or name == "digits")
        called = {one.partition("=")[0] for one in (benchmark.id, *benchmark.ood)}
        assert set(benchmark.expected) <= called
        assert Benchmark(**benchmark.as_dict()) == benchmark
