from __future__ import annotations

import asyncio
import http.client
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import orjson
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

import turnout.parts.store as store
from turnout.core import Pool
from turnout.serve.background import running
from turnout.serve.build import Make as MakeParts
from turnout.serve.config import Config, parse
from turnout.serve.money import reading
from turnout.serve.run import bind

PLUGIN = Path(__file__).parent / "plugin"
KEY = "sk-secret-0123456789abcdef"
PROMPT = "a prompt nobody but the upstream may see"
PIECES = ("Hel", "lo ", "w\u00f6rld")
USAGE = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}


@dataclass
class FakeUpstream:
    """An OpenAI-compatible server whose manners are named by the model it is asked for."""

    key = KEY
    prompt = PROMPT
    url: str = ""
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    gone: threading.Event = field(default_factory=threading.Event)
    asked: threading.Event = field(default_factory=threading.Event)

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/v1/chat/completions", self.answer, methods=["POST"])])

    async def answer(self, request: Request) -> Response:
        raw = await request.body()
        self.bodies.append(raw)
        self.headers.append(dict(request.headers))
        data = orjson.loads(raw)
        manner = data["model"]
        if manner.startswith("status-"):
            told = {"error": {"message": f"no, {KEY[:6]}...", "type": "x", "code": "y"}}
            headers = {"retry-after": "7"}
            return Response(orjson.dumps(told), int(manner[7:]), headers, "application/json")
        if manner == "echo-key":
            told = {"error": {"message": f"bad key {KEY}"}}
            return Response(orjson.dumps(told), 400, media_type="application/json")
        if manner == "html":
            return Response("<h1>hello</h1>", media_type="text/html")
        if manner == "hang":
            return await self.hang(request)
        if data.get("stream"):
            usage = (data.get("stream_options") or {}).get("include_usage")
            return StreamingResponse(
                self.events(manner, usage, request), media_type="text/event-stream"
            )
        if manner == "odd-json":
            # spaced, escaped and with numbers that a parser would respell
            return Response(
                b'{ "id":"odd", "choices" : [], "x": 1.0, "big": 123456789012345678901234567890 }',
                media_type="application/json",
            )
        return Response(orjson.dumps(completion(manner)), media_type="application/json")

    async def hang(self, request: Request) -> Response:
        self.asked.set()
        try:
            while not await request.is_disconnected():
                await asyncio.sleep(0.005)
        finally:  # the server may cancel this before it can see why
            self.gone.set()
        return Response()

    async def events(self, manner: str, usage: bool, request: Request) -> AsyncIterator[bytes]:
        if manner == "nothing":
            return
        yield b": welcome\n\n" if manner == "comments" else b""
        for i, piece in enumerate(PIECES):
            if manner == "error-first" or (manner == "error-event" and i == 1):
                yield b'data: {"error": {"message": "overloaded", "code": "busy"}}\n\n'
                yield b"data: [DONE]\n\n"
                return
            if manner == "crash" and i == 1:
                raise ConnectionError("an upstream that dies")
            if manner == "endless" and i == 1:
                self.asked.set()
                await self.hang(request)
            chunk = completion(manner, delta={"content": piece}, finish=None)
            yield b"data: " + orjson.dumps(chunk) + b"\n\n"
            if manner == "truncate" and i == 1:
                return
        last = completion(manner, delta={}, finish="stop")
        yield b"data: " + orjson.dumps(last) + b"\r\n\r\n"
        if usage:
            told = {**completion(manner, delta={}, finish=None), "choices": [], "usage": USAGE}
            yield b"data: " + orjson.dumps(told) + b"\n\n"
        yield b"data: [DONE]" if manner == "no-blank-line" else b"data: [DONE]\n\n"


def completion(
    model: str, *, delta: dict[str, str] | None = None, finish: str | None = "stop"
) -> dict[str, Any]:
    head = {"id": f"chatcmpl-{model}", "created": 1, "model": f"{model}-2026"}
    if delta is not None:
        choice: dict[str, Any] = {"index": 0, "delta": delta, "finish_reason": finish}
        return {**head, "object": "chat.completion.chunk", "choices": [choice]}
    message = {"role": "assistant", "content": "".join(PIECES)}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {**head, "object": "chat.completion", "choices": [choice], "usage": USAGE}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.json["error"]
        return error


