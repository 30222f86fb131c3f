"""`check_detector`: every property that a detector must have, for those of oodbench and of other packages.

A check is a function of a detector and an `Example`, a small classifier with images of its own; it raises an
AssertionError that says what was seen.
"""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oodbench.classifier import Classifier
from oodbench.detectors.base import Detector
from oodbench.detectors.catalogue import catalogue
from oodbench.detectors.spec import build, label
from oodbench.detectors.state import read_state, save_state
from oodbench.errors import NotFittedError, OodbenchError
from oodbench.example import Example, make_example
from oodbench.metrics import Counts, auroc
from oodbench.outputs import Needs, Outputs
from oodbench.parameters import PLAIN, Parameter, parameters

EASY_AUROC = 0.8
"""What a detector reaches at least on the example's gratings against noise."""

Check = Callable[[Detector, Example], None]


def check_detector(detector: Detector | type[Detector], device: torch.device | str = "cpu") -> None:
    """Check every property that a detector must have; takes seconds.

    Args:
        detector: an instance, whose hyper-parameters are kept, or a class, for the defaults.
        device: where the network is, and so what detectors are given.

    Raises:
        AssertionError: properties do not hold: which detector, which checks, what was seen; all of them at once.
    """
    failures = []
    for check in CHECKS:
        try:
            run_check(check, detector, device)
        except AssertionError as error:
            failures.append(str(error))
    if failures:
        raise AssertionError("\n".join(failures))


def run_check(check: Check, detector: Detector | type[Detector], device: torch.device | str = "cpu") -> None:
    """One of `CHECKS` on a fresh example; whatever goes wrong is an AssertionError that names the check."""
    name = detector.__name__ if isinstance(detector, type) else label(detector)
    subject = detector() if isinstance(detector, type) else replace(detector)
    try:
        check(subject, make_example(device=device, recipe=subject.reads))
    except Exception as error:
        kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
        raise AssertionError(f"{name} fails {check.__name__}: {kind}{error}") from error


def check_declaration(detector: Detector, example: Example) -> None:
    """Hyper-parameters are the fields of a frozen dataclass, and no other keyword is taken."""
    kind: Any = type(detector)
    declared = vars(kind).get("__dataclass_params__")
    assert declared is not None and declared.frozen, "its class is not decorated with @dataclass(frozen=True)"
    try:
        kind(no_such_parameter=1)
    except TypeError:
        return
    raise AssertionError("the unknown keyword no_such_parameter raised no TypeError")


def check_signatures(detector: Detector, example: Example) -> None:
    """`fit` and `learn` take the fit data, `score` and `reduce` outputs, and nothing else."""
    kind = type(detector)
    for method in (kind.fit, kind.learn, kind.score, kind.reduce):
        taken = list(inspect.signature(method).parameters)
        assert len(taken) == 2, f"{method.__name__} takes {', '.join(taken)}"


def check_unfitted(detector: Detector, example: Example) -> None:
    """A detector that learns raises NotFittedError when it is asked for scores before `fit`."""
    if detector.learns():
        try:
            example.scores(detector, example.id_images)
        except NotFittedError:
            return
        raise AssertionError("it gave scores before it was fitted")


def check_scores(detector: Detector, example: Example) -> None:
    """`fit` gives a fitted copy; scores are finite, float64, one an image, on the device of the outputs."""
    fitted = example.fitted(detector)
    assert type(fitted) is type(detector) and fitted == detector, "fit does not give a copy of the detector"
    assert not detector.learns() or not detector.fitted, "fit changed the detector itself"
    for live in example.passes(example.all_images, fitted.needs):
        found = fitted.score(live)
        assert found.shape == (len(live),), f"scores of {len(live)} images have shape {tuple(found.shape)}"
        assert found.dtype == torch.float64, f"scores are {found.dtype}, not float64"
        wanted = next(iter(live.tensors().values())).device
        assert found.device == wanted, f"scores are on {found.device}, outputs elsewhere"
        assert found.isfinite().all(), f"scores are not finite: {found[~found.isfinite()][0]}"
        assert not found.requires_grad, "scores carry a graph"


def check_orientation(detector: Detector, example: Example) -> None:
    """Easy ID images score above easy OOD images: a higher score means more in-distribution."""
    if not detector.control:
        fitted = example.fitted(detector)
        of_id, of_ood = (example.scores(fitted, images) for images in (example.id_images, example.ood_images))
        found = auroc(Counts.of(of_id.cpu(), of_ood.cpu()))
        assert found >= EASY_AUROC, f"AUROC of gratings against noise is {found:.3f}, below {EASY_AUROC}"


