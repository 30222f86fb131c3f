"""Downloads from a real server on this machine that breaks off, ignores ranges, lies or is not there."""

from __future__ import annotations

import gzip
import hashlib
import io
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from oodbench.data import download
from oodbench.data.catalogue import DATASETS
from oodbench.data.download import RemoteFile
from oodbench.data.fetch import FETCHABLE, Fetchable, fetch
from oodbench.data.sources import locate, read_named
from oodbench.errors import OodbenchError

CONTENT = np.random.default_rng(0).bytes(50_000)
OTHER = np.random.default_rng(1).bytes(50_000)


@dataclass
class Page:
    """What the server does with one path.

    `breaks` are the numbers of bytes after which the next answers break off; then answers are whole. `packs`
    compresses for whoever accepts that; `longest` is how much it gives of a range at a time.
    """

    content: bytes = CONTENT
    ranges: bool = True
    etag: str | None = None
    breaks: list[int] = field(default_factory=list)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    says_length: bool = True
    packs: bool = False
    longest: int | None = None
    after_break: Callable[[Page], None] | None = None


class Server(ThreadingHTTPServer):
    """Pages by path, and the requests that came: (path, Range, If-Range)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages: dict[str, Page] = {}
        self.requests: list[tuple[str, str | None, str | None]] = []

    def page(self, path: str, **behaviour: object) -> str:
        """Serve a page; returns its URL."""
        self.pages[path] = Page(**behaviour)  # type: ignore[arg-type]
        return f"http://127.0.0.1:{self.server_address[1]}{path}"

    def ranges(self) -> list[str | None]:
        return [asked for _, asked, _ in self.requests]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked, condition = self.headers.get("Range"), self.headers.get("If-Range")
        self.server.requests.append((self.path, asked, condition))
        page = self.server.pages[self.path]
        if page.status != 200:
            self.send_error(page.status)
            return
        content = page.content
        if asked and page.ranges and condition in (None, page.etag):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_error(416)
                return
            body = content[start:][: page.longest]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/{len(content)}")
        elif page.packs and "gzip" in self.headers.get("Accept-Encoding", ""):
            body = gzip.compress(content)
            self.send_response(200)
            self.send_header("Content-Encoding", "gzip")
        else:
            body = content
            self.send_response(200)
        if page.says_length:
            self.send_header("Content-Length", str(len(body)))
        if page.etag:
            self.send_header("ETag", page.etag)
        for name, value in page.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if page.breaks:
            self.wfile.write(body[: page.breaks.pop(0)])
            self.wfile.flush()
            if page.after_break:
                page.after_break(page)
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "PAUSE", 0.0)
    monkeypatch.setattr(download, "CHUNK", 1000)
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make `pebbles` a set of one file with these mirrors, by default with the checksum of CONTENT."""

    def offered(*mirrors: str, checksum: str | None = md5(CONTENT), **more: object) -> None:
        file = RemoteFile("pebbles.bin", mirrors, checksum, **more)  # type: ignore[arg-type]
        monkeypatch.setitem(FETCHABLE, "pebbles", Fetchable((file,), "stones"))

    return offered


def md5(content: bytes) -> str:
    return f"md5:{hashlib.md5(content).hexdigest()}"


def dead_url() -> str:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{closed.getsockname()[1]}/pebbles"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


Offer = Callable[..., None]
Said = pytest.CaptureFixture[str]


# One mirror that behaves


def test_a_whole_download(server: Server, offer: Offer, tmp_path: Path) -> None:
    offer(server.page("/a"))
    heard: list[tuple[str, int, int | None]] = []
    paths = fetch("pebbles", tmp_path, lambda *news: heard.append(news))
    assert paths == [tmp_path / "stones" / "pebbles.bin"]
    assert paths[0].read_bytes() == CONTENT
    assert names_in(tmp_path / "stones") == ["pebbles.bin"]
    assert server.requests == [("/a", None, None)]
    done = [bytes_so_far for _, bytes_so_far, _ in heard]
    assert done == sorted(done)
    assert done[-1] == len(CONTENT)
    assert {(name, total) for name, _, total in heard} == {("pebbles.bin", len(CONTENT))}


def test_sha256(server: Server, offer: Offer, tmp_path: Path) -> None:
    offer(server.page("/a"), checksum=f"sha256:{hashlib.sha256(CONTENT).hexdigest()}")
    assert fetch("pebbles", tmp_path)[0].read_bytes() == CONTENT


