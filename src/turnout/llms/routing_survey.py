r"""Says where each method of routing stands: when it decides, how, on what, and what comes out.

Routes: nothing. A survey of routing strategies, as code: five axes, a place on each for every
method, and the problem they all solve.

The problem, with the variable of each symbol::

    R(x) = argmax_m s(x, m)   subject to   C_m(x) <= B        `decide(cap=B)`, for each input
    R(x) = argmax_m s(x, m) - lambda C_m(x)                   `decide(price=lambda)`

s is `score` (n, m), C is `cost` (n, m). The second is the house's rule, and lambda its price. A
budget for a stream, mean C <= B, is a price too: lambda is its dual (`turnout.parts.prices.relax`),
and a cap on each input may be added. Where no destination is within the cap the answer has to be
said: the cheapest, or none.

The axes::

    when     before the call, after an answer, or over several rounds
    how      similarity, supervised, reinforcement, generative, cascade, baseline
    what     language models, agents, pipelines, retrievers, knowledge bases, ...
    cost     money, latency
    output   one destination, a chain to go down, several at once, or none (reject)

No list of methods is kept. *When* follows from what a card claims (`properties`), *what* and
*reject* from its `routes`, and *how* from what a method is built of: its imports (`BUILT_OF`), read
without running it. A method built of nothing that is known has no place, and `place` says what to
add.

Units: costs in one currency, lambda in score per unit of cost.

Differs from the paper: see `CARD.differs`. Cost: O(n m) a decision; a few milliseconds a file.

Examples
--------
>>> import numpy as np
>>> score, cost = np.array([[0.6, 0.9], [0.6, 0.9]]), np.array([[1.0, 2.0], [1.0, 8.0]])
>>> decide(score, cost, cap=5.0).tolist(), decide(score, cost, price=0.2).tolist()
([1, 0], [1, 0])
>>> decide(score, cost, cap=0.5, none="reject").tolist()
[-1, -1]
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from turnout.core import Card, InputError, _check
from turnout.core._check import Float, Int
from turnout.parts.prices import choose

__all__ = [
    "BUILT_OF",
    "CARD",
    "FAMILIES",
    "OUTPUTS",
    "WHEN",
    "Catalogued",
    "Place",
    "decide",
    "find",
    "imports_of",
    "place",
    "survey",
]

CARD = Card(
    name="llms.routing_survey",
    system="Taxonomy of routing strategies",
    title="Doing More with Less: A Survey on Routing Strategies for Resource Optimisation in Large "
    "Language Model-Based Systems",
    authors="Varangot-Reille, Bouvard, Gourru, Ciancone, Schaeffer, Jacquenet",
    year=2025,
    id="arXiv:2502.00409",
    routes="nothing: sorts methods of routing",
    kind="policy",
    recipe="",
    signal=("nothing",),
    covers=(
        "Formal problem: the best score under a cap on cost, or less the cost at a price",
        "Before and after generation",
        "Families: similarity, supervised, reinforcement, generative; cascades",
    ),
    differs=(
        "Names of strategies inside a family are this project's.",
        "A third moment, over several rounds, stands beside before and after the generation.",
        "What comes out (one, a chain, several, none) is an axis of its own.",
        "A place follows from what a method's card claims and what its file imports; the survey's "
        "authors sort by hand.",
    ),
    knobs=(("price", "score per unit of cost"), ("cap", "cost of one input")),
    aliases=("survey", "taxonomy", "routing strategies"),
    cost="O(n m) a decision; a few milliseconds to place a method",
)

#: Moments of a decision.
WHEN = {
    "pre": "before any answer is seen",
    "post": "after a cheap answer was judged",
    "multi": "again after each partial result",
}
#: What can come out.
OUTPUTS = {
    "one": "one destination",
    "chain": "destinations to be asked in turn",
    "several": "several destinations for one input",
    "reject": "one destination, or none",
}
#: Families, in the order of the survey.
FAMILIES = ("similarity", "supervised", "reinforcement", "generative", "cascade", "baseline")

#: What a method is built of, and which strategy that makes it: the first that is imported decides,
#: the others are named beside it. Level-free modules only, so that a new method finds its place by
#: using one.
BUILT_OF = (
    ("nn.policy_gradient", "reinforcement.policy_gradient"),
    ("nn.gflownet", "reinforcement.generative_flow"),
    ("parts.qlearning", "reinforcement.q_learning"),
    ("parts.queue_learning", "reinforcement.q_learning"),
    ("parts.feedback.exploring", "reinforcement.bandit"),
    ("parts.preferences.play", "generative.prompted"),
    ("parts.preferences.matching", "generative.prompted"),
    ("parts.learners.sdm", "cascade.verifier"),
    ("parts.learners.judge", "cascade.verifier"),
    ("parts.query_experts", "similarity.centroid"),
    ("parts.portfolio", "supervised.domain"),
    ("nn.graph", "supervised.graph"),
    ("parts.learners.ratings", "supervised.pairwise"),
    ("parts.learners.wide", "supervised.classifier"),
    ("parts.learners.memory", "similarity.knn"),
    ("parts.learners.adaptation", "similarity.clusters"),
    ("parts.learners.stacking", "supervised.regressor"),
    ("parts.learners.mixture", "supervised.regressor"),
    ("parts.learners.logistic", "supervised.regressor"),
    ("parts.learners.neighbours", "similarity.knn"),
    ("parts.learners.clusters", "similarity.clusters"),
    ("parts.learners.descent", "supervised.regressor"),
    ("parts.learners.trees", "supervised.regressor"),
)

#: Destinations by the words of a card's `routes`, the first that is there.
_WHAT = (
    ("knowledge base", "knowledge base"),
    ("pipeline", "pipeline"),
    ("agent", "agents"),
    ("encoder", "retriever"),
    ("retriever", "retriever"),
    ("modes", "model and mode"),
    ("endpoint", "endpoint"),
)


class Catalogued(Protocol):
    """An entry of the catalogue, as far as it is needed here."""

    @property
    def card(self) -> Card:
        """What the method says about itself."""
        ...

    @property
    def file(self) -> Any:
        """Its file, a path."""
        ...


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a method stands.

    Parameters
    ----------
    name : str
        Catalogue name.
    when : str
        A key of `WHEN`.
    family : str
        One of `FAMILIES`.
    strategies : tuple of str
        `family.strategy`, the deciding one first.
    what : str
        What is chosen among.
    cost : tuple of str
        "money", "latency".
    output : str
        A key of `OUTPUTS`.
    needs : tuple of str
        What it must be given: "outcomes", "answers", "pairs", "load", "embedding", "torch".
    online : bool
        Whether it learns while it serves.
    """

    name: str
    when: str
    family: str
    strategies: tuple[str, ...]
    what: str
    cost: tuple[str, ...]
    output: str
    needs: tuple[str, ...]
    online: bool


