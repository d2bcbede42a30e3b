"""The seam towards the destinations: ask one for a whole answer, or for its pieces."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Protocol

from turnout.serve.errors import AnswerError
from turnout.serve.request import ChatRequest

__all__ = ["EVENT_STREAM", "JSON", "Chunk", "Price", "Reply", "Upstream", "Usage", "truncated"]

JSON = "application/json"
EVENT_STREAM = "text/event-stream"

#: Cost in USD of so many input and output tokens.
Price = Callable[[int, int], float]


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What an answer took, as far as the destination says.

    Parameters
    ----------
    input_tokens, output_tokens : int, optional
        None = not said.
    cost_usd : float, optional
        None where the tokens are not known.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A whole answer.

    Parameters
    ----------
    body : bytes
        JSON, as the destination wrote it.
    usage : Usage
    completion_id : str, optional
        The destination's own name of the answer.
    """

    body: bytes = field(repr=False)
    usage: Usage
    completion_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Some whole events of a stream.

    Parameters
    ----------
    data : bytes
        Server-sent events to pass on; may be empty.
    usage : Usage, optional
        Where these events tell it.
    completion_id : str, optional
        Where these events tell it.
    last : bool
        These events hold the end mark.
    """

    data: bytes = field(repr=False)
    usage: Usage | None = None
    completion_id: str | None = None
    last: bool = False


class Upstream(Protocol):
    """A destination that can be asked.

    Both ways of asking raise `AnswerError` when the destination does not answer properly, and
    stop the destination's work when they are cancelled or closed.
    """

    async def complete(self, request: ChatRequest) -> Reply:
        """The whole answer."""
        ...

    def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """The answer in pieces, `data: [DONE]` last; ending without it raises."""
        ...

    async def close(self) -> None:
        """Let go of connections and threads."""
        ...


def truncated(destination: str) -> AnswerError:
    """The failure of a destination that stopped in the middle of an answer."""
    rule = "finish its answer"
    hint = "What arrived is not whole; ask again."
    return AnswerError(destination, "truncated", rule, "a broken connection", hint)
