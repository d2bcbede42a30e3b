"""Destinations that speak OpenAI's interface over HTTP, asked with aiohttp's client.

Bytes go through as they are: of the request only `model` changes (and `stream_options`, so that
a stream tells its usage), of the answer only the usage event nobody asked for is left out.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import aiohttp
import orjson

from turnout.serve.errors import AnswerError
from turnout.serve.events import StreamReader, as_object
from turnout.serve.request import ChatRequest
from turnout.serve.splice import splice
from turnout.serve.upstream import EVENT_STREAM, JSON, Chunk, Price, Reply, Usage, truncated

__all__ = ["OpenAIUpstream", "Secret"]

#: Statuses by which an upstream says that the request itself is wrong: passed on, never retried
#: elsewhere.
_CLIENT_FAULTS = frozenset({400, 409, 413, 415, 422})
#: Longest event kept while waiting for its end.
_MAX_EVENT = 16 * 1024 * 1024


@dataclass(frozen=True)
class Secret:
    """A key that never shows: not in `repr`, not in an error.

    Parameters
    ----------
    value : str
        Printable ASCII without spaces.
    """

    value: str = field(repr=False)


class OpenAIUpstream:
    """One model behind an OpenAI-compatible base URL.

    Parameters
    ----------
    name : str
        Name in the pool, for errors.
    base_url : str
        Such as `https://api.openai.com/v1`.
    model : str
        What the upstream calls the model.
    price : callable
        Cost in USD of so many input and output tokens.
    key : Secret, optional
        Sent as a bearer token.
    timeout_seconds, connect_timeout_seconds : float
        Longest for the whole answer, and to connect.
    """

    def __init__(
        self,
        *,
        name: str,
        base_url: str,
        model: str,
        price: Price,
        key: Secret | None = None,
        timeout_seconds: float = 600.0,
        connect_timeout_seconds: float = 5.0,
    ) -> None:
        self.name = name
        self._url = base_url.rstrip("/") + "/chat/completions"
        self._model = orjson.dumps(model)
        self._price = price
        self._key = key
        self._timeout = aiohttp.ClientTimeout(
            total=timeout_seconds, sock_connect=connect_timeout_seconds
        )
        self._session: aiohttp.ClientSession | None = None

    async def complete(self, request: ChatRequest) -> Reply:
        """The whole answer; see `Upstream`."""
        async with self._asked(splice(request.body, {"model": self._model}), JSON) as response:
            body = await response.read()
            data = as_object(body)
            if data is None or data.get("error") is not None:
                raise self._bad("be answered with a JSON completion")
            name = data.get("id")
            return Reply(
                body=body,
                usage=self._usage(data.get("usage")),
                completion_id=name if isinstance(name, str) else None,
            )

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """The answer in pieces; see `Upstream`."""
        changes = {"model": self._model}
        if not request.wants_usage:
            options = request.fields.get("stream_options") or {}
            changes["stream_options"] = orjson.dumps({**options, "include_usage": True})
        reader = StreamReader(
            keep_usage=request.wants_usage, usage_of=self._usage, failed=self._error_event
        )
        async with self._asked(splice(request.body, changes), EVENT_STREAM) as response:
            async for data in response.content.iter_any():
                chunk = reader.feed(data)
                if chunk.data or chunk.usage:
                    yield chunk
                if reader.failure is not None:
                    raise reader.failure
                if reader.done:
                    return
                if reader.pending > _MAX_EVENT:
                    raise self._bad("send events that end")
            rest = reader.finish()
            if not reader.done:
                raise truncated(self.name)
            yield Chunk(data=rest, last=True)

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @asynccontextmanager
    async def _asked(self, body: bytes, accept: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """The upstream's answer once its status is good; everything else becomes a failure."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), timeout=self._timeout
            )
        headers = {"Content-Type": JSON, "Accept": accept, "Accept-Encoding": "identity"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key.value}"
        name, hint = self.name, "Ask again, or look at the upstream."
        answered = False
        try:
            # a redirect could carry the key to another host
            async with self._session.post(
                self._url, data=_payload(body), headers=headers, allow_redirects=False
            ) as response:
                answered = True
                if response.status != 200:
                    raise await self._refused(response)
                if response.content_type != accept:
                    raise self._bad(f"answer with {accept}")
                yield response
        except TimeoutError:
            rule, value = "answer in time", "no whole answer before the time limit"
            raise AnswerError(name, "timeout", rule, value, hint, status=504) from None
        except aiohttp.ClientError as error:
            if answered:
                raise truncated(name) from None
            value = type(error).__name__  # its message may hold the URL
            raise AnswerError(name, "connection", "be reachable", value, hint) from None

    async def _refused(self, response: aiohttp.ClientResponse) -> AnswerError:
        """The failure that a bad status stands for."""
        status = response.status
        rule, code = "answer with status 200", f"status_{status}"
        if status in _CLIENT_FAULTS:
            # The upstream's words help here, and are about the client's own request.
            text = await response.read()
            shown = text if self._may_show(text) else None
            hint = "Change the request as the upstream asks."
            return AnswerError(
                self.name, code, rule, status, hint, status=status, retry=False, reply=shown
            )
        if status == 429:
            wait = response.headers.get("retry-after", "")
            headers = {"retry-after": wait} if wait.isdigit() else {}
            hint = "Ask again later."
            return AnswerError(self.name, code, rule, status, hint, status=429, headers=headers)
        hint = "Check key_env and model of this pool entry." if status in (401, 403, 404) else ""
        return AnswerError(self.name, code, rule, status, hint or "Ask again later.")

    def _may_show(self, text: bytes) -> bool:
        data = as_object(text)
        if data is None or not isinstance(data.get("error"), dict):
            return False
        return self._key is None or self._key.value.encode() not in text

    def _error_event(self, text: bytes) -> AnswerError:
        shown = text if self._may_show(text) else None
        rule, hint = "stream its answer", "What arrived is not whole; ask again."
        return AnswerError(self.name, "error_event", rule, "an error event", hint, reply=shown)

    def _bad(self, rule: str) -> AnswerError:
        hint = "Check that its base URL is an OpenAI-compatible one."
        return AnswerError(self.name, "bad_reply", rule, "something else", hint)

    def _usage(self, data: Any) -> Usage:
        """Tokens as the upstream counts them, priced; nothing where it does not say."""
        if not isinstance(data, Mapping):
            return Usage()
        read, written = data.get("prompt_tokens"), data.get("completion_tokens")
        if not isinstance(read, int) or not isinstance(written, int) or min(read, written) < 0:
            return Usage()
        return Usage(input_tokens=read, output_tokens=written, cost_usd=self._price(read, written))


def _payload(body: bytes) -> bytes | BytesIO:
    """A body as aiohttp wants it: from a megabyte on in pieces, so that the loop keeps turning."""
    return body if len(body) < 1 << 20 else BytesIO(body)