def decide(
    score: Float,
    cost: Float,
    *,
    price: float = 0.0,
    cap: float | None = None,
    none: str = "cheapest",
) -> Int:
    """The destination of each input: `argmax score - price * cost` among those within the cap.

    Parameters
    ----------
    score, cost : array (n, m)
    price : float
        Score given up to save one unit of cost, >= 0.
    cap : float, optional
        Most that one input may cost.
    none : str
        Where nothing is within the cap: "cheapest", or "reject" (-1).

    Returns
    -------
    array of int (n,)
        Ties go to the cheaper, then to the lower column.

    Raises
    ------
    InputError
    """
    score = _check.floats("score", score, (None, None))
    cost = _check.floats("cost", cost, score.shape, low=0.0)
    _check.number("price", price, low=0.0)
    if none not in ("cheapest", "reject"):
        raise InputError("none", "be cheapest or reject", none, "Choose one.")
    if cap is None:
        return choose(score, cost, price)
    _check.number("cap", cap, low=0.0)
    within = cost <= cap
    # Beyond the cap a choice is worse than any, whatever it scores.
    found = choose(np.where(within, score, -np.inf), cost, price)
    empty = ~within.any(axis=1)
    instead = choose(score, cost, np.inf) if none == "cheapest" else np.full(len(score), -1)
    return np.where(empty, instead, found)