def check_model_untouched(detector: Detector, example: Example) -> None:
    """Weights, buffers, modes, gradients and hooks of the network are as they were, after every score."""
    before, logits = _fingerprint(example.classifier), _logits(example)
    fitted = example.fitted(detector)
    for live in example.passes(example.all_images, fitted.needs):
        during = _fingerprint(example.classifier)
        fitted.score(live)
        _assert_same_facts(during, _fingerprint(example.classifier), "score")
    _assert_same_facts(before, _fingerprint(example.classifier), "fit and score")
    _assert_equal(logits, _logits(example), "logits before and after")


def check_inputs_untouched(detector: Detector, example: Example) -> None:
    """What `fit` and `score` are given is bit for bit as it was afterwards."""
    data = example.fit_data(detector)
    given = {"fit outputs": data.outputs, "reduced outputs": Outputs(data.reduced), **data.proxies}
    given["labels"] = Outputs({"labels": example.fit_labels if data.labels is None else data.labels})
    copies = {name: _copied(one) for name, one in given.items()}
    fitted = detector.fit(data)
    for name, one in given.items():
        _assert_unchanged(copies[name], one, f"fit changed {name}")
    for live in example.passes(example.all_images, fitted.needs):
        copy = _copied(live)
        fitted.score(live)
        _assert_unchanged(copy, live, "score changed its outputs")


def check_determinism(detector: Detector, example: Example) -> None:
    """Fitting and scoring again gives the same scores, bit for bit."""
    first, again = (example.scores(example.fitted(detector), example.all_images) for _ in range(2))
    _assert_equal(first, again, "scores of two equal fits")


def check_batches(detector: Detector, example: Example) -> None:
    """An image's score is the same in a batch of 1, 7, 64 or all, and in any order of the images."""
    # In float64, where rounding in the network's own batched kernels does not show.
    example = make_example(precision=torch.float64, device=example.classifier.device, recipe=detector.reads)
    fitted = example.fitted(detector)
    images = example.all_images
    whole = example.scores(fitted, images, batch_size=len(images))
    for batch_size in (1, 7, 64):
        found = example.scores(fitted, images[-4 * batch_size :], batch_size)
        what = f"scores in one batch and in batches of {batch_size}"
        _assert_equal(whole[-len(found) :], found, what, tolerance=1e-9)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    found = example.scores(fitted, images[order])
    _assert_equal(whole[order], found, "scores in order and permuted", tolerance=1e-9)


def check_history(detector: Detector, example: Example) -> None:
    """ID scores do not depend on what was scored before: nothing is learned from OOD images."""
    fitted = example.fitted(detector)
    first = example.scores(fitted, example.id_images)
    example.scores(fitted, example.ood_images)
    _assert_equal(first, example.scores(fitted, example.id_images), "ID scores before and after OOD ones")


