"""Fitted detectors in use: what they score by themselves is what a run scores, and a guard refuses other networks."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import oodbench
from oodbench.data.imageset import ArraySource, ImageSet
from oodbench.data.npz import read_npz
from oodbench.detectors.catalogue import DETECTORS
from oodbench.errors import OodbenchError
from oodbench.example import Example, make_example
from oodbench.guard import fit, load_guard, threshold_at
from oodbench.models.catalogue import build as build_network
from oodbench.models.checkpoint import save_checkpoint
from oodbench.run_folder import Result
from oodbench.tensor_file import read_sealed, sealed

SPECS = ("msp", "lc", "lc(mode=boundary)", "odin(norm=l2)", "oodl", "random")


@pytest.fixture(scope="module")
def example() -> Example:
    return make_example()


@pytest.fixture
def result(example: Example, tmp_path: Path) -> Result:
    """A run on the example's images, from files."""
    return run_of(example, tmp_path)


def run_of(example: Example, folder: Path) -> Result:
    def save(name: str, images: Tensor, labels: Tensor | None = None) -> str:
        arrays = {"images": images.permute(0, 2, 3, 1).numpy()}
        np.savez(folder / name, **arrays, **({} if labels is None else {"labels": labels.numpy()}))
        return f"npz:{folder / name}"

    id_labels = torch.arange(len(example.id_images)) % 4
    benchmark = oodbench.Benchmark(
        id=save("gratings_test.npz", example.id_images, id_labels),
        fit=save("gratings_train.npz", example.fit_images, example.fit_labels),
        ood=(save("noise.npz", example.ood_images),),
        detectors=SPECS,
    )
    return oodbench.run(benchmark, [example.classifier], oodbench.Machine(device="cpu"))


def scored(result: Result, spec: str, of: str) -> np.ndarray:
    (found,) = [values for (_, label, name), values in result.scores.items() if (label, name) == (spec, of)]
    return found


@pytest.mark.parametrize("spec", SPECS)
def test_fit_and_score_by_hand_equal_a_run(spec: str, example: Example, result: Result, tmp_path: Path) -> None:
    fit_images = read_npz("gratings_train", tmp_path / "gratings_train.npz")
    fitted = fit(spec, example.classifier, fit_images)
    by_hand = fitted.score(read_npz("noise", tmp_path / "noise.npz"))
    assert by_hand.dtype == np.float64
    np.testing.assert_allclose(by_hand, scored(result, spec, "noise"), rtol=0, atol=1e-9)


def test_every_form_of_the_same_images_scores_the_same(example: Example) -> None:
    fitted = fit("odin", example.classifier, example.fit_images, example.fit_labels)
    tensor = example.id_images
    array = tensor.permute(0, 2, 3, 1).numpy()
    expected = fitted.score(tensor)
    forms = [array, tensor.float() / 255, array.astype(np.float32) / 255, ImageSet("gratings", ArraySource(array), "")]
    for images in forms:
        np.testing.assert_array_equal(fitted.score(images), expected)


def test_grey_and_larger_images_are_matched_as_in_a_run(example: Example) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (5, 20, 24), dtype=np.uint8)
    fitted = fit("msp", example.classifier, example.fit_images)
    as_set = fitted.score(ImageSet("grey", ArraySource(grey), ""))
    np.testing.assert_array_equal(fitted.score(grey), as_set)
    np.testing.assert_array_equal(fitted.score(torch.from_numpy(grey)[:, None]), as_set)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((4, 16, 16, 3), np.int64), "int64"),
        (np.full((4, 16, 16, 3), 2.0), "divide by 255"),
        (np.full((4, 16, 16, 3), np.nan), "divide by 255"),
        (np.zeros((16, 16), np.uint8), "N×H×W"),
        (torch.zeros(4, 16, 16, 3, dtype=torch.uint8), "N×3×H×W"),
    ],
)
def test_images_of_another_form_are_refused(images: np.ndarray, words: str, example: Example) -> None:
    fitted = fit("msp", example.classifier, example.fit_images)
    with pytest.raises(OodbenchError, match=words):
        fitted.score(images)


def test_labels_must_fit_the_images(example: Example) -> None:
    with pytest.raises(OodbenchError, match=f"{len(example.fit_images)} images but 3 labels"):
        fit("lc(mode=boundary)", example.classifier, example.fit_images, [0, 1, 2])


