"""Time, turns and bytes: what a request may take, and what it meets at each bound."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from turnout.core import ConfigError
from turnout.serve.config import parse
from turnout.serve.wire.client import Origin

from .payloads import WORDS
from .rig import Gateway, configure, opened, serving, table, until
from .upstream import BadUpstream

ANSWER = "".join(WORDS)
Serve = Callable[..., AbstractContextManager[Gateway]]


# --- time -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "name", "stream", "status", "code"),
    [
        ("connect_timeout_seconds", "unreachable", True, 504, "connect_timeout"),
        ("connect_timeout_seconds", "tls-hangs", False, 504, "connect_timeout"),
        ("headers_timeout_seconds", "silent", True, 504, "headers_timeout"),
        ("first_token_timeout_seconds", "headers-only", True, 504, "first_token_timeout"),
        ("idle_timeout_seconds", "paced", True, 200, "idle_timeout"),
        ("idle_timeout_seconds", "slow-body", False, 504, "idle_timeout"),
        ("timeout_seconds", "silent", False, 504, "timeout"),
        ("timeout_seconds", "silent", True, 504, "timeout"),
        ("timeout_seconds", "unreachable", True, 504, "timeout"),
        ("timeout_seconds", "headers-only", False, 504, "timeout"),
        ("timeout_seconds", "slow-body:0.02", False, 504, "timeout"),
        ("timeout_seconds", "paced:0.02", True, 200, "timeout"),
    ],
)
def test_each_time_limit_on_its_own(
    serve: Serve, bad: BadUpstream, limit: str, name: str, stream: bool, status: int, code: str
) -> None:
    """With all others long, this one ends the request, says which, and lets the upstream go."""
    with serve(name, "good", entries={name: f"{limit} = 0.15"}) as gateway:
        answer = gateway.chat(name, stream=stream)
        assert (answer.status, answer.code, answer.done) == (status, code, False)
        assert gateway.row(answer)["error_type"] == code
        if name in bad.counts:
            bad.wait_for_closed(1)


# --- turns ----------------------------------------------------------------------------------


def test_a_full_queue_refuses_at_once(serve: Serve, bad: BadUpstream) -> None:
    """One in progress, one in the queue; the third is told when to come back, or falls back."""
    one = "parallel = 1\nqueue = 1"
    with serve("silent", "good", entries={"silent": one}) as gateway:
        with contextlib.ExitStack() as stack:
            stack.enter_context(closing(opened(gateway, "silent")))
            bad.wait_for_requests(1)
            stack.enter_context(closing(opened(gateway, "silent")))
            until(lambda: gateway.desk.gate.waiting("silent") == 1)
            answer = gateway.chat("silent")
            assert (answer.status, answer.code) == (503, "queue")
            assert int(answer.headers["retry-after"]) >= 1
            assert gateway.row(answer)["cost_usd"] == 0
            assert gateway.chat("silent>good", stream=True).done
        until(lambda: gateway.desk.gate.in_hand == 0)
        assert gateway.desk.gate.waiting() == 0
    assert bad.counts == {"silent": 1, "good": 1}


def test_a_wait_that_is_too_long_ends(serve: Serve, bad: BadUpstream) -> None:
    """Whoever waits for its turn is not left waiting; the same error, the same header."""
    load = "longest_wait_seconds = 0.05"
    with (
        serve("silent", entry="parallel = 1", load=load) as gateway,
        closing(opened(gateway, "silent")),
    ):
        bad.wait_for_requests(1)
        answer = gateway.chat("silent")
        assert (answer.status, answer.code) == (503, "queue")
        assert int(answer.headers["retry-after"]) >= 1
    assert bad.counts == {"silent": 1}


def test_more_than_the_gateway_takes_in_hand_is_shed(serve: Serve, bad: BadUpstream) -> None:
    """Also before anything is decided; and the turn of one that left is free again."""
    with serve("silent", "good", load="in_hand = 1") as gateway:
        with closing(opened(gateway, "silent")):
            bad.wait_for_requests(1)
            answer = gateway.chat("good")
            assert (answer.status, answer.code) == (503, "overloaded")
            assert int(answer.headers["retry-after"]) >= 1
        until(lambda: gateway.desk.gate.in_hand == 0)
        assert gateway.chat("good").status == 200


def test_turns_are_given_to_all_of_many(serve: Serve, bad: BadUpstream) -> None:
    """Through one turn at a time, all that wait get their answer."""
    from concurrent.futures import ThreadPoolExecutor

    with serve("good", entry="parallel = 1") as gateway, ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda i: gateway.chat("good", stream=i % 2 > 0), range(60)))
        assert {answer.status for answer in answers} == {200}
    assert bad.counts == {"good": 60}


@pytest.mark.parametrize(
    ("name", "stream"), [("silent", False), ("silent", True), ("endless", True), ("paced", True)]
)
def test_a_client_that_leaves_stops_the_upstream(
    serve: Serve, bad: BadUpstream, name: str, stream: bool
) -> None:
    """The connection to the upstream is closed, the turn is free, the ledger says who left."""
    with serve(name) as gateway:
        with closing(opened(gateway, name, stream=stream)) as connection:
            bad.wait_for_requests(1)
            if name != "silent":
                assert connection.recv(12) == b"HTTP/1.1 200"
        bad.wait_for_closed(1)
        until(lambda: gateway.desk.gate.in_hand == 0)
    (row,) = gateway.rows()
    assert (row["status"], row["error_type"]) == (499, "client_disconnected")
    assert row["cost_pico"] > 0  # the upstream had been asked


# --- bytes ----------------------------------------------------------------------------------


def received(gateway: Gateway) -> int:
    """Bytes that have come from upstreams."""
    upstreams: Any = gateway.worker._parts.upstreams.values()
    return sum(origin.bytes_in for upstream in upstreams for origin in upstream._origins)


@pytest.mark.parametrize("name", ["gigabyte", "gigabyte:length"])
def test_an_endless_answer_is_cut(serve: Serve, name: str) -> None:
    """No more is read than the limit and what one read brings."""
    with serve(name, limits="answer_bytes = 1_000_000") as gateway:
        answer = gateway.chat(name)
        assert (answer.status, answer.code) == (502, "bad_reply")
        assert received(gateway) < 2_000_000


def test_an_event_without_an_end_is_cut(serve: Serve) -> None:
    """A stream is not kept in memory until its events end."""
    with serve("huge-event:30000000", limits="answer_bytes = 1_000_000") as gateway:
        answer = gateway.chat("huge-event:30000000", stream=True)
        assert (answer.status, answer.code, answer.done) == (200, "bad_reply", False)
        assert received(gateway) < 2_000_000


def test_a_client_that_does_not_read_holds_the_upstream_back(
    serve: Serve, bad: BadUpstream
) -> None:
    """An endless stream stops flowing when nobody takes it; in the end the client is cut off."""
    with serve("endless", limits="unread_seconds = 0.3") as gateway:
        with closing(opened(gateway, "endless", stream=True)):
            bad.wait_for_closed(1)
        # what the buffers of two connections hold
        assert received(gateway) < 32_000_000
        until(lambda: gateway.desk.gate.in_hand == 0)
    (row,) = gateway.rows()
    assert (row["status"], row["error_type"]) == (499, "client_disconnected")


@pytest.mark.parametrize("how", ["length", "chunked"])
def test_an_endless_question_is_cut(serve: Serve, bad: BadUpstream, how: str) -> None:
    """By what its head says, or as soon as it is too much; nothing of it is kept or sent on."""
    with serve("good", limits="body_bytes = 1_000_000") as gateway:
        parts = urlsplit(gateway.url)
        with socket.create_connection((parts.hostname, parts.port), timeout=20) as connection:
            says = {"length": f"content-length: {1 << 34}", "chunked": "transfer-encoding: chunked"}
            head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n{says[how]}\r\n\r\n"
            connection.sendall(head.encode())
            piece = b"10000\r\n" + b" " * 65_536 + b"\r\n"
            with contextlib.suppress(OSError):
                while how == "chunked":
                    connection.sendall(piece)
                    connection.settimeout(0.001)
                    with contextlib.suppress(TimeoutError):
                        if connection.recv(1, socket.MSG_PEEK):
                            break
                    connection.settimeout(20)
            connection.settimeout(20)
            assert connection.recv(12) == b"HTTP/1.1 413"
        until(lambda: gateway.worker._server.body_bytes == 0)
        assert gateway.worker._server.bytes_in < 8_000_000
        assert gateway.chat("good").status == 200
    assert len(bad.seen) == 1


def test_many_large_questions_at_once_are_bounded_together(serve: Serve, bad: BadUpstream) -> None:
    """What does not fit into the room for all bodies is refused; it fits when one has gone."""
    limits = "body_bytes = 500_000\nbodies_bytes = 500_000"
    with serve("good", "silent", limits=limits) as gateway:
        with closing(opened(gateway, "silent", text="x" * 300_000)):
            bad.wait_for_requests(1)
            answer = gateway.chat("good", text="x" * 300_000)
            assert answer.status == 503
        until(lambda: gateway.worker._server.body_bytes == 0)
        assert gateway.chat("good", text="x" * 300_000).status == 200


# --- places ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["redirect", "redirect:metadata"])
@pytest.mark.parametrize("stream", [False, True])
def test_redirects_are_never_followed(
    serve: Serve, bad: BadUpstream, name: str, stream: bool
) -> None:
    """Wherever they lead: there is one request, and its key goes nowhere else."""
    with serve(name) as gateway:
        answer = gateway.chat(name, stream=stream)
        assert (answer.status, answer.code) == (502, "status_307")
        assert "location" not in answer.headers
        (upstream,) = gateway.worker._parts.upstreams.values()
        origins: Any = upstream
        assert sum(origin.connected for origin in origins._origins) == 1
    assert len(bad.seen) == 1


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Let every name stand for some addresses; the names that were looked up are noted."""

    def to(*found: str) -> list[str]:
        asked: list[str] = []

        async def addresses(origin: Any, _: Any) -> list[str]:
            asked.append(origin._host)
            return list(found)

        monkeypatch.setattr(Origin, "_addresses", addresses)
        return asked

    return to


