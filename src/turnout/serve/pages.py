"""The pages of the gateway: models, feedback, health, metrics, administration, dashboard."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from turnout.core import InputError, TurnoutError
from turnout.serve.errors import RequestError, body, headers_of, status_of
from turnout.serve.front import CHAT, Doorman
from turnout.serve.guard.key import Key
from turnout.serve.metrics import CONTENT_TYPE
from turnout.serve.policy import AUTO
from turnout.serve.upstream import JSON
from turnout.serve.view import View

__all__ = ["create_pages"]

_FEEDBACK_LIMIT = 16_384
_FEEDBACK_KEYS = ("comment", "id", "quality")
_PATHS = (
    "POST /v1/chat/completions",
    "POST /v1/feedback",
    "GET /v1/models",
    "GET /healthz",
    "GET /metrics",
    "GET /dashboard",
    "GET /admin/state",
)
_ASSETS = {
    "/dashboard": ("dashboard.html", "text/html; charset=utf-8"),
    "/dashboard.css": ("dashboard.css", "text/css; charset=utf-8"),
    "/dashboard.js": ("dashboard.js", "text/javascript; charset=utf-8"),
}
#: No script or style but our own files, no frame around us, nothing sent elsewhere.
_SAFE = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}

_Page = Callable[[Request], Awaitable[Response]]


def create_pages(view: View, doorman: Doorman) -> Starlette:
    """The pages as an ASGI application.

    Parameters
    ----------
    view : View
        What there is to see.
    doorman : Doorman
        Whose request it is. Models and feedback need any key, metrics, state and administration one
        with the admin scope; health and the dashboard's files none.
    """
    asset = files("turnout.serve").joinpath("assets")

    def check(request: Request) -> Key:
        headers = request.headers
        shown = [headers.get(name) for name in ("authorization", "origin", "host")]
        return doorman.check(*(None if text is None else text.encode("latin-1") for text in shown))

    async def models(request: Request) -> Response:
        key = check(request)
        names = [AUTO, *(name for name in view.offered if key.may(name))]
        listed = [
            {"id": name, "object": "model", "created": view.started, "owned_by": "turnout"}
            for name in names
        ]
        return _json({"object": "list", "data": listed})

    async def feedback(request: Request) -> Response:
        check(request)
        name, quality, comment = _read_feedback(await request.body())
        try:
            filed = await asyncio.to_thread(view.rate, name, quality, comment)
        except InputError as error:
            status, code = (404, "request_not_found") if error.field == "id" else (400, "invalid")
            raise RequestError(
                error.field, error.rule, error.value, error.hint, status=status, code=code
            ) from None
        return _json({"object": "feedback", "id": filed, "quality": quality})

    async def health(request: Request) -> Response:
        told = view.health()
        return _json(told, 200 if told["status"] == "ok" else 503)

    async def metrics(request: Request) -> Response:
        check(request).allow_admin()
        return Response(view.metrics(), media_type=CONTENT_TYPE)

    async def state(request: Request) -> Response:
        check(request).allow_admin()
        return _json(await asyncio.to_thread(view.state))

    def page(path: str) -> _Page:
        name, kind = _ASSETS[path]
        data = asset.joinpath(name).read_bytes()

        async def answer(request: Request) -> Response:
            return Response(data, headers=_SAFE, media_type=kind)

        return answer

    async def elsewhere(request: Request) -> Response:
        # the front answers this path itself, but not an unusual spelling of it
        raise HTTPException(404)

    routes = [
        Route(CHAT, elsewhere, methods=["POST"]),  # so that other methods are told of this one
        Route("/v1/models", _safe(models), methods=["GET"]),
        Route("/v1/feedback", _safe(feedback), methods=["POST"]),
        Route("/healthz", _safe(health), methods=["GET"]),
        Route("/metrics", _safe(metrics), methods=["GET"]),
        Route("/admin/state", _safe(state), methods=["GET"]),
        *(Route(path, page(path), methods=["GET"]) for path in _ASSETS),
    ]
    pages = Starlette(routes=routes, exception_handlers={HTTPException: _lost})
    pages.router.redirect_slashes = False  # a redirect would lead where the host header says
    return pages


def _safe(page: _Page) -> _Page:
    """A page whose errors are told as JSON in OpenAI's shape."""

    async def answer(request: Request) -> Response:
        try:
            return await page(request)
        except TurnoutError as error:
            response = Response(body(error), status_of(error), media_type=JSON)
            for line in headers_of(error).decode("latin-1").splitlines():
                name, _, value = line.partition(": ")
                response.headers[name] = value
            return response

    return answer


def _json(data: Any, status: int = 200) -> Response:
    headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    return Response(orjson.dumps(data), status, headers=headers, media_type=JSON)


def _read_feedback(raw: bytes) -> tuple[str, float, str | None]:
    if len(raw) > _FEEDBACK_LIMIT:
        rule, hint = f"be at most {_FEEDBACK_LIMIT} bytes", "Shorten the comment."
        raise RequestError("body", rule, len(raw), hint, status=413, code="body_too_long")
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


async def _lost(request: Request, error: Exception) -> Response:
    """A path or method nobody serves."""
    assert isinstance(error, HTTPException)
    code = "not_found" if error.status_code == 404 else "method_not_allowed"
    told = RequestError(
        "path",
        f"be one of {', '.join(_PATHS)} with its method",
        f"{request.method} {request.url.path}",
        "See docs/gateway.md.",
        status=error.status_code,
        code=code,
    )
    return Response(body(told), told.status, dict(error.headers or {}), JSON)
