"""A small answer, time limits that tell one from another, and time that passes."""

from __future__ import annotations

from typing import Any

from turnout.serve.wire.client import Times

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
HELLO = HEAD + b"hello"
TIMES = Times(connect=1, headers=10, first=20, idle=30, total=100)


def pass_time(origin: Any, time: Any, seconds: float) -> None:
    time.now += seconds
    origin.clock.tick()