def call(
    url: str, path: str, body: Any = None, method: str | None = None, timeout: float = 20.0
) -> Answer:
    """One HTTP exchange; `body` is sent as it is when bytes, else as JSON."""
    raw = body if body is None or isinstance(body, bytes) else orjson.dumps(body)
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=timeout)
    try:
        verb = method or ("GET" if raw is None else "POST")
        connection.request(verb, path, raw, {"content-type": "application/json"})
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()


@dataclass(frozen=True)
class Gateway:
    url: str
    config: Config

    def chat(self, text: str = PROMPT, model: str = "auto", **more: Any) -> Answer:
        messages = [{"role": "user", "content": text}]
        body = {"model": model, "messages": messages, **more}
        return call(self.url, "/v1/chat/completions", body)

    def post(self, path: str, body: Any) -> Answer:
        return call(self.url, path, body)

    def get(self, path: str) -> Answer:
        return call(self.url, path)


@pytest.fixture(scope="session")
def _fake_server() -> Iterator[FakeUpstream]:
    fake = FakeUpstream()
    with bind("127.0.0.1", 0) as listener:
        settings = uvicorn.Config(fake.app(), ws="none", lifespan="off", log_config=None)
        server = uvicorn.Server(settings)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        fake.url = "http://{}:{}".format(*listener.getsockname()[:2])
        yield fake
        server.should_exit = True
        thread.join()


@pytest.fixture
def fake(_fake_server: FakeUpstream) -> FakeUpstream:
    _fake_server.bodies.clear()
    _fake_server.headers.clear()
    _fake_server.gone.clear()
    _fake_server.asked.clear()
    return _fake_server


@pytest.fixture(autouse=True)
def plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PLUGIN))
    monkeypatch.setenv("FAKE_KEY", KEY)


@pytest.fixture
def router_file(tmp_path: Path, plugin: None) -> Path:
    """A router: short prompts are as well answered by `cheap`, long ones by `dear` only."""
    from by_length import ByLength  # type: ignore[import-not-found]

    fitted = ByLength(
        names=("cheap", "dear"),
        short=np.array([0.9, 0.9]),
        long=np.array([0.2, 0.8]),
        cost=np.array([0.001, 0.02]),
    )
    path = tmp_path / "router.turnout"
    store.save(path, fitted, Pool(names=fitted.names))
    return path


Make = Callable[..., Any]


@pytest.fixture
def make_config(tmp_path: Path, router_file: Path, fake: FakeUpstream) -> Callable[..., Config]:
    """Configuration of a pool `cheap`, `dear` whose manners are given."""

    def make(cheap: str = "ok", dear: str = "ok", **tables: str) -> Config:
        def entry(name: str, manner: str, price: float) -> str:
            url = "http://127.0.0.1:9/v1" if manner == "down" else f"{fake.url}/v1"
            return f"""
                [pool.{name}]
                upstream = "openai:{url}"
                model = "{manner}"
                key_env = "FAKE_KEY"
                usd_per_million_input_tokens = {price}
                usd_per_million_output_tokens = {price * 4}
                {tables.get("entry", "")}
            """

        text = f"""
            [server]
            {tables.get("server", "")}
            [router]
            file = "{router_file.name}"
            trust = ["by_length"]
            {tables.get("router", "")}
            [budget]
            {tables.get("budget", "")}
            [ledger]
            path = "ledger.sqlite"
            [retry]
            {tables.get("retry", "tries = 1")}
            {tables.get("more", "")}
            {entry("cheap", cheap, 1.0)}
            {entry("dear", dear, 10.0)}
        """
        return parse(text, tmp_path / "turnout.toml")

    return make


@pytest.fixture
def gateway(make_config: Callable[..., Config]) -> Callable[..., Any]:
    """Run a gateway over the fake upstream while a block runs."""

    @contextmanager
    def run(cheap: str = "ok", dear: str = "ok", **tables: str) -> Iterator[Gateway]:
        config = make_config(cheap, dear, **tables)
        with running(config) as served:
            yield Gateway(served.url, config)

    return run


@pytest.fixture
def serve_parts() -> Callable[..., Any]:
    """Run a gateway of given parts while a block runs."""

    @contextmanager
    def run(config: Config, make: MakeParts) -> Iterator[Gateway]:
        with running(config, make) as served:
            yield Gateway(served.url, config)

    return run


@pytest.fixture
def ledger_rows() -> Callable[[Config], list[dict[str, Any]]]:
    """What a gateway that has stopped left in its ledger."""

    def rows(config: Config) -> list[dict[str, Any]]:
        return reading.rows(config.ledger.path)

    return rows
