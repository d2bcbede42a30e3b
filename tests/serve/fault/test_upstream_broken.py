"""The bad upstream itself: the manners that are silent, slow, broken off or no HTTP."""

from __future__ import annotations

from typing import Any

import h11
import pytest

from .bare import STREAM, asked, client
from .payloads import USAGE
from .upstream import BadUpstream


def test_silent(bad: BadUpstream) -> None:
    """The request is read, nothing is answered, and the client's leaving is seen."""
    with client(bad.url) as made:
        made.ask("silent")
        bad.wait_for_requests(1)
        assert made.nothing_more()
    assert bad.wait_for_closed(1)[0].ended == "eof"


@pytest.mark.parametrize("stream", [False, True])
def test_headers_only(bad: BadUpstream, stream: bool) -> None:
    """The head comes at once, and nothing after it."""
    with client(bad.url) as made:
        made.ask("headers-only", stream=stream)
        got = b""
        while not got.endswith(b"\r\n\r\n"):
            got += made.raw.recv(1)
        assert got.startswith(b"HTTP/1.1 200 ")
        assert made.nothing_more()


@pytest.mark.parametrize("body", [{}, STREAM])
def test_slow_headers(bad: BadUpstream, body: dict[str, Any]) -> None:
    """One byte of the head comes, and for a long time no other; at last the answer is good."""
    with client(bad.url) as made:
        made.ask("slow-headers", **body)
        assert made.raw.recv(100) == b"H"
        assert made.nothing_more()
    assert asked(bad, "slow-headers:0", **body).status == 200


def test_slow_body(bad: BadUpstream) -> None:
    """The head comes whole, then one byte of the body, and for a long time no other."""
    with client(bad.url) as made:
        made.ask("slow-body")
        got = b""
        while b"\r\n\r\n{" not in got:
            got += made.raw.recv(100)
        assert got.endswith(b"\r\n\r\n{")
        assert made.nothing_more()
    assert asked(bad, "slow-body:0").json["usage"] == USAGE
    assert set(map(len, asked(bad, "slow-body:0", **STREAM).chunks)) == {1}


@pytest.mark.parametrize("model", ["endless", "gigabyte", "gigabyte:length"])
def test_without_an_end(bad: BadUpstream, model: str) -> None:
    """Megabytes come, waiting for who reads slowly, until the client leaves."""
    with client(bad.url) as made:
        made.ask(model, **STREAM)
        got = 0
        while got < 2_000_000:
            got += len(made.raw.recv(1 << 20))
        assert bad.links[0].closed is None
    bad.wait_for_closed(1)


def test_announces_sixteen_gigabytes(bad: BadUpstream) -> None:
    """The length variant says how much would come."""
    with client(bad.url) as made:
        assert b"content-length: 17179869184\r\n" in made.ask("gigabyte:length").raw.recv(300)


@pytest.mark.parametrize("body", [{}, STREAM])
@pytest.mark.parametrize("model", ["hangup", "die"])
def test_ends_in_good_order_or_by_reset(bad: BadUpstream, model: str, body: dict[str, Any]) -> None:
    """The end is a FIN or a reset, after a part of the answer or after nothing."""
    with client(bad.url) as made:
        got = made.ask(f"{model}:fin", **body).rest()
    assert got.startswith(b"HTTP/1.1 200") if model == "die" else got == b""
    assert not got.endswith((b"}", b"0\r\n\r\n"))
    assert got.count(b"data: ") == (2 if body and model == "die" else 0)
    with client(bad.url) as made:
        made.ask(f"{model}:rst", **body)
        with pytest.raises(ConnectionResetError):
            made.rest()
    assert [link.ended for link in bad.wait_for_closed(2)] == ["closed", "closed"]


@pytest.mark.parametrize("body", [{}, STREAM])
def test_ends_after_the_head(bad: BadUpstream, body: dict[str, Any]) -> None:
    """A whole head comes, none of the body, and the end in good order."""
    with client(bad.url) as made:
        got = made.ask("head-dies", **body).rest()
    assert got.startswith(b"HTTP/1.1 200")
    assert got.index(b"\r\n\r\n") == len(got) - 4
    assert bad.wait_for_closed(1)[0].ended == "closed"


@pytest.mark.parametrize("body", [{}, STREAM])
def test_wrong_lengths(bad: BadUpstream, body: dict[str, Any]) -> None:
    """Too long: the connection ends before the length is reached. Too short: bytes are left."""
    with client(bad.url) as made:
        made.ask("length:long", **body)
        with pytest.raises(h11.RemoteProtocolError, match="without sending complete"):
            made.answer()
    with client(bad.url) as made:
        cut = made.ask("length:short", **body).answer()
        left = made.parser.trailing_data[0] + made.rest()
    assert len(left) == 50
    assert int(cut.headers["content-length"]) == len(cut.body)


def test_two_ways_to_end(bad: BadUpstream) -> None:
    """Both headers stand in the head, or two lengths that do not agree."""
    with client(bad.url) as made:
        head = made.ask("both-lengths").raw.recv(1 << 16)
    assert b"content-length: 5\r\n" in head
    assert b"transfer-encoding: chunked\r\n" in head
    with client(bad.url) as made:
        made.ask("two-lengths")
        with pytest.raises(h11.RemoteProtocolError, match="conflicting Content-Length"):
            made.answer()


def test_garbage(bad: BadUpstream) -> None:
    """What comes is no HTTP."""
    with client(bad.url) as made:
        made.ask("garbage")
        with pytest.raises(h11.RemoteProtocolError):
            made.answer()


def test_not_json(bad: BadUpstream) -> None:
    """A whole answer that breaks off, and a page."""
    cut = asked(bad, "bad-json")
    assert cut.status == 200
    with pytest.raises(ValueError, match=r"delimiter|Expecting|Unterminated"):
        assert cut.json
    assert asked(bad, "html").headers["content-type"] == "text/html"
