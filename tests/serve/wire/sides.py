"""One stream of bytes, read by this server and by h11."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import h11

#: Method, target, headers, body.
Message = tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes]

GET = b"GET /a?b HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"


def ours(desk: Callable[..., Any], pieces: list[bytes]) -> tuple[list[Message], bool]:
    """The requests that are handed on, and whether an error was told."""
    made = desk(answers=True)
    peer = made.connect()
    peer.send(*pieces)
    if not peer.over:
        peer.protocol.eof_received()
    peer.lose()
    messages = [
        (
            request.method.encode(),
            request.path.encode() + (b"?" + request.query if request.query else b""),
            # h11 tells codings in small letters
            [
                (name, value.lower() if name == b"transfer-encoding" else value)
                for name, value in request.headers
            ],
            request.body,
        )
        for request in made.requests
    ]
    return messages, made.server.refused > 0


def theirs(stream: bytes) -> list[Message]:
    """What h11 takes from a stream, as a server that answers each request at once."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(stream)
    connection.receive_data(b"")
    messages: list[Message] = []
    request: Any = None
    body = b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                request, body = event, b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                headers = [(bytes(name), bytes(value)) for name, value in request.headers]
                messages.append((bytes(request.method), bytes(request.target), headers, body))
                connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is not h11.DONE:
                    return messages
                connection.start_next_cycle()
            else:
                return messages
    except h11.ProtocolError:
        return messages
