"""The application: routes, joined from a policy, upstreams and a ledger."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from turnout.core import InputError
from turnout.serve import http
from turnout.serve.build import Parts, build
from turnout.serve.config import Config
from turnout.serve.errors import RequestError, body, where
from turnout.serve.exchange import Exchange
from turnout.serve.ledger import Ledger
from turnout.serve.policy import AUTO
from turnout.serve.request import parse
from turnout.serve.upstream import JSON

__all__ = ["create_app"]

_log = logging.getLogger("turnout.serve")
_FEEDBACK_LIMIT = 16_384
_FEEDBACK_KEYS = ("comment", "id", "quality")
_PATHS = (
    "POST /v1/chat/completions",
    "POST /v1/feedback",
    "GET /v1/models",
    "GET /healthz",
)

#: What answers a request on a bare connection.
Handler = Callable[[Scope, Receive, Send], Awaitable[None]]


def create_app(config: Config, parts: Parts | None = None) -> Starlette:
    """The gateway as an ASGI application.

    Parameters
    ----------
    config : Config
    parts : Parts, optional
        Policy, upstreams and ledger to use instead of those the configuration names.

    Raises
    ------
    ConfigError, RouterFileError
        A part cannot be made: see `turnout.serve.build.build`. Nothing is left half-written.
    """
    made = build(config) if parts is None else parts

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            for upstream in made.upstreams.values():
                await upstream.close()
            await asyncio.to_thread(made.ledger.close)

    chat = _Chat(config, made)
    routes = [
        Route("/v1/chat/completions", _Guarded(chat.handle), methods=["POST"]),
        Route("/v1/feedback", _Guarded(_Feedback(made.ledger).handle), methods=["POST"]),
        Route("/v1/models", _Guarded(_models(config.names)), methods=["GET"]),
        Route("/healthz", _Guarded(_health(chat.health, made.ledger)), methods=["GET"]),
    ]
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _lost})


class _Guarded:
    """Answers every error as typed JSON; one that nobody foresaw is logged by place only."""

    def __init__(self, handle: Handler) -> None:
        self._handle = handle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._handle(scope, receive, watched)
        except http.Gone:
            return
        except RequestError as error:
            await http.send_error(send, error)
        except Exception as error:
            _log.error("request failed: %s", where(error))
            if not begun:
                await http.send_error(send, error)


class _Chat:
    """`POST /v1/chat/completions`."""

    def __init__(self, config: Config, parts: Parts) -> None:
        self._server = config.server
        self._fallbacks = config.router.fallbacks
        self._parts = parts
        self.health: dict[str, str | None] = dict.fromkeys(config.names)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        arrived = time.perf_counter()
        parts = self._parts
        raw = await http.read_body(scope, receive, self._server.max_body_bytes)
        request = parse(raw, max_prompt_chars=self._server.max_prompt_chars)
        exchange = Exchange(
            request,
            parts.policy.decide(request),
            parts.upstreams,
            fallbacks=self._fallbacks,
            arrived=arrived,
            health=self.health,
            on_end=self._remember,
        )
        await exchange.run(receive, send)

    def _remember(self, exchange: Exchange) -> None:
        self._parts.ledger.record(exchange.entry())
        self._parts.policy.settle(exchange.decision, exchange.spent())


class _Feedback:
    """`POST /v1/feedback`: `{"id", "quality", "comment"}`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        name, quality, comment = _read_feedback(
            await http.read_body(scope, receive, _FEEDBACK_LIMIT)
        )
        try:
            filed = await asyncio.to_thread(self._ledger.rate, name, quality, comment)
        except InputError as error:
            status, code = (404, "request_not_found") if error.field == "id" else (400, "invalid")
            raise RequestError(
                error.field, error.rule, error.value, error.hint, status=status, code=code
            ) from None
        told = {"object": "feedback", "id": filed, "quality": quality}
        await http.send_json(send, 200, orjson.dumps(told))


def _read_feedback(raw: bytes) -> tuple[str, float, str | None]:
    try:
        data = orjson.loads(raw)
    except orjson.JSONDecodeError:
        hint = 'Send {"id": "tn-...", "quality": 1.0}.'
        raise RequestError("body", "be JSON", "something else", hint, code="invalid_json") from None
    if not isinstance(data, dict):
        raise RequestError("body", "be a JSON object", type(data).__name__, "Send an object.")
    for key in data:
        if key not in _FEEDBACK_KEYS:
            hint = f"Known keys: {', '.join(_FEEDBACK_KEYS)}."
            raise RequestError(key, "be a known key", key, hint, code="unknown_key")
    name, quality, comment = data.get("id"), data.get("quality"), data.get("comment")
    if not isinstance(name, str) or not name:
        hint = "Send the x-turnout-id header of the answer, or the completion's id."
        raise RequestError("id", "be a string", name, hint)
    if isinstance(quality, bool) or not isinstance(quality, int | float) or not 0 <= quality <= 1:
        hint = "0 is useless, 1 is perfect."
        raise RequestError("quality", "be a number in [0, 1]", quality, hint)
    if comment is not None and not isinstance(comment, str):
        raise RequestError("comment", "be a string", "something else", "Send text or leave it out.")
    return name, float(quality), comment


def _models(names: Sequence[str]) -> Handler:
    """`GET /v1/models`, in OpenAI's shape."""
    created = int(time.time())
    listed = [
        {"id": name, "object": "model", "created": created, "owned_by": "turnout"}
        for name in (AUTO, *names)
    ]
    data = orjson.dumps({"object": "list", "data": listed})

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        await http.send_json(send, 200, data)

    return handle


def _health(pool: Mapping[str, str | None], ledger: Ledger) -> Handler:
    """`GET /healthz`: 200 while requests are remembered, else 503; who failed when last asked."""

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        error = ledger.error
        told = {
            "status": "ok" if error is None else "degraded",
            "pool": {name: {"up": code is None, "error": code} for name, code in pool.items()},
            "ledger": "ok" if error is None else error,
        }
        await http.send_json(send, 200 if error is None else 503, orjson.dumps(told))

    return handle


async def _lost(request: Request, error: Exception) -> Response:
    """A path or method nobody serves."""
    assert isinstance(error, HTTPException)
    code = "not_found" if error.status_code == 404 else "method_not_allowed"
    told = RequestError(
        "path",
        f"be one of {', '.join(_PATHS)} with its method",
        f"{request.method} {request.url.path}",
        "See docs/serve.md.",
        status=error.status_code,
        code=code,
    )
    return Response(body(told), told.status, dict(error.headers or {}), JSON)
