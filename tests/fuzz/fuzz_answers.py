"""Feeds any bytes to the client's side of the wire, as the answer of an upstream.

    python tests/fuzz/fuzz_answers.py tests/fuzz/inputs/answers

needs `atheris`. The suite runs `one_input` over the committed inputs, without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Sequence
from typing import Any

if __name__ == "__main__":
    import atheris

    watched = atheris.instrument_imports(include=["turnout.serve.wire"])
else:
    watched = contextlib.nullcontext()

with watched:
    from turnout.serve.wire.client import Failure, Origin, Times
    from turnout.serve.wire.clock import Clock
    from turnout.serve.wire.limits import Limits
    from turnout.serve.wire.link import Link

LIMITS = Limits(answer_head_bytes=4096, answer_bytes=2000)
#: In what pieces an answer is fed; the first is all of it.
SIZES = (1 << 20, 1, 7)
KINDS = {"closed", "protocol", "too_large"}


class Transport(asyncio.Transport):
    """Takes everything at once."""

    def __init__(self) -> None:
        super().__init__()
        self.over = False

    def write(self, data: Any) -> None:
        assert not self.over

    def close(self) -> None:
        self.over = True

    abort = close

    def is_closing(self) -> bool:
        return self.over

    def get_write_buffer_size(self) -> int:
        return 0


class Ears:
    """Checks the order of what it hears."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.ended = False
        self.failure: Failure | None = None

    def head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        assert not self.status
        assert not self.ended
        assert 200 <= status <= 999
        self.status, self.headers = status, list(headers)

    def data(self, data: bytes) -> None:
        assert data
        assert self.status
        assert not self.ended
        self.body += data

    def end(self, failure: Failure | None) -> None:
        assert not self.ended
        self.ended, self.failure = True, failure


def hear(answer: bytes, size: int) -> tuple[Any, ...]:
    """What a receiver hears of an answer, and whether the connection is kept after it."""
    clock = Clock()
    origin = Origin(
        "http://127.0.0.1:1",
        times=Times(),
        limits=LIMITS,
        clock=clock,
        address_ok=lambda address: False,
    )
    link, transport, heard = Link(origin), Transport(), Ears()
    link.connection_made(transport)
    origin.put_back(link)
    origin.post(b"/", b"", b"x", heard)
    for start in range(0, len(answer), size):
        if not transport.over:
            link.data_received(answer[start : start + size])
    kept = origin.idle == 1
    assert kept <= (heard.ended and heard.failure is None and not transport.over)
    if not transport.over:
        link.eof_received()
    link.connection_lost(None)
    assert heard.ended
    assert clock.watched == origin.open == origin.idle == 0
    if heard.failure is not None:
        assert heard.failure.kind in KINDS
        assert heard.failure.began == (heard.status > 0)
    assert len(heard.body) <= LIMITS.answer_bytes
    kind = None if heard.failure is None else heard.failure.kind
    body = heard.body if kind is None else b""
    return heard.status, heard.headers, body, kind, kept


def one_input(data: bytes) -> None:
    """Whatever the bytes: one end, nothing after it, and the same however they are cut."""
    whole, *others = [hear(data, size) for size in SIZES]
    for other in others:
        # bytes after the end that come later find the connection idle, and close it then
        assert other[:3] == whole[:3] or "too_large" in (other[3], whole[3])
        assert other[3] == whole[3]


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
