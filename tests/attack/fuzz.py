"""Damages files and has them read: python -m tests.attack.fuzz FOLDER SECONDS [SEED].

Whatever their bytes, reading ends well or in an OodbenchError, in time and in bounded memory. The file that is being
read lies in FOLDER, so that one that ends the process can be found.
"""

from __future__ import annotations

import random
import re
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from oodbench import OodbenchError
from tests.attack.readers import READERS, Reader

PATIENCE = 20
"""Seconds after which reading a small file hangs."""

MEMORY = 400 << 20
"""Bytes that reading a small file may take."""

TOKENS = (
    b"", b"\0", b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"9" * 30, b"-1", b"1e999", b"nan", b"null", b"true", b"[" * 2000,
    b"{", b'"', b"'", b"\n", b"\r", b",", b"=", b"/../", b"\xed\xb2\x80", "ü\u202e".encode(), b"\x1b[31m", b"<script>",
)  # fmt: skip
"""What readers stumble on."""


class Hang(BaseException):
    """Reading took longer than PATIENCE; no reader may catch it."""


def damaged(content: bytes, chance: random.Random) -> bytes:
    """The content with one to four faults: bits, spans, tokens, numbers; or as a whole in another form."""
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(content) + 1)
        until = min(len(content), at + chance.choice((1, 2, 4, 8, 64, 1000)))
        match chance.randrange(9):
            case 0:
                flipped = bytes(byte ^ (1 << chance.randrange(8)) for byte in content[at : at + 1])
                content = content[:at] + flipped + content[at + 1 :]
            case 1:
                content = content[:at] + content[until:]
            case 2:
                content = content[:at]
            case 3:
                content = content[:at] + content[at:until] * 2 + content[until:]
            case 4:
                content = content[:at] + chance.choice(TOKENS) + content[at:]
            case 5:
                content = content[:at] + chance.choice(TOKENS) + content[until:]
            case 6:
                content = content[:at] + chance.randbytes(until - at) + content[until:]
            case 7:
                content = of_value(content, chance)
            case _:
                content = as_a_whole(content, chance)
    return content


def of_value(content: bytes, chance: random.Random) -> bytes:
    """A run of digits, letters or quoted text replaced, where there is one."""
    found = [*re.finditer(rb'\d+|"[^"]*"|[A-Za-z_]+', content)]
    if not found:
        return content
    one = chance.choice(found)
    return content[: one.start()] + chance.choice(TOKENS) + content[one.end() :]


def as_a_whole(content: bytes, chance: random.Random) -> bytes:
    text = content.decode("utf-8", "replace")
    return chance.choice(
        (text.encode("utf-16"), text.encode("utf-8-sig"), b"", content * 2, content[::-1], bytes(len(content)))
    )


def fuzz(reader: Reader, folder: Path, chance: random.Random) -> Iterator[tuple[bytes, str]]:
    """One damaged content after the other, and what went wrong when it was read; nothing where nothing did."""
    folder.mkdir(parents=True)
    path = reader.make(folder)
    honest = path.read_bytes()
    reader.use(path)
    while True:
        content = damaged(honest, chance)
        path.write_bytes(content)
        yield content, fault_of(reader, path)


def fault_of(reader: Reader, path: Path) -> str:
    before = memory()
    try:
        with in_time():
            reader.use(path)
    except OodbenchError as error:
        if not str(error):
            return "an error without words"
    except Hang:
        return "a hang"
    except Exception:
        return traceback.format_exc()
    taken = memory(peak=True) - before
    return "" if taken < MEMORY else f"{taken:,} bytes of memory"


@contextmanager
def in_time() -> Iterator[None]:
    def hang(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def memory(peak: bool = False) -> int:
    """Bytes that this process has now, which begins a new peak; or the most since then."""
    if not peak:
        Path("/proc/self/clear_refs").write_text("5")
    wanted = "VmHWM" if peak else "VmRSS"
    line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith(wanted))
    return 1024 * int(line.split()[1])


def main(folder: Path, seconds: float, seed: int) -> int:
    """Each reader in turn for its share of the time; the last line says how many files, and how many faults."""
    tried, faults = 0, 0
    for name, reader in READERS.items():
        chance = random.Random(f"{name} {seed}")
        until = time.monotonic() + seconds / len(READERS)
        for content, fault in fuzz(reader, folder / name, chance):
            tried += 1
            if fault:
                faults += 1
                (folder / f"fault-{faults}").write_bytes(content)
                print(f"fault-{faults}, {name}: {fault}", flush=True)
            if time.monotonic() > until:
                break
    print(f"{tried} damaged files read: {faults} faults")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0))
