"""Clients that go away in the worst moments: nothing stays open for them, and nobody else waits."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest

from .rig import PROMPT, Gateway, until
from .upstream import BadUpstream

Serve = Callable[..., AbstractContextManager[Gateway]]


class Gone:
    """A request whose client leaves as soon as the gateway listens for that."""

    method, path, http_version, client, query = "POST", "/v1/chat/completions", "1.1", "x", b""
    started = True

    def __init__(self, model: str) -> None:
        message = {"role": "user", "content": PROMPT}
        self.body = orjson.dumps({"model": model, "messages": [message]})
        self.answers: list[Any] = []

    def header(self, _: bytes) -> None:
        return None

    def reply(self, *told: Any) -> None:
        self.answers.append(told)

    def abort(self) -> None:
        self.answers.append("aborted")

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if name == "on_gone" and value is not None:
            value()


def test_a_client_that_leaves_before_its_request_begins_to_run(
    serve: Serve, bad: BadUpstream
) -> None:
    """Its task is cancelled unbegun: its books are closed all the same, at no cost."""
    with serve("good") as gateway:

        async def come_and_go() -> None:
            gateway.worker._front(Gone("good"))  # type: ignore[arg-type]
            tasks = list(gateway.worker._front._tasks)
            await asyncio.gather(*tasks, return_exceptions=True)

        gateway.run(come_and_go())
        until(lambda: gateway.desk.gate.in_hand == 0)
        gateway.desk.books.ledger.flush()
        (row,) = gateway.rows()
        assert (row["status"], row["tries"], row["cost_usd"]) == (499, 0, 0.0)
        assert gateway.reserved() == 0
    assert not bad.seen


def message(model: str, stream: bool) -> bytes:
    body = orjson.dumps(
        {"model": model, "stream": stream, "messages": [{"role": "user", "content": PROMPT}]}
    )
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


@pytest.mark.parametrize("reset", [False, True])
def test_clients_that_ask_for_much_and_leave(serve: Serve, reset: bool) -> None:
    """Several requests sent ahead on one connection, which then ends, in order or not."""
    models = [("good", True), ("paced:0.001", True), ("good", False), ("silent", False)]
    with serve("good", "silent", "paced:0.001") as gateway:
        parts = urlsplit(gateway.url)
        for turn in range(60):
            with closing(
                socket.create_connection((parts.hostname, parts.port), timeout=20)
            ) as made:
                kinds = models[turn % 4 :] + models[: turn % 4]
                made.sendall(b"".join(message(*kind) for kind in kinds))
                if turn % 3 and kinds[0][0] != "silent":
                    made.recv(1 << (turn % 12))
                if reset:
                    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        until(lambda: gateway.desk.gate.in_hand == 0)
        assert gateway.chat("good").status == 200
