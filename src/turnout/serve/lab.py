"""Destinations that run in this process: the laboratory's models, on a thread of their own.

The last user message is the prompt; `max_tokens` is honoured and every other option ignored.
"""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import orjson

from turnout.core import InputError
from turnout.lab import tokenizer
from turnout.serve import sse
from turnout.serve.errors import AnswerError
from turnout.serve.request import ChatRequest, last_user
from turnout.serve.upstream import Passing, Reply

__all__ = ["LabUpstream", "Model", "Written"]


class Written(Protocol):
    """A whole answer of a model."""

    @property
    def text(self) -> str:
        """The answer."""
        ...

    @property
    def prompt_tokens(self) -> int:
        """Tokens read."""
        ...

    @property
    def completion_tokens(self) -> int:
        """Tokens written."""
        ...


class Model(Protocol):
    """What is asked of a model: `turnout.lab.model.LanguageModel` is one."""

    def tokens(self, prompt: str) -> list[int]:
        """Token ids of a prompt."""
        ...

    def generate(
        self, prompts: Sequence[str], *, max_tokens: int | None = None
    ) -> Sequence[Written]:
        """Whole answers."""
        ...

    def write(self, prompt: str, *, max_tokens: int | None = None) -> Iterator[int]:
        """Token ids of one answer as they are chosen."""
        ...


class LabUpstream:
    """One model of the laboratory.

    Parameters
    ----------
    name : str
        Name in the pool.
    model : Model
    """

    def __init__(self, *, name: str, model: Model) -> None:
        self.name = name
        self._model = model
        # one thread: a model's arithmetic gains nothing from being run twice at once
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"turnout-lab-{name}")

    async def complete(self, request: ChatRequest) -> Reply:
        """The whole answer; see `Upstream`."""
        prompt, limit = last_user(request.fields), _limit(request)
        loop = asyncio.get_running_loop()
        try:
            (written,) = await loop.run_in_executor(
                self._executor, lambda: self._model.generate([prompt], max_tokens=limit)
            )
        except InputError as error:
            raise self._refusal(error) from None
        # the mark that ends an answer counts as written but stands for no text
        whole = len(tokenizer.encode(written.text)) < written.completion_tokens
        usage = _told(written.prompt_tokens, written.completion_tokens)
        head = _head(self.name, "chat.completion")
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": written.text},
            "finish_reason": _finish(whole),
        }
        body = orjson.dumps({**head, "choices": [choice], "usage": usage})
        return Reply(body=body, usage=usage, completion_id=head["id"])

    async def stream(self, request: ChatRequest, passing: Passing) -> None:
        """The answer in pieces; see `Upstream`."""
        prompt, limit = last_user(request.fields), _limit(request)
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[str | Exception | None] = asyncio.Queue()
        stop = threading.Event()
        tokens: list[int] = []

        def chosen() -> Iterator[int]:
            for token in self._model.write(prompt, max_tokens=limit):
                tokens.append(token)
                yield token
                if stop.is_set():
                    return

        def write() -> None:
            end: Exception | None = None
            try:
                for piece in tokenizer.pieces(chosen()):
                    loop.call_soon_threadsafe(pieces.put_nowait, piece)
            except Exception as error:  # the other side must not wait for ever
                end = error
            loop.call_soon_threadsafe(pieces.put_nowait, end)

        head = _head(self.name, "chat.completion.chunk")
        passing.completion_id = head["id"]
        work = loop.run_in_executor(self._executor, write)
        delta: dict[str, str] = {"role": "assistant"}
        try:
            while isinstance(piece := await pieces.get(), str):
                passing.events += 1
                passing.write(_event(head, {**delta, "content": piece}))
                delta = {}
        finally:
            stop.set()
        if isinstance(piece, InputError):
            raise self._refusal(piece) from None
        if piece is not None:
            raise piece
        await work
        usage = passing.usage = _told(len(self._model.tokens(prompt)), len(tokens))
        data = _event(head, delta, _finish(tokens[-1] == tokenizer.END))
        if request.wants_usage:
            data += sse.event(orjson.dumps({**head, "choices": [], "usage": usage}))
        passing.finish(data + sse.event(sse.DONE))

    async def close(self) -> None:
        """Let the thread end once it is done."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _refusal(self, error: InputError) -> AnswerError:
        """A prompt too long for this model may fit another one; a bad option fits none."""
        prompt = error.field == "prompt"
        told = {
            "message": str(error),
            "type": "invalid_request_error",
            "param": "messages" if prompt else error.field,
            "code": "context_length_exceeded" if prompt else "invalid_request",
        }
        return AnswerError(
            self.name,
            told["code"],
            error.rule,
            error.value,
            error.hint,
            status=400,
            retry=prompt,
            reply=orjson.dumps({"error": told}),
        )


def _limit(request: ChatRequest) -> int | None:
    fields = request.fields
    limit: int | None = fields.get("max_completion_tokens", fields.get("max_tokens"))
    return limit


def _finish(whole: bool) -> str:
    return "stop" if whole else "length"


def _head(model: str, kind: str) -> dict[str, Any]:
    name = f"chatcmpl-{uuid.uuid4().hex}"
    return {"id": name, "object": kind, "created": int(time.time()), "model": model}


def _event(head: dict[str, Any], delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return sse.event(orjson.dumps({**head, "choices": [choice]}))


def _told(read: int, written: int) -> dict[str, int]:
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
    }
