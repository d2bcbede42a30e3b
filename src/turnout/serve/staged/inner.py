"""One call of a strategy: a request to the pool with the gateway itself for a client."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, final

import orjson

from turnout.core import Call, Reply
from turnout.serve.request import ChatRequest, parse

__all__ = ["Inner", "chat_of", "reply_of"]

#: Options of the client's request that its calls inherit.
_INHERITED: Final = ("temperature", "top_p", "seed", "user")
_CAPS: Final = ("max_completion_tokens", "max_tokens")


@final
class Inner:
    """Takes the answer to a call where a connection would; see `exchange.Client`.

    Attributes
    ----------
    status : int
        0 until there is an answer.
    headers, body : bytes
    """

    __slots__ = ("body", "headers", "on_doubt", "on_flow", "status")

    def __init__(self) -> None:
        self.status = 0
        self.headers = b""
        self.body = b""
        self.on_doubt: Callable[[], object] | None = None
        self.on_flow: Callable[[bool], None] | None = None

    @property
    def started(self) -> bool:
        """Whether there is an answer."""
        return self.status != 0

    def reply(self, status: int, headers: bytes, body: bytes) -> None:
        """Take a whole answer."""
        self.status, self.headers, self.body = status, headers, body

    def abort(self) -> None:
        """Nobody waits any more."""

    def start(self, status: int, headers: bytes) -> None:
        """Calls are never streamed."""
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        """Calls are never streamed."""
        raise NotImplementedError

    def end(self) -> None:
        """Calls are never streamed."""
        raise NotImplementedError


def chat_of(call: Call, outer: Mapping[str, Any], *, max_prompt_chars: int) -> ChatRequest:
    """The chat request that a call makes.

    Parameters
    ----------
    call : Call
    outer : mapping
        Body of the client's request: temperature and the like are inherited, and its limit of
        tokens where the call has none.
    max_prompt_chars : int

    Raises
    ------
    RequestError
        The prompt is too long or no text that can be sent.
    """
    messages = [{"role": "user", "content": call.prompt}]
    if call.system:
        messages.insert(0, {"role": "system", "content": call.system})
    body: dict[str, Any] = {"model": call.to, "messages": messages}
    body |= {name: outer[name] for name in _INHERITED if outer.get(name) is not None}
    if call.max_tokens is not None:
        body["max_tokens"] = call.max_tokens
    else:
        body |= {name: outer[name] for name in _CAPS if outer.get(name) is not None}
    return parse(_dumps(body), max_prompt_chars=max_prompt_chars)


def _dumps(body: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError:  # half a surrogate pair, which a strategy may cut out of an answer
        clean = [
            {**message, "content": message["content"].encode("utf-8", "replace").decode()}
            for message in body["messages"]
        ]
        return orjson.dumps({**body, "messages": clean})


def reply_of(inner: Inner, cost: float) -> Reply:
    """What a call brought, for the strategy.

    Parameters
    ----------
    inner : Inner
    cost : float
        USD.
    """
    if inner.status == 0:
        return Reply(text="", cost=cost, failed="timeout")
    try:
        told = orjson.loads(inner.body)
        if inner.status != 200:
            return Reply(text="", cost=cost, failed=str(told["error"]["code"]))
        text = told["choices"][0]["message"]["content"]
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return Reply(text="", cost=cost, failed="bad_reply")
    if text is None:
        text = ""  # it calls tools, or refuses
    if not isinstance(text, str):
        return Reply(text="", cost=cost, failed="bad_reply")
    return Reply(text=text, cost=cost)
