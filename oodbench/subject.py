"""A classifier under the detectors that read it: what it makes of images, from the store or by a pass; fit, score."""

from __future__ import annotations

import gc
import inspect
import math
import pkgutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, reduce
from operator import or_
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from oodbench import detectors
from oodbench.capture import PassCount
from oodbench.classifier import Classifier
from oodbench.compiled import Compiled
from oodbench.data.catalogue import ADVERSARIAL
from oodbench.data.identity import identity_of
from oodbench.data.imageset import ImageSet
from oodbench.data.reading import Shard
from oodbench.detectors.base import Detector
from oodbench.detectors.spec import Detectors
from oodbench.detectors.spec import label as label_of
from oodbench.detectors.state import state_hash
from oodbench.errors import OodbenchError
from oodbench.live import Live, collected, passes
from oodbench.memory import LARGEST, fitting_batch, is_exhausted
from oodbench.outputs import FitData, Head, Needs, Outputs
from oodbench.parameters import parameters
from oodbench.precision import FULL, Precision
from oodbench.progress import Reporter, whole
from oodbench.store import NO_STORE, Store, address

DATA = ("data.inputs", "data.matching", "data.preprocess", "data.transform")
OWN = ("anatomy", "capture", "classifier", "compiled", "heads", "live", "outputs", "precision", "probe")
PASSING = tuple(f"oodbench.{name}" for name in (*OWN, *DATA))
"""The modules whose code decides what is stored, and the package that computes it."""
PASSING_WITH = ("torch",)


class Product(NamedTuple):
    """What is to be made of each batch while it is at hand.

    Attributes:
        name: of a detector.
        make: gives named tensors, a row an image.
        key: what decides them apart from the outputs; None where nobody knows, so that they are not kept.
    """

    name: str
    make: Callable[[Live], Mapping[str, Tensor]]
    key: str | None


class Found(NamedTuple):
    """What a classifier makes of a shard: outputs that are kept of every image, on its device, and products."""

    outputs: Outputs
    products: Mapping[str, Mapping[str, Tensor]]