def imports_of(source: str) -> frozenset[str]:
    """Modules of this package that a Python file imports, without the package's name.

    `from turnout.parts.texts import words` counts as `parts.texts.words`.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("turnout."):
            module = str(node.module).removeprefix("turnout.")
            found.add(module)
            found |= {f"{module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names = (alias.name for alias in node.names)
            found |= {
                name.removeprefix("turnout.") for name in names if name.startswith("turnout.")
            }
    return frozenset(found)


def place(card: Card, imports: frozenset[str]) -> Place:
    """Where a method stands, by its card and what it imports.

    Raises
    ------
    InputError
        Nothing tells its family.
    """
    claims = set(card.properties)
    when = "multi" if "multi_step" in claims else "post" if "sequential" in claims else "pre"
    strategies = tuple(dict.fromkeys(name for part, name in BUILT_OF if _uses(imports, part)))
    reads = bool(claims & {"reads_inputs", "multi_step", "sequential"})
    learned = any(name.startswith("reinforcement") for name in strategies)
    if not reads and not learned:
        strategies = ("baseline.fixed", *strategies)
    elif when == "post" and not learned:
        first = tuple(name for name in strategies if name.startswith("cascade"))
        strategies = tuple(dict.fromkeys((*(first or ("cascade.threshold",)), *strategies)))
    if not strategies:
        hint = (
            "Build it of one of " + ", ".join(part for part, _ in BUILT_OF[:4]) + ", ..., or add "
            "what it is built of to BUILT_OF in turnout/llms/routing_survey.py."
        )
        rule = "be built of something that tells its strategy"
        raise InputError(card.name, rule, sorted(imports), hint)
    several = "several" in card.routes or "team" in card.routes or when == "multi"
    output = "chain" if when == "post" else "several" if several else "one"
    if " or to " in card.routes:
        output = "reject"
    embedding = ("embedding",) if "parts.texts.encoder" in imports else ()
    return Place(
        name=card.name,
        when=when,
        family=strategies[0].partition(".")[0],
        strategies=strategies,
        what=next((what for word, what in _WHAT if word in card.routes), "language model"),
        cost=("money", "latency") if "parts.queues" in imports else ("money",),
        output=output,
        needs=(*(one for one in card.signal if one != "nothing"), *embedding, *card.needs),
        online="online" in claims,
    )


def survey(entries: Iterable[Catalogued]) -> tuple[Place, ...]:
    """Places of all methods that can be fitted, such as `turnout.catalog.methods("llms")`.

    Analyses, which route nothing, have none.

    Raises
    ------
    InputError
        A method has no place; the message says what to do.
    """
    return tuple(
        place(entry.card, imports_of(entry.file.read_text(encoding="utf-8")))
        for entry in entries
        if entry.card.recipe
    )


def find(
    places: Iterable[Place],
    *,
    when: str | None = None,
    family: str | None = None,
    output: str | None = None,
    have: Iterable[str] | None = None,
) -> tuple[Place, ...]:
    """The methods of some places, such as all that can do with what one has.

    Parameters
    ----------
    places : iterable of Place
    when, family, output : str, optional
    have : iterable of str, optional
        What there is to give; methods that need anything else are left out.

    Raises
    ------
    InputError
        A place is unknown.
    """
    for field, value, known in (
        ("when", when, tuple(WHEN)),
        ("family", family, FAMILIES),
        ("output", output, tuple(OUTPUTS)),
    ):
        if value is not None and value not in known:
            raise InputError(field, f"be one of {', '.join(known)}", value, "Choose one.")
    given = None if have is None else set(have)
    return tuple(
        one
        for one in places
        if (when is None or one.when == when)
        and (family is None or one.family == family)
        and (output is None or one.output == output)
        and (given is None or set(one.needs) <= given)
    )


def _uses(imports: frozenset[str], part: str) -> bool:
    return any(name == part or name.startswith(f"{part}.") for name in imports)
