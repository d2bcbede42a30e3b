"""Requests on a connection without a socket: what is handed on, held back and refused, and when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from turnout.core import InputError
from turnout.serve.wire.limits import Limits

GET = b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: x\r\n"
BODY = POST + b"Content-Length: 5\r\n\r\nhello"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def test_a_request_is_told_whole(desk: Callable[..., Any]) -> None:
    """Every part is what the client sent, names in lower case, and copies are the caller's own."""
    made = desk()
    made.connect().send(POST + b"X-A: 1\r\nx-a: 2\r\nContent-Length: 05\r\n\r\nhello")
    (request,) = made.requests
    assert (request.method, request.path, request.query) == ("POST", "/a", b"")
    assert (request.http_version, request.client, request.body) == ("1.1", "192.0.2.7", b"hello")
    wanted = [(b"host", b"x"), (b"x-a", b"1"), (b"x-a", b"2"), (b"content-length", b"05")]
    assert request.headers == wanted
    request.headers.clear()
    assert request.headers == wanted
    assert request.header(b"x-a") == b"1"
    assert request.header(b"content-length") == b"05"
    assert request.header(b"x-b") is None


def test_the_same_head_again(desk: Callable[..., Any]) -> None:
    """A head that differs from the last one in its length alone is told with its own length."""
    made = desk(answers=True)
    made.connect().send(BODY, POST + b"Content-Length: 2\r\n\r\nhi", GET, GET)
    told = [(request.path, request.query, request.body) for request in made.requests]
    assert told == [("/a", b"", b"hello"), ("/a", b"", b"hi")] + [("/a", b"b=c", b"")] * 2
    assert [request.header(b"content-length") for request in made.requests] == [
        b"5",
        b"2",
        None,
        None,
    ]
    assert made.requests[1].headers == [(b"host", b"x"), (b"content-length", b"2")]


def test_answers(desk: Callable[..., Any]) -> None:
    """A whole answer is one write, with a date and the length of its body."""
    made = desk()
    peer = made.connect()
    peer.send(BODY)
    made.requests[0].reply(200, b"content-type: text/plain\r\n", b"hi")
    head, _, body = peer.out.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[:3] == [b"HTTP/1.1 200 OK", b"content-type: text/plain", b"content-length: 2"]
    assert lines[3].startswith(b"date: ")
    assert lines[3].endswith(b" GMT")
    assert (len(lines), body) == (4, b"hi")


