"""Refusals of the wire are told to whoever wants to know: once each, by their status."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

HEAD = b"POST /a HTTP/1.1\r\nHost: x\r\n"
LIMITS = {"head_bytes": 100, "headers": 4, "body_bytes": 10, "bodies_bytes": 12, "connections": 2}


def heard(desk: Callable[..., Any], **limits: Any) -> tuple[Any, list[int]]:
    """A server, and what it has told."""
    told: list[int] = []
    return desk(on_refused=told.append, **{**LIMITS, **limits}), told


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (HEAD + b"A: " + b"b" * 100 + b"\r\n\r\n", 431),
        (HEAD + b"A: b\r\n" * 4 + b"\r\n", 431),
        (HEAD + b"Content-Length: 11\r\n\r\n", 413),
        (HEAD + b"Expect: 200-ok\r\nContent-Length: 1\r\n\r\n", 417),
    ],
)
def test_requests(desk: Callable[..., Any], sent: bytes, status: int) -> None:
    """Whatever is wrong is told once, and what comes after it not at all."""
    made, told = heard(desk)
    peer = made.connect()
    peer.send(sent)
    assert peer.status == status
    peer.protocol.data_received(sent)
    peer.lose()
    assert told == [status]
    assert made.server.refused == 1


@pytest.mark.parametrize("sent", [b"GET", HEAD + b"Content-Length: 2\r\n\r\n1"])
def test_slow_ones(desk: Callable[..., Any], sent: bytes) -> None:
    """A head or a body that does not come in time; not a connection on which nothing comes."""
    made, told = heard(desk)
    peer, idle = made.connect(), made.connect()
    peer.send(sent)
    peer.wait(40)
    assert peer.status == 408
    assert idle.out == b""
    assert told == [408]


def test_no_room(desk: Callable[..., Any]) -> None:
    """Neither for another connection nor for more bodies."""
    made, told = heard(desk)
    first, second, third = (made.connect() for _ in range(3))
    assert (third.status, told) == (503, [503])
    for peer in (first, second):
        peer.send(HEAD + b"Content-Length: 7\r\n\r\n1234567")
    assert (second.status, told) == (503, [503, 503])


def test_good_ones_and_clients_that_leave(desk: Callable[..., Any]) -> None:
    """Nothing is told of them."""
    made, told = heard(desk)
    made.answers = True
    first, second = made.connect(), made.connect()
    first.send(HEAD + b"Content-Length: 2\r\n\r\n12")
    second.send(b"GET")
    first.lose()
    second.lose()
    assert told == []


def test_a_listener_that_fails_does_no_harm(
    desk: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The client gets its answer all the same, and the log says where it was."""

    def fails(status: int) -> None:
        raise ValueError(status)

    peer = desk(on_refused=fails, **LIMITS).connect()
    with caplog.at_level(logging.ERROR, "turnout.serve"):
        peer.send(b"nonsense\r\n\r\n")
    assert peer.status == 400
    assert "on_refused failed: ValueError" in caplog.text
