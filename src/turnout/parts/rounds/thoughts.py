"""Thought templates: short procedures, written from good answers and put before new prompts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from turnout.core import Budget, Call, InputError, LimitReached, Play, Pool, Predictor, _check
from turnout.core._check import Int
from turnout.parts.answer_log import LogRow, questions, ranked
from turnout.parts.priced import columns
from turnout.parts.rounds.playing import Ask
from turnout.parts.texts.encoder import Encoder, fit_encoder

__all__ = ["ThoughtPlay", "Thoughts", "enriched", "summary_call", "write_thoughts"]


def summary_call(rows: Sequence[LogRow], to: str) -> Call:
    """What a summariser is asked: the way of thinking that good answers share, in short.

    Parameters
    ----------
    rows : sequence of LogRow
        Answers to one question, at least one.
    to : str
        The summariser's destination.
    """
    first = rows[0]
    answers = "\n\n".join(f"Answer {i}:\n{row.response}" for i, row in enumerate(rows, start=1))
    return Call(
        to=to,
        prompt=(
            f"Task: {first.description or first.task}\n\nQuestion:\n{first.query}\n\n{answers}\n\n"
            "Write, in at most five short lines, the general procedure by which these answers are "
            "found. It must serve for other questions of the kind: leave out the names, numbers "
            "and results of this one."
        ),
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class Thoughts:
    """A library of n templates.

    Parameters
    ----------
    tasks, queries, templates : tuple of str (n,)
    keys : array (n, d)
        Vectors of the queries, of length one.
    encoder : Encoder
    """

    tasks: tuple[str, ...]
    queries: tuple[str, ...]
    templates: tuple[str, ...]
    keys: NDArray[np.float32]
    encoder: Encoder

    def similar(self, query: str, k: int, *, task: str = "") -> Int:
        """Rows of the k templates whose questions are most like a query, the likest first.

        Within one task: the one given, else that of the likest question. The template of the very
        same question is left out, since it was written from answers to it.

        Parameters
        ----------
        query : str
        k : int
            Most of them, >= 0; there may be fewer.
        task : str
            "" = not known.
        """
        like = self.keys @ self.encoder.encode([query])[0]
        order = [j for j in np.argsort(-like, kind="stable") if self.queries[j] != query]
        if order and not task:
            task = self.tasks[order[0]]
        return np.array([j for j in order if self.tasks[j] == task][:k], dtype=np.int64)


def write_thoughts(
    log: Sequence[LogRow],
    ask: Ask,
    to: str,
    *,
    top_n: int = 3,
    by: str = "perf",
    exclude: Collection[str] = (),
    encoder: str = "svd",
    d: int = 128,
    rng: Generator,
) -> Thoughts:
    """Have a summariser write one template a question, from the best answers to it.

    A question that nobody answered better than 0, and one whose call fails or comes back empty,
    has none.

    Parameters
    ----------
    log : sequence of LogRow
        Of questions to learn from only.
    ask : callable
        Makes a call to the summariser.
    to : str
        Its destination.
    top_n : int
        Answers that are read, >= 1.
    by : str
        "perf", or "hybrid" for performance, then judge.
    exclude : collection of str
        Queries of the test: no template is written from them, wherever they stand.
    encoder, d : str, int
        As in `turnout.parts.texts.encoder.fit_encoder`.
    rng : Generator

    Raises
    ------
    InputError
        No template came of it, or `by` is no order.
    """
    top_n = _check.integer("top_n", top_n, low=1)
    kept: list[tuple[str, str, str]] = []
    for rows in questions([row for row in log if row.query not in exclude]):
        best = [row for row in ranked(rows, by)[:top_n] if row.performance > 0]
        if not best:
            continue
        reply = ask(summary_call(best, to))
        if not reply.failed and reply.text.strip():
            kept.append((rows[0].task, rows[0].query, reply.text.strip()))
    if not kept:
        raise InputError("log", "give at least one template", 0, "Check the summariser's answers.")
    tasks, queries, templates = zip(*kept, strict=True)
    fitted = fit_encoder(encoder, queries, d=d, rng=rng)
    return Thoughts(
        tasks=tasks,
        queries=queries,
        templates=templates,
        keys=fitted.encode(queries),
        encoder=fitted,
    )


def enriched(query: str, thoughts: Thoughts, rows: Int) -> str:
    """The prompt with similar questions and how they were thought about before it.

    The query is the last line or lines, after a line of its own.
    """
    if not len(rows):
        return query
    shown = "\n\n".join(
        f"Similar question: {thoughts.queries[j]}\nHow to think about it: {thoughts.templates[j]}"
        for j in rows
    )
    return f"{shown}\n\nNow answer this question:\n{query}"


@dataclass(frozen=True, eq=False, kw_only=True)
class ThoughtPlay:
    """Answers with templates in the prompt, by the model that a predictor chooses.

    One call; where it fails or is empty, the next best model, each once. The budget's price
    decides among models as everywhere; a budget that is a target counts as none here, because
    one input has no mean.

    Parameters
    ----------
    thoughts : Thoughts
    predictor : Predictor
        Of quality and cost; sees the bare input.
    k : int
        Templates put into the prompt, >= 0.
    task : str
        "" = that of the likest question.
    """

    thoughts: Thoughts
    predictor: Predictor
    k: int = 2
    task: str = ""

    def __post_init__(self) -> None:
        _check.integer("thought_play.k", self.k, low=0)

    @property
    def names(self) -> tuple[str, ...]:
        """The models."""
        return self.predictor.names

    def play(self, item: str, pool: Pool, *, budget: Budget, rng: Generator) -> Play:
        """The steps for one input."""
        keep = columns(self.names, pool)
        quality, cost = self.predictor.predict([item])
        worth = quality[0, keep] - (budget.price or 0.0) * cost[0, keep]
        prompt = enriched(item, self.thoughts, self.thoughts.similar(item, self.k, task=self.task))
        # equals by name, so that the pool's order is nothing
        order = sorted(range(pool.m), key=lambda j: (-worth[j], cost[0, keep[j]], pool.names[j]))
        try:
            for j in order:
                if pool.available[j]:
                    (reply,) = yield (Call(to=pool.names[j], prompt=prompt),)
                    if reply.text and not reply.failed:
                        return reply.text
        except LimitReached:
            pass
        return ""
