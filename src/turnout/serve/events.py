"""Reads a streamed completion as it passes: its end, its errors, its usage, its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from turnout.serve import sse
from turnout.serve.errors import AnswerError

__all__ = ["StreamReader", "as_object"]


class StreamReader:
    """Turns the bytes of an upstream's event stream into bytes to pass on.

    Events pass as they are, never rebuilt; the usage event that nobody asked for is left out, and
    from an error on nothing passes.

    Parameters
    ----------
    keep_usage : bool
        Whether the client asked for the usage event; if not, it is read and left out.
    failed : callable
        Makes the failure of an error event from its data.

    Attributes
    ----------
    usage : object
        The last `usage` object told, as JSON gave it; None before.
    completion_id : str, optional
        The destination's name of the answer.
    events : int
        Events passed on that carry a piece of the answer: at least so many tokens were written.
    done : bool
        `data: [DONE]` has passed.
    failure : AnswerError, optional
        The upstream sent an error event; nothing after it is passed on.
    """

    __slots__ = (
        "_failed",
        "_keep_usage",
        "_named",
        "_splitter",
        "completion_id",
        "done",
        "events",
        "failure",
        "usage",
    )

    def __init__(self, *, keep_usage: bool, failed: Callable[[bytes], AnswerError]) -> None:
        self.usage: Any = None
        self.completion_id: str | None = None
        self.events = 0
        self.done = False
        self.failure: AnswerError | None = None
        self._keep_usage = keep_usage
        self._failed = failed
        self._named = False
        self._splitter = sse.Splitter()

    @property
    def pending(self) -> int:
        """Bytes held of an event that has not ended."""
        return len(self._splitter.rest)

    def feed(self, data: bytes) -> bytes:
        """What these bytes complete of the stream, to pass on; up to the end or an error."""
        if not self._splitter.rest:
            if not self._named:
                # the first event has to be read for the name, the others perhaps not
                end = data.find(b"\n\n") + 2
                if 2 <= end < len(data) and b"\r" not in data:
                    first = self._read(data[:end])
                    if self.done or self.failure is not None:
                        return first
                    more = self.feed if self._named else self._read
                    return first + more(data[end:])
            elif (plain := _plain(data)) == len(data):
                self.events += data.count(b"data:")
                return data
            elif plain:
                self.events += data.count(b"data:", 0, plain)
                return data[:plain] + self._read(data[plain:])
        return self._read(data)

    def _read(self, data: bytes) -> bytes:
        """As `feed`, taking every event apart."""
        kept: list[bytes] = []
        for event in self._splitter.feed(data):
            text = sse.payload(event)
            if text == sse.DONE:
                kept.append(event)
                self.done = True
                break
            if text:
                self.events += 1
                if self._left_out(text):
                    continue
                if self.failure is not None:
                    break
            kept.append(event)
        return b"".join(kept)

    def finish(self) -> bytes:
        """What is left when the upstream closed: an end mark without its blank line, or nothing."""
        if sse.payload(self._splitter.rest).strip() != sse.DONE:
            return b""
        self.done = True
        return self._splitter.rest + b"\n\n"

    def _left_out(self, text: bytes) -> bool:
        """Read an event if it may matter; True for the usage event that nobody asked for."""
        # inside a string these quotes are escaped
        if self._named and b'"usage"' not in text and b'"error"' not in text:
            return False
        fields = as_object(text) or {}
        if fields.get("error") is not None:
            self.failure = self._failed(text)
            return False
        if not self._named and isinstance(fields.get("id"), str):
            self.completion_id, self._named = fields["id"], True
        usage = fields.get("usage")
        if not isinstance(usage, dict):
            return False
        self.usage = usage
        if self._keep_usage or fields.get("choices"):
            return False
        self.events -= 1
        return True


def as_object(text: bytes) -> dict[str, Any] | None:
    """The JSON object in `text`, or None."""
    try:
        data = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return data if isinstance(data, dict) else None


def _plain(data: bytes) -> int:
    """How many bytes from the start are whole events of which none can matter, told at a look."""
    end = len(data)
    for mark in (b"[DONE]", b'"error"'):
        found = data.find(mark, 0, end)
        if found >= 0:
            end = found
    found = data.find(b'"usage"', 0, end)
    while found >= 0:
        if not data.startswith(b'"usage":null', found):
            end = found
            break
        found = data.find(b'"usage"', found + 12, end)
    if b"\r" in data:  # other ends of lines are rare, and are looked at one by one
        return end if end == len(data) and data.endswith(b"\r\n\r\n") else 0
    found = data.rfind(b"\n\n", 0, end)
    return found + 2 if found >= 0 else 0
