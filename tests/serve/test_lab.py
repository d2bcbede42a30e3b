"""The laboratory's models as destinations: a real decoder of random weights stands in for them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest

from turnout.lab.config import Config
from turnout.lab.model import LanguageModel
from turnout.lab.tokenizer import VOCABULARY
from turnout.serve.build import build
from turnout.serve.errors import AnswerError
from turnout.serve.lab import LabUpstream
from turnout.serve.request import ChatRequest, parse


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    config = Config(
        width=16, layers=1, heads=2, vocabulary=VOCABULARY, prompt_limit=24, answer_limit=8
    )
    rng = np.random.default_rng(5)
    weights = {
        name: rng.normal(0, 0.5, shape).astype(np.float32)
        for name, shape in config.shapes().items()
    }
    return LanguageModel("tiny", config, weights)


@pytest.fixture
def upstream(model: LanguageModel) -> LabUpstream:
    return LabUpstream(name="tiny", model=model)


def ask(text: str, **more: Any) -> ChatRequest:
    messages = [{"role": "system", "content": "ignored"}, {"role": "user", "content": text}]
    body = orjson.dumps({"model": "auto", "messages": messages, **more})
    return parse(body, max_prompt_chars=10_000)


class Heard:
    """Keeps what passes; `Passing`."""

    def __init__(self, most: int = 1 << 30) -> None:
        self.usage: Any = None
        self.completion_id: str | None = None
        self.events = 0
        self.on_flow: Any = None
        self.pieces: list[bytes] = []
        self.over = False
        self.enough = asyncio.Event()
        self._most = most

    def write(self, data: bytes) -> None:
        self.pieces.append(data)
        if len(self.pieces) >= self._most:
            self.enough.set()

    def finish(self, data: bytes) -> None:
        self.pieces.append(data)
        self.over = True


async def _gather(upstream: LabUpstream, request: ChatRequest) -> Any:
    heard = Heard()
    try:
        reply = await upstream.complete(request)
        await upstream.stream(request, heard)
    finally:
        await upstream.close()
    return reply, heard


@pytest.mark.parametrize("text", ["Add 2 and 3", "zebra", "x"])
@pytest.mark.parametrize("limit", [None, 1, 3])
def test_both_ways_give_what_the_model_writes(
    upstream: LabUpstream, model: LanguageModel, text: str, limit: int | None
) -> None:
    """Text, tokens and exact cost are the model's own, whole or streamed."""
    more = {} if limit is None else {"max_tokens": limit}
    more["stream_options"] = {"include_usage": True}  # type: ignore[assignment]
    (written,) = model.generate([text], max_tokens=limit)
    reply, heard = asyncio.run(_gather(upstream, ask(text, **more)))
    whole = orjson.loads(reply.body)
    assert whole["choices"][0]["message"]["content"] == written.text
    assert reply.usage["prompt_tokens"] == written.prompt_tokens
    assert whole["usage"]["completion_tokens"] == written.completion_tokens
    events = b"".join(heard.pieces).split(b"\n\n")
    assert events[-2:] == [b"data: [DONE]", b""]
    data = [orjson.loads(event.removeprefix(b"data: ")) for event in events[:-2]]
    pieces = [one["choices"][0]["delta"].get("content", "") for one in data if one["choices"]]
    assert "".join(pieces) == written.text
    assert data[0]["choices"][0]["delta"]["role"] == "assistant"
    assert data[-2]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert data[-1]["usage"]["total_tokens"] == whole["usage"]["total_tokens"]
    assert heard.over
    assert heard.usage == reply.usage
    assert heard.completion_id == data[0]["id"]


def test_a_prompt_too_long_is_refused_without_being_told(upstream: LabUpstream) -> None:
    """Another model may read more, so it may be tried; the prompt is not in the message."""
    request = ask("q" * 500)
    with pytest.raises(AnswerError, match="tokens for model tiny") as caught:
        asyncio.run(_gather(upstream, request))
    assert (caught.value.status, caught.value.retry) == (400, True)
    assert caught.value.reply is not None
    assert orjson.loads(caught.value.reply)["error"]["code"] == "context_length_exceeded"
    assert "qqq" not in str(caught.value)


@pytest.mark.parametrize("limit", [0, -1, "many", 1.5])
def test_a_bad_limit_is_the_requests_fault(upstream: LabUpstream, limit: Any) -> None:
    with pytest.raises(AnswerError, match="positive integer") as caught:
        asyncio.run(_gather(upstream, ask("hi", max_tokens=limit)))
    assert (caught.value.status, caught.value.retry) == (400, False)


def test_a_refusal_comes_before_the_first_piece_of_a_stream(upstream: LabUpstream) -> None:
    async def first() -> None:
        try:
            await upstream.stream(ask("q" * 500), Heard())
        finally:
            await upstream.close()

    with pytest.raises(AnswerError, match="tokens for model tiny"):
        asyncio.run(first())


def test_leaving_a_stream_stops_the_model(model: LanguageModel) -> None:
    """Leaving after one piece ends the work on the thread; closing the upstream waits for it."""

    class Endless:
        tokens, generate = model.tokens, model.generate

        def write(self, prompt: str, *, max_tokens: int | None = None) -> Any:
            while True:
                yield 65

    async def leave() -> str:
        upstream = LabUpstream(name="endless", model=Endless())
        heard = Heard(most=1)
        streaming = asyncio.ensure_future(upstream.stream(ask("Add 2 and 3"), heard))
        await heard.enough.wait()
        streaming.cancel()
        await asyncio.wait([streaming])
        await upstream.close()
        assert not heard.over
        return heard.pieces[0].decode()

    assert "assistant" in asyncio.run(leave())


def test_a_model_that_breaks_is_heard_of(model: LanguageModel) -> None:
    """An error nobody foresaw ends a stream instead of leaving it waiting."""

    class Broken:
        tokens, generate = model.tokens, model.generate

        def write(self, prompt: str, *, max_tokens: int | None = None) -> Any:
            yield 65
            raise MemoryError

    async def listen() -> None:
        upstream = LabUpstream(name="broken", model=Broken())
        try:
            await upstream.stream(ask("hi"), Heard())
        finally:
            await upstream.close()

    with pytest.raises(MemoryError):
        asyncio.run(listen())


@pytest.mark.parametrize("stream", [False, True])
def test_the_gateway_serves_a_model_of_this_process(
    upstream: LabUpstream,
    model: LanguageModel,
    make_config: Any,
    serve_parts: Any,
    ledger_rows: Any,
    stream: bool,
) -> None:
    """Its exact tokens and cost are in the ledger, and a prompt it cannot read goes elsewhere."""
    config = make_config()

    def mixed(config: Any, clock: Any) -> Any:
        parts = build(config, clock)
        charges = {"cheap": lambda read, written: (read + 100 * written) * 10**12}
        return replace(parts, upstreams={**parts.upstreams, "cheap": upstream}, charges=charges)

    with serve_parts(config, mixed) as served:
        short = served.chat("zebra", stream=stream)
        pinned = served.chat("q" * 500, "cheap", stream=stream)
        routed = served.chat("q" * 500, stream=stream)
    assert (short.status, short.headers["x-turnout-destination"]) == (200, "cheap")
    assert (pinned.status, pinned.error["code"]) == (400, "context_length_exceeded")
    assert (routed.status, routed.headers["x-turnout-destination"]) == (200, "dear")
    (written,) = model.generate(["zebra"])
    row = ledger_rows(config)[0]
    assert row["output_tokens"] == written.completion_tokens
    assert row["cost_usd"] == written.prompt_tokens + 100.0 * written.completion_tokens
