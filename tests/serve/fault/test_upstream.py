"""The bad upstream itself: what it keeps on record, its statuses, and how it takes requests."""

from __future__ import annotations

import json
import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import h11
import pytest

from .bare import ANSWER, STREAM, asked, client
from .manners import MANNERS
from .payloads import METADATA, USAGE
from .upstream import BadUpstream


def test_good_and_on_record(bad: BadUpstream) -> None:
    """A good answer is whole, a second one goes over the same connection, all is on record."""
    with client(bad.url) as made:
        assert made.ask("good", extra=1).answer().json["choices"][0]["message"]["content"] == ANSWER
        stream = made.again().ask("good", **STREAM).answer()
    assert (len(stream.data), stream.data[-1], stream.text) == (22, b"[DONE]", ANSWER)
    first, second = bad.wait_for_requests(2)
    assert json.loads(first.body)["extra"] == 1
    assert first.header("host") == "x"
    assert first.at <= (first.whole or 0) <= second.at
    (link,) = bad.wait_for_closed(1)
    assert (link.requests, link.ended) == (2, "eof")
    assert link.opened <= first.at
    assert second.at <= (link.closed or 0)


def test_flaky_by_count(bad: BadUpstream) -> None:
    """The first so many requests fail with the status that was said, later ones do well."""
    statuses = [asked(bad, "flaky:2:500").status for _ in range(4)]
    assert statuses == [500, 500, 200, 200]


def test_stale(bad: BadUpstream) -> None:
    """A good answer that promises to keep the connection, which then ends in good order."""
    with client(bad.url) as made:
        answer = made.ask("stale").answer()
        assert answer.status == 200
        assert "connection" not in answer.headers
        assert made.rest() == b""


def test_a_reset_of_the_client_is_seen(bad: BadUpstream) -> None:
    """A client that breaks the connection is told from one that closes it."""
    with client(bad.url) as made:
        made.ask("silent")
        bad.wait_for_requests(1)
        made.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert bad.wait_for_closed(1)[0].ended == "reset"


def test_status(bad: BadUpstream) -> None:
    """The status that was said, with and without a time to come back after."""
    answer = asked(bad, "status:503:7")
    assert (answer.status, answer.headers["retry-after"]) == (503, "7")
    assert answer.json["error"]["code"] == "status-503"
    assert "retry-after" not in asked(bad, "status:418").headers


def test_informational(bad: BadUpstream) -> None:
    """Two answers of the 1xx kind come before the one that counts."""
    answer = asked(bad, "informational")
    assert answer.informational == [100, 103]
    assert (answer.status, answer.json["usage"]) == (200, USAGE)


def test_redirect(bad: BadUpstream) -> None:
    """To the same place, by a whole URL, or to the metadata service."""
    answer = asked(bad, "redirect")
    assert (answer.status, answer.headers["location"]) == (307, f"{bad.url}/chat/completions")
    assert asked(bad, "redirect:metadata").headers["location"] == METADATA


def test_early(bad: BadUpstream) -> None:
    """The answer comes while most of the body is still to be sent; then the connection goes on."""
    with client(bad.by_path("early")) as made:
        answer = made.post(b"{", length=100).answer()
        assert (answer.status, bad.seen[0].whole) == (413, None)
        made.raw.sendall(made.parser.send(h11.Data(data=b" " * 99)) or b"")
        made.parser.send(h11.EndOfMessage())
        bad.wait_for_requests(1)
        made.path = "/v1/chat/completions"
        assert made.again().ask().answer().status == 200
    with client(bad.by_path("early-close:400")) as made:
        answer = made.post(b"", length=100).answer()
        assert (answer.status, answer.headers["connection"]) == (400, "close")
        assert made.rest() == b""


def test_by_path(bad: BadUpstream) -> None:
    """The path names the manner, whatever the body says."""
    with client(bad.by_path("status:503:7")) as made:
        assert made.ask("good").answer().status == 503
    assert bad.seen[0].manner == "status:503:7"


