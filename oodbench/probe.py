"""One pass of two random images, to see how a network is built: what it calls, in which order, and what that gives."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from oodbench.errors import OodbenchError
from oodbench.heads import Seen, features_of, matrix_of, tensor_of


@dataclass
class Probe:
    """What a pass showed.

    Attributes:
        returned: by the network.
        memory_format: of the images that it took.
        shapes: of the outputs of the submodules that were called, in the order in which they finished; None where
            that is no tensor, see `tensor_of`.
        heads: the submodules that may be the head: linear layers and 1×1 convolutions of K outputs, and those named.
        class_tokens: T, where the first of T tokens goes on alone, a class token; None where there is no such.
        sizes: bytes an image of the outputs of the innermost submodules.
    """

    returned: Any = None
    memory_format: torch.memory_format = torch.channels_last
    shapes: dict[str, tuple[int, ...] | None] = field(default_factory=dict)
    heads: dict[str, Seen] = field(default_factory=dict)
    class_tokens: int | None = None
    sizes: list[int] = field(default_factory=list)
    _first_tokens: list[tuple[int, Tensor]] = field(default_factory=list)

    @contextmanager
    def watching(self, module: nn.Module, num_classes: int, named: Collection[str]) -> Iterator[None]:
        """Hooks that note all this."""
        with ExitStack() as stack:
            for name, submodule in module.named_modules():
                if name and not isinstance(submodule, torch.jit.ScriptModule):  # which takes no hooks
                    note = self._noting(name, num_classes, name in named)
                    stack.callback(submodule.register_forward_hook(note).remove)
            yield

    def _noting(self, name: str, num_classes: int, is_named: bool) -> Callable[[nn.Module, Any, Any], None]:
        def note(module: nn.Module, inputs: Any, output: Any) -> None:
            output = tensor_of(output)
            self.shapes[name] = tuple(output.shape) if isinstance(output, Tensor) else None
            if not isinstance(output, Tensor):
                return
            if not any(module.children()) and output.dim():
                self.sizes.append(output.nbytes // len(output))
            given = inputs[0] if inputs and isinstance(inputs[0], Tensor) else output.new_zeros(0)
            matrix = matrix_of(module)
            if given.dim() > 1 and (is_named or (matrix is not None and len(matrix) == num_classes)):
                # Copies, since what comes after may work in place.
                self.heads[name] = Seen(module, features_of(module, given).clone(), output.clone())
            for count, token in self._first_tokens:
                if torch.equal(token, given):
                    self.class_tokens = count
            if output.dim() == 3 and output.shape[1] > 1:
                self._first_tokens.append((output.shape[1], output[:, 0].clone()))

        return note


def probe(
    module: nn.Module, forward: Callable[[Tensor], Any], images: Tensor, num_classes: int, named: Collection[str]
) -> Probe:
    """What a pass of images shows, in the form in which images will be passed.

    Args:
        forward: of images, what the module returns; in eval mode, without gradients.
        num_classes: K.
        named: submodules that the user named as head.

    Raises:
        Exception: whatever the module raises.
    """
    seen = Probe()
    try:
        with seen.watching(module, num_classes, named):
            seen.returned = forward(images.contiguous(memory_format=torch.channels_last))
    except RuntimeError:
        # x.view(N, -1) after a convolution needs the other order of memory.
        seen = Probe(memory_format=torch.contiguous_format)
        with seen.watching(module, num_classes, named):
            seen.returned = forward(images.contiguous())
    return seen


def refuse_broken_weights(module: nn.Module, name: str, logits: Tensor) -> None:
    """Raise OodbenchError where logits are not finite because weights are not."""
    if bool(logits.isfinite().all()):
        return
    broken = [
        weights_name
        for weights_name, weights in module.state_dict().items()
        if isinstance(weights, Tensor) and weights.is_floating_point() and not bool(weights.isfinite().all())
    ]
    if broken:
        raise OodbenchError(
            f"{name} has weights that are NaN or infinite, in {len(broken)} of its tensors (first: {broken[0]}): its "
            f"training diverged, or the file is damaged; give another checkpoint"
        )
