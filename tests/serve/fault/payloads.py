"""What a bad upstream sends: heads, bodies, chunks and events, good and absurd."""

from __future__ import annotations

import json
from typing import Any

WORDS = tuple(f"word{number} " for number in range(19))
USAGE = {"prompt_tokens": 11, "completion_tokens": 19, "total_tokens": 30}
METADATA = "http://169.254.169.254/latest/meta-data/"
ABSURD: dict[str, Any] = {
    "negative": {"prompt_tokens": -11, "completion_tokens": -19, "total_tokens": -30},
    "text": {"prompt_tokens": "11", "completion_tokens": "many", "total_tokens": "30"},
    "huge": {"prompt_tokens": 1e300, "completion_tokens": 1e300, "total_tokens": 1e300},
    "large": {"prompt_tokens": 10**30, "completion_tokens": 10**30, "total_tokens": 10**30},
    "fraction": {"prompt_tokens": 1.5, "completion_tokens": 2.5, "total_tokens": 4.0},
    "null": {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None},
    "list": [11, 19],
    "empty": {},
}


def head(status: int = 200, *lines: str, kind: str = "application/json") -> bytes:
    """Status line and headers; `lines` say how the body ends."""
    told = "\r\n".join((f"HTTP/1.1 {status} Whatever", f"content-type: {kind}", *lines))
    return told.encode() + b"\r\n\r\n"


def stream_head(*lines: str) -> bytes:
    return head(200, *(lines or ("transfer-encoding: chunked",)), kind="text/event-stream")


def whole(body: bytes, status: int = 200, *lines: str) -> bytes:
    return head(status, f"content-length: {len(body)}", *lines) + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"


def event(data: Any, end: bytes = b"\n") -> bytes:
    text = data if isinstance(data, bytes) else json.dumps(data).encode()
    return b"data: " + text + end + end


DONE = event(b"[DONE]")


def completion(usage: Any = USAGE) -> dict[str, Any]:
    message = {"role": "assistant", "content": "".join(WORDS)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    made = {"id": "chatcmpl-bad", "object": "chat.completion", "created": 1, "model": "bad"}
    return {**made, "choices": [choice], **({} if usage is None else {"usage": usage})}


def piece(delta: dict[str, str], finish: str | None = None, **more: Any) -> dict[str, Any]:
    made = {"id": "chatcmpl-bad", "object": "chat.completion.chunk", "created": 1, "model": "bad"}
    return {**made, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


def events(usage: Any = None, end: bytes = b"\n") -> list[bytes]:
    """A stream of 22 events, `[DONE]` included; one more where `usage` is told."""
    pieces = [piece({"role": "assistant", "content": ""})]
    pieces += [piece({"content": word}) for word in WORDS]
    pieces += [piece({}, "stop")]
    if usage is not None:
        pieces += [{**piece({}), "choices": [], "usage": usage}]
    return [event(data, end) for data in pieces] + [event(b"[DONE]", end)]


def error(message: str, code: Any) -> bytes:
    told = {"error": {"message": message, "type": "upstream", "code": code}}
    return json.dumps(told).encode()
