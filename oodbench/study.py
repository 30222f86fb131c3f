"""Studies of network inversion on an ID set and its classifier: one generator, the ablation or a sweep, to files."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from oodbench.assignments import bases
from oodbench.benchmark import Benchmark
from oodbench.card import recorded_versions
from oodbench.classifier import Classifier
from oodbench.data.imageset import ImageSet
from oodbench.data.inputs import brought, describe
from oodbench.data.load import load_id
from oodbench.errors import OodbenchError
from oodbench.files import atomic_write, check_writable
from oodbench.inversion.ablation import GENERATED, VARIANTS, Study, ablate, diversity_of, features_of, sweep
from oodbench.inversion.diversity import NEAREST
from oodbench.inversion.generator import save_generator
from oodbench.inversion.invert import inversion_accuracy, invert
from oodbench.inversion.pictures import save_ablation, save_class_grid, save_curves, save_sweeps, save_table
from oodbench.inversion.settings import InversionSettings, setting
from oodbench.pixels import to_unit
from oodbench.plan import Machine, choose_device
from oodbench.progress import Reporter
from oodbench.recipes.obtain import obtain

DEFAULT_SEEDS = 3
"""Seeds of an ablation or a sweep where the user gives no number."""

FORMAT = 1


@dataclass(frozen=True)
class Question:
    """What is to be found out: how one generator turns out, unless an ablation or a sweep is asked for.

    Attributes:
        settings: of every generator, but for what an ablation or a sweep changes.
        ablate: leave out each loss in turn.
        sweeps: by the name of a setting or of a loss weight, what to try.
        seeds: of an ablation or a sweep; that many, from the settings' seed upwards.
    """

    settings: InversionSettings
    ablate: bool = False
    sweeps: Mapping[str, Sequence[Any]] | None = None
    seeds: int | None = None

    def __post_init__(self) -> None:
        if self.ablate and self.sweeps:
            raise OodbenchError("an ablation and a sweep are two studies; give --ablate or --sweep, not both")
        if self.seeds is not None and not (self.ablate or self.sweeps):
            raise OodbenchError("--seeds is of --ablate and --sweep; one generator has one --seed")
        if self.seeds is not None and self.seeds < 1:
            raise OodbenchError(f"the number of seeds must be at least 1, not {self.seeds}")
        if "seed" in (self.sweeps or {}):
            raise OodbenchError(
                "every value is tried with several seeds already; give --seeds instead of a sweep of seed"
            )
        # What is out of its range must be found before anything is trained.
        for changes in VARIANTS.values() if self.ablate else ():
            self.settings.replaced(**changes)
        for name, values in (self.sweeps or {}).items():
            for value in values:
                self.settings.replaced(**{name: value})

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

    One generator: grid.png, curves.png, curves.csv, generator.safetensors, record.json. An ablation: ablation.csv,
    ablation_curves.csv, ablation.png, ablation.json. A sweep: sweep.csv, sweep_curves.csv, sweep.json and a
    sweep_<setting>.png each.

    Args:
        benchmark: its `id`, `models` (one at most), `mean`, `std` and `seed` are used.
        machine: its `data_root` and `device` are used.
        out: folder of the results; by default results/inversion/ID-MODEL.

    Raises:
        OodbenchError: what is asked for cannot be done (before anything is trained), or a loss is no longer finite.
    """
    started = time.perf_counter()
    check_writable(out or Path("results"))
    id_name, subject = _subject(benchmark, machine, reporter)
    folder = out or Path("results") / "inversion" / f"{id_name}-{subject.classifier.name}"
    answer = _ablation if question.ablate else _sweep if question.sweeps else _generator
    names, findings, summary = answer(subject, question, folder)
    record = _record(id_name, subject, question) | findings | {"seconds": round(time.perf_counter() - started, 1)}
    name = f"{'ablation' if question.ablate else 'sweep' if question.sweeps else 'record'}.json"
    with atomic_write(folder / name) as temporary:
        temporary.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return Outcome(folder, [*names, name], summary)


def _subject(benchmark: Benchmark, machine: Machine, reporter: Reporter) -> tuple[str, _Subject]:
    device = choose_device(machine.device)
    id_set = load_id(benchmark.id, data_root=machine.data_root, seed=benchmark.seed)
    if len(id_set.fit) <= NEAREST:
        raise OodbenchError(
            f"{id_set.name} has {len(id_set.fit)} training images; more than {NEAREST} are needed to measure how "
            f"many of them generated images come near"
        )
    if len(benchmark.models) > 1:
        raise OodbenchError(f"one classifier is inverted at a time, not {', '.join(benchmark.models)}; name one")
    (wanted,) = bases(benchmark, (), set(), id_set)
    classifier = obtain(wanted, id_set, device, reporter).classifier
    real = id_set.fit.drawn(GENERATED, benchmark.seed)
    decided = "; ".join(filter(None, (describe(real, real.read(0, 1)[0], classifier.form), *real.notes)))
    if decided:
        reporter.say(f"{real.name} (for the coverage): {decided}")
    parts = [to_unit(brought(real, chunk, classifier.form), "cpu") for chunk in real.chunks()]
    features = torch.cat([features_of(classifier, part) for part in parts])
    return id_set.name, _Subject(classifier, real, features, device, reporter)


Answer = tuple[list[str], dict[str, Any], pd.DataFrame]
"""Names of the files written, what the record says of the result, and the summary."""


def _generator(subject: _Subject, question: Question, folder: Path) -> Answer:
    settings = question.settings
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
        question.settings,
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
        question.settings,
        question.sweeps,
        question.seed_list,
        subject.real_features,
        subject.device,
        subject.reporter,
    )
    save_table(found.table, folder / "sweep.csv")
    save_table(found.curves, folder / "sweep_curves.csv")
    figures = save_sweeps(found.table, folder, {name: question.settings.value(name) for name in question.sweeps})
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


def _record(id_name: str, subject: _Subject, question: Question) -> dict[str, Any]:
    classifier, real = subject.classifier, subject.real
    return {
        "format": FORMAT,
        "id": id_name,
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
