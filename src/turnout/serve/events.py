"""Reads a streamed completion as it passes: its end, its errors, its usage, its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from turnout.serve import sse
from turnout.serve.errors import AnswerError
from turnout.serve.upstream import Chunk, Usage

__all__ = ["StreamReader", "as_object"]


class StreamReader:
    """Turns the bytes of an upstream's event stream into chunks to pass on.

    Parameters
    ----------
    keep_usage : bool
        Whether the client asked for the usage event; if not, it is read and left out.
    usage_of : callable
        Prices the `usage` object of a completion.
    failed : callable
        Makes the failure of an error event from its data.

    Attributes
    ----------
    done : bool
        `data: [DONE]` has passed.
    failure : AnswerError, optional
        The upstream sent an error event; nothing after it is passed on.
    """

    def __init__(
        self,
        *,
        keep_usage: bool,
        usage_of: Callable[[Any], Usage],
        failed: Callable[[bytes], AnswerError],
    ) -> None:
        self.done = False
        self.failure: AnswerError | None = None
        self._keep_usage = keep_usage
        self._usage_of = usage_of
        self._failed = failed
        self._named = False
        self._splitter = sse.Splitter()

    @property
    def pending(self) -> int:
        """Bytes held of an event that has not ended."""
        return len(self._splitter.rest)

    def feed(self, data: bytes) -> Chunk:
        """The whole events that these bytes complete, up to the end or an error."""
        kept: list[bytes] = []
        usage: Usage | None = None
        name: str | None = None
        for event in self._splitter.feed(data):
            text = sse.payload(event)
            if text == sse.DONE:
                kept.append(event)
                self.done = True
                break
            # Only events that may matter are parsed; inside a string these quotes are escaped.
            if text and (not self._named or b'"usage"' in text or b'"error"' in text):
                fields = as_object(text) or {}
                if fields.get("error") is not None:
                    self.failure = self._failed(text)
                    break
                if not self._named and isinstance(fields.get("id"), str):
                    name, self._named = fields["id"], True
                if isinstance(fields.get("usage"), dict):
                    usage = self._usage_of(fields["usage"])
                    if not self._keep_usage and not fields.get("choices"):
                        continue
            kept.append(event)
        return Chunk(data=b"".join(kept), usage=usage, completion_id=name, last=self.done)

    def finish(self) -> bytes:
        """What is left when the upstream closed: an end mark without its blank line, or nothing."""
        if sse.payload(self._splitter.rest).strip() != sse.DONE:
            return b""
        self.done = True
        return self._splitter.rest + b"\n\n"


def as_object(text: bytes) -> dict[str, Any] | None:
    """The JSON object in `text`, or None."""
    try:
        data = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return data if isinstance(data, dict) else None
