"""One file from the network: bounded, resumed after a break, verified, and in its place whole or not at all."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from oodbench.errors import OodbenchError
from oodbench.files import ARCHIVE_DAMAGES, make_durable, replace, sweep, temporary_name

if TYPE_CHECKING:
    import requests

Progress = Callable[[str, int, int | None], None]
"""Hears a file's name, how many bytes of it there are, and how many there will be (None: not known)."""

CHUNK = 1 << 16
TRIES = 3
PAUSE = 1.0
TIMEOUT = (10, 30)
"""Seconds to connect, and without a byte."""
SLOWEST = 10_000
"""Bytes a second on average that a mirror must give from its first GRACE seconds on: this bounds the whole time."""
GRACE = 30.0
LARGEST = 4 << 30
"""Bytes of a file that nobody tells the size of."""


@dataclass(frozen=True)
class RemoteFile:
    """A file to download.

    Attributes:
        name: as it is called on disk.
        mirrors: URLs of the same bytes, tried in this order, those over https first.
        checksum: "md5:…" or "sha256:…" in hexadecimal, or None where nobody publishes one.
        size: bytes, or None where it is not known.
        unpacks_to: the folder at the top of this tar archive, if the loaders read that and not the archive.
    """

    name: str
    mirrors: tuple[str, ...]
    checksum: str | None
    size: int | None = None
    unpacks_to: str | None = None


class _MirrorFailed(Exception):
    """A mirror does not give the file; the message says why, to be read after the URL."""


class _Interrupted(Exception):
    """A transfer broke off and may go on; the message says why."""


def say(text: str) -> None:
    """Tell the user, without mixing with what a command prints."""
    print(text, file=sys.stderr)


def download(file: RemoteFile, folder: Path, progress: Progress) -> Path:
    """The verified file in that folder: the one that is there, or from the first mirror that gives it.

    A broken download goes on where it stopped; in a later call too, if the file's checksum is known.

    Raises:
        OodbenchError: no mirror gives the file, or the one that is there is another.
    """
    target = folder / file.name
    if target.exists():
        _check_present(target, file)
        return target
    part = target.with_name(f"{file.name}.part")
    failures = []
    for url in sorted(file.mirrors, key=lambda url: not url.startswith("https:")):
        say(f"{file.name}: downloading from {url}")
        try:
            _Transfer(url, file, part, progress).complete()
        except _MirrorFailed as failure:
            say(f"{file.name}: this mirror {failure}; passed over")
            failures.append(f"{url} {failure}")
            continue
        make_durable(part)
        replace(part, target)
        return target
    raise OodbenchError(
        f"{file.name} could not be downloaded: {'; '.join(failures)}. Try again later (what came so far is "
        f"kept), or put the file at {target} yourself"
    )


def _check_present(target: Path, file: RemoteFile) -> None:
    if file.checksum is None:
        say(f"{target} is already there; nobody publishes a checksum of it, so it is taken as it is")
        return
    found = _checksum(target, file.checksum)
    if found != file.checksum:
        raise OodbenchError(
            f"{target} is already there but is not the published file ({found}, not {file.checksum}): it is "
            f"damaged or another version. Move it away and fetch again"
        )
    say(f"{target} is already there and verified")


