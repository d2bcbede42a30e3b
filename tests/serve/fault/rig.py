"""A gateway in front of a bad upstream: made, asked, and looked into afterwards.

The model of a request says where it goes: `silent>good` asks `silent` and then, if that fails,
`good`. Every destination of the pool is a manner of the bad upstream, or a place that cannot be
reached.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from turnout.serve import background
from turnout.serve import build as parts_of
from turnout.serve.build import Parts
from turnout.serve.config import Config, parse
from turnout.serve.errors import RequestError
from turnout.serve.guard import key, keyfile
from turnout.serve.money import reading
from turnout.serve.pace import FixedPrice
from turnout.serve.policy import Decision
from turnout.serve.request import ChatRequest
from turnout.serve.wire.clock import Clock
from turnout.serve.worker import Worker

from .upstream import BadUpstream

__all__ = [
    "DONE",
    "LONG",
    "PROMPT",
    "SHORT",
    "Answer",
    "Gateway",
    "Ordered",
    "ask",
    "configure",
    "make_keys",
    "opened",
    "ordered",
    "places",
    "serving",
    "table",
    "until",
]

DONE = b"data: [DONE]"
PROMPT = "a question nobody but the upstream may see"
#: Time limits that nothing good meets, however busy the machine.
LONG = """
connect_timeout_seconds = 30
headers_timeout_seconds = 30
first_token_timeout_seconds = 30
idle_timeout_seconds = 30
timeout_seconds = 60
"""
#: Time limits for those that never answer; the one for all is the longest.
SHORT = """
connect_timeout_seconds = 0.1
headers_timeout_seconds = 0.1
first_token_timeout_seconds = 0.1
idle_timeout_seconds = 0.1
timeout_seconds = 0.2
"""
PRICES = "usd_per_million_input_tokens = 1.0\nusd_per_million_output_tokens = 4.0\n"


@dataclass(frozen=True)
class Answer:
    """What a client got.

    `broken`: the connection ended before the answer was whole.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    broken: bool = False

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def code(self) -> str | None:
        """Code of the error, in the body or in the last event; None where there is none."""
        text = self.events[-1] if self.events else self.body
        found = _loads(text).get("error")
        return None if found is None else str(found["code"])

    @property
    def events(self) -> list[bytes]:
        """Payloads of the events."""
        lines = self.body.replace(b"\r\n", b"\n").split(b"\n")
        return [line[6:] for line in lines if line.startswith(b"data: ")]

    @property
    def done(self) -> bool:
        """Whether a stream says that it is whole."""
        return DONE in self.body

    @property
    def text(self) -> str:
        """What the pieces of a stream say, or the message of a whole answer."""
        if not self.events:
            return str(self.json["choices"][0]["message"]["content"])
        found = [_loads(data) for data in self.events]
        return "".join(
            choice["delta"].get("content", "")
            for data in found
            for choice in data.get("choices", ())
        )

    @property
    def id(self) -> str:
        return self.headers["x-turnout-id"]


def _loads(data: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def ask(
    url: str,
    path: str = "/v1/chat/completions",
    body: Any = None,
    headers: dict[str, str] | None = None,
    timeout: float = 20.0,
) -> Answer:
    """One exchange on a connection of its own; a client that waits for ever fails the test."""
    raw = body if body is None or isinstance(body, bytes) else orjson.dumps(body)
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=timeout)
    with closing(connection):
        connection.request("GET" if raw is None else "POST", path, raw, headers or {})
        response = connection.getresponse()
        told = {name.lower(): value for name, value in response.getheaders()}
        try:
            return Answer(response.status, told, response.read())
        except http.client.IncompleteRead as error:
            return Answer(response.status, told, error.partial, broken=True)


class Ordered:
    """A policy that asks the destinations that stand in the model's name, in their order."""

    def __init__(self, names: Sequence[str]) -> None:
        self.pace = FixedPrice()
        self.names = frozenset(names)

    def decide(self, request: ChatRequest, allowed: frozenset[str] | None = None) -> Decision:
        first, *rest = request.model.split(">")
        if first not in self.names:
            raise RequestError("model", "be one of the pool", first, code="model_not_found")
        return Decision(destination=first, propensity=1.0, names=(first,), order=tuple(rest))

    def settle(self, decision: Decision, cost: float) -> None:
        """Nothing to learn."""


def table(bad: BadUpstream, name: str, more: str = "", *, url: str | None = None) -> str:
    """The pool entry of a manner, or of what is at a URL."""
    # what stands last counts: TOML takes a key once
    lines: dict[str, str] = {}
    for line in (LONG + PRICES + more).splitlines():
        if line.strip():
            lines[line.partition("=")[0].strip()] = line
    head = f'[pool."{name}"]\nupstream = "openai:{url or bad.url}"\n'
    return head + "\n".join(lines.values()) + "\n"


def places(bad: BadUpstream) -> dict[str, str]:
    """Destinations that are no manners: name and URL."""
    return {
        "down": "http://127.0.0.1:9/v1",
        "unreachable": bad.unreachable_url,
        "unaccepted": bad.unaccepted_url,
        "tls-hangs": bad.hanging_tls_url,
        "tls-unknown": bad.tls_url,
        "tls-to-plain": bad.url.replace("http:", "https:"),
        "plain-to-tls": bad.tls_url.replace("https:", "http:"),
    }


