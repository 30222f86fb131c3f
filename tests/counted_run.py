"""`oodbench` in a process of its own, to be killed: `python -m tests.counted_run LOG SHARD ARGUMENT …`.

Each pass of a classifier writes a line with its number of images into the log.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import nn

from oodbench import measure
from oodbench.cli import main
from oodbench.models.resnet import CifarResNet
from oodbench.models.small import SmallCNN

if __name__ == "__main__":
    log, shard, *arguments = sys.argv[1:]
    torch.set_num_threads(1)
    measure.SHARD = int(shard)

    def count(module: nn.Module, inputs: tuple[Any, ...], _output: Any) -> None:
        # Two images are passed where a classifier is made, to look at it.
        if isinstance(module, SmallCNN | CifarResNet) and len(inputs[0]) > 2:
            with open(log, "a") as lines:
                lines.write(f"{len(inputs[0])}\n")

    nn.modules.module.register_module_forward_hook(count)
    sys.argv = ["oodbench", *arguments]
    main()
