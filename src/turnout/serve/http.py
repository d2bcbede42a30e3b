"""The few things done with a bare ASGI connection."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import Receive, Scope, Send

from turnout.serve.errors import AnswerError, RequestError, body, status_of
from turnout.serve.upstream import JSON

__all__ = ["Gone", "disconnected", "read_body", "send_error", "send_json", "start"]

#: Header names and values as ASGI wants them.
Headers = Iterable[tuple[bytes, bytes]]


class Gone(Exception):  # noqa: N818 - a fact, not a failure
    """The client went away."""


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole request body.

    Raises
    ------
    RequestError
        It is longer than `limit` bytes; status 413.
    Gone
        The client went away before its end.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > limit:
            raise _too_long(limit, int(value))
    pieces, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        piece = message.get("body", b"")
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise _too_long(limit, size)
        if not message.get("more_body", False):
            return b"".join(pieces)


async def disconnected(receive: Receive) -> None:
    """Return once the client has gone away; for after its body was read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def start(send: Send, status: int, content_type: str, headers: Headers = ()) -> None:
    """Send status and headers."""
    kind = (b"content-type", content_type.encode())
    await send({"type": "http.response.start", "status": status, "headers": [kind, *headers]})


async def send_json(send: Send, status: int, data: bytes, headers: Headers = ()) -> None:
    """Send a whole JSON answer."""
    length = (b"content-length", str(len(data)).encode())
    await start(send, status, JSON, [length, *headers])
    await send({"type": "http.response.body", "body": data})


async def send_error(send: Send, error: BaseException, headers: Headers = ()) -> None:
    """Send an error in OpenAI's shape with the status that tells of it."""
    extra = error.headers if isinstance(error, AnswerError) else {}
    passed = [(name.encode(), value.encode("latin-1")) for name, value in extra.items()]
    await send_json(send, status_of(error), body(error), [*headers, *passed])


def _too_long(limit: int, size: int) -> RequestError:
    hint = "Shorten it, or raise server.max_body_bytes in the configuration."
    rule = f"be at most {limit} bytes"
    return RequestError("body", rule, size, hint, status=413, code="body_too_long")