def check_side_by_side(detector: Detector, example: Example) -> None:
    """Two detectors fitted on different images score the same batches as each would alone."""
    stops = (None, len(example.fit_images) // 2)
    alone = [example.scores(example.fitted(detector, stop), example.id_images) for stop in stops]
    pair = [example.fitted(detector, stop) for stop in stops]
    needs = pair[0].needs | pair[1].needs
    together = [[one(live) for one in pair] for live in example.passes(example.id_images, needs)]
    for expected, found in zip(alone, zip(*together, strict=True), strict=True):
        _assert_equal(expected, torch.cat(found), "scores alone and beside another detector")


def check_refit(detector: Detector, example: Example) -> None:
    """Fitting again forgets the first fit."""
    fresh = example.scores(example.fitted(detector), example.all_images)
    other = example.fitted(replace(detector), len(example.fit_images) // 2)
    again = example.scores(example.fitted(other), example.all_images)
    _assert_equal(fresh, again, "scores of a fresh fit and of a refit")


def check_labels(detector: Detector, example: Example) -> None:
    """A detector that does not declare labels in its fit_needs does not use them."""
    if "labels" not in detector.fit_needs:
        data = example.fit_data(detector)
        fits = (detector.fit(data._replace(labels=labels)) for labels in (data.labels, example.fit_labels.roll(1)))
        expected, found = (example.scores(fitted, example.all_images) for fitted in fits)
        _assert_equal(expected, found, "scores under other labels")


def check_state(detector: Detector, example: Example) -> None:
    """What was learned goes through a file of tensors and JSON, and the label rebuilds the detector."""
    fitted = example.fitted(detector)
    expected = example.scores(fitted, example.all_images)
    with tempfile.TemporaryDirectory() as folder:
        save_state(fitted, Path(folder) / "state.safetensors")
        name, state = read_state(Path(folder) / "state.safetensors")
    if ":" not in name:  # that would be the label of a class which is not in the catalogue
        assert build(name) == detector, f"its label {name} builds another detector"
    restored = replace(detector).with_state(state).to(example.classifier.device)
    _assert_equal(expected, example.scores(restored, example.all_images), "scores before and after saving")


def check_other_width(detector: Detector, example: Example) -> None:
    """A detector fitted on one classifier refuses the outputs of one of other widths, in words."""
    fitted = example.fitted(detector)
    if detector.learns() and fitted.needs - {"images"}:
        other = make_example(num_classes=5, width=16, device=example.classifier.device, recipe=detector.reads)
        try:
            other.scores(fitted, other.id_images)
        except OodbenchError:
            return
        raise AssertionError("it scored a classifier of other widths than that which it was fitted on")


def check_extreme_logits(detector: Detector, example: Example) -> None:
    """Scores are finite where logits reach ±10,000, and where all are equal."""
    fitted = example.fitted(detector)
    largest = float(_logits(example).abs().max())
    for factor in (1e4 / largest, -1e4 / largest, 0.0):
        scaled = make_example(head_factor=factor, device=example.classifier.device, recipe=detector.reads)
        found = scaled.scores(fitted, example.all_images)
        assert found.isfinite().all(), f"logits times {factor:.0f} give {found[~found.isfinite()][0]}"


def check_parameters(detector: Detector, example: Example) -> None:
    """Each hyper-parameter changes a score, beside the others as they are, as by default, or one chosen.

    Those of its own classifier's training do so by that classifier, which the example is not.
    """
    declared = [facts for facts in parameters(type(detector)) if not facts.training]
    for facts in declared:
        others = [other for other in declared if other is not facts and (other.choices or other.type is bool)]
        settings = [{}, *({other.name: value} for other in others for value in _values(other, example))]
        origins = (detector, type(detector)())
        bases = (replace(origin, **setting) for origin in origins for setting in settings)
        tried = ", ".join(map(str, _values(facts, example)))
        assert any(_matters(facts, base, example) for base in bases), f"{facts.name} changes no score: {tried}"


CHECKS: tuple[Check, ...] = (
    check_declaration,
    check_signatures,
    check_unfitted,
    check_scores,
    check_orientation,
    check_model_untouched,
    check_inputs_untouched,
    check_determinism,
    check_batches,
    check_history,
    check_side_by_side,
    check_refit,
    check_labels,
    check_state,
    check_other_width,
    check_extreme_logits,
    check_parameters,
)


def _logits(example: Example) -> Tensor:
    with example.classifier.inference(), torch.no_grad():
        return example.classifier(example.id_images.to(example.classifier.device) / 255).flatten()


def _values(facts: Parameter, example: Example) -> tuple[Any, ...]:
    """Values to try; a word that is free names a layer."""
    if facts.choices or facts.grid:
        return facts.choices or facts.grid
    if facts.type is bool:
        return (False, True)
    if facts.type is str:
        return example.classifier.layers
    if facts.type not in PLAIN:
        # Detectors that a detector which reads through another one is tried over.
        bases = map(build, catalogue())
        return tuple(one for one in bases if one.needs == Needs("logits") and one.reads is None and not one.control)
    doubled, halved = (facts.type(value) for value in (2 * facts.default + 1, facts.default / 2))
    return tuple(value for value in (doubled, halved) if facts.low <= value <= facts.high)


def _matters(facts: Parameter, base: Detector, example: Example) -> bool:
    values = [getattr(base, facts.name), *_values(facts, example)]
    found = (
        example.scores(example.fitted(replace(base, **{facts.name: value})), example.all_images) for value in values
    )
    first = next(found)
    return any(not torch.equal(first, other) for other in found)


def _assert_equal(first: Tensor, second: Tensor, what: str, tolerance: float = 0.0) -> None:
    """Two vectors agree; the tolerance is in units of the spread of the first."""
    allowed = tolerance * float(first.max() - first.min())
    worst = int((first - second).abs().nan_to_num(nan=torch.inf).argmax())
    assert abs(float(first[worst] - second[worst])) <= allowed, (
        f"{what} differ: {float(first[worst])!r} and {float(second[worst])!r} at {worst}"
    )


def _copied(outputs: Outputs) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in outputs.tensors().items()}


def _assert_unchanged(copy: dict[str, Tensor], outputs: Outputs, what: str) -> None:
    for name, tensor in outputs.tensors().items():
        assert name in copy and torch.equal(copy[name], tensor), f"{what}: {name}"


def _fingerprint(classifier: Classifier) -> dict[str, Any]:
    """What must not change of a network."""
    modules = list(classifier.module.modules())
    hooks = [
        name for module in modules for name, value in vars(module).items() if name.endswith("_hooks") for _ in value
    ]
    return {
        "weights and buffers": classifier.content_hash(),
        "modes": [module.training for module in modules],
        "requires_grad": [weights.requires_grad for weights in classifier.module.parameters()],
        "gradients": [weights.grad is not None for weights in classifier.module.parameters()],
        "hooks": hooks,
    }


def _assert_same_facts(before: dict[str, Any], after: dict[str, Any], what: str) -> None:
    for name, value in before.items():
        assert after[name] == value, f"{what} changed the network: {name}"