def test_what_is_there_and_right_is_not_downloaded(server: Server, offer: Offer, tmp_path: Path, capsys: Said) -> None:
    offer(server.page("/a"))
    first = fetch("pebbles", tmp_path)
    capsys.readouterr()
    assert fetch("pebbles", tmp_path) == first
    assert len(server.requests) == 1
    said = capsys.readouterr()
    assert "already there and verified" in said.err
    assert said.out == ""


def test_what_is_there_and_wrong_is_refused_and_kept(server: Server, offer: Offer, tmp_path: Path) -> None:
    offer(server.page("/a"))
    present = tmp_path / "stones" / "pebbles.bin"
    present.parent.mkdir()
    present.write_bytes(OTHER)
    with pytest.raises(OodbenchError, match="Move it away") as refused:
        fetch("pebbles", tmp_path)
    assert md5(OTHER) in str(refused.value)
    assert md5(CONTENT) in str(refused.value)
    assert present.read_bytes() == OTHER
    assert server.requests == []


def test_a_packed_file_is_stored_as_it_is(server: Server, offer: Offer, tmp_path: Path) -> None:
    packed = gzip.compress(CONTENT)
    offer(server.page("/a", content=packed, headers={"Content-Encoding": "gzip"}), checksum=md5(packed))
    assert fetch("pebbles", tmp_path)[0].read_bytes() == packed


def test_a_server_that_would_pack_is_asked_not_to(server: Server, offer: Offer, tmp_path: Path) -> None:
    offer(server.page("/a", packs=True))
    assert fetch("pebbles", tmp_path)[0].read_bytes() == CONTENT


def test_a_server_that_does_not_say_the_length(server: Server, offer: Offer, tmp_path: Path) -> None:
    offer(server.page("/a", says_length=False), size=len(CONTENT))
    totals: set[int | None] = set()
    assert fetch("pebbles", tmp_path, lambda name, done, total: totals.add(total))[0].read_bytes() == CONTENT
    assert totals == {len(CONTENT)}


def test_no_published_checksum_is_said_with_the_sum(server: Server, offer: Offer, tmp_path: Path, capsys: Said) -> None:
    offer(server.page("/a"), checksum=None)
    assert fetch("pebbles", tmp_path)[0].read_bytes() == CONTENT
    said = capsys.readouterr().err
    assert "warning" in said
    assert hashlib.sha256(CONTENT).hexdigest() in said
    fetch("pebbles", tmp_path)
    assert "taken as it is" in capsys.readouterr().err


# Breaks


def test_a_broken_connection_is_resumed(server: Server, offer: Offer, tmp_path: Path, capsys: Said) -> None:
    offer(server.page("/a", breaks=[20_000, 7_000]))
    done: list[int] = []
    assert fetch("pebbles", tmp_path, lambda name, so_far, total: done.append(so_far))[0].read_bytes() == CONTENT
    assert server.ranges() == [None, "bytes=20000-", "bytes=27000-"]
    assert done == sorted(done)
    assert "trying again" in capsys.readouterr().err


def test_a_server_that_gives_less_than_the_rest(server: Server, offer: Offer, tmp_path: Path) -> None:
    offer(server.page("/a", breaks=[20_000], longest=12_000))
    assert fetch("pebbles", tmp_path)[0].read_bytes() == CONTENT
    assert server.ranges() == [None, "bytes=20000-", "bytes=32000-", "bytes=44000-"]


def test_more_breaks_than_tries_while_bytes_come(server: Server, offer: Offer, tmp_path: Path) -> None:
    offer(server.page("/a", breaks=[3_000] * 10))
    assert fetch("pebbles", tmp_path)[0].read_bytes() == CONTENT
    assert len(server.requests) == 11


def test_a_server_without_ranges_is_asked_from_the_start(server: Server, offer: Offer, tmp_path: Path) -> None:
    offer(server.page("/a", ranges=False, breaks=[20_000]))
    assert fetch("pebbles", tmp_path)[0].read_bytes() == CONTENT
    assert server.ranges() == [None, "bytes=20000-"]


def test_a_server_that_never_gets_further_is_given_up(server: Server, offer: Offer, tmp_path: Path) -> None:
    offer(server.page("/a", ranges=False, breaks=[20_000] * 9))
    with pytest.raises(OodbenchError, match="failed 3 times: the connection broke after 20,000"):
        fetch("pebbles", tmp_path)
    assert len(server.requests) == 1 + download.TRIES
    assert names_in(tmp_path / "stones") == ["pebbles.bin.part"]