def by_name(bad: BadUpstream, folder: Path, more: str = "") -> Any:
    """The configuration of one upstream that has a name."""
    port = urlsplit(bad.url).port
    entry = table(bad, "good", more, url=f"http://upstream.example:{port}/v1")
    return parse(
        f'[ledger]\npath = "ledger.sqlite"\n[retry]\ntries = 1\n{entry}', folder / "x.toml"
    )


@pytest.mark.parametrize(
    "found",
    ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fd00:ec2::254"],
)
def test_a_name_that_resolves_to_a_forbidden_address(
    bad: BadUpstream, tmp_path: Path, resolve: Callable[..., list[str]], found: str
) -> None:
    """It is looked at when it is connected to, not when it was configured; nothing is sent."""
    asked = resolve(found)
    with serving(by_name(bad, tmp_path)) as gateway:
        for stream in (False, True):
            answer = gateway.chat("good", stream=stream)
            assert (answer.status, answer.code) == (502, "address")
            assert found not in answer.body.decode()
            assert gateway.row(answer)["cost_usd"] == 0
    assert asked == ["upstream.example"] * 2
    assert not bad.links


@pytest.mark.parametrize("error", [OSError(), UnicodeError(), ValueError(), RuntimeError()])
def test_a_name_that_cannot_be_looked_up(
    bad: BadUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """However the resolver fails, the client is told, and the fallback is asked."""

    async def addresses(origin: Any, _: Any) -> list[str]:
        if origin._host == "127.0.0.1":
            return ["127.0.0.1"]
        raise error

    monkeypatch.setattr(Origin, "_addresses", addresses)
    there = table(bad, "good").replace("[pool", '[router]\nmodel = "nowhere"\n[pool', 1)
    missing = table(bad, "nowhere", url="http://upstream.example/v1")
    text = f'[ledger]\npath = "ledger.sqlite"\n[retry]\ntries = 1\n{there}{missing}'
    with serving(parse(text, tmp_path / "x.toml")) as gateway:
        answer = gateway.chat("nowhere")
        assert (answer.status, answer.code) == (502, "connection")
        assert gateway.chat("nowhere>good", stream=True).done


def test_a_private_address_is_for_those_who_say_so(
    bad: BadUpstream, tmp_path: Path, resolve: Callable[..., list[str]]
) -> None:
    """And then only private ones: a metadata service among them is passed over."""
    resolve("169.254.169.254", "127.0.0.1")
    with serving(by_name(bad, tmp_path, "private = true")) as gateway:
        assert gateway.chat("good").status == 200
    resolve("169.254.169.254", "fd00:ec2::254")
    with serving(by_name(bad, tmp_path, "private = true")) as gateway:
        assert gateway.chat("good").code == "address"


def test_a_metadata_service_cannot_be_configured(bad: BadUpstream, tmp_path: Path) -> None:
    """Not by its address, however it is spelled."""
    for host in ("169.254.169.254", "[::ffff:169.254.169.254]", "2852039166", "0xa9fea9fe"):
        with pytest.raises(ConfigError, match="upstream must"):
            parse(table(bad, "x", url=f"http://{host}/v1"), tmp_path / "x.toml")


def test_configure_is_as_it_is_told(bad: BadUpstream, tmp_path: Path) -> None:
    """The rig itself: a line for one entry wins over the line for all."""
    config = configure(bad, tmp_path, ["good", "silent"], entries={"silent": "queue = 3"})
    assert [entry.queue for entry in config.pool] == [100, 3]
