"""Clients that read slowly, go away, or only stop sending: without a socket."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
OLD = b"GET /a HTTP/1.0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Heard:
    """Puts down what a request is told about its client."""

    def __init__(self, request: Any) -> None:
        self.gone = 0
        self.flow: list[bool] = []
        request.on_gone = self.on_gone
        request.on_flow = self.flow.append

    def on_gone(self) -> None:
        self.gone += 1


def test_flow(desk: Callable[..., Any]) -> None:
    """The handler hears when to stop and when to go on, while its answer lasts."""
    made = desk()
    peer = made.connect()
    peer.send(GET)
    (request,) = made.requests
    heard = Heard(request)
    request.start(200, b"")
    peer.protocol.pause_writing()
    request.write(b"x")
    peer.protocol.resume_writing()
    peer.protocol.pause_writing()
    assert heard.flow == [True, False, True]
    request.end()
    peer.protocol.resume_writing()
    assert heard.flow == [True, False, True]
    assert heard.gone == 0
    assert not peer.over


def test_who_reads_nothing_is_cut(desk: Callable[..., Any]) -> None:
    """After the limit without a byte taken; one byte buys the limit again."""
    made = desk(unread_seconds=30)
    peer = made.connect()
    peer.send(GET)
    heard = Heard(made.requests[0])
    made.requests[0].start(200, b"")
    made.requests[0].write(b"x" * 1000)
    peer.transport.unread = 900
    peer.protocol.pause_writing()
    peer.wait(29)
    peer.transport.unread -= 1
    peer.wait(1)
    made.requests[0].write(b"y" * 100)
    peer.transport.unread += 106
    assert not peer.over
    peer.wait(29)
    assert not peer.over
    peer.wait(1)
    assert peer.transport.aborted
    peer.lose()
    assert heard.gone == 1


def test_the_next_request_waits_until_the_answer_is_taken(desk: Callable[..., Any]) -> None:
    """A client that asks but does not read cannot fill the memory with answers."""
    made = desk(answers=True, ahead_bytes=50)
    peer = made.connect()
    peer.protocol.pause_writing()
    peer.transport.unread = 70_000
    peer.send(GET, GET, GET)
    assert made.requests == []
    assert peer.transport.paused
    peer.transport.unread = 0
    peer.protocol.resume_writing()
    assert len(made.requests) == 3
    assert not peer.transport.paused


def test_an_answer_nobody_takes(desk: Callable[..., Any]) -> None:
    """Too small to stop the flow, it is given up with the idle connection."""
    made = desk(answers=True)
    peer = made.connect()
    peer.send(GET)
    peer.transport.unread = 100
    peer.wait(75)
    assert peer.transport.aborted


@pytest.mark.parametrize("error", [None, ConnectionResetError()])
@pytest.mark.parametrize("started", [False, True])
def test_gone_is_told_once(
    desk: Callable[..., Any], error: Exception | None, started: bool
) -> None:
    """And from then on the answer goes nowhere, without complaint."""
    made = desk()
    peer = made.connect()
    peer.send(GET)
    (request,) = made.requests
    heard = Heard(request)
    if started:
        request.start(200, b"")
    out = peer.out
    peer.lose(error)
    assert heard.gone == 1
    assert request.gone
    assert request.started
    request.reply(200, b"", b"")
    request.start(200, b"")
    request.write(b"x")
    request.end()
    request.abort()
    assert peer.out == out
    assert (heard.gone, heard.flow) == (1, [])
    assert made.server.open == 0


def test_gone_is_not_told_of_what_is_answered(desk: Callable[..., Any]) -> None:
    """The end of a connection is nothing to requests that had their answer."""
    made = desk()
    peer = made.connect()
    peer.send(GET)
    heard = Heard(made.requests[0])
    made.requests[0].reply(200, b"", b"")
    peer.lose()
    assert heard.gone == 0
    assert not made.requests[0].gone


def test_callbacks_that_raise(desk: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    """Neither the connection nor the server is hurt; the log says where, not what."""

    def broken(*_: object) -> None:
        raise ValueError("sk-secret")

    made = desk()
    peer = made.connect()
    peer.send(GET)
    made.requests[0].on_flow = broken
    made.requests[0].on_gone = broken
    made.requests[0].on_doubt = broken
    peer.protocol.pause_writing()
    peer.protocol.resume_writing()
    made.requests[0].start(200, b"")
    peer.protocol.eof_received()
    peer.wait(0.06)
    peer.lose()
    assert made.server.open == 0
    assert caplog.text.count("failed: ValueError at ") == 4
    assert "sk-secret" not in caplog.text


@pytest.mark.parametrize("request_line", [GET, OLD])
def test_abort(desk: Callable[..., Any], request_line: bytes) -> None:
    """What was written is still sent in chunks, but not the end; else the connection is reset."""
    made = desk()
    peer = made.connect()
    peer.send(request_line)
    (request,) = made.requests
    heard = Heard(request)
    request.start(200, b"")
    request.write(b"x")
    request.abort()
    request.write(b"y")
    request.end()
    assert peer.transport.closed
    assert peer.transport.aborted == (request_line == OLD)
    assert b"y" not in peer.out[-20:]
    assert b"0\r\n\r\n" not in peer.out
    peer.lose()
    assert heard.gone == 0


def test_abort_of_an_answer_nobody_takes(desk: Callable[..., Any]) -> None:
    """What was written is not waited for without end."""
    made = desk()
    peer = made.connect()
    peer.send(GET)
    made.requests[0].start(200, b"")
    made.requests[0].write(b"x")
    peer.transport.unread = 10
    made.requests[0].abort()
    peer.wait(30)
    assert peer.transport.aborted


def test_half_closed(desk: Callable[..., Any]) -> None:
    """A client that only stops sending hears every answer, and then the end."""
    made = desk()
    peer = made.connect()
    peer.send(GET + GET)
    assert peer.protocol.eof_received()
    made.requests[0].reply(200, b"", b"one")
    assert b"connection: close" not in peer.out
    made.requests[1].reply(200, b"", b"two")
    assert peer.out.endswith(b"connection: close\r\n\r\ntwo")
    assert peer.transport.closed
    assert not peer.transport.aborted


@pytest.mark.parametrize(
    "sent", [b"", GET[:-2], b"POST" + GET[3:-2] + b"Content-Length: 5\r\n\r\n"]
)
def test_end_without_a_request(desk: Callable[..., Any], sent: bytes) -> None:
    """Nothing, or half a request, is no reason to keep the connection."""
    made = desk()
    peer = made.connect()
    peer.send(sent)
    assert not peer.protocol.eof_received()
    assert peer.transport.closed
    assert made.requests == []


def test_half_a_request_after_a_whole_one(desk: Callable[..., Any]) -> None:
    """The whole one is answered; the rest cannot come any more."""
    made = desk()
    peer = made.connect()
    peer.send(GET + GET[:9])
    assert peer.protocol.eof_received()
    made.requests[0].reply(200, b"", b"one")
    assert len(made.requests) == 1
    assert peer.transport.closed


def test_who_sends_no_more_is_asked(desk: Callable[..., Any]) -> None:
    """Until the answer begins, in growing intervals; a client that is gone then says so."""
    made = desk()
    peer = made.connect()
    peer.send(GET)
    peer.protocol.eof_received()
    assert peer.out == b""
    times = [0]
    for tick in range(1, 80):
        peer.wait(0.05)
        if peer.out != CONTINUE * (len(times) - 1):
            times.append(tick)
    assert peer.out == CONTINUE * (len(times) - 1)
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert len(gaps) in (6, 7)
    assert gaps == sorted(gaps)
    made.requests[0].start(200, b"")
    out = peer.out
    peer.wait(1000)
    made.requests[0].write(b"x")
    peer.wait(1000)
    assert peer.out == out + b"1\r\nx\r\n"


def test_who_hears_a_stream_is_asked_by_the_handler(desk: Callable[..., Any]) -> None:
    """It alone knows what means nothing to the reader; without it nothing is sent."""
    made = desk()
    peer = made.connect()
    peer.send(GET)
    (request,) = made.requests
    request.on_doubt = lambda: request.write(b": \n\n")
    request.start(200, b"")
    out = peer.out
    peer.wait(1000)
    assert peer.out == out
    peer.protocol.eof_received()
    peer.wait(0.06)
    peer.wait(0.06)
    assert peer.out == out + b"4\r\n: \n\n\r\n" * 2
    request.on_doubt = request.end
    peer.wait(1)
    assert peer.out.endswith(b"0\r\n\r\n")
    out = peer.out
    peer.wait(1)
    assert peer.out == out
    assert peer.transport.closed


def test_version_1_0_is_not_asked(desk: Callable[..., Any]) -> None:
    """It knows no interim answers."""
    made = desk()
    peer = made.connect()
    peer.send(OLD)
    peer.protocol.eof_received()
    peer.wait(1000)
    assert peer.out == b""
    made.requests[0].reply(200, b"", b"ok")
    assert peer.out.endswith(b"ok")


def test_a_client_that_never_closes(desk: Callable[..., Any]) -> None:
    """After the last answer it has a moment to hear it, then the connection is closed."""
    made = desk(answers=True, linger_seconds=2)
    peer = made.connect()
    peer.send(GET[:-2] + b"Connection: close\r\n\r\n")
    assert peer.transport.eof
    assert not peer.transport.closed
    peer.protocol.data_received(GET)
    peer.wait(2)
    assert peer.transport.closed
    assert len(made.requests) == 1
    peer.wait(30)
    assert peer.transport.aborted


def test_a_last_answer_that_is_taken_slowly(desk: Callable[..., Any]) -> None:
    """It is not cut while the client takes some of it."""
    made = desk(linger_seconds=2, unread_seconds=30)
    peer = made.connect()
    peer.send(GET[:-2] + b"Connection: close\r\n\r\n")
    peer.transport.unread = 500
    made.requests[0].reply(200, b"", b"x" * 500)
    for _ in range(4):
        peer.wait(29)
        assert not peer.transport.closed
        peer.transport.unread -= 1
        peer.wait(1)
    peer.wait(30)
    assert peer.transport.aborted


def test_drain(desk: Callable[..., Any]) -> None:
    """Idle connections close after a moment; what has come is answered, and then they close."""
    made = desk()
    idle, fresh, busy, ahead, half, late = (made.connect() for _ in range(6))
    idle.send(GET)
    made.requests[0].reply(200, b"", b"")
    busy.send(GET)
    ahead.send(GET + GET)
    half.send(GET[:9])
    with asyncio.Runner() as runner:
        drained = runner.get_loop().create_task(made.server.drain(60))
        runner.run(asyncio.sleep(0))
        assert not any(peer.over for peer in (idle, fresh, busy, ahead, half, late))
        late.send(GET)  # was on its way
        made.time.now += 0.2
        made.clock.tick()
        assert [peer.over for peer in (idle, fresh, busy, ahead, half, late)] == [True] * 2 + [
            False
        ] * 4
        half.send(GET[9:])
        assert len(made.requests) == 5
        for request in list(made.requests[1:]):
            request.reply(200, b"", b"")
        assert b"connection: close" not in ahead.out
        made.requests[-1].reply(200, b"", b"")
        newcomer = made.connect()
        newcomer.wait(0.2)
        for peer in (busy, ahead, half, late):
            assert peer.out.count(b"connection: close") == 1
        for peer in (idle, fresh, busy, ahead, half, late, newcomer):
            assert peer.over
            assert not peer.transport.aborted
            peer.lose()
        runner.run(asyncio.wait_for(drained, 5))
    assert made.clock.watched == 0


def test_drain_in_mid_stream(desk: Callable[..., Any]) -> None:
    """An answer that had promised more before is finished, and its connection closed."""
    made = desk()
    peer = made.connect()
    peer.send(GET)
    made.requests[0].start(200, b"")
    with asyncio.Runner() as runner:
        drained = runner.get_loop().create_task(made.server.drain(60))
        runner.run(asyncio.sleep(0))
        made.requests[0].write(b"x")
        made.requests[0].end()
        assert peer.out.endswith(b"1\r\nx\r\n0\r\n\r\n")
        peer.wait(0.2)
        assert peer.transport.closed
        peer.lose()
        runner.run(asyncio.wait_for(drained, 5))


def test_drain_does_not_wait_for_ever(desk: Callable[..., Any]) -> None:
    """What is not finished in time is cut, and its handler told."""
    made = desk()
    peer = made.connect()
    peer.send(GET)
    heard = Heard(made.requests[0])
    with asyncio.Runner() as runner:
        drained = runner.get_loop().create_task(made.server.drain(0))
        while not peer.transport.aborted:
            runner.run(asyncio.sleep(0))
        peer.lose()
        runner.run(asyncio.wait_for(drained, 5))
    assert heard.gone == 1
