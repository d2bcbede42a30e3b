"""Feeds any bytes to the server's side of the wire.

    python tests/fuzz/fuzz_requests.py tests/fuzz/inputs/requests

needs `atheris`. The suite runs `one_input` over the committed inputs, without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from typing import Any

import h11

if __name__ == "__main__":
    import atheris

    watched = atheris.instrument_imports(include=["turnout.serve.wire"])
else:
    watched = contextlib.nullcontext()

with watched:
    from turnout.serve.wire.clock import Clock
    from turnout.serve.wire.limits import Limits
    from turnout.serve.wire.server import Request, Server

LIMITS = Limits(head_bytes=4096, headers=30, body_bytes=2000, ahead_bytes=1000)
#: In what pieces a stream is fed; the first is all of it.
SIZES = (1 << 20, 1, 7)

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+").fullmatch
_VALUE = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*").fullmatch
_PATH = re.compile(r"/[!\"$->@-~]*").fullmatch

#: Method, target, headers, body.
Told = tuple[str, bytes, list[tuple[bytes, bytes]], bytes]


class Transport(asyncio.Transport):
    """Takes everything at once."""

    def __init__(self) -> None:
        super().__init__()
        self.out = b""
        self.over = False

    def write(self, data: Any) -> None:
        assert not self.over
        self.out += data

    def close(self) -> None:
        self.over = True

    abort = write_eof = close

    def can_write_eof(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        raise AssertionError("nothing waits for an answer here")


def read(stream: bytes, size: int) -> list[Told]:
    """The requests that are handed on; checks each of them, and the answers."""
    told: list[Told] = []

    def handle(request: Request) -> None:
        assert request.method.isupper()
        assert _PATH(request.path), request.path
        assert all(_NAME(name) and _VALUE(value) for name, value in request.headers)
        assert len(request.body) <= LIMITS.body_bytes
        target = request.path.encode() + (b"?" + request.query if request.query else b"")
        told.append((request.method, target, request.headers, request.body))
        request.reply(200, b"", b"ok")

    server = Server(handle, LIMITS, Clock())
    connection = server()
    transport = Transport()
    connection.connection_made(transport)
    for start in range(0, len(stream), size):
        if not transport.over:
            connection.data_received(stream[start : start + size])
    if not transport.over:
        connection.eof_received()
    connection.connection_lost(None)
    assert transport.out.count(b"HTTP/1.1 200 OK\r\n") == len(told)
    answers = transport.out.count(b"\r\n\r\n") - transport.out.count(b"100 Continue\r\n\r\n")
    assert answers == len(told) + server.refused
    assert server.refused <= 1
    assert server.open == server.body_bytes == 0
    return told


def by_h11(stream: bytes) -> list[tuple[str, bytes, bytes]]:
    """Method, target and body of what h11 takes from a stream."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(stream)
    taken: list[tuple[str, bytes, bytes]] = []
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                request, body = event, b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                taken.append((bytes(request.method).decode(), bytes(request.target), body))
                connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is not h11.DONE:
                    return taken
                connection.start_next_cycle()
            else:
                return taken
    except h11.ProtocolError:
        return taken


def one_input(data: bytes) -> None:
    """Whatever the bytes and however they are cut: the same requests, each one that h11 takes."""
    whole, *others = [read(data, size) for size in SIZES]
    assert all(other == whole for other in others)
    taken = by_h11(data)
    told = [(method, target, body) for method, target, _, body in whole]
    assert told == taken[: len(told)]


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
