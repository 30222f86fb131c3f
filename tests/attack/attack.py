"""Runs oodbench in hostile and unlucky situations: python -m tests.attack.attack FOLDER.

Processes where it is the process that is tried (its outputs, its end, others beside it), else commands in this one, as
the entry point runs them. Each ends as it should or is counted: with a traceback, by hanging, or with something lost (a
file that is not there, a temporary that is, scores that are others). The last line says how many.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from oodbench.cli import main
from oodbench.run_folder import Result

CHECKPOINT = Path(__file__).parents[2] / "results" / "baselines" / "digits-cnn8.safetensors"
PATIENCE = 300
"""Seconds after which a command hangs."""


class Hang(BaseException):
    """A command took longer than PATIENCE; nothing that it does may catch it."""


SMALL = ("--ood", "uniform", "--detector", "msp,odin", "--limit", "60")


@dataclass
class Tally:
    """What became of the situations."""

    tried: int = 0
    tracebacks: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        bad = {*self.tracebacks, *self.hangs, *self.lost}
        counts = f"{len(self.tracebacks)} tracebacks, {len(self.hangs)} hangs, {len(self.lost)} lost"
        return f"{self.tried} tried: {self.tried - len(bad)} clear, {counts}"


@dataclass
class Attack:
    """Commands in a folder of their own, with a cache of their own."""

    folder: Path
    tally: Tally = field(default_factory=Tally)

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def start(self, *arguments: object, **options: object) -> subprocess.Popen[str]:
        values = {
            "cwd": self.folder,
            "env": os.environ | {"OODBENCH_CACHE": str(self.cache)},
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
        } | options
        command = [sys.executable, "-m", "oodbench", *map(str, arguments)]
        process: subprocess.Popen[str] = subprocess.Popen(command, **values)  # type: ignore[call-overload]
        return process

    def expect(
        self, name: str, process: subprocess.Popen[str], *codes: int, holds: Callable[[], bool] | None = None
    ) -> None:
        """Count how a process ended, which should be with one of the codes and so that something holds."""
        try:
            _, said = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            said = None
        self._count(name, said, process.returncode, codes, holds)

    def expect_here(
        self, name: str, arguments: Sequence[object], *codes: int, holds: Callable[[], bool] | None = None
    ) -> None:
        """The same of a command in this process."""
        out, code = io.StringIO(), 0
        with self._as_started(arguments), redirect_stdout(out), redirect_stderr(out):
            try:
                main()
            except SystemExit as end:
                code = int(end.code or 0)
            except Hang:
                code = -1
        self._count(name, None if code < 0 else out.getvalue(), code, codes, holds)

    @contextmanager
    def _as_started(self, arguments: Sequence[object]) -> Iterator[None]:
        def hang(*_: object) -> None:
            raise Hang

        before, cache = sys.argv, os.environ.get("OODBENCH_CACHE")
        sys.argv, os.environ["OODBENCH_CACHE"] = ["oodbench", *map(str, arguments)], str(self.cache)
        handler = signal.signal(signal.SIGALRM, hang)
        signal.alarm(PATIENCE)
        try:
            with contextlib.chdir(self.folder):
                yield
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, handler)
            sys.argv = before
            if cache is None:
                del os.environ["OODBENCH_CACHE"]
            else:
                os.environ["OODBENCH_CACHE"] = cache

    def _count(
        self, name: str, said: str | None, code: int, codes: Sequence[int], holds: Callable[[], bool] | None
    ) -> None:
        self.tally.tried += 1
        if said is None:
            self.tally.hangs.append(name)
        elif "Traceback" in said:
            self.tally.tracebacks.append(f"{name}: {said}")
        elif code not in codes:
            self.tally.lost.append(f"{name}: ended with {code}: {said}")
        elif holds and not holds():
            self.tally.lost.append(f"{name}: left something else")

    def leftovers(self) -> list[Path]:
        return [path for path in self.folder.rglob(".*") if path.is_file()]


def run_options(*more: object) -> tuple[object, ...]:
    return ("run", "--model", CHECKPOINT, *SMALL, *more)


def files(attack: Attack) -> Iterator[tuple[str, Sequence[object]]]:
    """(name, arguments) of commands that are given files which are none; all must be refused in words."""
    folder, draw = attack.folder, np.random.default_rng(0)
    garbage = {
        "nothing": b"",
        "noise": draw.bytes(5000),
        "zeros": bytes(5000),
        "text": "ü[a]\n".encode() * 99,
        "utf-16": "seed = 1\n".encode("utf-16"),
        "nested": b"a = " + b"[" * 50_000,
    }
    (folder / "bad").mkdir()
    for name, content in garbage.items():
        for ending, option in (
            ("npz", "--ood=npz:"),
            ("npy", "--ood=npy:"),
            ("tar", "--ood=tar:"),
            ("txt", "--ood=list:"),
            ("parquet", "--ood=hf:"),
            ("png", "--ood=folder:"),
            ("safetensors", "--model="),
            ("pt", "--model=resnet20="),
            ("toml", "--benchmark="),
        ):
            path = folder / "bad" / f"{name}-{ending}" / f"bad.{ending}"
            path.parent.mkdir()
            path.write_bytes(content or (b"[" if ending == "toml" else b""))  # an empty benchmark is the default one
            given = path.parent if "folder" in option else path
            yield f"{name} as {ending}", ("run", "--detector", "msp", f"{option}{given}", "--out", "never")
        path = folder / "bad" / name
        path.write_bytes(content or b"[")  # no names are no fault
        yield f"{name} as names", ("report", "whole", "--format", "latex", "--names", path)
        yield f"{name} as published figures", ("report", "whole", "--published", path)
        yield f"{name} as a guard", ("score", "--guard", path, "--model", CHECKPOINT, f"folder:{folder}")
        run = folder / "bad" / f"run-{name}"
        shutil.copytree(folder / "whole", run)
        (run / "card.json").write_bytes(content)
        yield f"{name} as a card", ("report", run)
        other = folder / "bad" / f"scores-{name}"
        shutil.copytree(folder / "whole", other)
        (other / "scores.npz").write_bytes(content)
        yield f"{name} as scores", ("check", "--baseline", folder / "whole", "--against", other)
    yield "a seed of 64 bits", run_options("--seed", 2**63, "--limit", 10**30, "--out", "never")
    yield "a folder that cannot be", run_options("--out", "x" * 300)
    yield "a folder in a file", run_options("--out", CHECKPOINT / "out")
    (folder / "taken" / "card.json").mkdir(parents=True)
    yield "a folder called card.json", run_options("--out", "taken")
    yield "another run's folder", run_options("--seed", 5, "--out", "whole")


def attack_files(attack: Attack) -> None:
    for name, arguments in files(attack):
        attack.expect_here(name, arguments, 2, holds=lambda: not (attack.folder / "never").exists())


HOSTILE_NAMES = (
    "scans[a]",
    "pipe|d",
    "=1+1",
    "<b>x<b>",
    "a'b\"c",
    "$x_1$",
    "two\nlines",
    "x" * 245,
    "\u202egnp",
    os.fsdecode(b"not \xff utf-8"),
)


def attack_names(attack: Attack) -> None:
    """A set called so is in all that is made of the run, or is refused."""
    pixels = np.random.default_rng(1).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    for number, name in enumerate(HOSTILE_NAMES):
        np.savez(attack.folder / f"{name}.npz", images=pixels)
        run = ("run", "--model", CHECKPOINT, "--detector", "msp", "--limit", "30", "--out", f"named-{number}")
        attack.expect_here(f"a set called {name!a}", (*run, "--ood", f"npz:{name}.npz"), 0, 2)
        if (attack.folder / f"named-{number}" / "card.json").is_file():
            for form in ("md", "csv", "html", "latex", "json"):
                out = attack.folder / f"named-{number}" / f"report.{form}"
                attack.expect_here(
                    f"{form} of {name!a}",
                    ("report", f"named-{number}", "--format", form, "-o", out),
                    0,
                    holds=out.is_file,
                )


def attack_outputs(attack: Attack) -> None:
    """Outputs that are closed or full, disks without room."""
    reader, writer = os.pipe()
    os.close(reader)
    attack.expect("closed output", attack.start("report", "whole", stdout=writer), 0)
    updated = attack.folder / "updated"
    attack.expect(
        "closed output of --update",
        attack.start("check", "--baseline", updated, "--against", "whole", "--update", stdout=writer),
        0,
        holds=(updated / "card.json").is_file,
    )
    attack.expect(
        "closed output of a check", attack.start("check", "--baseline", updated, "--against", "whole", stdout=writer), 0
    )
    os.close(writer)
    with open("/dev/full", "w") as full:
        attack.expect("full output", attack.start("report", "whole", stdout=full), 2)
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii", "OODBENCH_CACHE": str(attack.cache)}
    attack.expect("ASCII console", attack.start("report", "whole", env=ascii_only), 0)

    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    attack.expect("no room", attack.start(*run_options("--out", "full"), preexec_fn=no_room), 2)
    link = linked(attack)
    attack.expect_here("report to a link", ("report", "whole", "-o", link), 0, holds=link.is_symlink)
    attack.expect_here("report to a device", ("report", "whole", "--format", "md", "-o", os.devnull), 0)


def linked(attack: Attack) -> Path:
    (attack.folder / "link.md").symlink_to(attack.folder / "target.md")
    return attack.folder / "link.md"


def attack_together(attack: Attack, processes: int = 4) -> None:
    """Runs started at once in one fresh folder, with one cold cache and one store."""
    shutil.rmtree(attack.cache, ignore_errors=True)
    started = [attack.start(*run_options("--out", "together")) for _ in range(processes)]
    for process in started:
        attack.expect("runs started at once", process, 0)
    attack.tally.lost += [] if same_scores(attack, "together") else ["runs started at once: other scores"]


def same_scores(attack: Attack, folder: str) -> bool:
    whole, other = (Result.load(attack.folder / name) for name in ("whole", folder))
    return whole.scores.keys() == other.scores.keys() and all(
        np.array_equal(scores, other.scores[key]) for key, scores in whole.scores.items()
    )


def attack_kills(attack: Attack, rounds: int = 10) -> None:
    """Ended at random moments, and started again: the same scores, the same weights, and no stale file."""
    chance = random.Random(0)
    took = timed(attack, *run_options("--out", "timed"))
    trained = ("train", "--id", "digits", "--set", "epochs=3", "--out", "trained.safetensors")
    took_training = timed(attack, *trained)
    weights = (attack.folder / "trained.safetensors").read_bytes()
    for number in range(rounds):
        how = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)[number % 3]
        for folder in ("killed", "cache"):
            shutil.rmtree(attack.folder / folder, ignore_errors=True)
        kill(attack, f"run ended by {how.name}", chance.uniform(0.2, 1) * took, how, *run_options("--out", "killed"))
        again = attack.start(*run_options("--out", "killed"))
        attack.expect(
            f"run after {how.name}", again, 0, holds=lambda: same_scores(attack, "killed") and not attack.leftovers()
        )
        for path in attack.folder.glob("again.safetensors*"):
            path.unlink()
        training = (*trained[:-1], "again.safetensors")
        kill(attack, f"training ended by {how.name}", chance.uniform(0.2, 1) * took_training, how, *training)
        process = attack.start(*training)
        attack.expect(f"training after {how.name}", process, 0, holds=lambda: same_weights(attack, weights))


def same_weights(attack: Attack, weights: bytes) -> bool:
    from safetensors.torch import load

    one, other = load(weights), load((attack.folder / "again.safetensors").read_bytes())
    return not [*attack.folder.glob("*.resume")] and all(tensor.equal(other[name]) for name, tensor in one.items())


def timed(attack: Attack, *arguments: object) -> float:
    began = time.monotonic()
    attack.expect("undisturbed", attack.start(*arguments), 0)
    return time.monotonic() - began


def kill(attack: Attack, name: str, after: float, how: signal.Signals, *arguments: object) -> None:
    process = attack.start(*arguments)
    time.sleep(after)
    process.send_signal(how)
    # It may have ended before.
    attack.expect(name, process, 0, -how, 128 + how)


def attacked(folder: Path, rounds: int = 3) -> Tally:
    """All of it, in an empty folder; each signal once where there are three rounds."""
    attack = Attack(folder)
    folder.mkdir(parents=True, exist_ok=True)
    attack.expect_here("undisturbed", run_options("--out", "whole"), 0)
    assert json.loads((folder / "whole" / "card.json").read_text())["metrics"], "nothing to compare with"
    attack_files(attack)
    attack_names(attack)
    attack_outputs(attack)
    attack_together(attack)
    attack_kills(attack, rounds)
    return attack.tally


if __name__ == "__main__":
    found = attacked(Path(sys.argv[1]).absolute())
    for what in (*found.tracebacks, *found.hangs, *found.lost):
        print(what, file=sys.stderr)
    print(found)