@dataclass(eq=False)
class Subject:
    """A classifier under the detectors that read it.

    Attributes:
        models: what the detectors' rows are called after.
        detectors: label → detector, fitted once `fit` was called.
        answers: how many of the first outputs are answers; any other is none.
        batch_size: images that pass at a time; None until it is chosen by the memory there is. It is halved whenever
            memory runs out.
        precision: of passes without a gradient.
        compile: whether layers are compiled for such passes.
        members, combine: where its outputs follow from others', whose networks are not asked again: those, and how.
        counts, seconds: what it cost, by role and by what was done.
        against: by model, the OOD sets that were made of that model and stand in no other's rows.
        from_store: images whose outputs were there already.
        asked: addresses of the shards that were asked for in this run.
        notes: what was decided for the user, in sentences.
        shown: the sets that it was shown, each with its role and what was done to its images, in words.
    """

    classifier: Classifier
    models: tuple[str, ...]
    detectors: dict[str, Detector]
    answers: int
    store: Store
    batch_size: int | None = None
    precision: Precision = FULL
    reporter: Reporter = field(default_factory=Reporter)
    members: Sequence[Subject] = ()
    combine: Callable[[Sequence[Outputs]], Outputs] | None = None
    counts: dict[str, PassCount] = field(default_factory=lambda: defaultdict(PassCount))
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    shown: dict[ImageSet, tuple[str, str]] = field(default_factory=dict)
    against: dict[str, list[ImageSet]] = field(default_factory=dict)
    from_store: int = 0
    asked: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    compile: bool = False

    @cached_property
    def content_hash(self) -> str:
        """Of the classifier."""
        return self.classifier.content_hash()

    def rows_of(self, images: ImageSet) -> tuple[str, ...]:
        """The models whose rows a set stands in."""
        if images.group == ADVERSARIAL:
            return tuple(model for model, sets in self.against.items() if images in sets)
        return self.models

    @property
    def fit_needs(self) -> Needs:
        """What the detectors read when they are fitted."""
        return reduce(or_, (detector.fit_needs for detector in self.detectors.values()), Needs("logits"))

    @property
    def learns(self) -> bool:
        """Whether there is anything to fit."""
        return any(detector.learns() for detector in self.detectors.values())

    def fit_part(self, shard: Shard, role: str) -> Found:
        """What the detectors are to be fitted on, of a shard."""
        reducing = {label: one for label, one in self.detectors.items() if one.reduces}
        products = (
            [Product(label, one.reduce, _code_of(one)) for label, one in reducing.items()] if role == "fit" else []
        )
        return self.found(shard, role, self.fit_needs if products else self.fit_needs.stored, products)

    def fit(self, data: FitData, reduced: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Fit every detector."""
        progress = whole()
        for number, (label, detector) in enumerate(self.detectors.items(), start=1):
            progress.doing(f"fitting detector {number} of {len(self.detectors)}: {label}, {self.classifier.name}")
            with self.timed(f"fit {label}"):
                self.detectors[label] = detector.fit(data._replace(reduced=reduced.get(label, {})))
            progress.advance(1)

    def score(self, shard: Shard, role: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The scores of a shard by detector, and the answers."""
        found = self.score_part(shard, role)
        scores = {}
        for label, detector in self.detectors.items():
            if label in found.products:
                given = found.products[label]["score"]
            else:
                with self.timed(f"score {label}"):
                    given = detector(found.outputs)
            scores[label] = _finite(given.cpu().numpy(), label, shard)
        return scores, found.outputs.logits[:, : self.answers].argmax(dim=1).cpu().numpy()

    def score_part(self, shard: Shard, role: str) -> Found:
        """What the detectors are to score a shard by: outputs, and the scores of those that need the batch at hand."""
        live = {label: detector for label, detector in self.detectors.items() if detector.needs.live}
        products = [Product(label, self._scoring(label), _key(detector)) for label, detector in live.items()]
        return self.found(shard, role, self._score_needs if products else self._score_needs.stored, products)

    @property
    def _score_needs(self) -> Needs:
        return reduce(or_, (detector.needs for detector in self.detectors.values()), Needs("logits"))

    @property
    def is_kept(self) -> bool:
        """Whether all that is made of a shard is kept, so that whoever asks for it again finds it."""
        made = [one for one in self.detectors.values() if one.needs.live or type(one).reduce is not Detector.reduce]
        known = all(_code_of(one) is not None for one in made)
        return self._store.keeps and known and all(member.is_kept for member in self.members)

    def _scoring(self, label: str) -> Callable[[Live], Mapping[str, Tensor]]:
        def make(batch: Live) -> Mapping[str, Tensor]:
            with self.timed(f"score {label}"):
                return {"score": self.detectors[label](batch)}

        return make

    def found(self, shard: Shard, role: str, needs: Needs, products: Sequence[Product] = ()) -> Found:
        """What the classifier makes of a shard, from the store as far as it is there, else by one pass."""
        place = address(self.content_hash, self._passing, shard.digest, shard.images.prepared)
        keys = {one.name: address(place, one.key) for one in products if one.key is not None}
        known = self._store.read(place)
        if known is not None and not _covers(known[0], needs.stored, self.classifier):
            known = None
        made = {name: kept[0] for name, key in keys.items() if (kept := self._store.read(key)) is not None}
        missing = [one for one in products if one.name not in made]
        if known is None or missing:
            tensors, new, facts = self._made(shard, role, needs, missing)
            if known is None:
                known = tensors, facts
                self._store.write(place, tensors, facts)
            for name, rows in new.items():
                if name in keys:
                    self._store.write(keys[name], rows, facts)
            made |= new
        elif place not in self.asked:
            self.from_store += len(shard)
        self.asked.add(place)
        self._note(shard, role, known[1]["matching"])
        device = self.classifier.device
        return Found(Outputs({name: tensor.to(device) for name, tensor in known[0].items()}, self._head), made)

    def _made(
        self, shard: Shard, role: str, needs: Needs, products: Sequence[Product]
    ) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]], dict[str, str]]:
        facts = {"classifier": self.classifier.name, "set": shard.images.name, "role": role, "images": str(len(shard))}
        if self.combine and not products:
            outputs = self.combine([member.found(shard, role, Needs("logits")).outputs for member in self.members])
            return dict(outputs.tensors()), {}, facts | {"matching": self.members[0].shown[shard.images][1]}
        with self.timed(f"read {role}"):
            images = shard.matched(self.classifier.form)
            facts["matching"] = shard.matching(self.classifier.preprocess)
        before = sum(seconds for what, seconds in self.seconds.items() if what.startswith("score "))
        compiled = self._compiled
        with self.timed(f"network {role}"):
            outputs, made = self._passed(images, role, needs, products, compiled)
        # What detectors did meanwhile is counted as theirs.
        after = sum(seconds for what, seconds in self.seconds.items() if what.startswith("score "))
        self.seconds[f"network {role}"] -= after - before
        return dict(outputs.tensors()), made, facts

    def _passed(
        self, images: Tensor, role: str, needs: Needs, products: Sequence[Product], compiled: Compiled | None
    ) -> tuple[Outputs, dict[str, dict[str, Tensor]]]:
        """One pass of the images of a shard; begun anew, in smaller batches, where memory runs out."""
        makes = {one.name: one.make for one in products}
        while True:
            size, count = self._size(), PassCount()
            # Batches of even size: a last one of a few images would be computed by other kernels than the rest.
            batches = images.tensor_split(math.ceil(len(images) / size))
            try:
                counted = _counted(batches)
                how = self._keepable, self.precision, compiled
                with closing(passes(self.classifier, counted, needs, count, *how)) as live:
                    found = collected(live, makes)
            except (RuntimeError, MemoryError) as error:
                if not is_exhausted(error):
                    raise
            else:
                self.counts[role].add(count)
                return found
            # Here, where the error is gone, and with it the tensors of the pass that it came from.
            self._halve(size)

    def _size(self) -> int:
        if self.batch_size is None:
            self.batch_size = fitting_batch(self.classifier, "gradient" in self._score_needs)
            if self.batch_size < LARGEST:
                self._decide(f"{self.classifier.name}: {self.batch_size} images at a time, by the memory that is free")
        return self.batch_size

    def _halve(self, size: int) -> None:
        gc.collect()
        if self.classifier.device.type == "cuda":
            torch.cuda.empty_cache()
        if size == 1:
            raise OodbenchError(
                f"memory runs out where a single image passes {self.classifier.name}; use a machine with more of it, "
                f"or leave out detectors that need gradients or maps"
            )
        self.batch_size = size // 2
        self._decide(
            f"{self.classifier.name}: memory ran out with {size} images at a time; it goes on with {self.batch_size}"
        )

    def _decide(self, note: str) -> None:
        self.notes.append(note)
        self.reporter.say(note)

    def _note(self, shard: Shard, role: str, matching: str) -> None:
        """What is done to the images of a set, said once."""
        if shard.images not in self.shown:
            self.shown[shard.images] = role, matching
            decided = "; ".join(filter(None, (matching, *shard.images.notes)))
            if decided:
                self.reporter.say(f"{shard.images.name} ({role}): {decided}")

    @cached_property
    def _keepable(self) -> Needs:
        """What is kept, where anything is, although nobody reads it now: another detector will."""
        if not self._store.keeps:
            return Needs()
        features = ["features"] if self.classifier.head else []
        return Needs("logits", *features, *(f"layer:{name}" for name in self.classifier.layers))

    @cached_property
    def _compiled(self) -> Compiled | None:
        if not self.compile:
            return None
        with self.timed("compile"):
            compiled = Compiled(self.classifier, self.precision)
        self._decide(f"{self.classifier.name}: {compiled}")
        return compiled

    @cached_property
    def _head(self) -> Head | None:
        return self.classifier.head_weights()

    @cached_property
    def _store(self) -> Store:
        """Where its outputs are kept; nowhere where nobody knows what decides them."""
        if self._passing is None and self.store.keeps:
            self.reporter.say(
                f"what {self.classifier.name} makes of images is not kept for the next run: its code, or that of its "
                f"transform, cannot be read"
            )
        return NO_STORE if self._passing is None else self.store

    @cached_property
    def _passing(self) -> list[str] | None:
        """What decides the outputs, apart from weights and images: what is captured, the code, what it rounds with."""
        code, network = identity_of(None, PASSING, PASSING_WITH), _network_code(self.classifier.module)
        form = self.classifier.preprocess.code()
        if code is None or network is None or form is None:
            return None
        how = f"{self.precision.name}{', compiled' if self.compile else ''}"
        place = [self.classifier.device.type, how, str(self.classifier.head)]
        return [*place, *self.classifier.layers, code, form, *network]

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Count the seconds that something takes."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[what] += time.perf_counter() - started


