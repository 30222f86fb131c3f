"""From a Benchmark to everything a run needs, with all that can be checked checked before the first pass.

Nothing is trained here, and nothing of the user's is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from oodbench.assignments import Assignment, assign, bases, classes_of, own_checkpoints, refuse_unreadable, taken
from oodbench.benchmark import PREPROCESS, Benchmark
from oodbench.card_fields import NAME
from oodbench.classifier import Classifier
from oodbench.compiled import check_compiler
from oodbench.data.imageset import ImageSet
from oodbench.data.inputs import Form
from oodbench.data.load import InDistribution, expand_ood, is_inverted, load_id, load_ood
from oodbench.data.made import is_made
from oodbench.data.preprocess import stretched
from oodbench.data.python_sets import image_sets
from oodbench.data.reading import remembering
from oodbench.detectors.base import Detector
from oodbench.detectors.catalogue import catalogue, name_of
from oodbench.detectors.spec import build, changed, label, parse_spec
from oodbench.errors import OodbenchError
from oodbench.precision import FULL, Precision
from oodbench.recipes.catalogue import find_recipe
from oodbench.recipes.holdout import hold_out as held_out
from oodbench.recipes.obtain import Wanted
from oodbench.store import SHARD


@dataclass(frozen=True)
class Machine:
    """Where and how a run happens; none of it but the precision changes a score beyond rounding.

    Attributes:
        data_root: folder that holds the data sets; None is the usual places.
        device: auto, cpu, mps, cuda, or cuda:N for one of several GPUs.
        batch_size: images that enter the network at a time; None is as many as fit into memory, 128 at most on a CPU.
        workers: processes that decode images, and threads that read those which are not decoded; None is as many as
            there are cores, 8 at most, for sets of files that are not small, else none.
        store: whether outputs are kept in the cache, and taken from there.
        precision: of passes without a gradient: float32, tf32, bf16 or fp16. It changes scores.
        compile: whether candidate layers pass such images compiled, by torch.compile.
    """

    data_root: Path | None = None
    device: str = "auto"
    batch_size: int | None = None
    workers: int | None = None
    store: bool = True
    precision: str = FULL.name
    compile: bool = False

    def __post_init__(self) -> None:
        Precision(self.precision)
        if self.batch_size is not None and self.batch_size < 1:
            raise OodbenchError(f"the batch size must be at least 1, not {self.batch_size}")
        if self.workers is not None and self.workers < 0:
            raise OodbenchError(f"the number of workers must be 0 or more, not {self.workers}")


@dataclass(frozen=True)
class Plan:
    """All that a run needs, but for the classifiers, which are still to be obtained.

    Attributes:
        whole: the ID set, on whose whole training split classifiers are trained.
        id_set: what of it is drawn to fit and to test detectors on.
        assignments: which detectors read which classifier.
        sets: per input form of the classifiers, since generated and derived sets are made in it, the scored OOD sets
            and the validation sets.
        inverted: names of scored sets that are still to be made, of each classifier that the user asked for.
        detectors: label → detector, not fitted.
        notes: what was decided for the user, in sentences.
    """

    benchmark: Benchmark
    machine: Machine
    device: torch.device
    whole: InDistribution
    id_set: InDistribution
    assignments: list[Assignment]
    detectors: dict[str, Detector]
    sets: dict[Form, tuple[list[ImageSet], list[ImageSet]]]
    inverted: tuple[str, ...]
    notes: list[str]

    @property
    def scored(self) -> list[ImageSet]:
        """The OOD sets that some classifier is scored on."""
        return list(dict.fromkeys(images for scored, _ in self.sets.values() for images in scored))


def make_plan(
    benchmark: Benchmark,
    machine: Machine,
    classifiers: Sequence[Classifier | nn.Module] = (),
    own_sets: Mapping[str, Any] | None = None,
    hold_out: float = 0.0,
) -> Plan:
    """Resolve every name, find every set and checkpoint; raise before any image is passed.

    Args:
        classifiers: from Python, instead of `benchmark.models`.
        own_sets: from Python, by name; see `runner.run`.
        hold_out: share of the drawn fit images that take the place of the test images, for a choice between detectors
            that must not see those.
    """
    device = _device_of(machine)
    benchmark, notes = _with_detectors(benchmark, bool(classifiers))
    detectors = build_detectors(benchmark)
    places: dict[str, Any] = {"data_root": machine.data_root, "given": image_sets(own_sets or {})}
    benchmark = benchmark.there(**places)
    whole = load_id(benchmark.id, seed=benchmark.seed, fit=benchmark.fit, expected=benchmark.expected, **places)
    given_ones = [taken(one, benchmark, whole) for one in classifiers]
    present = [one for one in benchmark.ood if one not in benchmark.missing]
    scored, more, grouped = expand_ood(present, id_name=whole.name, **places)
    validation, still_more, _ = expand_ood(benchmark.validation_ood, id_name=whole.name, **places)
    places["expected"] = {**grouped, **benchmark.expected}
    id_set = _drawn_id(benchmark, whole, hold_out)
    inverted = tuple(filter(is_inverted, scored))
    from_data = [name for name in scored if name not in inverted]
    find = partial(load_ood, id_set=id_set, seed=benchmark.seed, **places)
    load_sets = partial(_load_sets, benchmark, from_data, validation, find, {})
    # In the ID images' form, that of all classifiers trained here, before any is: what is missing is said first.
    form: Form = stretched(whole.image_shape)
    sets = {form: load_sets(form)}
    given = own_checkpoints(benchmark.models, detectors)
    wanted = bases(benchmark, given_ones, set(given.values()), whole)
    _refuse_inverted(inverted, validation, wanted)
    notes += _about_classifiers(benchmark, classifiers, wanted, whole)
    num_classes = classes_of(wanted, whole)
    whole, id_set = (replace(one, num_classes=num_classes) for one in (whole, id_set))
    assignments = assign(wanted, detectors, given)
    for one in assignments:
        if one.wanted.given:
            refuse_unreadable(one.wanted.given, one.detectors)
    forms = dict.fromkeys(one.form for one in (*wanted, *(assigned.wanted for assigned in assignments)))
    sets |= {form: load_sets(form) for form in forms if form not in sets}
    if benchmark.missing:
        notes.append(f"partial: {len(present)} of {len(benchmark.ood)} sets; not here: {', '.join(benchmark.missing)}")
    notes += [*more, *still_more]
    return Plan(benchmark, machine, device, whole, id_set, assignments, detectors, sets, inverted, notes)


def _device_of(machine: Machine) -> torch.device:
    device = choose_device(machine.device)
    if machine.precision == "tf32" and device.type != "cuda":
        raise OodbenchError(f"tf32 is a precision of NVIDIA GPUs, not of {device}; use float32 or bf16")
    if machine.compile:
        check_compiler(device)
    return device


def _drawn_id(benchmark: Benchmark, whole: InDistribution, hold_out: float) -> InDistribution:
    """What of the ID set detectors are fitted and tested on."""
    fit = _several(whole.fit, "fit").drawn_by_class(benchmark.fit_limit, benchmark.seed)
    test, fit = held_out(fit, benchmark.seed, hold_out) if hold_out else (whole.test, fit)
    test = _drawn(test, benchmark.limit, benchmark.seed, "ID test")
    return replace(whole, fit=remembering(fit, SHARD), test=remembering(test, SHARD))


def _refuse_inverted(inverted: Sequence[str], validation: Sequence[str], wanted: Sequence[Wanted]) -> None:
    """Raise OodbenchError where a set that is made of the classifier is to be chosen on, or cannot be made."""
    for name in filter(is_inverted, validation):
        raise OodbenchError(f"'{name}' is made of the classifier under test; name another validation set")
    for base in wanted if inverted else ():
        if not base.form.has_pixels:
            raise OodbenchError(
                f"{inverted[0]} cannot be made of {base.name}: {base.form.words}, so no image can be written that it "
                f"would take; end the transform in a Normalize of torchvision, or leave {inverted[0]} out"
            )


def _about_classifiers(
    benchmark: Benchmark,
    classifiers: Sequence[Classifier | nn.Module],
    wanted: Sequence[Wanted],
    whole: InDistribution,
) -> list[str]:
    """What was decided about the classifiers, in sentences."""
    notes = []
    if benchmark.mean is None and not all(isinstance(one, Classifier) for one in classifiers):
        notes.append("the network is taken to normalise by itself; where it does not, say mean and std")
    notes += [f"{base.name}: {note}" for base in wanted if base.given for note in base.given.notes]
    num_classes = classes_of(wanted, whole)
    if num_classes > whole.num_classes:
        notes.append(
            f"the classifier tells {num_classes} classes apart; {whole.name} has images of classes 0 to "
            f"{whole.num_classes - 1}"
        )
    unused = [f"--{name}" for name in ("mean", "std", *PREPROCESS) if getattr(benchmark, name) is not None]
    if any(base.is_trained for base in wanted) and unused:
        notes.append(f"{', '.join(unused)}: not used for what is trained here, with the images of {whole.name}")
    return notes


def _load_sets(
    benchmark: Benchmark,
    scored_names: Sequence[str],
    validation_names: Sequence[str],
    find: Callable[..., ImageSet],
    known: dict[tuple[str, int | None], ImageSet],
    form: Form,
) -> tuple[list[ImageSet], list[ImageSet]]:
    """The scored OOD sets and the validation sets, none of which is scored; what is generated, in that form.

    Args:
        scored_names, validation_names: single sets, groups expanded.
        find: see `load_ood`.
        known: sets that were found before for another form; those that are the same in each are taken from there.
    """

    def load(name: str, limit: int | None) -> ImageSet:
        if (name, limit) not in known or is_made(name):
            known[name, limit] = _drawn(find(name, shape=form), limit, benchmark.seed, "OOD")
        return known[name, limit]

    scored = [load(name, benchmark.limit) for name in scored_names]
    validation = [load(name, benchmark.fit_limit) for name in validation_names]
    names = [images.name for images in scored]
    for name in names:
        if names.count(name) > 1:
            raise OodbenchError(f"two OOD sets are called '{name}'; give one a name of its own, as in mine=folder:PATH")
    refuse_leaks(scored, validation)
    return scored, validation


def refuse_leaks(scored: Sequence[ImageSet], validation: Sequence[ImageSet]) -> None:
    """Raise OodbenchError where a validation set holds the images of a scored one, as far as that is known unread."""
    for images in validation:
        for other in scored:
            first, second = images.known_hashes, other.known_hashes
            same_place = images.identity is not None and images.identity == other.identity
            if same_place or (first and second and first.content_hash == second.content_hash):
                raise OodbenchError(
                    f"validation set '{images.name}' holds the same images as scored set '{other.name}', so a choice "
                    f"made on it would leak into the result; use another"
                )


def _with_detectors(benchmark: Benchmark, given: bool) -> tuple[Benchmark, list[str]]:
    """The benchmark with its detectors named, and what was left out: training, on something of the user's, can take
    hours on anything larger than digits, so detectors that have a classifier trained are asked for by name."""
    if benchmark.detectors is not None:
        return benchmark, []
    default = Benchmark()
    named = replace(benchmark, detectors=tuple(entry.name for entry in catalogue().values() if entry.default))
    theirs = given or (benchmark.id, benchmark.fit, benchmark.models) != (default.id, default.fit, default.models)
    if not theirs:
        return named, []
    detectors = build_detectors(named)
    there = own_checkpoints(benchmark.models, detectors)
    left_out = [
        name for name, one in detectors.items() if one.reads and find_recipe(one.reads).train and one.reads not in there
    ]
    notes = [
        f"left out: {name}, which would train a classifier; to run it, name it with --detector" for name in left_out
    ]
    return replace(named, detectors=tuple(name for name in detectors if name not in left_out)), notes


def build_detectors(benchmark: Benchmark) -> dict[str, Detector]:
    """Label → detector, in the benchmark's order; `parameters` apply to every detector of their name."""
    overrides: dict[str, dict[str, str]] = {}
    for key, value in benchmark.parameters.items():
        name, dot, parameter = key.partition(".")
        if not dot:
            raise OodbenchError(f"'{key}' names no detector's parameter; write DETECTOR.PARAMETER")
        overrides.setdefault(parse_spec(name)[0], {})[parameter] = str(value)
    detectors: dict[str, Detector] = {}
    for given in benchmark.detectors or ():
        more = overrides.get(name_of(type(given)) if isinstance(given, Detector) else parse_spec(given)[0], {})
        detector = changed(given, more) if isinstance(given, Detector) else build(given, more)
        if label(detector) in detectors:
            raise OodbenchError(f"detector {label(detector)} is named twice; name each once, or with other parameters")
        if not NAME.holds(label(detector)):
            raise OodbenchError(f"a detector cannot be called {label(detector)!a}: give it {NAME.words}")
        detectors[label(detector)] = detector
    unused = set(overrides) - {name_of(type(detector)) for detector in detectors.values()}
    if unused:
        raise OodbenchError(
            f"parameters are set for {', '.join(sorted(unused))}, which is not among the detectors to be run"
        )
    return detectors


def choose_device(name: str) -> torch.device:
    """The torch device of auto, cpu, mps, cuda or cuda:N.

    Raises:
        OodbenchError: the device is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind in there if there[kind]))
    kind, colon, number = name.partition(":")
    if kind not in there or (colon and not (kind == "cuda" and number.isdecimal())):
        raise OodbenchError(f"there is no device '{name}'; choose among auto, {', '.join(sorted(there))}, cuda:N")
    if not there[kind]:
        raise OodbenchError(f"device {name} was asked for, but torch finds none here; use --device cpu or auto")
    if colon and int(number) >= torch.cuda.device_count():
        last = torch.cuda.device_count() - 1
        raise OodbenchError(f"device {name} was asked for, but the last GPU that torch finds here is cuda:{last}")
    return torch.device(name)


def _drawn(images: ImageSet, limit: int | None, seed: int, role: str) -> ImageSet:
    """The set, or a seeded draw of `limit` of its images."""
    return _several(images, role).drawn(len(images) if limit is None else limit, seed)


def _several(images: ImageSet, role: str) -> ImageSet:
    """The set; a rank needs two images."""
    if len(images) < 2:
        raise OodbenchError(f"{role} set '{images.name}' has {len(images)} image(s); at least 2 are needed")
    return images
