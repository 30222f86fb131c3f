"""`oodbench` in processes that have imported everything when they begin: `python -m tests.forked`.

For each line of JSON on standard input, [FOLDER, ARGUMENT, …], a process works in that folder, with a cache there, and
says all into the file `said` beside the folder. Printed are its number and, when it has ended, its exit status.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import signal
import sys
import tempfile
from pathlib import Path

import oodbench
from oodbench import measure
from oodbench.cli import main

SHARD = 32
"""Images of a shard, so that few images are kept in several."""


def work(folder: Path, arguments: list[str]) -> None:
    os.chdir(folder)
    os.environ["OODBENCH_CACHE"] = str(folder / "cache")
    tempfile.tempdir = str(folder)
    said = os.open(folder.with_name("said"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(said, stream)
    # Where the tests run in the background, a shell has some ignored.
    for one in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, signal.SIG_DFL)
    sys.stdin.close()
    sys.argv = ["oodbench", *arguments]
    main()


if __name__ == "__main__":
    for module in pkgutil.walk_packages(oodbench.__path__, "oodbench."):
        if module.name not in ("oodbench.__main__", "oodbench.pytest_plugin"):
            importlib.import_module(module.name)
    measure.SHARD = SHARD
    for line in sys.stdin:
        folder, *arguments = json.loads(line)
        process = os.fork()
        if process == 0:
            work(Path(folder), arguments)
        print(process, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