def _counted(batches: Sequence[Tensor]) -> Iterator[Tensor]:
    """The batches, each told once it has passed: of what goes in, so that nothing of what comes out is held."""
    for batch in batches:
        yield batch
        whole().advance(len(batch))


def _network_code(network: nn.Module) -> list[str] | None:
    """The code of the classes that a network is made of, but for torch's own; None where it cannot be read."""
    told = set()
    for module in network.modules():
        if type(module).__module__.partition(".")[0] == "torch":
            told.add(str(getattr(module, "code", "")))  # that of a traced or scripted one is its own
            continue
        for kind in type(module).__mro__:
            if kind.__module__.partition(".")[0] in ("torch", "builtins"):
                continue
            code = identity_of(kind.__qualname__, [kind.__module__])
            try:
                # A class of a script or a notebook, which changes in other places too.
                told.add(code or inspect.getsource(kind))
            except (OSError, TypeError):
                return None
    return sorted(told)


def _key(detector: Detector) -> str | None:
    """What decides the scores of a fitted detector."""
    code = _code_of(detector)
    return code and f"{code} {state_hash(detector)}"


def _code_of(detector: Detector) -> str | None:
    """What decides how a detector scores and learns: its parameters and the code of its class; None: not known.

    That of all detectors here is taken, since one calls another; torch's version too, by which results are rounded.
    """
    modules = {module.name for module in pkgutil.walk_packages(detectors.__path__, "oodbench.detectors.")}
    modules |= {type(one).__module__ for one in _with_bases(detector)} | {"oodbench.perturbation", "oodbench.live"}
    return identity_of(label_of(detector), sorted(modules), ("torch",))


def _with_bases(detector: Detector) -> Iterator[Detector]:
    yield detector
    for one in parameters(type(detector)):
        value = getattr(detector, one.name)
        for base in value if isinstance(value, Detectors) else (value,):
            if isinstance(base, Detector):
                yield from _with_bases(base)


def _covers(tensors: Mapping[str, Tensor], needs: Needs, classifier: Classifier) -> bool:
    wanted = {name for name in needs if name != "layer:*"}
    return wanted | {f"layer:{name}" for name in classifier.layers if "layer:*" in needs} <= tensors.keys()


def _finite(scores: np.ndarray, label: str, shard: Shard) -> np.ndarray:
    broken = np.flatnonzero(~np.isfinite(scores))
    if len(broken):
        place = shard.images.place(shard.start + int(broken[0]))
        raise OodbenchError(f"detector {label} gave {scores[broken[0]]} for {place}; a score must be finite")
    return scores
