"""Studies of network inversion on an ID set and its classifier: images, a generator, reconstructions, an ablation or a
sweep, to files."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from oodbench.assignments import bases
from oodbench.benchmark import Benchmark
from oodbench.card import recorded_versions
from oodbench.classifier import Classifier
from oodbench.data.imageset import ImageSet
from oodbench.data.inputs import brought, describe
from oodbench.data.load import InDistribution, load_id
from oodbench.errors import OodbenchError
from oodbench.files import atomic_write, check_writable
from oodbench.inversion.ablation import GENERATED, VARIANTS, Study, ablate, diversity_of, features_of, sweep
from oodbench.inversion.diversity import NEAREST, diversity
from oodbench.inversion.generator import save_generator
from oodbench.inversion.invert import CHUNK, Generated, inversion_accuracy, invert
from oodbench.inversion.pictures import (
    save_ablation,
    save_class_grid,
    save_curves,
    save_grid,
    save_pairs,
    save_sweeps,
    save_table,
)
from oodbench.inversion.pyramids import invert_pyramids
from oodbench.inversion.reconstruction import compare
from oodbench.inversion.settings import InversionSettings, PyramidSettings, ReconstructionSettings, setting
from oodbench.pixels import to_unit
from oodbench.plan import Machine, choose_device
from oodbench.progress import TRAINING_PASS, Reporter, listening
from oodbench.recipes.obtain import images_to_train_on, obtain
from oodbench.report.sheets import save_sheets

DEFAULT_SEEDS = 3
"""Seeds of an ablation or a sweep where the user gives no number."""

FORMAT = 1

PER_CLASS = 10
"""Images of a class that a sheet shows."""

OVERFITTING = {"batch_size": 50, "weight_decay": 0.0}
"""How a network is trained that is to be overfitted on few images."""

TESTED = 1000
"""Images that the accuracy of such a network is measured on, an epoch."""


@dataclass(frozen=True)
class Question:
    """What is to be found out: what the settings say, unless an ablation or a sweep is asked for.

    Attributes:
        settings: of images by latents, of a reconstruction, or of every generator, but for what an ablation or a sweep
            changes.
        ablate: leave out each loss in turn.
        sweeps: by the name of a setting or of a loss weight, what to try.
        seeds: of an ablation or a sweep; that many, from the settings' seed upwards.
    """

    settings: InversionSettings | PyramidSettings | ReconstructionSettings
    ablate: bool = False
    sweeps: Mapping[str, Sequence[Any]] | None = None
    seeds: int | None = None

    def __post_init__(self) -> None:
        if self.ablate and self.sweeps:
            raise OodbenchError("an ablation and a sweep are two studies; give --ablate or --sweep, not both")
        if self.seeds is not None and not (self.ablate or self.sweeps):
            raise OodbenchError("--seeds is of --ablate and --sweep; one inversion has one --seed")
        if (self.ablate or self.sweeps) and not isinstance(self.settings, InversionSettings):
            raise OodbenchError("--ablate and --sweep are studies of the generator; leave out --by and --reconstruct")
        if self.seeds is not None and self.seeds < 1:
            raise OodbenchError(f"the number of seeds must be at least 1, not {self.seeds}")
        if "seed" in (self.sweeps or {}):
            raise OodbenchError(
                "every value is tried with several seeds already; give --seeds instead of a sweep of seed"
            )
        # What is out of its range must be found before anything is trained.
        for changes in VARIANTS.values() if self.ablate else ():
            self.generator.replaced(**changes)
        for name, values in (self.sweeps or {}).items():
            for value in values:
                self.generator.replaced(**{name: value})

    @property
    def generator(self) -> InversionSettings:
        """The settings, of a generator."""
        assert isinstance(self.settings, InversionSettings)
        return self.settings

    @property
    def seed_list(self) -> list[int]:
        """The seeds of an ablation or a sweep."""
        return [self.settings.seed + number for number in range(self.seeds or DEFAULT_SEEDS)]


@dataclass(frozen=True)
class Outcome:
    """What a study wrote into which folder, and its figures in short: means over the seeds, where there are several."""

    folder: Path
    names: list[str]
    summary: pd.DataFrame


@dataclass(frozen=True)
class _Subject:
    """What is inverted, and how the real images that generated ones are compared with look to it."""

    id_set: InDistribution
    classifier: Classifier
    real: ImageSet
    real_features: Tensor
    device: torch.device
    reporter: Reporter


def parse_sweeps(texts: Sequence[str]) -> dict[str, list[Any]]:
    """What to try for each setting, from texts like `learning_rate=0.001,0.003`.

    Raises:
        OodbenchError: a text has another form, there is no such setting, a value is not of its type or there twice.
    """
    sweeps: dict[str, list[Any]] = {}
    for text in texts:
        name, _, values = (part.strip() for part in text.partition("="))
        if not (name and values):
            raise OodbenchError(f"--sweep takes SETTING=VALUE,VALUE,…, e.g. learning_rate=0.001,0.003, not '{text}'")
        tried = [setting(name).parsed(value, "--sweep") for value in values.split(",")]
        if name in sweeps or len(set(tried)) < len(tried):
            raise OodbenchError(f"--sweep {text}: name each setting once, and each of its values once")
        sweeps[name] = tried
    return sweeps


def study(
    benchmark: Benchmark, question: Question, machine: Machine, reporter: Reporter, out: Path | None = None
) -> Outcome:
    """Answer a question on the classifier of an ID set, which is obtained as a run obtains it, and write the files.

    Images by latents: grid.png, images.npz, record.json. One generator: grid.png, curves.png, curves.csv,
    generator.safetensors, record.json. A reconstruction: pairs.png, reconstruction.csv, images.npz, record.json. Of
    grid.png and pairs.png also a PDF in a column's width, as grid.pdf, and one in two, as grid-wide.pdf. An ablation:
    ablation.csv, ablation_curves.csv, ablation.png, ablation.json. A sweep: sweep.csv, sweep_curves.csv, sweep.json
    and a sweep_<setting>.png each.

    Args:
        benchmark: its `id`, `models` (one at most), `mean`, `std` and `seed` are used.
        machine: its `data_root` and `device` are used.
        out: folder of the results; by default results/inversion/ID-MODEL.

    Raises:
        OodbenchError: what is asked for cannot be done (before anything is trained), or a loss is no longer finite.
    """
    started = time.perf_counter()
    check_writable(out or Path("results"))
    subject = _subject(benchmark, question, machine, reporter)
    folder = out or Path("results") / "inversion" / f"{subject.id_set.name}-{subject.classifier.name}"
    one = {PyramidSettings: _latents, ReconstructionSettings: _reconstruction, InversionSettings: _generator}
    answer = _ablation if question.ablate else _sweep if question.sweeps else one[type(question.settings)]
    names, findings, summary = answer(subject, question, folder)
    sheets = {file: (folder / file).read_bytes() for file in names if file.endswith(".png")}
    names += [path.name for path in save_sheets(sheets, folder, ["pdf"])]
    record = _record(subject, question) | findings | {"seconds": round(time.perf_counter() - started, 1)}
    name = f"{'ablation' if question.ablate else 'sweep' if question.sweeps else 'record'}.json"
    with atomic_write(folder / name) as temporary:
        temporary.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return Outcome(folder, [*names, name], summary)


def _subject(benchmark: Benchmark, question: Question, machine: Machine, reporter: Reporter) -> _Subject:
    device = choose_device(machine.device)
    id_set = load_id(benchmark.id, data_root=machine.data_root, seed=benchmark.seed)
    overfit = question.settings if isinstance(question.settings, ReconstructionSettings) else ReconstructionSettings()
    if overfit.overfit:
        id_set = replace(id_set, fit=id_set.fit.drawn(overfit.overfit, benchmark.seed))
    if len(id_set.fit) <= NEAREST:
        raise OodbenchError(
            f"{id_set.name} has {len(id_set.fit)} training images; more than {NEAREST} are needed to measure how "
            f"many of them generated images come near"
        )
    if len(benchmark.models) > 1:
        raise OodbenchError(f"one classifier is inverted at a time, not {', '.join(benchmark.models)}; name one")
    (wanted,) = bases(benchmark, (), set(), id_set)
    if overfit.overfit:
        if not wanted.is_trained:
            raise OodbenchError("--overfit trains a network of its own; leave out --model, or name an architecture")
        wanted = replace(wanted, parameters=OVERFITTING | {"epochs": overfit.overfit_epochs})
    # Every epoch of a training is tested: few images will do for one of hundreds of epochs.
    tested = replace(id_set, test=id_set.test.drawn(TESTED, benchmark.seed)) if overfit.overfit else id_set
    with listening(reporter) as progress:
        progress.doing(f"classifier: {wanted.name}")
        with progress.step("training", images_to_train_on(wanted, tested), TRAINING_PASS):
            classifier = obtain(wanted, tested, device, reporter).classifier
    real = id_set.fit.drawn(GENERATED, benchmark.seed)
    decided = "; ".join(filter(None, (describe(real, real.read(0, 1)[0], classifier.form), *real.notes)))
    if decided:
        reporter.say(f"{real.name} (for the coverage): {decided}")
    features = features_of(classifier, _pixels(real, classifier))
    return _Subject(id_set, classifier, real, features, device, reporter)


def _pixels(images: ImageSet, classifier: Classifier) -> Tensor:
    """All images in the form that the classifier takes, in [0, 1], on the CPU."""
    return torch.cat([to_unit(brought(images, chunk, classifier.form), "cpu") for chunk in images.chunks()])


Answer = tuple[list[str], dict[str, Any], pd.DataFrame]
"""Names of the files written, what the record says of the result, and the summary."""


def _latents(subject: _Subject, question: Question, folder: Path) -> Answer:
    assert isinstance(question.settings, PyramidSettings)
    made, measured = _inverted(subject, question.settings, folder)
    classes = range(subject.classifier.num_classes)
    shown = min(PER_CLASS, len(made.images) // len(classes))
    rows = torch.cat([made.images[made.targets == number][:shown] for number in classes])
    save_grid(rows.numpy(), folder / "grid.png", shown, [str(number) for number in classes])
    return ["grid.png", "images.npz"], measured, pd.DataFrame([measured])


def _reconstruction(subject: _Subject, question: Question, folder: Path) -> Answer:
    assert isinstance(question.settings, ReconstructionSettings)
    made, measured = _inverted(subject, question.settings.pyramid, folder)
    trained_on = _pixels(subject.id_set.fit, subject.classifier)
    unseen = _pixels(subject.id_set.test, subject.classifier)
    found = compare(made.images, trained_on, unseen)
    # What the same figure is for real images that nobody trained on.
    control = compare(unseen[: len(made.images)], trained_on, unseen).summary()
    save_table(found.table().assign(target=made.targets.numpy()), folder / "reconstruction.csv")
    # The nearest first, each training image once.
    order = pd.Series(found.nearest.numpy()).loc[found.distance.argsort().tolist()].drop_duplicates().index.tolist()
    save_pairs(made.images[order].numpy(), trained_on[found.nearest[order]].numpy(), folder / "pairs.png")
    measured |= {"training_images": len(trained_on)} | found.summary()
    measured |= {f"{name}_of_unseen": control[name] for name in ("within_own_distance", "ssim")}
    return ["pairs.png", "reconstruction.csv", "images.npz"], measured, pd.DataFrame([measured])


def _inverted(subject: _Subject, settings: PyramidSettings, folder: Path) -> tuple[Generated, dict[str, Any]]:
    """Images by latents, on the CPU, kept as a set that `npz:PATH` reads; and their measures."""
    started = time.perf_counter()
    made = invert_pyramids(subject.classifier, settings, subject.device, subject.reporter)
    seconds = time.perf_counter() - started
    images, targets = made.images.cpu(), made.targets.cpu()
    pixels = images.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1)
    with atomic_write(folder / "images.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, images=pixels.squeeze(3).numpy(), labels=targets.numpy())
    with subject.classifier.inference(), torch.no_grad():
        logits = torch.cat([subject.classifier(part.to(subject.device)).cpu() for part in images.split(CHUNK)])
    measured = {"inversion_accuracy": float((logits.argmax(dim=1) == targets).double().mean())}
    measured |= asdict(diversity(features_of(subject.classifier, images), targets, subject.real_features))
    return Generated(images, targets), measured | {
        "generated_images": len(images),
        "inverting_seconds": round(seconds, 1),
    }


def _generator(subject: _Subject, question: Question, folder: Path) -> Answer:
    settings = question.generator
    inversion = invert(subject.classifier, settings, subject.device, subject.reporter)
    accuracy = inversion_accuracy(inversion.generator, subject.classifier, GENERATED, settings.seed)
    measured = asdict(diversity_of(subject.classifier, inversion, subject.real_features))
    save_class_grid(inversion.generator, folder / "grid.png", settings.seed)
    save_curves(inversion, folder / "curves.png")
    save_generator(inversion.generator, folder / "generator.safetensors")
    findings = {"inversion_accuracy": accuracy, "diversity": measured, "generated_images": GENERATED}
    summary = pd.DataFrame([{"inversion_accuracy": accuracy, **measured}])
    return ["grid.png", "curves.png", "curves.csv", "generator.safetensors"], findings, summary


def _ablation(subject: _Subject, question: Question, folder: Path) -> Answer:
    found = ablate(
        subject.classifier,
        question.generator,
        question.seed_list,
        subject.real_features,
        subject.device,
        subject.reporter,
    )
    save_table(found.table, folder / "ablation.csv")
    save_table(found.curves, folder / "ablation_curves.csv")
    save_ablation(found.curves, folder / "ablation.png")
    variants = {name: dict(changes) for name, changes in VARIANTS.items()}
    findings = {"variants": variants, "seeds": question.seed_list, "generated_images": GENERATED}
    return ["ablation.csv", "ablation_curves.csv", "ablation.png"], findings, _means(found, ["variant"])


def _sweep(subject: _Subject, question: Question, folder: Path) -> Answer:
    assert question.sweeps
    found = sweep(
        subject.classifier,
        question.generator,
        question.sweeps,
        question.seed_list,
        subject.real_features,
        subject.device,
        subject.reporter,
    )
    save_table(found.table, folder / "sweep.csv")
    save_table(found.curves, folder / "sweep_curves.csv")
    figures = save_sweeps(found.table, folder, {name: question.generator.value(name) for name in question.sweeps})
    swept = {name: list(values) for name, values in question.sweeps.items()}
    findings = {"swept": swept, "seeds": question.seed_list, "generated_images": GENERATED}
    names = ["sweep.csv", "sweep_curves.csv", *(path.name for path in figures)]
    return names, findings, _means(found, ["parameter", "value"])


def _means(found: Study, by: list[str]) -> pd.DataFrame:
    columns = found.table.columns.drop([*by, "seed", "epochs"])
    # A mean over the seeds that got there would flatter a variant that some never brought there.
    rows = [
        dict(zip(by, key, strict=True)) | {column: runs[column].mean(skipna=False) for column in columns}
        for key, runs in found.table.groupby(by, sort=False)
    ]
    return pd.DataFrame(rows)


def _record(subject: _Subject, question: Question) -> dict[str, Any]:
    classifier, real = subject.classifier, subject.real
    return {
        "format": FORMAT,
        "id": subject.id_set.name,
        "settings": asdict(question.settings),
        "classifier": {
            "name": classifier.name,
            "content_hash": classifier.content_hash(),
            **classifier.facts(),
        },
        "real_images": {
            "count": len(real),
            "origin": real.origin,
            "content_hash": real.content_hash,
            "matching": describe(real, real.read(0, 1)[0], classifier.form),
            "notes": list(real.notes),
        },
        "machine": {
            "device": str(subject.device),
            "platform": platform.platform(),
            "processors": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
        "versions": recorded_versions(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