@pytest.mark.parametrize("spec", SPECS)
def test_a_guard_goes_through_a_file_to_a_bare_network(
    spec: str, result: Result, example: Example, tmp_path: Path
) -> None:
    path = result.guard(spec, id_recall=0.9).save(tmp_path / "guard.safetensors")
    network = make_example().classifier.module
    network.train()
    guard = load_guard(path, network)
    assert network.training, "the user's network is left as it is"
    np.testing.assert_allclose(guard(example.ood_images), scored(result, spec, "noise"), rtol=0, atol=1e-9)
    kept = ~guard.is_ood(example.id_images)
    assert kept.mean() >= 0.9
    if spec != "random":
        assert guard.is_ood(example.ood_images).mean() > 0.5
    assert network.training


def test_a_run_that_was_saved_gives_the_same_guard(result: Result, example: Example, tmp_path: Path) -> None:
    result.save(tmp_path / "run")
    images = example.ood_images
    path = Result.load(tmp_path / "run").guard("oodl").save(tmp_path / "guard.safetensors")
    guard = load_guard(path, example.classifier)
    fresh = result.guard("oodl").attached(example.classifier)
    assert guard.threshold == fresh.threshold
    np.testing.assert_array_equal(guard(images), fresh(images))


def test_a_card_that_does_not_tell_the_classifier_makes_no_guard(result: Result) -> None:
    for name in ("num_classes", "image_shape", "mean"):
        records = [{key: one[key] for key in one if key != name} for one in result.card.classifiers]
        older = replace(result, card=replace(result.card, classifiers=records))
        with pytest.raises(OodbenchError, match=f"well enough .{name} is missing"):
            older.guard("msp")


def test_another_network_is_refused(result: Result, tmp_path: Path) -> None:
    path = result.guard("msp").save(tmp_path / "guard.safetensors")
    other = make_example().classifier.module
    with torch.no_grad():
        next(other.parameters()).flatten()[0] += 1e-3
    with pytest.raises(OodbenchError, match="belongs to"):
        load_guard(path, other)


def test_what_is_no_guard_is_refused(example: Example, tmp_path: Path) -> None:
    from oodbench.detectors.spec import build
    from oodbench.detectors.state import save_state

    save_state(build("msp"), tmp_path / "detector.safetensors")
    with pytest.raises(OodbenchError, match="no guard"):
        load_guard(tmp_path / "detector.safetensors", example.classifier)


WRONG: list[Any] = [None, "text", [], {}, 10**400, -1, float("nan"), True, [None], {"a": None}, ...]


def test_a_guard_that_was_edited_is_refused_in_words(result: Result, example: Example, tmp_path: Path) -> None:
    """Whatever stands in the place of any of its values, or nothing, and although the checksum was made to fit."""
    path = result.guard("msp").save(tmp_path / "guard.safetensors")
    tensors, facts = read_sealed(path)
    told = json.loads(facts["guard"])
    network, read = example.classifier.module, 0
    places = [(told, name) for name in told] + [(told["classifier"], name) for name in told["classifier"]]
    for place, name in places:
        honest = place[name]
        for wrong in WRONG:
            if wrong is ...:
                del place[name]
            else:
                place[name] = wrong
            path.write_bytes(sealed(tensors, facts | {"guard": json.dumps(told)}))
            place[name] = honest
            try:
                load_guard(path, network)(example.id_images[:3])
                read += 1
            except OodbenchError as error:
                assert str(error)
    assert len(places) == 11 and read < len(places) * len(WRONG) / 4
    for text in ("", "{", "[]", "3", "null", "[" * 100_000):
        path.write_bytes(sealed(tensors, facts | {"guard": text}))
        with pytest.raises(OodbenchError, match="is no guard"):
            load_guard(path, network)
    save_file(tensors, path, facts | {"guard": facts["guard"].replace("0.95", "0.05")})
    with pytest.raises(OodbenchError, match="not, bit by bit, what was saved"):
        load_guard(path, network)


def test_a_guard_asks_for_a_known_detector(result: Result) -> None:
    with pytest.raises(OodbenchError, match="did you mean msp"):
        result.guard("mps")


