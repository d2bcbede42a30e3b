"""What the wire refuses before it is a whole request is counted, as everything else."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from turnout.serve import build
from turnout.serve.config import Config
from turnout.serve.guard.key import KeyLimits
from turnout.serve.money.store import Store

from .records import series
from .rig import Gateway, ask, make_keys, serving, until

Serve = Callable[..., AbstractContextManager[Gateway]]

BODY = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"


def connected(gateway: Gateway) -> socket.socket:
    parts = urlsplit(gateway.url)
    return socket.create_connection((parts.hostname, parts.port), timeout=20)


def status(connection: socket.socket) -> int:
    """Of the answer, once the server has closed."""
    got = b""
    while piece := connection.recv(65_536):
        got += piece
    return int(got[9:12])


def counted(gateway: Gateway) -> tuple[dict[str, float], dict[str, float]]:
    return series(gateway, "requests_total"), series(gateway, "refused_total")


@pytest.mark.parametrize(
    ("sent", "answer", "reason"),
    [
        (b"nonsense\r\n\r\n", 400, "malformed"),
        (HEAD + b"Expect: 200-ok\r\nContent-Length: 1\r\n\r\n", 417, "malformed"),
        (HEAD + b"A: " + b"b" * 1000 + b"\r\n\r\n", 431, "too_large"),
        (HEAD + b"Content-Length: 1001\r\n\r\n", 413, "too_large"),
        (HEAD + b"Content-Length: 901\r\n\r\n" + b" " * 901, 503, "full"),
        (b"GET", 408, "slow"),
        (HEAD + b"Content-Length: 5\r\n\r\n1", 408, "slow"),
    ],
)
def test_each_refusal_counts_once(serve: Serve, sent: bytes, answer: int, reason: str) -> None:
    """By its status and without a destination, and by its reason; a good request as before."""
    limits = "head_bytes = 500\nbody_bytes = 1000\nbodies_bytes = 900\n"
    times = "head_seconds = 0.1\nbody_seconds = 0.1"
    with serve("good", limits=limits + times) as gateway:
        for turn in (1, 2):
            with closing(connected(gateway)) as connection:
                connection.sendall(sent)
                assert status(connection) == answer
            told = f'destination="none",status="{answer}"'
            assert counted(gateway) == ({told: turn}, {f'reason="{reason}"': turn})
        assert gateway.chat("good").status == 200
        assert counted(gateway)[0] == {told: 2, 'destination="good",status="200"': 1}
        assert gateway.get("/admin/state").json["refused"] == 2


def test_a_connection_too_many_counts(serve: Serve) -> None:
    """It is refused before it has said anything."""
    with serve("good", limits="connections = 2") as gateway:
        with ExitStack() as stack:
            for _ in range(2):
                stack.enter_context(closing(connected(gateway)))
            until(lambda: gateway.worker._server.open == 2)
            with closing(connected(gateway)) as third:
                assert status(third) == 503
        until(lambda: gateway.worker._server.open == 0)
        told = {'destination="none",status="503"': 1}
        assert counted(gateway) == (told, {'reason="full"': 1})


def test_more_limits_than_the_shared_memory_holds(
    make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is one too many is told that there is no room, not that the gateway is broken."""
    monkeypatch.setattr(build, "Store", partial(Store, rates=1))
    limits = KeyLimits(requests_per_minute=60)
    secrets = make_keys(tmp_path, alice={"limits": limits}, bob={"limits": limits})
    config = make_config(more='[keys]\nfile = "keys.json"')
    with serving(config, build.build) as gateway:
        for name, status in (("alice", 200), ("bob", 503), ("alice", 200)):
            answer = ask(
                gateway.url, body=BODY, headers={"authorization": f"Bearer {secrets[name]}"}
            )
            assert answer.status == status
            if status == 503:
                assert answer.json["error"]["code"] == "ledger_full"
                assert answer.headers["retry-after"] == "1"