def configure(
    bad: BadUpstream,
    folder: Path,
    names: Sequence[str],
    *,
    entry: str = "",
    entries: dict[str, str] | None = None,
    **tables: str,
) -> Config:
    """The configuration of a pool of manners.

    Parameters
    ----------
    entry : str
        Further lines of every pool entry.
    entries : dict
        Further lines of some, by name.
    **tables
        Lines of the other tables, by their names; `more` stands for further ones.
    """
    elsewhere = places(bad)
    pool = "".join(
        table(bad, name, entry + "\n" + (entries or {}).get(name, ""), url=elsewhere.get(name))
        for name in names
    )
    given = {
        "router": f'model = "{names[0]}"',
        "ledger": 'path = "ledger.sqlite"',
        "retry": "tries = 1",
        "server": "drain_seconds = 0",
        "budgets.all": 'usd = 1000\nperiod = "total"',
        **tables,
    }
    more = given.pop("more", "")
    heads = "".join(f"[{name}]\n{lines}\n" for name, lines in given.items())
    return parse(heads + more + "\n" + pool, folder / "turnout.toml")


@dataclass
class Gateway:
    """A gateway that runs, and its one worker."""

    url: str
    config: Config
    worker: Worker
    loop: asyncio.AbstractEventLoop
    sent: int = 0
    headers: dict[str, str] = field(default_factory=dict)

    def chat(
        self, model: str, text: str = PROMPT, headers: dict[str, str] | None = None, **more: Any
    ) -> Answer:
        """One chat request."""
        self.sent += 1
        body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
        return ask(self.url, body=body, headers=self.headers | (headers or {}))

    def get(self, path: str) -> Answer:
        return ask(self.url, path, headers=self.headers)

    @property
    def desk(self) -> Any:
        return self.worker._desk

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        """Run something on the worker's event loop."""
        return asyncio.run_coroutine_threadsafe(main, self.loop).result(20)

    def row(self, answer: Answer) -> dict[str, Any]:
        """What the ledger says of an answer."""
        self.desk.books.ledger.flush()
        found = reading.find(self.config.ledger.path, answer.id)
        assert found is not None
        return found

    def rows(self) -> list[dict[str, Any]]:
        """What the ledger says, also after the end."""
        return reading.rows(self.config.ledger.path)

    def breaker(self, name: str) -> Any:
        return self.desk.lanes[name].breaker

    def reserved(self) -> int:
        """Pico-dollars that are still set aside."""
        return sum(s.reserved for s in self.desk.books.purses.states(time.time_ns() // 1_000_000))

    def nothing_left(self) -> None:
        """After the end: no request, no task, no connection, no reservation is left."""
        gate = self.desk.gate
        assert (gate.in_hand, gate.inside(), gate.waiting()) == (0, 0, 0)
        assert not gate._keys
        assert not self.worker._front._tasks
        assert not self.worker._bridge._tasks
        assert self.worker._server.open == 0
        assert self.worker._server.body_bytes == 0
        for upstream in self.worker._parts.upstreams.values():
            counts = [origin.open for origin in upstream._origins]  # type: ignore[attr-defined]
            assert counts == [0, 0], counts
        assert self.worker._clock.watched == 0
        rows = self.rows()
        assert "gateway_died" not in [row["error_type"] for row in rows]
        moment = time.time_ns() // 1_000_000
        for state in self.desk.books.purses.states(moment):
            assert state.reserved == 0
            if (state.budget, state.period) == ("all", "total"):
                assert state.spent == sum(row["cost_pico"] for row in rows)


def make_keys(folder: Path, **limits: dict[str, Any]) -> dict[str, str]:
    """A key file `keys.json`, and the secrets by name; `admin` may see everything."""
    made = {name: key.make(name, now=0.0, **fields) for name, fields in limits.items()}
    made["admin"] = key.make("admin", now=0.0, admin=True)
    keyfile.write(folder / "keys.json", [one.key for one in made.values()])
    return {name: one.secret for name, one in made.items()}


def ordered(config: Config, clock: Clock) -> Parts:
    """The parts of a gateway that asks in the order of the model's name."""
    return replace(parts_of.build(config, clock), policy=Ordered(config.names))


@contextmanager
def serving(config: Config, make: Callable[[Config, Clock], Parts] = ordered) -> Iterator[Gateway]:
    """A gateway while the block runs; afterwards nothing of it may be left."""
    made: list[Worker] = []
    loops: list[asyncio.AbstractEventLoop] = []

    def worker(*args: Any) -> Any:
        made.append(Worker(*args))
        run = made[0].run

        def noting(listener: socket.socket, *, signals: bool, ready: Any) -> None:
            def serving(stop: Any) -> None:
                loops.append(asyncio.get_running_loop())
                ready(stop)

            run(listener, signals=signals, ready=serving)

        made[0].run = noting  # type: ignore[method-assign,assignment]
        return made[0]

    kept: Any = background
    before, kept.Worker = kept.Worker, worker
    try:
        with background.running(config, make) as running:
            gateway = Gateway(running.url, config, made[0], loops[0])
            yield gateway
    finally:
        kept.Worker = before
    gateway.nothing_left()


def until(found: Callable[[], object]) -> None:
    """Look again until something is so; each look lets the gateway's thread run."""
    pause = socket.socketpair()
    with closing(pause[0]), closing(pause[1]):
        pause[0].settimeout(0.01)
        for _ in range(1500):
            if found():
                return
            with contextlib.suppress(TimeoutError):
                pause[0].recv(1)
    raise AssertionError("what the test waits for did not happen")


def opened(
    gateway: Gateway, model: str, *, stream: bool = False, header: str = "", text: str = PROMPT
) -> socket.socket:
    """A connection on which a request has been sent whose answer is not read."""
    parts = urlsplit(gateway.url)
    message = {"role": "user", "content": text}
    raw = orjson.dumps({"model": model, "stream": stream, "messages": [message]})
    connection = socket.create_connection((parts.hostname, parts.port), timeout=20)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n{header}"
    connection.sendall(f"{head}content-length: {len(raw)}\r\n\r\n".encode() + raw)
    return connection
