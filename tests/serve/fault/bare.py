"""A strict client on a bare socket, with which the bad upstream itself is looked at."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import h11

from .payloads import WORDS
from .upstream import CERTIFICATE, BadUpstream

__all__ = ["ANSWER", "STREAM", "WITH_USAGE", "Answer", "Client", "asked", "client"]

ANSWER = "".join(WORDS)
STREAM = {"stream": True}
WITH_USAGE = {"stream": True, "stream_options": {"include_usage": True}}


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    chunks: list[bytes] = field(default_factory=list)
    informational: list[int] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def data(self) -> list[bytes]:
        """Payloads of the events."""
        lines = self.body.replace(b"\r\n", b"\n").split(b"\n")
        return [line[6:] for line in lines if line.startswith(b"data: ")]

    @property
    def text(self) -> str:
        choices = [json.loads(data)["choices"] for data in self.data if data != b"[DONE]"]
        return "".join(choice[0]["delta"].get("content", "") for choice in choices if choice)


class Client:
    """A client on a bare socket, strict about HTTP."""

    def __init__(self, url: str, raw: socket.socket) -> None:
        self.raw = raw
        self.path = urlsplit(url).path + "/chat/completions"
        self.parser = h11.Connection(h11.CLIENT)
        self.method = "POST"

    def ask(self, model: str = "good", **body: Any) -> Client:
        raw = json.dumps({"model": model, "messages": [], **body}).encode()
        return self.post(raw)

    def post(self, raw: bytes, length: int | None = None) -> Client:
        """Send a request, or only the first part of a longer one."""
        headers = [("host", "x"), ("content-length", str(len(raw) if length is None else length))]
        request = h11.Request(method="POST", target=self.path, headers=headers)
        self.raw.sendall(self.parser.send(request) or b"")
        self.raw.sendall(self.parser.send(h11.Data(data=raw)) or b"")
        if length is None:
            self.parser.send(h11.EndOfMessage())
        return self

    def answer(self) -> Answer:
        """The whole answer; `h11.RemoteProtocolError` where it is not whole or not HTTP."""
        answer = Answer(0, {})
        part = b""
        while True:
            found = self.parser.next_event()
            if found is h11.NEED_DATA:
                self.parser.receive_data(self.raw.recv(1 << 16))
            elif isinstance(found, h11.InformationalResponse):
                answer.informational.append(found.status_code)
            elif isinstance(found, h11.Response):
                answer.status = found.status_code
                answer.headers = {name.decode(): value.decode() for name, value in found.headers}
            elif isinstance(found, h11.Data):
                part += found.data
                if found.chunk_end or not found.chunk_start:
                    answer.chunks.append(part)
                    part = b""
            elif isinstance(found, h11.EndOfMessage):
                return answer

    def again(self) -> Client:
        """Ready for the next request on the same connection."""
        self.parser.start_next_cycle()
        return self

    def rest(self) -> bytes:
        """Everything until the end, as it is."""
        pieces = []
        while piece := self.raw.recv(1 << 16):
            pieces.append(piece)
        return b"".join(pieces)

    def nothing_more(self) -> bool:
        """Whether nothing has arrived that was not read."""
        self.raw.setblocking(False)
        try:
            self.raw.recv(1)
        except BlockingIOError:
            return True
        finally:
            self.raw.settimeout(10)
        return False


@contextmanager
def client(url: str) -> Iterator[Client]:
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as raw:
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=str(CERTIFICATE))
            with context.wrap_socket(raw, server_hostname=parts.hostname) as wrapped:
                yield Client(url, wrapped)
        else:
            yield Client(url, raw)


def asked(bad: BadUpstream, model: str, **body: Any) -> Answer:
    with client(bad.url) as made:
        return made.ask(model, **body).answer()
