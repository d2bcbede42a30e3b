"""The upstream of streams, and of everything where nginx is missing, in `gateway.py`.

    python benchmarks/_gateway_upstream.py PORT

An OpenAI-compatible server that answers every chat completion the same: whole ones with `REPLY`,
streamed ones with `EVENTS`, each event in a system call of its own. Where a request holds the word
`PACED` its events come one every `PACE` seconds, else as fast as they can be written. The rest of
what it is asked for (health, models) is answered as an idle server would.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import sys
from typing import Any

import httptools
import uvloop

CONTENT = "A switch sends each train down one track, and the signal box counts both."
USAGE = {"prompt_tokens": 77, "completion_tokens": 18, "total_tokens": 95}
PACED = "pacedpacedpaced"
PACE = 0.005
MODELS = (
    b'{"object":"list","data":[{"id":"bench","object":"model","created":1,"owned_by":"bench"}]}'
)
#: Bytes of a whole answer.
SIZE = 324


def _reply() -> bytes:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": CONTENT},
        "finish_reason": "stop",
    }
    head = {"object": "chat.completion", "created": 1700000000, "model": "bench"}
    body = {"id": "chatcmpl-", **head, "choices": [choice], "usage": USAGE}
    body["id"] = "chatcmpl-".ljust(9 + SIZE - len(_json(body)), "0")
    return _json(body)


def _events() -> tuple[bytes, ...]:
    """One role, 18 pieces of text, one reason to finish, one usage, one end."""
    cuts = [len(CONTENT) * i // 18 for i in range(19)]
    pieces = [CONTENT[start:stop] for start, stop in itertools.pairwise(cuts)]
    chunks = [_chunk({"role": "assistant", "content": ""})]
    chunks += [_chunk({"content": piece}) for piece in pieces]
    chunks.append(_chunk({}, finish="stop"))
    chunks.append({**_chunk({}), "choices": [], "usage": USAGE})
    return (*(b"data: " + _json(chunk) + b"\n\n" for chunk in chunks), b"data: [DONE]\n\n")


def _chunk(delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
    head = {"id": "chatcmpl-0", "object": "chat.completion.chunk", "created": 1700000000}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {**head, "model": "bench", "choices": [choice]}


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


REPLY = _reply()
EVENTS = _events()
STREAM = b"".join(EVENTS)

_WHOLE = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(REPLY)
) + REPLY
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
# the first event goes with the head, and the end with the last event: as servers do it
_WRITES = [b"%x\r\n%b\r\n" % (len(event), event) for event in EVENTS]
_WRITES = [_HEAD + _WRITES[0], *_WRITES[1:-1], _WRITES[-1] + b"0\r\n\r\n"]


class Answers(asyncio.Protocol):
    """One connection; its requests are answered one after the other."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport: Any = transport  # uvloop's is no subclass of asyncio.Transport
        self.loop = asyncio.get_running_loop()
        self.file = transport.get_extra_info("socket").fileno()
        self.gone = False
        self.parser = httptools.HttpRequestParser(self)
        self.body: list[bytes] = []
        self.path = b""

    def connection_lost(self, exc: Exception | None) -> None:
        """Write no more."""
        self.gone = True

    def data_received(self, data: bytes) -> None:
        """Some of a request."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            raise  # a mistake of this file
        except httptools.HttpParserError:
            self.transport.close()

    def on_message_begin(self) -> None:
        """A new one."""
        self.body = []

    def on_url(self, url: bytes) -> None:
        """Where to."""
        self.path = url

    def on_body(self, body: bytes) -> None:
        """Some of its body."""
        self.body.append(body)

    def on_message_complete(self) -> None:
        """Answer it."""
        body = b"".join(self.body)
        if not self.path.endswith(b"/chat/completions"):
            told = MODELS if self.path.endswith(b"/models") else b"{}"
            head = (
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            )
            self.transport.write(head % len(told) + told)
        elif b'"stream":true' not in body and b'"stream": true' not in body:
            self.transport.write(_WHOLE)
        elif PACED.encode() in body:
            self.step(0)
        else:
            for data in _WRITES:
                self.send(data)

    def step(self, i: int) -> None:
        """One event now, the next in its time."""
        if not self.gone:
            self.send(_WRITES[i])
            if i + 1 < len(_WRITES):
                self.loop.call_later(PACE, self.step, i + 1)

    def send(self, data: bytes) -> None:
        """Write at once: the transport would join what is written in one turn of the loop."""
        if self.gone or self.transport.is_closing():
            return
        if self.transport.get_write_buffer_size() == 0:
            try:
                data = data[os.write(self.file, data) :]
            except BlockingIOError:
                pass
            except OSError:
                self.transport.abort()
                return
        if data:
            self.transport.write(data)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Answers, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_serve(int(sys.argv[1])))
