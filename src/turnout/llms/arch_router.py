"""Matches a conversation to a policy written in words; which model serves the policy is a look-up.

Routes: conversations, or single requests, to language models.

Idea. Ask people what they want instead of predicting quality: each policy is a name and a
description, a matcher F only says which one the latest turn is about (or none), and a table T
says which model serves it (Arch-Router, 2025, arXiv:2506.16655, section 3)::

    route(q) = T(F(q, P)),      T(other) = the default model

F reads the policies with the conversation, so policies are added, and T is changed, without a
fit. Three things can be F: `Similarity` (words), `CrossScorer` (trained on conversations), and any
chat model with the published prompt contract (`PolicyPlay`, which asks it and then the model that
T names).

How that is a method of this house. The destinations are the models; an input is a text, which is
a conversation of one turn, or a sequence of messages (role, content). A table of outcomes whose
`group` names each row's policy stands in for the people: with q_ij the quality seen, N_p the rows
of policy p and a = `shrink`::

    profile[p, j] = (sum_{i in N_p} q_ij + a mean_j) / (|N_p| + a)      profile (p + 1, m)
    quality[x, j] = profile[F(x), j]                                      (n, m)

the last row, `other`, being the means. So T is the best model of each policy at a price, the whole
curve is there, and `FittedArchRouter.table` writes it down for `PolicyPlay`. Where the recipe has
no policies, they are written from the table: the group's name, described by its most telling
words. Rows of a group that is no policy count as `other`. Costs in the currency of the table.

Differs from the paper: see `CARD.differs`. Cost: O(words d + p d) a conversation.

Examples
--------
>>> import numpy as np
>>> from turnout.core import Outcomes
>>> table = Outcomes(
...     inputs=["add two numbers", "write a poem", "sum of numbers", "a short poem"] * 10,
...     names=("small", "large"),
...     quality=np.array([[1.0, 1.0], [0.0, 1.0]] * 20),
...     cost=np.array([[1.0, 9.0]] * 40),
...     group=["sums", "verse"] * 20,
... )
>>> recipe = ArchRouter(matcher=Similarity(), shrink=0.0)
>>> fitted = recipe.fit(table, table.pool(), rng=np.random.default_rng(0))
>>> fitted.match("a poem for ten numbers, no, a short poem").route
'verse'
>>> float(fitted.predict(["a poem"])[0][0, 0])
0.0
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.random import Generator

from turnout.core import Card, InputError, Inputs, Outcomes, Pool, _check
from turnout.core._check import Float, Int
from turnout.parts.costs import CostModel, fit_costs
from turnout.parts.preferences.matching import Match, Similarity, match
from turnout.parts.preferences.play import PolicyPlay
from turnout.parts.preferences.policies import (
    INSTRUCTION,
    OTHER,
    Policies,
    Policy,
    Talked,
    conversation_of,
    parse_route,
    route_prompt,
    trimmed,
    unique,
)
from turnout.parts.preferences.scorer import CrossScorer, FittedCrossScorer
from turnout.parts.texts.words import surfaces

__all__ = [
    "CARD",
    "INSTRUCTION",
    "OTHER",
    "ArchRouter",
    "CrossScorer",
    "FittedArchRouter",
    "FittedCrossScorer",
    "Match",
    "Policies",
    "Policy",
    "PolicyPlay",
    "Similarity",
    "match",
    "parse_route",
    "route_prompt",
    "trimmed",
]

CARD = Card(
    name="llms.arch_router",
    system="Arch-Router",
    title="Arch-Router: Aligning LLM Routing with Human Preferences",
    authors="Co Tran, Salman Paracha, Adil Hafeez, Shuguang Chen",
    year=2025,
    id="arXiv:2506.16655",
    routes="a conversation to a language model, by way of a policy in words",
    kind="score",
    recipe="ArchRouter",
    signal=("outcomes",),
    covers=(
        "Section 3: T(F(q, P)), policies as name and description, the route other",
        "Prompt contract: routes and conversation as JSON between tags, one route as JSON back",
        "Gateway: trimming, repair of the answer, preferences of one request, default model",
    ),
    differs=(
        "The paper's F is a language model of 1.5B, tuned on some 43,000 conversations; here a "
        "likeness of words, or a gated sum of word vectors trained in seconds on conversations of "
        "the laboratory. Any chat model can be asked instead, by the published contract.",
        "The instruction is worded anew, with the same tags and the same JSON; hand the published "
        "words to `PolicyPlay.instruction` for the model that was tuned on them.",
        "T is written by people; from a table of outcomes it is learnt, at every price.",
        "A name used twice, over all models, is refused; the gateway silently keeps the last.",
        "The answer is read as strict JSON before quotes are repaired, so that apostrophes in it "
        "do no harm; only names of policies in force count; '<' in what was said is escaped.",
        "Sticky routes, scores and the margin to the runner-up are added.",
    ),
    properties=("learns", "price_monotone", "per_item", "reads_inputs"),
    knobs=(("price", "quality per unit of cost"),),
    aliases=("preference-aligned routing", "preference router", "arch", "plano", "policies"),
    cost="fit: seconds on a thousand conversations; route: O(words d + p d); memory 3 d 2^bits",
)


@dataclass(frozen=True)
class ArchRouter:
    """Recipe of a preference-aligned router.

    Parameters
    ----------
    policies : tuple of Policy
        By default one for each group of the table, described by its most telling words.
    matcher : CrossScorer, FittedCrossScorer or Similarity
        A recipe is trained on the table's rows as conversations of one turn; a fitted one, such
        as one trained on whole conversations, is used as it is.
    shrink : float
        Weight of a model's overall mean in a profile, counted in rows; >= 0.
    words : int
        Words of a description that is written from the table, >= 1.

    Raises
    ------
    InputError
        A value is out of range, or two policies share a name.
    """

    policies: tuple[Policy, ...] = ()
    matcher: CrossScorer | FittedCrossScorer | Similarity = field(default_factory=CrossScorer)
    shrink: float = 5.0
    words: int = 8

    def __post_init__(self) -> None:
        object.__setattr__(self, "policies", unique(self.policies))
        _check.number("arch_router.shrink", self.shrink, low=0.0)
        _check.integer("arch_router.words", self.words, low=1)

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: Generator) -> FittedArchRouter:
        """Train the matcher where it is a recipe, and learn the look-up.

        Raises
        ------
        InputError
            The inputs are not texts, or the table has no groups and the recipe either no
            policies or a matcher to train.
        """
        talks = _talks(outcomes.inputs)
        policies, group = self.policies, outcomes.group
        trained = isinstance(self.matcher, CrossScorer)
        if group is None and (trained or not policies):
            hint = "Label the rows, or pass policies and a matcher that is fitted already."
            raise InputError("outcomes.group", "name the policy of each row", None, hint)
        if not policies and group is not None:
            policies = _written(outcomes, self.words)
        matcher = self.matcher
        if isinstance(matcher, CrossScorer):
            assert group is not None
            matcher = matcher.fit(talks, [(label,) for label in group], policies, rng=rng)
        if group is None:
            which = matcher.scores(talks, policies).argmax(axis=1)
        else:
            column = {policy.name: j for j, policy in enumerate(policies)}
            which = np.array([column.get(label, len(policies)) for label in group])
        return FittedArchRouter(
            names=outcomes.names,
            policies=policies,
            matcher=matcher,
            profile=_profiles(outcomes.quality, which, len(policies), self.shrink),
            spent=_profiles(outcomes.cost, which, len(policies), self.shrink),
            costs=fit_costs(outcomes),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedArchRouter:
    """Policies, what matches them, and how good each model is at each.

    Parameters
    ----------
    names : tuple of str
        The m models.
    policies : tuple of Policy
        The p policies.
    matcher : FittedCrossScorer or Similarity
    profile, spent : array (p + 1, m)
        Mean quality and mean cost by policy; the last row is `OTHER`.
    costs : CostModel
    """

    names: tuple[str, ...]
    policies: tuple[Policy, ...]
    matcher: FittedCrossScorer | Similarity
    profile: Float
    spent: Float
    costs: CostModel

    def predict(self, inputs: Inputs) -> tuple[Float, Float]:
        """Expected quality (n, m) and cost (n, m).

        Parameters
        ----------
        inputs : texts or conversations (n,)
        """
        talks = _talks(inputs)
        which = self.matcher.scores(talks, self.policies).argmax(axis=1)
        read = [" ".join(text for _, text in talk) for talk in talks]
        return self.profile[which], self.costs.predict(read)

    def match(self, item: Any, *, previous: str = "", stick: float = 0.0) -> Match:
        """The policy of one conversation, with its scores: see the function `match`."""
        return match(self.matcher, item, self.policies, previous=previous, stick=stick)

    def table(self, price: float = 0.0) -> Policies:
        """The look-up from policy to model at a price.

        Parameters
        ----------
        price : float
            Quality given up per unit of cost, >= 0.
        """
        price = _check.number("price", price, low=0.0)
        best = (self.profile - price * self.spent).argmax(axis=1)
        models = tuple(self.names[j] for j in best)
        return Policies(policies=self.policies, models=models[:-1], default=models[-1])


def _talks(inputs: Inputs) -> list[Talked]:
    """Inputs as conversations."""
    if isinstance(inputs, str) or (isinstance(inputs, np.ndarray) and inputs.ndim != 1):
        got = "one string" if isinstance(inputs, str) else f"an array {inputs.shape}"
        hint = "Pass a list of texts or conversations."
        raise InputError("inputs", "be a sequence of conversations", got, hint)
    return [conversation_of(item, f"inputs[{row}]") for row, item in enumerate(inputs)]


def _profiles(values: Float, which: Int, p: int, shrink: float) -> Float:
    """Means (p + 1, m) by policy, drawn to the overall means, which are the last row."""
    seen = ~np.isnan(values)
    total = np.where(seen, values, 0.0)
    mean = total.sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    found = np.tile(mean, (p + 1, 1))
    for j in range(p):
        rows = which == j
        count = seen[rows].sum(axis=0)
        drawn = (total[rows].sum(axis=0) + shrink * mean) / np.maximum(count + shrink, 1e-12)
        found[j] = np.where(count > 0, drawn, mean)
    return found


def _written(outcomes: Outcomes, words: int) -> tuple[Policy, ...]:
    """A policy for each group: the words that stand in most more of its texts than of others."""
    assert outcomes.group is not None
    own: dict[str, Counter[str]] = {}
    sizes = Counter(outcomes.group)
    for text, label in zip(outcomes.inputs, outcomes.group, strict=True):
        found = surfaces(text)
        own.setdefault(label, Counter()).update(set(found[: (len(found) + 1) // 2]))
    whole = sum(own.values(), Counter[str]())
    policies = []
    for label in sorted(own):
        rest = max(outcomes.n - sizes[label], 1)
        lead = {
            word: count / sizes[label] - (whole[word] - count) / rest
            for word, count in own[label].items()
        }
        telling = sorted(lead, key=lambda word: (-lead[word], word))[:words]
        name = label if label.strip() and label != OTHER else f"group {label}"
        policies.append(Policy(name, ", ".join(telling)))
    return tuple(policies)