def test_ctrl_c_leaves_the_part_and_the_next_call_goes_on(server: Server, offer: Offer, tmp_path: Path) -> None:
    offer(server.page("/a"))

    def interrupt(name: str, done: int, total: int | None) -> None:
        if done >= 30_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch("pebbles", tmp_path, interrupt)
    assert names_in(tmp_path / "stones") == ["pebbles.bin.part"]
    assert (tmp_path / "stones" / "pebbles.bin.part").read_bytes() == CONTENT[:30_000]
    assert fetch("pebbles", tmp_path)[0].read_bytes() == CONTENT
    assert server.ranges() == [None, "bytes=30000-"]
    assert names_in(tmp_path / "stones") == ["pebbles.bin"]


def test_a_file_that_changed_while_broken_off_is_started_anew(server: Server, offer: Offer, tmp_path: Path) -> None:
    def change(page: Page) -> None:
        page.content, page.etag = CONTENT, '"two"'

    url = server.page("/a", content=OTHER, etag='"one"', breaks=[20_000], after_break=change)
    offer(url)
    assert fetch("pebbles", tmp_path)[0].read_bytes() == CONTENT
    assert server.requests[1] == ("/a", "bytes=20000-", '"one"')
    assert len(server.requests) == 2


@pytest.mark.parametrize("length", [20_000, 50_000, 60_000])
def test_a_part_of_another_version_is_found_out_and_started_anew(
    length: int, server: Server, offer: Offer, tmp_path: Path, capsys: Said
) -> None:
    offer(server.page("/a"))
    (tmp_path / "stones").mkdir()
    (tmp_path / "stones" / "pebbles.bin.part").write_bytes((OTHER + OTHER)[:length])
    assert fetch("pebbles", tmp_path)[0].read_bytes() == CONTENT
    assert server.ranges() == [f"bytes={length}-", None]


def test_a_mirror_goes_on_where_another_stopped(server: Server, offer: Offer, tmp_path: Path) -> None:
    def vanish(page: Page) -> None:
        page.status = 404

    offer(server.page("/a", breaks=[20_000], after_break=vanish), server.page("/b"))
    assert fetch("pebbles", tmp_path)[0].read_bytes() == CONTENT
    assert server.requests == [
        ("/a", None, None),
        ("/a", "bytes=20000-", None),
        ("/b", "bytes=20000-", None),
    ]


@pytest.mark.parametrize(
    ("etag", "second"),
    [
        ('"one"', ("bytes=20000-", '"one"')),
        # Nothing says that what comes next is of the same version, so it is not put together.
        (None, (None, None)),
        ('W/"one"', (None, None)),
    ],
)
def test_without_a_checksum_only_the_same_version_is_resumed(
    etag: str | None, second: tuple[str | None, str | None], server: Server, offer: Offer, tmp_path: Path
) -> None:
    offer(server.page("/a", etag=etag, breaks=[20_000]), checksum=None)
    (tmp_path / "stones").mkdir()
    (tmp_path / "stones" / "pebbles.bin.part").write_bytes(OTHER[:9_000])
    assert fetch("pebbles", tmp_path)[0].read_bytes() == CONTENT
    assert [request[1:] for request in server.requests] == [(None, None), second]


# Mirrors that fail


def test_a_wrong_file_is_refused_and_nothing_left(server: Server, offer: Offer, tmp_path: Path) -> None:
    offer(server.page("/a", content=OTHER), server.page("/b", content=OTHER[:100]))
    with pytest.raises(OodbenchError) as refused:
        fetch("pebbles", tmp_path)
    for named in (md5(OTHER), md5(OTHER[:100]), md5(CONTENT), "/a", "/b", str(tmp_path / "stones")):
        assert named in str(refused.value)
    assert names_in(tmp_path / "stones") == []


def test_behind_a_wrong_file_the_next_mirror_has_the_right_one(
    server: Server, offer: Offer, tmp_path: Path, capsys: Said
) -> None:
    offer(server.page("/a", content=OTHER), server.page("/b"))
    assert fetch("pebbles", tmp_path)[0].read_bytes() == CONTENT
    assert server.ranges() == [None, None]
    assert "passed over" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("behaviour", "requests", "reason"),
    [
        ({"status": 404}, 1, "404"),
        ({"status": 403}, 1, "403"),
        ({"status": 503}, download.TRIES, "503"),
        ({"headers": {"Content-Type": "text/html; charset=utf-8"}}, 1, "web page"),
    ],
)
def test_a_mirror_that_refuses_is_passed_over(
    behaviour: dict[str, object],
    requests: int,
    reason: str,
    server: Server,
    offer: Offer,
    tmp_path: Path,
    capsys: Said,
) -> None:
    offer(server.page("/a", **behaviour), server.page("/b"))
    assert fetch("pebbles", tmp_path)[0].read_bytes() == CONTENT
    assert [path for path, _, _ in server.requests] == ["/a"] * requests + ["/b"]
    assert reason in capsys.readouterr().err