def test_chunked_request(bad: BadUpstream) -> None:
    """A request body in chunks is put together, however it is cut."""
    raw = b'{"model": "status:418", "messages": []}'
    with client(bad.url) as made:
        head = f"POST {made.path} HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n".encode()
        for data in (
            head,
            b"5\r\n",
            raw[:5],
            b"\r\n%x\r\n" % len(raw[5:]),
            raw[5:],
            b"\r\n0\r\n\r\n",
        ):
            made.raw.sendall(data)
        assert made.raw.recv(20).startswith(b"HTTP/1.1 418")
    assert bad.seen[0].body == raw


def test_two_requests_at_once_are_answered_in_order(bad: BadUpstream) -> None:
    """A second request that is there already waits for the answer of the first."""
    raw = [json.dumps({"model": model}).encode() for model in ("status:418", "status:503")]
    with client(bad.url) as made:
        text = "POST /v1/x HTTP/1.1\r\ncontent-length: {}\r\n\r\n"
        made.raw.sendall(b"".join(text.format(len(body)).encode() + body for body in raw))
        got = b""
        while got.count(b"}}") < 2:
            got += made.raw.recv(1000)
    assert got.index(b"HTTP/1.1 418") < got.index(b"HTTP/1.1 503")


def test_tls(bad: BadUpstream) -> None:
    """Over TLS the manners are the same; who does not know the certificate gets nowhere."""
    with client(bad.tls_url) as made:
        assert made.ask("good").answer().json["usage"] == USAGE
    parts = urlsplit(bad.tls_url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as raw:
        context = ssl.create_default_context()
        with pytest.raises(ssl.SSLCertVerificationError, match="self-signed"):
            context.wrap_socket(raw, server_hostname="127.0.0.1")
    assert [(link.tls, link.requests) for link in bad.links] == [(True, 1)]


def test_tls_that_hangs(bad: BadUpstream) -> None:
    """The hello of a client arrives and is never answered."""
    parts = urlsplit(bad.hanging_tls_url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as raw:
        context = ssl.create_default_context()
        raw.setblocking(False)
        wrapped = context.wrap_socket(raw, do_handshake_on_connect=False, server_hostname="x")
        with pytest.raises(ssl.SSLWantReadError):
            wrapped.do_handshake()
        bad.wait(lambda it: it.links and it.links[0].received > 100)
        with pytest.raises(ssl.SSLWantReadError):
            wrapped.do_handshake()
        wrapped.close()


def test_nobody_accepts(bad: BadUpstream) -> None:
    """The connection is made and takes a request, and nobody ever sees it."""
    with client(bad.unaccepted_url) as made:
        made.ask("good")
        assert made.nothing_more()
    assert bad.links == []


def test_unreachable(bad: BadUpstream) -> None:
    """Not even a connection comes about."""
    parts = urlsplit(bad.unreachable_url)
    with socket.socket() as raw:
        raw.setblocking(False)
        with pytest.raises(BlockingIOError):
            raw.connect((parts.hostname, parts.port))
        with pytest.raises(OSError, match="not connected"):
            raw.getpeername()


def test_a_mistake_in_a_manner_fails_the_test() -> None:
    """A manner that nobody knows breaks the connection, and the block that runs the upstream."""
    with pytest.raises(KeyError, match="no-such"), BadUpstream() as bad, client(bad.url) as made:
        assert made.ask("no-such").rest() == b""


def test_waiting_in_vain_fails() -> None:
    """What does not happen fails the test that waits for it."""
    with BadUpstream() as bad, pytest.raises(AssertionError, match="did not happen"):
        bad.wait(lambda it: it.seen, seconds=0.0)


def test_every_manner_is_tried_here() -> None:
    """No manner is without a test: each name stands in this file or the two beside it."""
    files = Path(__file__).parent.glob("test_upstream*.py")
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    assert [name for name in MANNERS if not any(f"{mark}{name}" in text for mark in '"/')] == []