def test_the_date_moves_on(desk: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made anew once a second has passed on the clock."""
    made = desk(answers=True)
    peer = made.connect()
    monkeypatch.setattr("turnout.serve.wire.worker.time.time", lambda: 86_400.0)
    peer.send(GET)
    assert b"02 Jan 1970" not in peer.out
    peer.wait(1.0)
    peer.send(GET)
    assert peer.out.count(b"date: Fri, 02 Jan 1970 00:00:00 GMT\r\n") == 1


def test_streamed_answers(desk: Callable[..., Any]) -> None:
    """Each piece is one chunk; an empty piece, which would end the answer, is left out."""
    made = desk()
    peer = made.connect()
    peer.send(GET)
    (request,) = made.requests
    request.start(200, b"a: b\r\n")
    start = len(peer.out)
    assert peer.out.startswith(b"HTTP/1.1 200 OK\r\na: b\r\ntransfer-encoding: chunked\r\ndate: ")
    request.write(b"x" * 17)
    request.write(b"")
    request.write(b"yz")
    request.end()
    assert peer.out[start:] == b"11\r\n" + b"x" * 17 + b"\r\n2\r\nyz\r\n0\r\n\r\n"
    assert not peer.over


def test_version_1_0(desk: Callable[..., Any]) -> None:
    """A streamed answer is not chunked, and the connection closes after any answer."""
    made = desk()
    peer = made.connect()
    peer.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + GET)
    (request,) = made.requests
    request.start(200, b"")
    request.write(b"abc")
    request.end()
    assert peer.out.endswith(b"connection: close\r\n\r\nabc")
    assert b"chunked" not in peer.out
    assert peer.over
    assert len(made.requests) == 1


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304), (b"HEAD", 204)]
)
def test_answers_without_a_body(
    desk: Callable[..., Any], method: bytes, status: int, streamed: bool
) -> None:
    """Nothing stands after the head, or the client would take it for the next answer."""
    made = desk()
    peer = made.connect()
    peer.send(method + GET[3:])
    (request,) = made.requests
    if streamed:
        request.start(status, b"")
        request.write(b"abc")
        request.end()
    else:
        request.reply(status, b"", b"abc")
    assert peer.out.endswith(b"\r\n\r\n")
    assert peer.out.count(b"\r\n\r\n") == 1
    assert b"chunked" not in peer.out
    told = method == b"HEAD" and status == 200 and not streamed
    assert (b"content-length: 3" in peer.out) == told
    peer.send(GET)
    assert len(made.requests) == 2


def test_a_status_without_a_name(desk: Callable[..., Any]) -> None:
    """Upstreams make up their own."""
    made = desk()
    peer = made.connect()
    peer.send(GET)
    made.requests[0].reply(529, b"", b"")
    assert peer.out.startswith(b"HTTP/1.1 529 \r\n")


def test_answers_are_given_once(desk: Callable[..., Any]) -> None:
    """A second answer, or a piece of none, is a mistake; the first one stays as it is."""
    made = desk()
    peer = made.connect()
    peer.send(GET)
    (request,) = made.requests
    with pytest.raises(InputError, match="answer must be started before"):
        request.write(b"x")
    with pytest.raises(InputError, match="answer must be started before"):
        request.end()
    request.reply(200, b"", b"ok")
    out = peer.out
    for call in (
        lambda: request.reply(200, b"", b""),
        lambda: request.start(200, b""),
        lambda: request.write(b"x"),
        request.end,
    ):
        with pytest.raises(InputError, match="answer must be"):
            call()
    request.abort()
    assert peer.out == out
    assert not peer.over


def test_answers_come_in_order(desk: Callable[..., Any]) -> None:
    """A request is handed on only when the one before it has its answer."""
    made = desk()
    peer = made.connect()
    peer.send(GET + BODY + CHUNKED + b"2\r\nhi\r\n0\r\n\r\n" + GET[:7])
    for count, body in enumerate((b"", b"hello", b"hi"), start=1):
        assert len(made.requests) == count
        assert made.requests[-1].body == body
        made.requests[-1].reply(200, b"", b"answer %d" % count)
    assert [peer.out.index(b"answer %d" % count) for count in (1, 2, 3)] == sorted(
        peer.out.index(b"answer %d" % count) for count in (1, 2, 3)
    )
    peer.send(GET[7:])
    assert len(made.requests) == 4


def test_many_at_once(desk: Callable[..., Any]) -> None:
    """Thousands of requests in one piece are answered without deep recursion."""
    made = desk(answers=True)
    peer = made.connect()
    peer.send(GET * 5000)
    assert len(made.requests) == 5000
    assert peer.out.count(b"HTTP/1.1 200 OK") == 5000


def test_what_is_sent_ahead_is_bounded(desk: Callable[..., Any]) -> None:
    """With more than the limit waiting, reading pauses, and goes on when it has been read."""
    made = desk(ahead_bytes=100)
    peer = made.connect()
    peer.send(GET)
    while not peer.transport.paused:
        peer.send(GET)
    assert len(made.requests) == 1
    count = 1
    while peer.transport.paused:
        made.requests[-1].reply(200, b"", b"")
        count += 1
        assert len(made.requests) == count
    assert count < 6
    for _ in range(5 - count):
        made.requests[-1].reply(200, b"", b"")
    assert not peer.over


@pytest.mark.parametrize(
    ("head", "status", "code"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 300, 431, "head_too_long"),
        (b"GET /" + b"b" * 300, 431, "head_too_long"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 9 + b"\r\n", 431, "too_many_headers"),
        (POST + b"Content-Length: 1001\r\n\r\n", 413, "body_too_long"),
        (POST + b"Content-Length: 1001\r\nExpect: 100-continue\r\n\r\n", 413, "body_too_long"),
        (CHUNKED + b"3e9\r\n", 413, "body_too_long"),
        (CHUNKED + b"3e8\r\n" + b"x" * 1000 + b"\r\n1\r\n", 413, "body_too_long"),
        (CHUNKED + b"ffffffffffffffff\r\n", 413, "body_too_long"),
        (POST + b"Content-Length: 1\r\nExpect: 200-ok\r\n\r\n", 417, "expectation_failed"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "invalid_http"),
    ],
)
@pytest.mark.parametrize("split", [False, True])
def test_limits(desk: Callable[..., Any], head: bytes, status: int, code: str, split: bool) -> None:
    """Beyond a limit the client is told so, before the rest is read, and heard no more."""
    made = desk(head_bytes=250, headers=9, body_bytes=1000)
    peer = made.connect()
    peer.send(*([head[i : i + 1] for i in range(len(head))] if split else [head]))
    assert peer.status == status
    assert (peer.error["code"], peer.error["type"]) == (code, "invalid_request_error")
    assert peer.out.count(b"connection: close\r\n") == 1
    assert made.requests == []
    assert made.server.refused == 1
    assert peer.transport.eof
    assert not peer.transport.closed  # what the client still sends would destroy the answer
    peer.protocol.data_received(GET)
    assert made.requests == []
    peer.wait(2)
    assert peer.transport.closed


def test_within_the_limits(desk: Callable[..., Any]) -> None:
    """Exactly as much as is allowed is taken."""
    made = desk(head_bytes=64, headers=4, body_bytes=5, answers=True)
    peer = made.connect()
    head = b"POST / HTTP/1.1\r\nHost: x\r\nA: \r\nB: \r\nContent-Length: 5\r\n\r\n"
    peer.send(b"POST /" + b"a" * (64 - len(head)) + head[6:] + b"hello")
    peer.send(CHUNKED + b"5\r\nhello\r\n0\r\n\r\n")
    assert [request.body for request in made.requests] == [b"hello"] * 2


def test_all_bodies_together(desk: Callable[..., Any]) -> None:
    """Their bytes are counted from arrival to answer; what does not fit is told to come again."""
    made = desk(bodies_bytes=12)
    first, second, third = (made.connect() for _ in range(3))
    first.send(BODY)
    second.send(BODY[:-2])
    assert made.server.body_bytes == 8
    third.send(BODY)
    assert third.status == 503
    assert third.error["code"] == "overloaded"
    assert made.server.body_bytes == 8
    second.lose()
    made.requests[0].reply(200, b"", b"")
    assert made.server.body_bytes == 0
    for answered in (2, 3):
        first.send(CHUNKED + b"5\r\nhello\r\n0\r\n\r\n")
        assert made.server.body_bytes == 5
        made.requests[-1].reply(200, b"", b"")
        assert made.server.requests == answered


def test_connections_in_all(desk: Callable[..., Any]) -> None:
    """One too many is told so; far too many are just closed."""
    made = desk(connections=2, answers=True)
    peers = [made.connect() for _ in range(3)]
    assert [peer.status for peer in peers] == [0, 0, 503]
    assert peers[2].error["code"] == "overloaded"
    assert (made.server.accepted, made.server.turned_away, made.server.open) == (2, 1, 3)
    peers[0].lose()
    peers[2].lose()
    last = made.connect()
    last.send(GET)
    assert last.status == 200
    more = [made.connect() for _ in range(70)]
    assert more[-1].transport.aborted
    assert more[-1].out == b""


def test_leave_to_send_a_body(desk: Callable[..., Any]) -> None:
    """`Expect: 100-continue` is answered once, and not when the body comes anyway."""
    made = desk(answers=True)
    peer = made.connect()
    expects = POST + b"Content-Length: 5\r\nExpect: 100-Continue\r\n\r\n"
    peer.send(expects)
    assert peer.out == b"HTTP/1.1 100 Continue\r\n\r\n"
    peer.send(b"he", b"llo")
    assert peer.out.count(b"100 Continue") == 1
    peer.send(expects + b"h", b"ello")
    peer.send(POST + b"Content-Length: 0\r\nExpect: 100-continue\r\n\r\n")
    peer.send(expects.replace(b"1.1", b"1.0"), b"hello")
    assert peer.out.count(b"100 Continue") == 1
    assert [request.body for request in made.requests] == [b"hello", b"hello", b"", b"hello"]


@pytest.mark.parametrize(
    ("sent", "seconds", "status"),
    [
        (b"", 10, 0),
        (GET, 75, 200),
        (GET[:9], 10, 408),
        (GET + GET[:9], 10, 408),
        (BODY[:-1], 30, 408),
        (CHUNKED, 30, 408),
    ],
)
def test_patience(desk: Callable[..., Any], sent: bytes, seconds: float, status: int) -> None:
    """Who does not go on in time is told so where a request had begun, and closed."""
    made = desk(answers=True)
    peer = made.connect()
    peer.send(sent)
    peer.wait(seconds - 0.001)
    assert not peer.over
    peer.wait(0.001)
    assert peer.over
    assert peer.status == status
    if status == 408:
        assert peer.error["code"] == "request_timeout"
    peer.wait(40)
    assert peer.transport.closed


def test_drops_do_not_buy_time(desk: Callable[..., Any]) -> None:
    """A head has its time from its first byte; each piece of a body, and all of it, have theirs."""
    peer = desk().connect()
    for byte in range(9):
        peer.send(GET[byte : byte + 1])
        peer.wait(1)
    assert not peer.over
    peer.wait(1)
    assert peer.status == 408
    peer = desk().connect()
    peer.send(POST + b"Content-Length: 1000\r\n\r\n")
    for _ in range(14):
        peer.wait(20)
        assert not peer.over
        peer.send(b"x")
    peer.wait(20)
    assert peer.status == 408


def test_an_answer_takes_the_time_it_takes(desk: Callable[..., Any]) -> None:
    """No deadline of the connection runs while a request waits for its answer."""
    made = desk()
    peer = made.connect()
    peer.send(GET)
    peer.wait(100_000)
    made.requests[0].start(200, b"")
    peer.wait(100_000)
    made.requests[0].end()
    assert not peer.over


def test_a_handler_that_raises(desk: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    """Status 500 without the error's words, or a broken answer where it had begun."""
    made = desk()
    secret = "sk-secret"

    def handle(request: Any) -> None:
        if request.path == "/begun":
            request.start(200, b"")
            request.write(b"x")
        raise ValueError(secret)

    made.server._worker.handle = handle
    peer = made.connect()
    peer.send(GET)
    assert peer.status == 500
    assert peer.error["code"] == "internal_error"
    assert secret.encode() not in peer.out
    assert secret not in caplog.text
    peer.send(GET.replace(b"/a?", b"/begun?"))
    assert peer.out.endswith(b"1\r\nx\r\n")
    assert peer.transport.closed


@pytest.mark.parametrize("name", ["head_bytes", "headers", "body_bytes", "pool", "idle_seconds"])
@pytest.mark.parametrize("value", [0, -1, "1", True, None])
def test_limits_are_positive_numbers(name: str, value: object) -> None:
    """Anything else is refused by name."""
    with pytest.raises(InputError, match=f"^{name} must"):
        Limits(**{name: value})  # type: ignore[arg-type]
