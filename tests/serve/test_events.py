"""Events of a stream pass through as they are, however the bytes come."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.serve.errors import AnswerError
from turnout.serve.events import StreamReader

ID = b'"id":"chatcmpl-1"'
EVENTS = {
    "piece": b'data: {%b,"choices":[{"delta":{"content":"a\\nb"}}]}' % ID,
    "told": b'data: {%b,"choices":[{"delta":{}}],"usage":null}' % ID,
    "usage": b'data: {%b,"choices":[],"usage":{"prompt_tokens":3}}' % ID,
    "quoted": b'data: {"choices":[{"delta":{"content":"\\"usage\\" and \\"error\\""}}]}',
    "unnamed": b'data: {"choices":[]}',
    "comment": b": ping",
    "named": b"event: message\ndata: {%b}" % ID,
    "error": b'data: {"error":{"message":"no"}}',
    "done": b"data: [DONE]",
    "says done": b'data: {"choices":[{"delta":{"content":"[DONE]"}}]}',
    "nothing": b"",
    "odd": b"data: not json",
}
ENDS = (b"\n\n", b"\n\n", b"\n\n", b"\r\n\r\n", b"\n\n\n")


def failed(text: bytes) -> AnswerError:
    return AnswerError("one", "error_event", "stream", text.decode(), "")


def read(pieces: list[bytes], keep_usage: bool) -> dict[str, Any]:
    reader = StreamReader(keep_usage=keep_usage, failed=failed)
    passed = b""
    for piece in pieces:
        passed += reader.feed(piece)
        if reader.done or reader.failure is not None:
            break
    else:
        passed += reader.finish()
    return {
        "passed": passed.rstrip(),  # an empty line too many is nothing, and passes when it may
        "usage": reader.usage,
        "id": reader.completion_id,
        "done": reader.done,
        "events": reader.events,
        "failure": reader.failure and str(reader.failure),
    }


@settings(max_examples=400)
@given(
    events=st.lists(st.tuples(st.sampled_from(sorted(EVENTS)), st.sampled_from(ENDS)), max_size=12),
    cuts=st.lists(st.integers(0, 400), max_size=6),
    keep_usage=st.booleans(),
)
def test_however_the_bytes_come(
    events: list[tuple[str, bytes]], cuts: list[int], keep_usage: bool
) -> None:
    """Many events at once are read as they are read byte by byte."""
    data = b"".join(EVENTS[name] + end for name, end in events)
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    pieces = [data[a:b] for a, b in pairwise(edges) if a < b]
    assert read(pieces, keep_usage) == read([data[i : i + 1] for i in range(len(data))], keep_usage)


def test_only_what_may_matter_is_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a burst the first event is read for its name and the last ones for what they tell."""
    seen: list[bytes] = []
    real = StreamReader._read

    def spied(self: StreamReader, data: bytes) -> bytes:
        seen.append(data)
        return real(self, data)

    monkeypatch.setattr(StreamReader, "_read", spied)
    names = ["piece", *["piece"] * 20, "usage", "done"]
    data = b"".join(EVENTS[name] + b"\n\n" for name in names)
    told = read([data], False)
    tail = EVENTS["usage"] + b"\n\n" + EVENTS["done"] + b"\n\n"
    assert seen == [EVENTS["piece"] + b"\n\n", tail]
    assert told["passed"] == data.replace(EVENTS["usage"] + b"\n\n", b"").rstrip()
    assert (told["usage"], told["events"], told["done"]) == ({"prompt_tokens": 3}, 21, True)
