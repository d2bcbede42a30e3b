"""Asks the agents that a graph of the question and its context points to, and lets them vote.

Routes a question, with its context, to several agents at once; an agent is a language model and a
way to prompt it: one call in words of its own (`Agent`), or a strategy of several calls, which is
played inside the play (`Worker`): it takes the question apart, asks again, checks. The question,
the entities of its context and the agents are nodes of a graph with typed edges; a type-aware graph
network tells how well each agent will do. "AgentRouter: A Knowledge-Graph-Guided LLM Router for
Collaborative Multi-Agent Question Answering" (2025), arXiv:2510.05445.

Equations, with the variable of each symbol::

    G(x)  = question - entity (mentions), entity - entity (relation), agent - entity (all)
    s_a   = w . tanh((W_q h_question) (W_a h_a))         (m,)   `turnout.nn.graph.AgentNet`
    p     = softmax(s)                                   (m,)   `shares`
    t_a   = (1 - z) softmax_a(F_a / T) + z / m           target: F_a the agent's token F1, [0, 1]
    loss  = sum_a t_a (log t_a - log p_a)                a question
    A     = the k agents of greatest p with p_a > price c_a, or else the best of p - price c
    vote(y) = sum of p_a over the agents of A that answered y, normalised     answer: the greatest

z is `smooth`, T `temperature`, c_a (m,) the expected cost of an agent in the currency of the table.
The question and the agents share no edge: they meet in the entities and in the score.

The knob is k, the number of agents asked (1 ... m), set when the recipe is made; with
`Budget(price=...)` an agent is asked only if its share is worth its cost: share per unit of cost.
That is no part of the paper, which counts no cost. Mean-cost budgets are not kept.

All agents go on side by side: a round holds the next calls of every agent that has not ended. Each
may make `calls` of them, then it answers with what it has. Its calls count among those of the whole
play, whose limit must have room for all of them; where that is reached, or time is up, those that
have ended vote (`turnout.parts.rounds.agents`).

A table to fit on has one column an agent and the F1 of its answer as quality. A table of cached
answers tests the choice and the vote and nothing else. What is down is never asked, and shares are
taken among the others; a worker is up while one of its destinations is. An agent that fails or says
nothing has no vote; where nobody answers the answer is empty. Entities are read by rules
(`turnout.parts.entities`).

What a laptop cannot show: that models of billions of parameters, told to reason, to decompose or to
reflect, differ in ways that a graph of the context tells. The tiny models of the claim read bare
requests of one skill, so code does their reading and their taking apart (`turnout.lab.agents`).

Differs from the paper: see `CARD.differs`. Cost: see `CARD.cost`.

Examples
--------
>>> import numpy as np
>>> from turnout.core import Outcomes, Pool, Reply
>>> from turnout.parts.rounds.playing import run
>>> table = Outcomes(
...     inputs=["Ann met Bob. Who met Bob?", "Rome has 3 hills. How many has Rome?"] * 20,
...     names=("people", "numbers"),
...     quality=np.array([[1.0, 0.0], [0.0, 1.0]] * 20),
...     cost=np.ones((40, 2)),
... )
>>> fitted = AgentRouter(h=8).fit(table, table.pool(), rng=np.random.default_rng(0))
>>> played = run(
...     fitted, "Oslo has 5 hills. How many has Oslo?", lambda call: Reply(text=call.to, cost=1.0),
...     Pool(names=("people", "numbers")), rng=np.random.default_rng(0),
... )
>>> played.answer, played.cost
('numbers', 2.0)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from turnout.core import Budget, Card, InputError, Outcomes, Play, Pool, _check
from turnout.core._check import Float
from turnout.parts.costs import CostModel, fit_costs
from turnout.parts.edges import described
from turnout.parts.priced import columns
from turnout.parts.rounds.agents import Agent, Worker, together
from turnout.parts.rounds.answers import normalised
from turnout.parts.texts.encoder import check_name
from turnout.parts.texts.words import texts_of

if TYPE_CHECKING:
    from turnout.nn.graph import QuestionReader

__all__ = ["CARD", "Agent", "AgentRouter", "FittedAgentRouter", "Worker"]

CARD = Card(
    name="llms.agent_router",
    system="AgentRouter",
    title=(
        "AgentRouter: A Knowledge-Graph-Guided LLM Router for Collaborative Multi-Agent "
        "Question Answering"
    ),
    authors="Zhang, Shi, Yuan, Wang, Ma, Murugesan, Galassi, Zhang, Ye",
    year=2025,
    id="arXiv:2510.05445",
    routes="a question with its context to several agents at once",
    kind="score",
    recipe="AgentRouter",
    signal=("outcomes",),
    covers=(
        "A graph of question, entities and agents for each question, and a type-aware network",
        "Soft targets from how well each agent really answered, by Kullback-Leibler divergence",
        "The weighted vote of the agents chosen",
        "Agents that are strategies of several calls, each within a limit of its own",
    ),
    differs=(
        "Layer, sizes, scorer, target and vote are those of a public script of the same design; "
        "the paper's own settings were not seen.",
        "Entities and relations are found by rules, in place of a tagger that is a download; "
        "relations that are rare share one type.",
        "Vectors of texts are a truncated SVD of TF-IDF unless encoder='minilm', in place of "
        "BERT's 768 numbers; the kind of an entity stands beside its vector.",
        "Smaller and longer by default: width 16 and 40 epochs of steps of 32, not 256 and 3 of 8, "
        "because tables have hundreds of questions; the best held-out epoch is kept.",
        "No dropout, where the script drops a fifth: at this width it kept the network from "
        "seeing relations at all, on questions drawn apart from those of the claim.",
        "The script reads the agents' answers from a cache; here the agents are asked, those of "
        "several calls side by side, each within a number of calls of its own.",
        "A price leaves out agents whose share is not worth their cost. An extension.",
    ),
    needs=("torch",),
    properties=("multi_step", "reads_inputs", "price_monotone"),
    knobs=(("price", "share of the vote per unit of cost"), ("top_k", "most agents asked")),
    aliases=("agentrouter", "agent router", "router gnn"),
    cost="play: k agents at once, as many rounds of calls as the longest of them takes; "
    "route: O(layers (v + m) h^2 + layers m v h) for v entities",
)


@dataclass(frozen=True)
class AgentRouter:
    """Recipe of an agent router.

    Parameters
    ----------
    agents : tuple of Agent or Worker
        One a column of the table; empty: every destination is an agent that is asked as it is.
    top_k : int
        Most agents asked, >= 1.
    h, layers, heads : int
        Width, rounds of messages and heads; h divides by the heads.
    dropout : float
        In [0, 0.9].
    temperature, smooth : float
        Of the target.
    relations : int
        Relations told apart, the most frequent; 0 leaves out all edges between entities.
    entities : int
        Most entities of a question, those nearest to it; >= 0.
    rate, decay, epochs, batch : float or int
        Of AdamW; passes over the questions, and questions a step.
    held_out : float
        Share of the questions kept to choose the epoch by, in [0, 0.5].
    encoder, d
        As in `turnout.llms.knn.Knn`.

    Raises
    ------
    InputError
        A value is out of range, or two agents share a name.
    """

    agents: tuple[Agent | Worker, ...] = ()
    top_k: int = 8
    h: int = 16
    layers: int = 2
    heads: int = 2
    dropout: float = 0.0
    temperature: float = 0.25
    smooth: float = 1e-3
    relations: int = 24
    entities: int = 64
    rate: float = 5e-3
    decay: float = 0.01
    epochs: int = 40
    batch: int = 32
    held_out: float = 0.1
    encoder: str = "svd"
    d: int = 64

    def __post_init__(self) -> None:
        if self.agents:
            _check.names("agent_router.agents", [a.name for a in self.agents], what="agent")
        for name in ("top_k", "h", "layers", "heads", "epochs", "batch", "d"):
            _check.integer(f"agent_router.{name}", getattr(self, name), low=1)
        if self.h % self.heads:
            rule = f"divide by the {self.heads} heads"
            raise InputError("agent_router.h", rule, self.h, "Change one.")
        for name in ("relations", "entities"):
            _check.integer(f"agent_router.{name}", getattr(self, name), low=0)
        for name in ("temperature", "rate"):
            _check.number(f"agent_router.{name}", getattr(self, name), low=1e-6)
        _check.number("agent_router.decay", self.decay, low=0.0)
        _check.number("agent_router.dropout", self.dropout, low=0.0, high=0.9)
        _check.number("agent_router.smooth", self.smooth, low=0.0, high=1.0)
        _check.number("agent_router.held_out", self.held_out, low=0.0, high=0.5)
        check_name(self.encoder)

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: Generator) -> FittedAgentRouter:
        """Learn how well the agents, the columns of the table, answer which questions.

        Raises
        ------
        InputError
            The inputs are no texts, or the columns are not the agents.
        """
        from turnout.nn.graph import (
            AgentNet,
            AskedTraining,
            fit_reader,
            numpy_of,
            torch_generator,
            train_agents,
        )

        agents: tuple[Agent | Worker, ...] = self.agents or tuple(
            Agent(name, name, description=(pool.description or outcomes.names)[column])
            for column, name in enumerate(outcomes.names)
        )
        names = tuple(agent.name for agent in agents)
        if names != outcomes.names:
            hint = "Name the agents as the columns of the table, in their order."
            raise InputError("agent_router.agents", f"be {outcomes.names}", names, hint)
        texts = texts_of(outcomes.inputs)
        reader = fit_reader(
            texts,
            encoder=self.encoder,
            d=self.d,
            relations=self.relations,
            most=self.entities,
            rng=rng,
        )
        vectors = _vectors(agents, self.encoder, rng)
        network = AgentNet(
            question=reader.encoder.d,
            entity=reader.entity,
            agent=vectors.shape[1],
            relations=reader.edges,
            h=self.h,
            layers=self.layers,
            heads=self.heads,
            dropout=self.dropout,
            generator=torch_generator(rng),
        )
        fields = ("rate", "decay", "epochs", "batch", "held_out")
        training = AskedTraining(**{name: getattr(self, name) for name in fields})
        asked = [reader.asked(text) for text in texts]
        target = _target(outcomes.quality, self.temperature, self.smooth)
        train_agents(network, asked, vectors, target, training, rng=rng)
        return FittedAgentRouter(
            agents=agents,
            reader=reader,
            vectors=vectors,
            top_k=self.top_k,
            heads=self.heads,
            weights=numpy_of(network),
            costs=fit_costs(outcomes),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedAgentRouter:
    """A trained agent router, a `turnout.core.Strategy`.

    Parameters
    ----------
    agents : tuple of Agent or Worker (m,)
    reader : QuestionReader
        Turns a question into a graph.
    vectors : array of float32 (m, d)
        What the agents are.
    top_k, heads : int
    weights : mapping of str to array
        Its weights.
    costs : CostModel
        Of the agents.
    """

    agents: tuple[Agent | Worker, ...]
    reader: QuestionReader
    vectors: NDArray[np.float32]
    top_k: int
    heads: int
    weights: Mapping[str, NDArray[Any]]
    costs: CostModel

    @property
    def names(self) -> tuple[str, ...]:
        """The destinations of the agents, each once."""
        return tuple(dict.fromkeys(name for agent in self.agents for name in agent.names))

    def shares(self, items: Sequence[str]) -> Float:
        """How much each agent is trusted, (n, m); rows sum to 1."""
        import torch

        from turnout.nn.graph import load_agents

        texts = texts_of(items)
        if not texts:
            return np.empty((0, len(self.agents)))
        network = load_agents(self.weights, heads=self.heads)
        asked = [self.reader.asked(text) for text in texts]
        with torch.no_grad():
            return np.asarray(network(asked, self.vectors).double().softmax(dim=1).numpy())

    def chosen(self, item: str, pool: Pool, budget: Budget) -> tuple[list[int], Float]:
        """Agents to ask, the most trusted first, and the shares (m,) among those that are up."""
        columns(self.names, pool)
        up = {name for name, is_up in zip(pool.names, pool.available, strict=True) if is_up}
        able = np.array([not up.isdisjoint(agent.names) for agent in self.agents])
        share = np.where(able, self.shares([item])[0], 0.0)
        share = share / share.sum() if share.sum() > 0 else able / able.sum()
        worth = share - (budget.price or 0.0) * self.costs.predict([item])[0]
        order = [int(a) for a in np.argsort(-share, kind="stable") if able[a]][: self.top_k]
        asked = [a for a in order if worth[a] > 0]
        if not asked:
            asked = [int(np.where(able, worth, -np.inf).argmax())]
        return asked, share

    def play(self, item: str, pool: Pool, *, budget: Budget, rng: Generator) -> Play:
        """Play the chosen agents side by side and return what the greatest share says."""
        asked, share = self.chosen(item, pool, budget)
        chosen = [self.agents[a] for a in asked]
        said = yield from together(chosen, item, pool, budget=budget, rng=rng)
        return _vote(said, [float(share[a]) for a in asked])


def _vectors(agents: Sequence[Agent | Worker], encoder: str, rng: Generator) -> NDArray[np.float32]:
    """What the agents are, (m, d), no two of them alike."""
    names = tuple(agent.name for agent in agents)
    about = Pool(names=names, description=tuple(agent.description for agent in agents))
    vectors, _ = described(about, encoder, rng=rng)
    if np.linalg.matrix_rank(vectors) < len(names):  # words do not tell all of them apart
        vectors = np.hstack((vectors, np.eye(len(names), dtype=np.float32)))
    return vectors


def _target(f1: Float, temperature: float, smooth: float) -> Float:
    """Shares (n, m) to be learnt; all zero or nothing seen gives equal shares."""
    z = np.nan_to_num(f1) / temperature
    grown = np.exp(z - z.max(axis=1, keepdims=True))
    soft = grown / grown.sum(axis=1, keepdims=True)
    return np.asarray((1.0 - smooth) * soft + smooth / f1.shape[1])


def _vote(said: Sequence[str], share: Sequence[float]) -> str:
    """The answer of greatest share, ties by its text; as its most trusted agent wrote it."""
    votes: dict[str, float] = {}
    wrote: dict[str, str] = {}
    for text, weight in zip(said, share, strict=True):
        key = normalised(text)
        if key:
            votes[key] = votes.get(key, 0.0) + weight
            wrote.setdefault(key, text)
    if not votes:
        return said[0]
    return wrote[min(votes, key=lambda key: (-votes[key], key))]
