"""AgentRouter on drawn questions whose hops show in the relations of the context alone.

What is missed, and why. Without relations the graph is not as good as the network of counts but
worse (1.33 times its divergence): that network is handed the kind asked for as a number, which the
graph has to find in words. What else to know: though the graph is a quarter nearer to the targets,
its vote is right no more often than that network's (0 and -2 points); with six agents who all vote,
wrong ones seldom agree, and a rough share is enough. One best agent as the label is bad mostly for
its ties: where several are right it names the first, as is commonly done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

from turnout.core import Call, Outcomes, Pool, Reply
from turnout.core._check import Float, Int
from turnout.llms.agent_router import AgentRouter, FittedAgentRouter
from turnout.llms.knn import Knn
from turnout.parts.entities import KINDS, read
from turnout.parts.learners.descent import Schedule, descend
from turnout.parts.rounds.answers import exact, normalised
from turnout.parts.rounds.playing import run as played

#: Names are drawn and say nothing here, so that few numbers are enough for them.
RECIPE = AgentRouter(d=8)
AGENTS = tuple(f"agent{a}" for a in range(6))
ASKS = ("Which person", "Which place", "Which number")
LAST = ("trusts", "moved to", "counted")
ASIDE = ("greeted", "visited", "saw")
FIRST = (
    *("Ada", "Ben", "Cleo", "Dan", "Elsa", "Finn", "Gwen", "Hugo", "Ines", "Jon", "Kira", "Leo"),
    *("Maya", "Nils", "Olga", "Paul"),
)
SECOND = ("Abel", "Brook", "Cross", "Dale", "East", "Frost", "Grove", "Hill", "Iron", "Jade")
PLACES = (
    *("Arden", "Borley", "Corham", "Denfield", "Elmsted", "Farwick", "Garside", "Hexton"),
    *("Ilford", "Kelby", "Lorton", "Marsden"),
)


@dataclass(frozen=True)
class Question:
    """An item, its answer, the answers a wrong agent may give, and what it is made of."""

    item: str
    answer: str
    wrong: tuple[str, ...]
    kind: int
    hops: int
    level: int


def run(seed: int, data: Path | None) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    skill = 0.3 + 1.6 * rng.standard_normal((len(AGENTS), 3, 3))
    questions = [draw(rng) for _ in range(1000)]
    train, test = questions[:500], questions[500:]
    _, table = ask(train, skill, rng)
    told, truth = ask(test, skill, rng)
    wanted = _targets(test, skill)
    fitted = RECIPE.fit(table, table.pool(), rng=np.random.default_rng(seed))
    unrelated = replace(RECIPE, relations=0).fit(
        table, table.pool(), rng=np.random.default_rng(seed)
    )
    bare = replace(RECIPE, entities=0).fit(table, table.pool(), rng=np.random.default_rng(seed))
    items = [question.item for question in test]
    share, neighbours = fitted.shares(items), _neighbours(train, test, table)
    guess = _mlp(train, test, table, rng)
    single = int(table.quality.mean(axis=0).argmax())
    found = {
        "vote": _played(fitted, test, told),
        "single": float(truth.quality[:, single].mean()),
        "plain_vote": _vote(np.ones_like(share), test, told),
        "neighbours": _vote(neighbours, test, told),
        "mlp": _vote(guess, test, told),
        "unrelated": _vote(unrelated.shares(items), test, told),
        "bare": _vote(bare.shares(items), test, told),
        "top": float(truth.quality[np.arange(len(test)), share.argmax(axis=1)].mean()),
        "oracle": float(truth.quality.max(axis=1).mean()),
        "divergence": _divergence(wanted, share),
        "divergence_mlp": _divergence(wanted, guess),
        "divergence_unrelated": _divergence(wanted, unrelated.shares(items)),
        "divergence_bare": _divergence(wanted, bare.shares(items)),
        "divergence_equal": _divergence(wanted, np.full_like(share, 1 / len(AGENTS))),
    }
    found |= {f"gain_over_{name}": found["vote"] - found[name] for name in BESIDES}
    found["divergence_over_mlp"] = found["divergence"] / found["divergence_mlp"]
    found["unrelated_over_mlp"] = found["divergence_unrelated"] / found["divergence_mlp"]
    few = table.take(np.arange(300))
    soft, hard = (
        RECIPE.fit(each, each.pool(), rng=np.random.default_rng(seed))
        for each in (few, _one_best(few))
    )
    found["soft"], found["hard"] = (_vote(each.shares(items), test, told) for each in (soft, hard))
    return found | {"soft_minus_hard": found["soft"] - found["hard"]}


BESIDES = ("single", "plain_vote", "neighbours", "mlp")


def draw(rng: Generator) -> Question:
    """A trail of one to three facts from the one asked about, and facts that lead nowhere.

    However long the trail, there are seven facts, or ten where there is much distraction.
    """
    kind, hops, level = (int(rng.integers(many)) for many in (3, 3, 2))
    names = [
        f"{FIRST[i // len(SECOND)]} {SECOND[i % len(SECOND)]}"
        for i in rng.permutation(len(FIRST) * len(SECOND))[:24]
    ]
    places, numbers = list(rng.permutation(PLACES)), list(rng.permutation(np.arange(100, 999))[:12])
    stock: list[list[Any]] = [names, places, numbers]

    def fresh(what: int) -> str:
        return str(stock[what].pop()) + (" Town" if what == 1 else "")

    trail = [fresh(0) for _ in range(hops + 1)]
    facts = [f"{one} asked {two}." for one, two in pairwise(trail)]
    answer, wrong = fresh(kind), []
    facts.append(f"{trail[-1]} {LAST[kind]} {answer}.")
    for _ in range((7, 10)[level] - len(facts)):
        what = int(rng.integers(3))
        other = fresh(what)
        facts.append(f"{fresh(0)} {ASIDE[what]} {other}.")
        wrong.append(other)
    context = " ".join(facts[i] for i in rng.permutation(len(facts)))
    question = f"{ASKS[kind]} is at the end of the trail of {trail[0]}?"
    return Question(f"{context}\n{question}", answer, tuple(wrong), kind, hops, level)


def chance(questions: Sequence[Question], skill: Float) -> Float:
    """Chance that each agent is right, (n, m)."""
    hard = np.array([[0.3, 0.9][question.level] for question in questions])
    able = np.array([skill[:, question.kind, question.hops] for question in questions])
    return np.asarray(1 / (1 + np.exp(hard[:, None] - able)))


def ask(
    questions: Sequence[Question], skill: Float, rng: Generator
) -> tuple[list[list[str]], Outcomes]:
    """What each agent answers, and the table of it."""
    right = rng.random((len(questions), len(AGENTS))) < chance(questions, skill)
    answers = [
        [q.answer if good else str(rng.choice(q.wrong)) for good in row]
        for q, row in zip(questions, right, strict=True)
    ]
    quality = [
        [exact(answer, (q.answer,)) for answer in row]
        for q, row in zip(questions, answers, strict=True)
    ]
    return answers, Outcomes(
        inputs=[q.item for q in questions],
        names=AGENTS,
        quality=np.array(quality),
        cost=np.ones((len(questions), len(AGENTS))),
    )


def _targets(questions: Sequence[Question], skill: Float) -> Float:
    """Mean soft target of each question over the answers that might have been drawn."""
    rng, p = np.random.default_rng(0), chance(questions, skill)
    total = np.zeros_like(p)
    for _ in range(200):
        grown = np.exp((rng.random(p.shape) < p) / 0.25)
        total += grown / grown.sum(axis=1, keepdims=True)
    return total / 200


def _divergence(wanted: Float, share: Float) -> float:
    return float((wanted * (np.log(wanted) - np.log(share))).sum(axis=1).mean())


def _played(
    fitted: FittedAgentRouter, questions: Sequence[Question], told: list[list[str]]
) -> float:
    """The strategy itself, played over the answers drawn."""
    pool, right = Pool(names=AGENTS), []
    for question, row in zip(questions, told, strict=True):
        said = dict(zip(AGENTS, row, strict=True))

        def answer(call: Call, said: dict[str, str] = said) -> Reply:
            return Reply(text=said[call.to], cost=1.0)

        found = played(fitted, question.item, answer, pool, rng=np.random.default_rng(0))
        right.append(exact(found.answer, (question.answer,)))
    return float(np.mean(right))


def _vote(share: Float, questions: Sequence[Question], told: list[list[str]]) -> float:
    """How often the answer of greatest share is right; ties by text."""
    right = []
    for question, row, weight in zip(questions, told, share, strict=True):
        votes: dict[str, float] = {}
        for answer, part in zip(row, weight, strict=True):
            votes[normalised(answer)] = votes.get(normalised(answer), 0.0) + part
        best = min(votes, key=lambda key: (-votes[key], key))
        right.append(exact(best, (question.answer,)))
    return float(np.mean(right))


def _neighbours(train: Sequence[Question], test: Sequence[Question], table: Outcomes) -> Float:
    """Shares by the mean quality on the nearest questions, read without their contexts."""
    asked = [[q.item.splitlines()[-1] for q in part] for part in (train, test)]
    seen = Outcomes(inputs=asked[0], names=AGENTS, quality=table.quality, cost=table.cost)
    fitted = Knn(k=40).fit(seen, seen.pool(), rng=np.random.default_rng(0))
    grown = np.exp(fitted.predict(asked[1])[0] / 0.25)
    return np.asarray(grown / grown.sum(axis=1, keepdims=True))


def _one_best(table: Outcomes) -> Outcomes:
    """Only the first of the best agents is labelled right."""
    quality = np.eye(table.m)[table.quality.argmax(axis=1)]
    return Outcomes(inputs=table.inputs, names=table.names, quality=quality, cost=table.cost)


def _features(questions: Sequence[Question]) -> Float:
    """What is asked, as three words tell it, and how many entities of each kind there are."""
    rows = []
    for question in questions:
        facts = read(question.item)
        kinds = np.bincount(facts.kinds, minlength=len(KINDS)) / 10
        asks = [float(word in facts.question) for word in ASKS]
        rows.append([*asks, *kinds, 1.0])
    return np.array(rows)


def _mlp(
    train: Sequence[Question], test: Sequence[Question], table: Outcomes, rng: Generator
) -> Float:
    """Shares by a network of 32 hidden units, taught by the same targets."""
    x, y = _features(train), _features(test)
    grown = np.exp(table.quality / 0.25)
    wanted = grown / grown.sum(axis=1, keepdims=True)
    first = rng.standard_normal((x.shape[1], 32)) * 0.5
    second = np.zeros((32, table.m))

    def share(features: Float) -> tuple[Float, Float]:
        hidden = np.maximum(features @ first, 0.0)
        scores = hidden @ second
        grown = np.exp(scores - scores.max(axis=1, keepdims=True))
        return hidden, grown / grown.sum(axis=1, keepdims=True)

    def gradients(rows: Int) -> tuple[list[Float], None]:
        hidden, p = share(x[rows])
        slope = (p - wanted[rows]) / len(rows)
        back = (slope @ second.T) * (hidden > 0)
        return [x[rows].T @ back, hidden.T @ slope], None

    def loss(rows: Int) -> float:
        return _divergence(wanted[rows], share(x[rows])[1])

    schedule = Schedule(rate=3e-3, decay=0.0, batch=16, epochs=60, patience=15)
    descend([first, second], gradients, loss, len(x), schedule, rng=rng)
    return share(y)[1]
