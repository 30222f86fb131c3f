"""A real web server on loopback, whose pages behave and misbehave as told."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

CONTENT = np.random.default_rng(0).bytes(50_000)
OTHER = np.random.default_rng(1).bytes(50_000)


@dataclass
class Page:
    """What the server does with one path.

    `breaks` are the numbers of bytes after which the next answers break off; then answers are whole. `packs`
    compresses for whoever accepts that; `longest` is how much it gives of a range at a time; `length` is what it
    says instead of the length; `trickles` gives byte after byte, with pauses; `endless` never stops.
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
    length: str | None = None
    trickles: bool = False
    endless: bool = False
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
        if 300 <= page.status < 400:
            self.send_response(page.status)
            for name, value in page.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
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
            self.send_header("Content-Length", str(len(body)) if page.length is None else page.length)
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
        try:
            self.wfile.write(body[:1] if page.trickles else body)
            for at in itertools.count(1) if page.trickles or page.endless else ():
                self.wfile.write(body[at : at + 1] if page.trickles else body)
                time.sleep(0.02 if page.trickles else 0)
        except ConnectionError:
            pass  # the client had enough

    def log_message(self, format: str, *args: object) -> None:
        pass


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
