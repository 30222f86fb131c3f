"""Downloads from a real server: resumed, verified, from the first mirror that serves."""

from __future__ import annotations

import gzip
import hashlib
import re
import socket
import time
from pathlib import Path

import pytest
import requests

from oodbench.data import download
from oodbench.data.fetch import fetch
from oodbench.errors import OodbenchError
from tests.data.web import CONTENT, OTHER, Offer, Page, Said, Server, dead_url, md5, names_in

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
    part = (tmp_path / "stones" / "pebbles.bin.part").read_bytes()
    assert 30_000 <= len(part) < 31_000 and CONTENT.startswith(part)
    assert fetch("pebbles", tmp_path)[0].read_bytes() == CONTENT
    assert server.ranges() == [None, f"bytes={len(part)}-"]
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


@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_an_endless_mirror_is_cut_off(
    size: int | None,
    server: Server,
    offer: Offer,
    tmp_path: Path,
    capsys: Said,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(download, "LARGEST", 90_000)
    received: list[int] = []
    offer(server.page("/a", endless=True, says_length=False), server.page("/b"), size=size)
    paths = fetch("pebbles", tmp_path, lambda name, done, total: received.append(done))
    assert paths[0].read_bytes() == CONTENT and names_in(tmp_path / "stones") == ["pebbles.bin"]
    assert max(received) <= (size or 90_000)
    assert f"gives more than the {size or 90_000:,} bytes that the file may have" in capsys.readouterr().err
    # Nothing of the endless one is gone on from.
    assert server.ranges() == [None, None]


def test_a_mirror_that_trickles_is_given_up_and_the_next_goes_on(
    server: Server, offer: Offer, tmp_path: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "GRACE", 0.3)
    offer(server.page("/a", trickles=True), server.page("/b"))
    began = time.monotonic()
    assert fetch("pebbles", tmp_path)[0].read_bytes() == CONTENT
    assert time.monotonic() - began < 5
    slow = re.search(r"is too slow: (\d+) bytes in 0 seconds", capsys.readouterr().err)
    assert slow is not None and 0 < int(slow[1]) < 50
    assert server.requests[0][0] == "/a" and server.requests[-1][0] == "/b" and server.ranges()[1] is not None


def test_a_mirror_that_gives_one_byte_a_connection_is_given_up(
    server: Server, offer: Offer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "GRACE", 0.3)
    monkeypatch.setattr(download, "SLOWEST", 1e6)
    offer(server.page("/a", breaks=[1] * 10_000))
    with pytest.raises(OodbenchError, match="is too slow"):
        fetch("pebbles", tmp_path)
    assert 1 < len(server.requests) < 5_000


@pytest.mark.parametrize("length", ["abc", "-5", "²", "", "5 5"])
def test_a_length_that_is_no_number_is_taken_for_none(
    length: str, server: Server, offer: Offer, tmp_path: Path
) -> None:
    offer(server.page("/a", length=length), size=len(CONTENT))
    totals: set[int | None] = set()
    assert fetch("pebbles", tmp_path, lambda name, done, total: totals.add(total))[0].read_bytes() == CONTENT
    assert totals == {len(CONTENT)}


def test_a_length_that_is_too_small_gives_a_wrong_file(server: Server, offer: Offer, tmp_path: Path) -> None:
    offer(server.page("/a", length="5"))
    with pytest.raises(OodbenchError, match=f"gave a file with {md5(CONTENT[:5])}"):
        fetch("pebbles", tmp_path)


def test_https_is_tried_first(server: Server, offer: Offer, tmp_path: Path, capsys: Said) -> None:
    # This server speaks http only: over https it gives nothing.
    plain, secure = server.page("/a"), server.page("/b").replace("http:", "https:")
    offer(plain, secure)
    assert fetch("pebbles", tmp_path)[0].read_bytes() == CONTENT
    tried = re.findall(r"downloading from (\S+)", capsys.readouterr().err)
    assert tried == [secure, plain]


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


@pytest.mark.parametrize(
    "where", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "/a", "http://[", "gopher://x"]
)
def test_a_redirection_to_anything_but_the_web_is_passed_over(
    where: str, server: Server, offer: Offer, tmp_path: Path, capsys: Said
) -> None:
    offer(server.page("/a", status=302, headers={"Location": where}), server.page("/b"))
    assert fetch("pebbles", tmp_path)[0].read_bytes() == CONTENT
    assert "passed over" in capsys.readouterr().err


def test_a_redirection_within_the_web_is_followed(server: Server, offer: Offer, tmp_path: Path) -> None:
    offer(server.page("/a", status=302, headers={"Location": server.page("/b")}))
    assert fetch("pebbles", tmp_path)[0].read_bytes() == CONTENT


def test_a_redirection_away_from_https_is_refused(tmp_path: Path) -> None:
    file = download.RemoteFile("pebbles", ("https://pebbles",), None)
    transfer = download._Transfer("https://pebbles", file, tmp_path / "part", lambda *_: None)
    answer = requests.Response()
    answer.status_code, answer.url = 200, "http://pebbles"
    with pytest.raises(download._MirrorFailed, match="leads away from https"):
        transfer._examine(answer, 0)
    answer.url = "https://pebbles.example"
    assert transfer._examine(answer, 0) == (False, None)


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
