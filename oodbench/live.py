"""One pass through a network, batch by batch, with the batch and its graph at hand.

`passes` runs the network and yields one `Live` a batch. What a detector asks of it (gradients, perturbed images, a
changed network) is computed on demand, once, for all detectors that ask.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from oodbench.capture import Capture, PassCount, Passed, channels_first, layer_of_maps, shown
from oodbench.classifier import Classifier
from oodbench.compiled import Compiled
from oodbench.errors import OodbenchError
from oodbench.outputs import FREE, PENULTIMATE, Change, Head, Needs, Outputs, Perturbation
from oodbench.perturbation import step
from oodbench.precision import FULL, Precision


class Live(Outputs):
    """The outputs of one batch while its images and autograd graph are at hand; made by `passes`.

    What it shows of the pass is detached; each verb is computed once per distinct argument, and counted.
    """

    def __init__(
        self,
        capture: Capture,
        pixels: Tensor,
        head: Head | None,
        changes: Mapping[str, Change] | None = None,
        known: Mapping[str, Tensor] | None = None,
        precision: Precision = FULL,
    ) -> None:
        """
        Args:
            pixels: float N×C×H×W in [0, 1].
            changes: what is changed in the network on its way; of the head, the one that is to be.
            known: the tensors, where they are known without a pass.
            precision: of passes without a graph.
        """
        self._capture, self._pixels, self._changes = capture, pixels, dict(changes or {})
        self._precision = precision
        # Whether passes without a graph round otherwise than those with one.
        self._is_apart = precision.is_low or capture.compiled is not None
        self._memory: dict[object, Any] = {}
        tensors = dict(known) if known is not None else self._pass()
        if "images" in capture.needs:
            tensors["images"] = shown(pixels)
        super().__init__(tensors, head)

    def _pass(self) -> dict[str, Tensor]:
        needs = self._capture.needs
        if not needs - {"images"}:
            return {}
        # What is kept must not depend on whether a detector beside it asks for gradients, which are in full precision
        # and by no compiled layers.
        if "gradient" in needs and not self._is_apart:
            return self._graph().tensors
        self._count_pass()
        return self._further(self._pixels).tensors

    def _count_pass(self) -> None:
        if self._changes:
            self._capture.count.edited += len(self._pixels)
        else:
            self._capture.count.forward += len(self._pixels)

    def _graph(self) -> Passed:
        """The pass with its graph."""
        if "gradient" not in self._capture.needs:
            raise OodbenchError("a detector asked for a gradient, but does not declare it in its needs")

        def compute() -> Passed:
            if self._is_apart:
                self._capture.count.further += len(self._pixels)
            else:
                self._count_pass()
            with torch.enable_grad():
                return self._capture.forward(self._pixels.requires_grad_(), self._changes)

        return self._once("graph", compute)

    def _further(self, images: Tensor, dropout: int | None = None) -> Passed:
        with torch.no_grad(), self._precision.passing(images.device):
            passed = self._capture.forward(images, self._changes, dropout)
        return passed._replace(tensors=self._precision.widened(passed.tensors))

    def _once(self, key: object, compute: Callable[[], Any]) -> Any:
        if key not in self._memory:
            self._memory[key] = compute()
        return self._memory[key]

    def gradient(self, of: Callable[[Outputs], Tensor], wrt: str = "images") -> Tensor:
        """The gradient of a scalar an image, see `Outputs.gradient`; as precise as x, before normalisation."""

        def compute() -> Tensor:
            passed = self._graph()
            target = self._pixels if wrt == "images" else passed.taken.get(self._place(wrt))
            if target is None:
                raise OodbenchError(f"a detector asked for a gradient by {wrt}, but does not declare it in its needs")
            count, shape = len(self._pixels), self._capture.classifier.image_shape
            with torch.enable_grad():
                # Summed, not averaged: an image's gradient must not depend on how many share its batch.
                total = of(Outputs(self._tensors | self._with_graph(passed), self._head)).sum()
            # The graph is kept for the next scalar; it goes when the batch goes.
            (found,) = torch.autograd.grad(total, target, retain_graph=True)
            self._capture.count.gradient += count
            if wrt == "features":
                return self._capture.classifier.feature_gradient(found[:count])
            return channels_first(found[:count], shape) if wrt.startswith("maps:") else found[:count]

        return self._once(("gradient", of, wrt), compute)

    def _with_graph(self, passed: Passed) -> dict[str, Tensor]:
        """The tensors of the pass, as they hang together."""
        count, shape = len(self._pixels), self._capture.classifier.image_shape
        tensors = {"logits": passed.logits, "images": self._pixels}
        if PENULTIMATE in passed.taken:
            tensors["features"] = self._capture.classifier.features_of(passed.taken[PENULTIMATE][:count])
        for name in self.layer_names:
            tensors[f"layer:{name}"] = self._capture.pooled(name, passed.taken[name][:count])
        for name in self.map_names:
            tensors[f"maps:{name}"] = channels_first(passed.taken[self._place(f"maps:{name}")][:count], shape)
        return tensors

    def _place(self, name: str) -> str:
        if name == "features":
            return PENULTIMATE
        prefix, _, layer = name.partition(":")
        if prefix != "maps":
            raise OodbenchError(f"there is no gradient by '{name}'; by images, features and maps:NAME there is")
        return layer_of_maps(self._capture.classifier, layer)

    def input_gradient(self, temperature: float) -> Tensor:
        """∇_x CE(z(x)/T, argmax z(x)), N×C×H×W, as precise as x, which is in [0, 1], before normalisation."""
        return self.gradient(_CrossEntropy(temperature))

    def _perturbed(self, how: Perturbation) -> Outputs:
        def compute() -> Outputs:
            direction = step(self.input_gradient(how.temperature), how.norm, how.fraction, how.sign_of_zero)
            moved = self._pixels.detach() - how.epsilon * direction
            passed = self._further(moved.clamp(0, 1) if how.clip else moved)
            self._capture.count.perturbed += len(moved)
            return Outputs(passed.tensors, self._head)

        return self._once(("perturbed", how), compute)

    def forward(self, images: Tensor | None = None, *, dropout: int | None = None) -> Outputs:
        """The outputs of one more pass, see `Outputs.forward`."""

        def compute() -> Outputs:
            shown_images = self._pixels.detach() if images is None else images.to(self._pixels)
            passed = self._further(shown_images, dropout)
            self._capture.count.further += len(shown_images)
            return Outputs(passed.tensors, self._head)

        return self._once(("forward", dropout), compute) if images is None else compute()

    def edited(self, changes: Mapping[str, Change]) -> Outputs:
        """The outputs of the network in which quantities are changed on their way, see `Outputs.edited`."""

        def compute() -> Outputs:
            known = super(Live, self).edited(changes).tensors() if changes.keys() <= FREE else None
            both, head = dict(self._changes), self._head
            for name, change in changes.items():
                if name == "head":
                    both[name] = head = change(self.head)
                    continue
                place = f"maps:{self._place(name)}" if name == "maps:last" else name
                both[place] = _Composed(both[place], change) if place in both else change
            return Live(self._capture, self._pixels, head, both, known, self._precision)

        return self._once(("edited", *changes.items()), compute)


@dataclass(frozen=True)
class _CrossEntropy:
    """CE(z/T, argmax z) an image, in float64 where there is one."""

    temperature: float

    def __call__(self, outputs: Outputs) -> Tensor:
        logits = outputs.logits
        if logits.device.type != "mps":  # which has no float64
            logits = logits.double()
        return F.cross_entropy(logits / self.temperature, logits.argmax(dim=1), reduction="none")


@dataclass(frozen=True)
class _Composed:
    """One change after another."""

    first: Change
    second: Change

    def __call__(self, values: Tensor) -> Tensor:
        return self.second(self.first(values))


def passes(
    classifier: Classifier,
    batches: Iterable[Tensor],
    needs: Needs,
    count: PassCount | None = None,
    welcome: Needs | None = None,
    precision: Precision = FULL,
    compiled: Compiled | None = None,
) -> Generator[Live, None, None]:
    """Pass batches of images through the network, once, and yield what it makes of each.

    Nothing here holds a batch that was given away: its graph goes as soon as the caller lets go of it.

    Args:
        batches: uint8, or float in [0, 1], N×C×H×W in the classifier's form.
        count: is told what entered the network.
        welcome: what is captured too, as far as the network lets it.
        precision: of the passes, but for those whose gradient is asked for.
        compiled: the classifier's compiled layers for the same passes.

    The classifier is in eval mode, without weight gradients, while a batch is out, and as it was afterwards.

    Raises:
        OodbenchError: a batch is not of that form, or `needs` names what the classifier does not have.
    """
    head = classifier.head_weights()
    with (
        classifier.inference(),
        precision.exact(classifier.device),
        Capture(classifier, needs, count or PassCount(), welcome, compiled) as capture,
    ):
        for pixels in _pixels(batches, classifier):
            yield Live(capture, pixels, head, precision=precision)
            del pixels


def _pixels(batches: Iterable[Tensor], classifier: Classifier) -> Iterator[Tensor]:
    """The batches as the classifier takes them: on its device, in its precision, in [0, 1], in memory of their own."""
    form, precision = classifier.image_shape, classifier.precision
    for images in on_device((_checked(batch, form, classifier.name) for batch in batches), classifier.device):
        is_float = images.is_floating_point()
        pixels = images.to(precision, copy=is_float)
        del images
        yield pixels if is_float else pixels.div_(255)
        del pixels


def _checked(images: Tensor, form: tuple[int, int, int], name: str) -> Tensor:
    is_known = images.is_floating_point() or images.dtype == torch.uint8
    if tuple(images.shape[1:]) != form or not is_known or not len(images):
        wanted = "×".join(map(str, form))
        raise OodbenchError(
            f"{name} takes batches of images N×{wanted}, uint8 or float, not {images.dtype} of "
            f"shape {tuple(images.shape)}; match the images to the classifier first"
        )
    return images


def on_device(batches: Iterable[Tensor], device: torch.device) -> Iterator[Tensor]:
    """The batches on a device; on a GPU the next one is copied while one is worked on, and nothing waits for it."""
    if device.type != "cuda":
        for images in batches:
            yield images.to(device)
        return
    copying = torch.cuda.Stream(device)
    ahead: list[tuple[Tensor, torch.cuda.Event]] = []

    def arrived() -> Tensor:
        images, event = ahead.pop()
        working = torch.cuda.current_stream(device)
        working.wait_event(event)
        # Its memory must not be given away while kernels of this stream may read it.
        images.record_stream(working)
        return images

    for images in batches:
        with torch.cuda.stream(copying):
            # Memory that is not pinned would be copied while the processor waits.
            pinned = images if images.is_cuda else images.pin_memory()
            following = pinned.to(device, non_blocking=True), copying.record_event()
        if ahead:
            yield arrived()
        ahead.append(following)
    if ahead:
        yield arrived()


def collected(
    live: Iterable[Live], products: Mapping[str, Callable[[Live], Mapping[str, Tensor]]] | None = None
) -> tuple[Outputs, dict[str, dict[str, Tensor]]]:
    """What is kept of batches: one stored `Outputs`, and what functions make of each batch while it is at hand.

    Args:
        products: by name, a function of a batch of N images to named tensors of N rows.
    """
    kept: list[Outputs] = []
    made: dict[str, list[Outputs]] = {name: [] for name in products or {}}
    for batch in live:
        kept.append(batch.stored())
        for name, make in (products or {}).items():
            made[name].append(Outputs(make(batch)))
        del batch  # or it would be there while the next one passes
    joined = {name: dict(Outputs.concatenate(parts).tensors()) for name, parts in made.items()}
    return Outputs.concatenate(kept), joined
