"""The data tests see the folders that they write, and no others of this machine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from oodbench.data import download, load
from oodbench.data.download import RemoteFile
from oodbench.data.fetch import FETCHABLE, Fetchable
from tests.data.web import CONTENT, Server, md5


@pytest.fixture(autouse=True)
def only_our_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "DEBIAN_DATASETS", tmp_path_factory.mktemp("debian"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty data folder."""
    return tmp_path


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
