"""Readers: make an answer of the documents that a knowledge base found."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol

from turnout.core import Call, Pool, Reply, _check
from turnout.parts.rounds import tagged
from turnout.parts.rounds.inquiry import Inquiry

__all__ = ["ChatReader", "FirstDocument", "Reader", "Reading"]

_READ = "Answer the question from the documents alone, as shortly as you can.\n\n{documents}"
_END = "Answer the question from these findings alone, as shortly as you can.\n\n{findings}"

#: Yields calls of its own and returns the answer.
Reading = Generator[tuple[Call, ...], tuple[Reply, ...], str]


class Reader(Protocol):
    """Makes answers of documents."""

    def read(self, query: str, documents: str, pool: Pool) -> Reading:
        """The answer to a sub-question; "" where the documents hold none."""
        ...

    def end(self, inquiry: Inquiry, pool: Pool) -> Reading:
        """The answer to the question, from all that was found."""
        ...


@dataclass(frozen=True)
class FirstDocument:
    """Takes what follows the first colon of the best document, or all of it."""

    def read(self, query: str, documents: str, pool: Pool) -> Reading:
        """The rest of the first line after its colon."""
        line = documents.strip().partition("\n")[0]
        before, colon, after = line.partition(": ")
        return after.strip() if colon else before.strip()
        yield ()  # a generator, as every reader is

    def end(self, inquiry: Inquiry, pool: Pool) -> Reading:
        """The last sub-answer."""
        return inquiry.last
        yield ()


@dataclass(frozen=True)
class ChatReader:
    """Has a chat destination read the documents, and sum up at the end.

    Parameters
    ----------
    to : str
        The destination. Where it is down or fails, `FirstDocument` reads.
    max_tokens : int
        Most it writes, >= 1: recall must not reward length.
    """

    to: str
    max_tokens: int = 64

    def __post_init__(self) -> None:
        _check.integer("chat_reader.max_tokens", self.max_tokens, low=1)

    def read(self, query: str, documents: str, pool: Pool) -> Reading:
        """Its answer to the sub-question."""
        plain = yield from FirstDocument().read(query, documents, pool)
        return (yield from self._said(query, _READ.format(documents=documents), plain, pool))

    def end(self, inquiry: Inquiry, pool: Pool) -> Reading:
        """Its answer to the question; asked only where there was more than one finding."""
        found = [
            f"{query} {reply}"
            for (_, query), reply in zip(inquiry.asked, inquiry.replies, strict=True)
            if reply
        ]
        if len(found) < 2:
            return inquiry.last
        told = _END.format(findings="\n".join(found))
        return (yield from self._said(inquiry.item, told, inquiry.last, pool))

    def _said(self, prompt: str, system: str, otherwise: str, pool: Pool) -> Reading:
        if self.to not in pool.names or not pool.available[pool.index(self.to)]:
            return otherwise
        call = Call(to=self.to, prompt=prompt, system=system, max_tokens=self.max_tokens)
        (reply,) = yield (call,)
        said = "" if reply.failed else reply.text.strip()
        block = tagged.first(said, ("answer",))
        return (block[1] if block else said) or otherwise