def test_a_dead_mirror_is_passed_over(server: Server, offer: Offer, tmp_path: Path, capsys: Said) -> None:
    dead = dead_url()
    offer(dead, server.page("/b"))
    assert fetch("pebbles", tmp_path)[0].read_bytes() == CONTENT
    said = capsys.readouterr().err
    assert dead in said
    assert "no connection" in said


def test_a_silent_mirror_is_passed_over(
    server: Server, offer: Offer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    monkeypatch.setattr(download, "TIMEOUT", (1, 0.1))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        offer(f"http://127.0.0.1:{silent.getsockname()[1]}/pebbles", server.page("/b"))
        assert fetch("pebbles", tmp_path)[0].read_bytes() == CONTENT
    assert "no answer in time" in capsys.readouterr().err


def test_all_mirrors_dead(server: Server, offer: Offer, tmp_path: Path) -> None:
    offer(dead_url(), dead_url())
    with pytest.raises(OodbenchError, match=r"put the file at .*pebbles\.bin yourself"):
        fetch("pebbles", tmp_path)


def test_a_folder_that_cannot_be(server: Server, offer: Offer, tmp_path: Path) -> None:
    offer(server.page("/a"))
    (tmp_path / "stones").write_text("a file where the folder should be")
    with pytest.raises(OodbenchError, match="cannot be written"):
        fetch("pebbles", tmp_path)


# Archives


def archive_of(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


PEBBLES = {"round/a.png": b"a" * 3000, "round/deep/b.png": b"b" * 10, "LICENSE": b"free"}


def test_an_archive_is_unpacked(server: Server, offer: Offer, tmp_path: Path, capsys: Said) -> None:
    packed = archive_of(PEBBLES)
    offer(server.page("/a", content=packed), checksum=md5(packed), unpacks_to="round")
    stones = tmp_path / "stones"
    assert fetch("pebbles", tmp_path) == [stones / "pebbles.bin", stones / "round"]
    assert (stones / "round" / "deep" / "b.png").read_bytes() == b"b" * 10
    assert names_in(stones) == ["pebbles.bin", "round"]
    capsys.readouterr()
    assert fetch("pebbles", tmp_path) == [stones / "pebbles.bin", stones / "round"]
    assert "with every file" in capsys.readouterr().err
    assert len(server.requests) == 1


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_folder_that_is_not_whole_is_refused(damage: str, server: Server, offer: Offer, tmp_path: Path) -> None:
    packed = archive_of(PEBBLES)
    offer(server.page("/a", content=packed), checksum=md5(packed), unpacks_to="round")
    fetch("pebbles", tmp_path)
    file = tmp_path / "stones" / "round" / "deep" / "b.png"
    file.unlink() if damage == "missing" else file.write_bytes(b"b" * 9)
    with pytest.raises(OodbenchError, match=r"deep/b.png is missing or cut off.*move"):
        fetch("pebbles", tmp_path)


@pytest.mark.parametrize(
    ("packed", "reason"),
    [
        (archive_of({"round/a": b"a", "../evil": b"e"}), "cannot be unpacked"),
        (archive_of({"square/a": b"a"}), "no folder 'round'"),
        (archive_of({"round/a": CONTENT})[:20_000], "cannot be unpacked"),
        (b"no archive at all", "cannot be unpacked"),
    ],
)
def test_a_bad_archive_leaves_nothing_unpacked(
    packed: bytes, reason: str, server: Server, offer: Offer, tmp_path: Path
) -> None:
    offer(server.page("/a", content=packed), checksum=md5(packed), unpacks_to="round")
    with pytest.raises(OodbenchError, match=reason):
        fetch("pebbles", tmp_path)
    assert names_in(tmp_path / "stones") == ["pebbles.bin"]
    assert names_in(tmp_path) == ["stones"]


# What the user sees


def test_a_bar_on_a_terminal(server: Server, offer: Offer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "stderr", terminal)
    offer(server.page("/a"))
    fetch("pebbles", tmp_path)
    assert "━" in terminal.getvalue()
    assert "50.0/50.0 kB" in terminal.getvalue()


def test_no_bar_in_a_log(server: Server, offer: Offer, tmp_path: Path, capsys: Said) -> None:
    offer(server.page("/a"))
    fetch("pebbles", tmp_path)
    assert capsys.readouterr().err.splitlines() == [
        f"pebbles.bin: downloading from {FETCHABLE['pebbles'].files[0].mirrors[0]}"
    ]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mnits", "did you mean mnist"),
        ("gaussian", "not a download"),
        ("digits", "not a download"),
        ("omniglot", "get it at https://github.com/brendenlake/omniglot"),
        ("scenes", "cannot be fetched automatically"),
    ],
)
def test_what_cannot_be_fetched(name: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(OodbenchError, match=reason):
        fetch(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_importing_it_is_light() -> None:
    heavy = ("torch", "requests", "rich", "scipy", "sklearn", "pandas")
    code = f"import sys, oodbench.data.fetch; print([name for name in {heavy} if name in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed.strip() == "[]"


# The table


def test_the_table_agrees_with_torchvision() -> None:
    from torchvision import datasets

    for name, known in (
        ("mnist", datasets.MNIST),
        ("fashion-mnist", datasets.FashionMNIST),
        ("kmnist", datasets.KMNIST),
    ):
        files = FETCHABLE[name].files
        assert [(file.name, file.checksum) for file in files] == [
            (file, f"md5:{sum_}") for file, sum_ in known.resources
        ]
        assert FETCHABLE[name].into == f"{known.__name__}/raw"
        for file in files:
            assert {f"{mirror}{file.name}" for mirror in known.mirrors} <= set(file.mirrors)
    for name, known in (("cifar10", datasets.CIFAR10), ("cifar100", datasets.CIFAR100)):
        (file,) = FETCHABLE[name].files
        assert (file.name, file.checksum, file.mirrors) == (
            known.filename,
            f"md5:{known.tgz_md5}",
            (known.url,),
        )
        assert file.unpacks_to == known.base_folder
    for file, split in zip(FETCHABLE["svhn"].files, ("train", "test"), strict=True):
        url, known_name, sum_ = datasets.SVHN.split_list[split]
        assert (file.name, file.checksum, file.mirrors) == (known_name, f"md5:{sum_}", (url,))
    (textures,) = FETCHABLE["textures"].files
    assert textures.checksum == f"md5:{datasets.DTD._MD5}"
    assert datasets.DTD._URL in textures.mirrors


@pytest.mark.parametrize("name", FETCHABLE)
def test_what_is_fetched_lies_where_the_loaders_look(name: str, tmp_path: Path) -> None:
    assert name in DATASETS
    folder = tmp_path / FETCHABLE[name].into
    for file in FETCHABLE[name].files:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file.name).touch()
        if file.unpacks_to:
            (folder / file.unpacks_to / "images").mkdir(parents=True)
    assert locate(name, [tmp_path], ("fit", "test") if DATASETS[name].num_classes else ()) is not None


@pytest.mark.parametrize("name", FETCHABLE)
def test_every_file_has_mirrors_and_a_checksum(name: str) -> None:
    for file in FETCHABLE[name].files:
        assert file.mirrors
        assert file.checksum is not None
        kind, digest = file.checksum.split(":")
        assert len(bytes.fromhex(digest)) == hashlib.new(kind).digest_size


def test_fetched_files_are_read(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.arange(2 * 28 * 28, dtype=np.uint32).reshape(2, 28, 28).astype(np.uint8)
    parts = {}
    for prefix in ("train", "t10k"):
        header = bytes((0, 0, 8, 3)) + np.array([2, 28, 28], ">u4").tobytes()
        parts[f"{prefix}-images-idx3-ubyte.gz"] = gzip.compress(header + images.tobytes())
        parts[f"{prefix}-labels-idx1-ubyte.gz"] = gzip.compress(bytes((0, 0, 8, 1, 0, 0, 0, 2, 3, 7)))
    files = tuple(
        RemoteFile(name, (server.page(f"/{name}", content=content),), md5(content)) for name, content in parts.items()
    )
    monkeypatch.setitem(FETCHABLE, "mnist", Fetchable(files, FETCHABLE["mnist"].into))
    assert len(fetch("mnist", tmp_path)) == 4
    for split in ("fit", "test"):
        read = read_named("mnist", [tmp_path], split)
        assert np.array_equal(read.read(0, 2), images)
        assert read.labels is not None
        assert read.labels.tolist() == [3, 7]