def test_the_model_is_named_as_one_likes(image_files: dict[str, str], tmp_path: Path) -> None:
    """By its name in tables, its own name, its file's stem or its number; where that is of several, all are listed."""
    stems = ("first", "second")
    for seed, stem in enumerate(stems):
        torch.manual_seed(seed)
        classifier = oodbench.Classifier(build_network("cnn8", 3, (1, 8, 8)), num_classes=3, image_shape=(1, 8, 8))
        save_checkpoint(classifier, "cnn8", tmp_path / f"{stem}.safetensors", {})
    files = tuple(str(tmp_path / f"{stem}.safetensors") for stem in stems)
    work = oodbench.Benchmark(id=image_files["id"], ood=(image_files["bright"],), detectors=("msp",), models=files)
    oodbench.run(work, machine=oodbench.Machine(device="cpu")).save(tmp_path / "run")
    result = Result.load(tmp_path / "run")
    models = list(dict.fromkeys(row["model"] for row in result.card.metrics))
    for number, stem in enumerate(stems):
        found = [result.guard("msp", model=one) for one in (models[number], stem, number)]
        assert {one.facts["name"] for one in found} == {models[number]}
    for wrong in (None, "cnn8", "third", 2, -1):
        with pytest.raises(OodbenchError) as error:
            result.guard("msp", model=wrong)
        for number, stem in enumerate(stems):
            assert f"{number}: {models[number]} or cnn8 or {stem}" in str(error.value)
    (alone,) = (result.scores[key] for key in result.scores if key[0] == models[1] and key[2] == "rot_test")
    assert result.guard("msp", model="second").threshold == threshold_at(alone, 0.95)


def test_a_lone_model_is_named_by_its_own_name(result: Result, example: Example) -> None:
    assert result.guard("msp", model=example.classifier.name).facts == result.guard("msp", model=0).facts
    with pytest.raises(OodbenchError, match="no model called 'other'"):
        result.guard("msp", model="other")


def test_the_threshold_is_an_order_statistic() -> None:
    scores = np.arange(100.0)
    assert threshold_at(scores, 0.95) == 5  # 95 of 100 scores are 5 or more
    assert threshold_at(scores, 0.07) == 93
    assert threshold_at(scores, 1.0) == 0
    assert threshold_at([1.0, 1.0, 2.0], 0.5) == 1.0
    for recall in (0.0, 1.1, np.nan):
        with pytest.raises(OodbenchError, match="id_recall"):
            threshold_at(scores, recall)


def test_the_command_scores_a_folder(tmp_path: Path) -> None:
    """From a checkpoint of the package's own form: run, guard, score, as a user does."""
    from PIL import Image

    baselines = Path(__file__).parents[1] / "results" / "baselines"
    model = baselines / "digits-cnn8.safetensors"
    benchmark = oodbench.Benchmark(ood=("uniform",), models=(str(model),), detectors=("odin",), limit=100)
    result = oodbench.run(benchmark, machine=oodbench.Machine(device="cpu"))
    result.guard("odin").save(tmp_path / "guard.safetensors")
    generator = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(generator.integers(0, 256, (8, 8), dtype=np.uint8)).save(tmp_path / "pictures" / name)
    command = [sys.executable, "-m", "oodbench", "score", "--guard", "guard.safetensors", "--model", str(model)]
    done = subprocess.run(
        [*command, "--device", "cpu", "folder:pictures", "-o", "scores.csv"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "scores.csv").read_text().splitlines()
    assert lines[0] == "image,score,is_ood"
    assert [line.split(",")[0] for line in lines[1:]] == ["a.png", "b.png"]
    guard = load_guard(tmp_path / "guard.safetensors", _loaded(model))
    from oodbench.data.folder import read_folder

    expected = guard(read_folder("pictures", tmp_path / "pictures"))
    assert [float(line.split(",")[1]) for line in lines[1:]] == expected.tolist()


def _loaded(model: Path) -> oodbench.Classifier:
    from oodbench.models.load import load_classifier

    return load_classifier(str(model), num_classes=10, image_shape=(1, 8, 8))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", DETECTORS)
def test_a_guard_on_a_gpu(name: str) -> None:
    example = make_example(recipe=DETECTORS[name].load().reads)
    fitted = fit(name, example.classifier, example.fit_images, example.fit_labels)
    expected = fitted.score(example.id_images)
    example.classifier.to("cuda")
    np.testing.assert_allclose(fitted.score(example.id_images.cuda()), expected, rtol=1e-3, atol=1e-3)
