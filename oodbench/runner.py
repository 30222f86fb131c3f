"""A run: a Benchmark in, a Result out; each image passes each network once, ever."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from torch import nn

from oodbench.assignments import refuse_unreadable
from oodbench.benchmark import Benchmark
from oodbench.classifier import Classifier
from oodbench.distributed import ALONE, Ranks
from oodbench.errors import OodbenchError
from oodbench.measure import expect, fit, metrics, pass_scored, score
from oodbench.own_sets import MOST, inverted_set
from oodbench.plan import Machine, Plan, make_plan
from oodbench.precision import Precision
from oodbench.progress import TRAINING_PASS, Reporter, listening, whole
from oodbench.recipes.obtain import Obtained, images_to_train_on, obtain
from oodbench.record import card, overlaps, sheet_of
from oodbench.run_folder import Result
from oodbench.store import Store
from oodbench.subject import Subject


def run(
    benchmark: Benchmark | None = None,
    classifiers: Classifier | nn.Module | Sequence[Classifier | nn.Module] = (),
    machine: Machine | None = None,
    reporter: Reporter | None = None,
    *,
    sets: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> Result:
    """Fit and score every detector of the benchmark on every classifier.

    Args:
        benchmark: what to run; the embedded default if not given.
        classifiers: your own, one or several, instead of `benchmark.models`; they stay where and as they are. A plain
            torch module is taken to have the classes of the ID set and to take its images; `benchmark.mean` and `std`
            say how those are normalised.
        machine: data root, device, batch size, workers and store.
        reporter: hears decisions, and where the run is: what is being done, the share that is done, the time that is
            left (`oodbench.progress.Reporter.at`).
        sets: image sets by the names that the benchmark calls them by, before any others: what `as_image_set` takes,
            such as torch data sets, loaders, arrays with or without labels.
        progress: print both, as the command line does, where no reporter is given.

    Raises:
        OodbenchError: anything named is missing or does not fit (before the first pass), or a score is not finite.
    """
    if benchmark is not None and not isinstance(benchmark, Benchmark):
        raise OodbenchError(
            f"run takes a Benchmark, not {type(benchmark).__name__}: oodbench.Benchmark(id=…, ood=…, detectors=…), or "
            f"oodbench.Benchmark.load(NAME)"
        )
    reporter = reporter or (_console() if progress else Reporter())
    several = [classifiers] if isinstance(classifiers, Classifier | nn.Module) else classifiers
    result = run_among(ALONE, benchmark, several, machine, reporter, sets)
    assert result is not None  # who is alone is the first
    return result


def run_among(
    ranks: Ranks,
    benchmark: Benchmark | None = None,
    classifiers: Sequence[Classifier | nn.Module] = (),
    machine: Machine | None = None,
    reporter: Reporter | None = None,
    sets: Mapping[str, Any] | None = None,
) -> Result | None:
    """`run`, shared by several processes, each of which calls this; the result in the first, None in the others.

    Args:
        ranks: see `distributed.joined`.
    """
    placed = ranks.placed(machine or Machine())
    with listening(reporter := reporter or Reporter()) as progress:
        progress.doing("looking for the data and the classifiers")
        plan = ranks.first(lambda: make_plan(benchmark or Benchmark(), placed, classifiers, sets))
        return _carried_out(plan, reporter, ranks)


def run_plan(plan: Plan, reporter: Reporter) -> Result:
    """Do what was planned."""
    with listening(reporter):
        result = _carried_out(plan, reporter, ALONE)
    assert result is not None  # who is alone is the first
    return result


def _carried_out(plan: Plan, reporter: Reporter, ranks: Ranks) -> Result | None:
    for note in plan.notes:
        reporter.say(note)
    expect(plan, ranks)
    obtained = ranks.first(lambda: _obtained(plan, reporter))
    store = ranks.store(plan.machine, reporter)
    subjects = _subjects(plan, obtained, store, reporter)
    ranks.first(lambda: _invert(plan, subjects, reporter))
    ranks.alike([one.content_hash for one in subjects], "classifiers")
    ranks.alike([(one.name, len(one)) for one in plan.scored], "image sets")
    fit(plan, subjects, ranks)
    pass_scored(plan, subjects, ranks)
    if not ranks.is_first:
        return None
    scores, answers, worst = score(plan, subjects)
    whole().doing("working out the figures")
    rows = metrics(plan, subjects, scores, answers)
    store.trim()
    if kept := sum(one.from_store for one in subjects):
        reporter.say(
            f"{kept:,} images passed no network: their outputs were kept (`oodbench store`; --no-store passes all)"
        )
    notes = overlaps(plan)
    for note in notes:
        reporter.say(note)
    return Result(
        card(plan, subjects, obtained, rows, notes, ranks.count),
        scores,
        worst,
        {sheet_of(one): one.sheet.png for one in obtained if one.sheet},
        {
            (model, label): one.detectors[label]
            for one in subjects
            for model, label in product(one.models, one.detectors)
        },
    )


def _invert(plan: Plan, subjects: Sequence[Subject], reporter: Reporter) -> None:
    """Make the sets that are made of each classifier that the user asked for; all that stand in its rows see them."""
    for name in plan.inverted:
        for model in dict.fromkeys(model for one in subjects for model in one.models):
            readers = [one for one in subjects if model in one.models]
            # The user's own comes first, before those that detectors have of their own.
            made = inverted_set(
                name,
                readers[0].classifier,
                plan.id_set.num_classes,
                min(len(plan.id_set.test), plan.benchmark.limit or MOST),
                plan.benchmark.seed,
                reporter,
            )
            for one in readers:
                one.against.setdefault(model, []).append(made)


def _console() -> Reporter:
    from oodbench.console import ConsoleReporter

    return ConsoleReporter()


def _obtained(plan: Plan, reporter: Reporter) -> list[Obtained]:
    """The classifiers of the assignments, each under its name in the results."""
    found: dict[str, Classifier] = {}
    obtained: list[Obtained] = []
    for one in plan.assignments:
        whole().doing(f"classifier {len(obtained) + 1} of {len(plan.assignments)}: {one.wanted.name}")
        with whole().step("training", images_to_train_on(one.wanted, plan.whole), TRAINING_PASS):
            got = obtain(one.wanted, plan.whole, plan.device, reporter, found)
        named = found[one.wanted.name] = got.classifier.called(one.wanted.name)
        refuse_unreadable(named, one.detectors)
        obtained.append(Obtained(named, got.sheet))
    return obtained


def _subjects(plan: Plan, obtained: Sequence[Obtained], store: Store, reporter: Reporter) -> list[Subject]:
    subjects: dict[str, Subject] = {}
    for one, got in zip(plan.assignments, obtained, strict=True):
        # An output beyond the classes is an answer where the recipe says so.
        answers = plan.id_set.num_classes + (one.recipe.column is not None)
        members = [subjects[name] for name in one.wanted.members] if one.recipe.combine else []
        subjects[one.wanted.name] = Subject(
            got.classifier,
            one.models,
            dict(one.detectors),
            answers,
            store,
            plan.machine.batch_size,
            Precision(plan.machine.precision),
            reporter,
            members,
            one.recipe.combine,
            compile=plan.machine.compile,
        )
    return list(subjects.values())
