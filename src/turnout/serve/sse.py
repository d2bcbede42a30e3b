"""Server-sent events, cut out of a byte stream without changing a byte of them."""

from __future__ import annotations

import re

__all__ = ["DONE", "Splitter", "event", "payload"]

#: The payload that ends a stream.
DONE = b"[DONE]"

_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_LINE = re.compile(rb"\r\n|\n|\r")


class Splitter:
    """Collects bytes and gives back whole events, their closing blank line included.

    Attributes
    ----------
    rest : bytes
        What arrived of an event that has not ended.
    """

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The events that `data` completes."""
        searched = max(0, len(self.rest) - 3)  # an end may lie across the seam
        buffer = self.rest + data
        events, start = [], 0
        for end in _END.finditer(buffer, searched):
            events.append(buffer[start : end.end()])
            start = end.end()
        self.rest = buffer[start:]
        return events


def payload(event: bytes) -> bytes:
    """The data of an event: its `data:` lines, joined; empty for a comment."""
    lines = [line[5:] for line in _LINE.split(event) if line.startswith(b"data:")]
    return b"\n".join(line.removeprefix(b" ") for line in lines)


def event(data: bytes) -> bytes:
    """An event that carries one line of data."""
    return b"data: " + data + b"\n\n"