@dataclass
class _Transfer:
    """The way of one file from one mirror to `part`.

    Attributes:
        validator: ETag of the version that the bytes in `part` are of, where this mirror has given one.
        began: when the first attempt did.
        received: bytes, of all attempts.
    """

    url: str
    file: RemoteFile
    part: Path
    progress: Progress
    validator: str | None = None
    began: float = field(default_factory=time.monotonic)
    received: int = 0

    def complete(self) -> None:
        """Fill `part`, in as many attempts as it takes while new bytes come, and verify it."""
        # Bytes of an earlier run or another mirror may be of another version. A checksum shows it in the end;
        # without one they are not trusted.
        if self.file.checksum is None:
            self.part.unlink(missing_ok=True)
        inherited = _size(self.part) > 0
        idle = 0
        while True:
            before = _size(self.part)
            try:
                self._receive()
            except _Interrupted as interruption:
                idle = 0 if _size(self.part) > before else idle + 1
                if idle == TRIES:
                    raise _MirrorFailed(f"failed {TRIES} times: {interruption}") from interruption
                say(f"{self.file.name}: {interruption}; trying again")
                if self.file.checksum is None and self.validator is None:
                    self.part.unlink(missing_ok=True)
                time.sleep(PAUSE)
                continue
            try:
                return self._verify()
            except _MirrorFailed as failure:
                self.part.unlink()
                if not inherited:
                    raise
                say(f"{self.file.name}: this mirror {failure}, with what was there before; starting anew")
                inherited = False

    def _receive(self) -> None:
        """Append what lies beyond `part`, or write it anew where the mirror cannot or must not resume."""
        import requests
        import urllib3

        start = _size(self.part)
        # A server that packs what is packed already would send other bytes than the checksum's.
        headers = {"User-Agent": "oodbench", "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
            if self.validator is not None:
                headers["If-Range"] = self.validator
        try:
            with requests.get(self.url, headers=headers, stream=True, timeout=TIMEOUT) as response:
                resumes, total = self._examine(response, start)
                done = start if resumes else 0
                with open(self.part, "ab" if resumes else "wb") as written:
                    # read would wait for a whole chunk, however slowly it trickles.
                    while chunk := response.raw.read1(CHUNK):
                        done += len(chunk)
                        self.received += len(chunk)
                        self._check_bounds(done)
                        written.write(chunk)
                        self.progress(self.file.name, done, self.file.size if total is None else total)
        except requests.Timeout as error:
            raise _Interrupted("no answer in time") from error
        except requests.ConnectionError as error:
            raise _Interrupted(f"no connection ({type(error).__name__})") from error
        # ValueError: of a redirection to what is no address.
        except (requests.RequestException, ValueError) as error:
            raise _MirrorFailed(f"cannot be used ({error})") from error
        except urllib3.exceptions.HTTPError as error:
            raise _Interrupted(f"the connection broke after {_size(self.part):,} bytes") from error
        if total is not None and done < total:
            raise _Interrupted(f"the connection broke after {done:,} of {total:,} bytes")

    def _check_bounds(self, size: int) -> None:
        """Give this mirror up where the file would get too large, or comes too slowly."""
        largest = self.file.size or LARGEST
        if size > largest:
            self.part.unlink(missing_ok=True)
            raise _MirrorFailed(f"gives more than the {largest:,} bytes that the file may have")
        elapsed = time.monotonic() - self.began
        if elapsed > GRACE and self.received < SLOWEST * elapsed:
            raise _MirrorFailed(f"is too slow: {self.received:,} bytes in {elapsed:.0f} seconds")

    def _examine(self, response: requests.Response, start: int) -> tuple[bool, int | None]:
        """Whether the answer goes on at `start`, and how many bytes the whole file has (None: not said)."""
        status, headers = response.status_code, response.headers
        if self.url.startswith("https:") and not response.url.startswith("https:"):
            raise _MirrorFailed(f"leads away from https, to {response.url}")
        if status == 416:
            self.part.unlink(missing_ok=True)
            raise _Interrupted("what was there is longer than the file")
        if status >= 500:
            raise _Interrupted(f"the server answered {status} {response.reason}")
        if status not in (200, 206):
            raise _MirrorFailed(f"answered {status} {response.reason}")
        if headers.get("Content-Type", "").startswith("text/html"):
            raise _MirrorFailed("answered with a web page instead of the file")
        # A weak ETag (W/…) does not promise equal bytes.
        tag = headers.get("ETag", "W/")
        self.validator = None if tag.startswith("W/") else tag
        if status == 200:
            length = headers.get("Content-Length", "")
            return False, int(length) if length.isdecimal() else None
        span, _, total = headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        if not span.startswith(f"{start}-"):
            raise _MirrorFailed(f"was asked to go on at byte {start} and answered with {span or 'none in particular'}")
        return True, int(total) if total.isdecimal() else None

    def _verify(self) -> None:
        if self.file.checksum is None:
            found = _checksum(self.part, "sha256:")
            say(f"warning: nobody publishes a checksum of {self.file.name}; keep this one to compare: {found}")
            return
        found = _checksum(self.part, self.file.checksum)
        if found != self.file.checksum:
            raise _MirrorFailed(f"gave a file with {found}, not {self.file.checksum}")


def _checksum(path: Path, like: str) -> str:
    """The file's checksum, of the kind and in the form of `like`."""
    kind = like.partition(":")[0]
    with open(path, "rb") as content:
        return f"{kind}:{hashlib.file_digest(content, kind).hexdigest()}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def unpack(archive: Path, folder: Path) -> Path:
    """`folder`, unpacked from the top of the tar archive, whole or not at all; one that is there is checked.

    Raises:
        OodbenchError: the archive is damaged or another, or the folder that is there lacks some of it.
    """
    try:
        with tarfile.open(archive) as packed:
            if folder.exists():
                _check_unpacked(packed, archive, folder)
                return folder
            say(f"{archive.name}: unpacking to {folder}")
            sweep(folder.parent)
            temporary = folder.with_name(temporary_name(folder))
            try:
                packed.extractall(temporary, filter="data")
                if not (temporary / folder.name).is_dir():
                    raise OodbenchError(f"{archive} has no folder '{folder.name}'; it is another archive: delete it")
                replace(temporary / folder.name, folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except ARCHIVE_DAMAGES as error:
        raise OodbenchError(f"{archive} cannot be unpacked ({error}); delete it and fetch again") from error
    return folder


def _check_unpacked(packed: tarfile.TarFile, archive: Path, folder: Path) -> None:
    """OodbenchError unless every file of the archive is in the folder with its size."""
    for member in packed:
        path = folder.parent / member.name
        if member.isfile() and path.is_relative_to(folder) and not (path.is_file() and _size(path) == member.size):
            raise OodbenchError(
                f"{folder} is already there, but its {path.relative_to(folder)} is missing or cut off; "
                f"move {folder} away and fetch again"
            )
    say(f"{folder} is already there, with every file of {archive.name}")
