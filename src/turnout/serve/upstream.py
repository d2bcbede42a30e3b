"""The seam towards the destinations: ask one for a whole answer, or for its pieces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from turnout.serve.errors import AnswerError
from turnout.serve.request import ChatRequest

__all__ = ["EVENT_STREAM", "JSON", "Passing", "Reply", "Upstream", "truncated"]

JSON = "application/json"
EVENT_STREAM = "text/event-stream"


@dataclass(kw_only=True, slots=True)
class Reply:
    """A whole answer.

    Parameters
    ----------
    body : bytes
        JSON, as the destination wrote it.
    usage : object
        The `usage` object it told, as JSON gave it; None where it told none.
    completion_id : str, optional
        The destination's own name of the answer.
    """

    body: bytes = field(repr=False)
    usage: Any = None
    completion_id: str | None = None


class Passing(Protocol):
    """A streamed answer on its way through: what a destination hands its pieces to.

    Attributes
    ----------
    usage, completion_id
        As in `Reply`; set by the destination as soon as it knows.
    events : int
        Pieces of the answer so far: at least so many tokens were written.
    on_flow : callable, optional
        Set by a destination that can wait: called with True when the client cannot take more for
        now, with False when it can again.
    """

    usage: Any
    completion_id: str | None
    events: int
    on_flow: Callable[[bool], None] | None

    def write(self, data: bytes) -> None:
        """Pass on some whole events."""
        ...

    def finish(self, data: bytes) -> None:
        """Pass on the events that hold the end mark; nothing comes after."""
        ...


class Upstream(Protocol):
    """A destination that can be asked.

    Both ways of asking raise `AnswerError` when the destination does not answer properly, and
    stop the destination's work when they are cancelled.
    """

    async def complete(self, request: ChatRequest) -> Reply:
        """The whole answer."""
        ...

    async def stream(self, request: ChatRequest, passing: Passing) -> None:
        """The answer in pieces, `data: [DONE]` last; ending without it raises."""
        ...

    async def close(self) -> None:
        """Let go of connections and threads."""
        ...


def truncated(destination: str) -> AnswerError:
    """The failure of a destination that stopped in the middle of an answer."""
    rule = "finish its answer"
    hint = "What arrived is not whole; ask again."
    return AnswerError(destination, "truncated", rule, "a broken connection", hint, charged=True)
