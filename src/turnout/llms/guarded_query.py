"""Sends a prompt to the endpoint of its domain, or to a fallback if it belongs to none.

Routes: requests to domain endpoints, with reject. A router that serves law, finance and health must
also refuse what is none of them (other topics, other languages, unsafe texts), though it has seen
no example of that. A wide network over a bag of words, whose outputs may all be low, and a
threshold on the highest are nearly as good at it as large language models, and far quicker.

Equations, with the variable of each symbol::

    x_f = idf_f / sqrt(sum_{known g} idf_g^2 + u * strange)      words (n, v), sparse
    z   = relu(x W + c) U + a                                    logits (n, m)
    p   = sigmoid(z), or softmax(z)                              `activation`
    s   = max_j p_j over the endpoints j; none if x = 0          score (n,)
    accept argmax_j p_j if s >= t, else reject                   `parts.gate`

W, c, U, a are the network (`parts.learners.wide`); `strange` counts the words and pairs of the text
that are not in the vocabulary, and u = (1 + log(1 + n))^2 is what one of them weighs. t is the
greatest threshold that accepts `keep` of held-out prompts *of the domains*: nothing else is known
when it is set. A text without a known word has no score: otherwise the bias alone, which is about
the share of each domain, would decide, and would often pass.

As a router: the destinations are the endpoints, and `quality` says which of them is right. One
destination is the `fallback` (a refusal, a general model): what is rejected is predicted to be
right there, with quality 1, and as it was elsewhere. So the shared decision, quality - price * cost
(`turnout.parts.priced`), serves rejected prompts like any other, and at any price. Costs are in the
table's currency. The guard itself, from texts to label, score and reason, is the field `guard` of
what is fitted, or `fit_guard` of texts and labels.

Differs from the paper: see `CARD.differs`. Cost: a prompt of w different words takes O(w width).

Examples
--------
>>> import numpy as np
>>> ask = ["sue the tenant", "contract law says", "bank account fee", "pay the loan fee"] * 20
>>> domain = ["law", "law", "finance", "finance"] * 20
>>> recipe = GuardedQuery(width=64, batch=16)
>>> guard = fit_guard(ask, domain, recipe, rng=np.random.default_rng(0))
>>> [verdict.label for verdict in guard.judge(["sue the tenant", "open the window"])]
['law', '']
>>> guard.judge(["шахматы"])[0].reason
'it holds no known word'
>>> guard.labels(["pay the loan fee", "шахматы"]).tolist()
[1, 2]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.random import Generator

from turnout.core import Card, InputError, Inputs, Outcomes, Pool, _check
from turnout.core._check import Float, Int
from turnout.parts.costs import CostModel, fit_costs
from turnout.parts.gate import Gate, accept_share
from turnout.parts.learners.crossfit import take_inputs
from turnout.parts.learners.descent import Schedule, cross_entropy, sigmoid
from turnout.parts.learners.wide import Wide, fit_wide, softmax_entropy
from turnout.parts.texts.bags import TextFeatures, learn_features
from turnout.parts.texts.encoder import Ready
from turnout.parts.texts.words import grams_of, texts_of

__all__ = ["CARD", "FittedGuardedQuery", "Guard", "GuardedQuery", "Verdict", "fit_guard"]

CARD = Card(
    name="llms.guarded_query",
    system="GQR-Bench WideMLP",
    title="Guarded Query Routing for Large Language Models",
    authors="Šléher, Brach, Sloboda, Košťál, Galke",
    year=2025,
    id="arXiv:2505.14524",
    routes="a prompt to the endpoint of its domain, or to a fallback",
    kind="threshold",
    recipe="GuardedQuery",
    signal=("outcomes",),
    covers=(
        "WideMLP with a confidence threshold: independent sigmoids, or softmax",
        "the threshold from in-domain evaluation prompts alone",
    ),
    differs=(
        "Words and pairs of the training prompts instead of word pieces. Pieces cover every text; "
        "here unknown words count in the length of a text, so that what is mostly unknown scores "
        "low.",
        "A text without a known word is rejected outright, and the biases of the sigmoids start at "
        "-4, so that one of which little is known scores low.",
        "The targets are qualities, so that several endpoints may be right, and cells never seen "
        "are left out.",
        "The width, batch and number of passes are those of llms.wide_mlp: the best held-out "
        "epoch is kept.",
        "The fallback is a destination like any other; the paper's label for rejected has none.",
    ),
    properties=("learns", "price_monotone", "per_item", "reads_inputs"),
    knobs=(
        ("price", "quality per unit of cost"),
        ("keep", "share of in-domain prompts accepted, in (0, 1]"),
    ),
    aliases=("gqr", "gqr-bench", "guard", "reject", "out of distribution"),
    cost="fit: O(epochs n w width) for w words a prompt; route: O(w width); memory 4 v width bytes",
)

_ACTIVATIONS = ("sigmoid", "softmax")

#: Where the bias of a sigmoid starts: a text of which little is known belongs to no domain, rather
#: than to each with its share of the training texts.
_NOTHING = -4.0


@dataclass(frozen=True)
class GuardedQuery:
    """Recipe of a guarded router.

    Parameters
    ----------
    fallback : str
        Destination of what is rejected; "" takes the one that is best on average.
    keep : float
        Share of held-out in-domain prompts that must be accepted, in (0, 1]: the knob between
        serving and refusing. The paper's package says 0.95 to 0.99.
    activation : str
        "sigmoid" or "softmax".
    held_out : float
        Share of the rows that set the threshold and train nothing, in (0, 0.5].
    width, vocabulary, dropout, rate, batch, epochs
        Of the network, as in `turnout.llms.wide_mlp`.

    Raises
    ------
    InputError
        A value is out of range.
    """

    fallback: str = ""
    keep: float = 0.95
    activation: str = "sigmoid"
    held_out: float = 0.2
    width: int = 1024
    vocabulary: int = 20_000
    dropout: float = 0.5
    rate: float = 1e-3
    batch: int = 64
    epochs: int = 40

    def __post_init__(self) -> None:
        if not isinstance(self.fallback, str):
            hint = "Leave it empty for the best on average."
            raise InputError("guarded_query.fallback", "be a name", self.fallback, hint)
        _check.number("guarded_query.keep", self.keep, low=1e-6, high=1.0)
        if self.activation not in _ACTIVATIONS:
            rule = f"be one of {', '.join(_ACTIVATIONS)}"
            raise InputError("guarded_query.activation", rule, self.activation, "Choose one.")
        _check.number("guarded_query.held_out", self.held_out, low=1e-6, high=0.5)
        _check.integer("guarded_query.width", self.width, low=1)
        _check.integer("guarded_query.vocabulary", self.vocabulary, low=1)
        _check.number("guarded_query.dropout", self.dropout, low=0.0, high=0.95)
        self._schedule()

    def _schedule(self) -> Schedule:
        return Schedule(self.rate, 0.0, self.batch, self.epochs, patience=3)

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: Generator) -> FittedGuardedQuery:
        """Train the network and set its threshold on rows of the table held out.

        Raises
        ------
        InputError
            The fallback is not among the destinations.
        """
        fallback = int(np.argmax(outcomes.mean_quality()))
        if self.fallback:
            if self.fallback not in outcomes.names:
                rule = f"be one of {', '.join(outcomes.names)}"
                raise InputError("guarded_query.fallback", rule, self.fallback, "Name one of them.")
            fallback = outcomes.names.index(self.fallback)
        guard = _fit(outcomes.inputs, outcomes.quality, outcomes.names, fallback, self, rng=rng)
        return FittedGuardedQuery(guard, fit_costs(outcomes))


@dataclass(frozen=True)
class Verdict:
    """What the guard says of one text.

    Parameters
    ----------
    label : str
        The endpoint it belongs to; "" = none.
    score : float
        Highest confidence over the endpoints, in [0, 1]; 0 where there is no known word.
    reason : str
        Why, in a few words.
    """

    label: str
    score: float
    reason: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Guard:
    """The trained network with its threshold, which belong together.

    Parameters
    ----------
    names : tuple of str
        The m outputs.
    fallback : int
        Output that is no endpoint; -1 = all are.
    reader : TextFeatures or Ready
        Turns inputs into rows (n, v).
    unknown : float
        What a word that is not in the vocabulary weighs, as `idf^2`.
    net : Wide
    softmax : bool
        Whether the outputs compete.
    gate : Gate
    """

    names: tuple[str, ...]
    fallback: int
    reader: TextFeatures | Ready
    unknown: float
    net: Wide
    softmax: bool
    gate: Gate

    def confidence(self, inputs: Inputs) -> tuple[Float, Float]:
        """Outputs (n, m) in [0, 1], and the score (n,) of the best endpoint; NaN = empty bag.

        Raises
        ------
        InputError
            The inputs are not what the guard was fitted on, texts or arrays.
        """
        rows, empty = _rows(self.reader, inputs, self.unknown)
        logits = self.net.logits(rows)
        chance = _softmax(logits) if self.softmax else sigmoid(logits)
        if self._endpoints:
            return chance, np.where(empty, np.nan, chance[:, self._endpoints].max(axis=1))
        return chance, np.full(len(empty), np.nan)

    def labels(self, inputs: Inputs) -> Int:
        """Column of the endpoint of each input, (n,); m = rejected."""
        return self._told(inputs)[0]

    def judge(self, texts: Sequence[str]) -> tuple[Verdict, ...]:
        """One verdict a text."""
        labels, scores = self._told(texts)
        names, bar = (*self.names, ""), self.gate.accept
        return tuple(
            Verdict("", 0.0, "it holds no known word")
            if np.isnan(s)
            else Verdict(names[j], s, f"{s:.2f} is {'at least' if s >= bar else 'below'} {bar:.2f}")
            for j, s in zip(labels.tolist(), scores.tolist(), strict=True)
        )

    def _told(self, inputs: Inputs) -> tuple[Int, Float]:
        chance, score = self.confidence(inputs)
        rejected = len(self.names)
        if not self._endpoints:
            return np.full(len(score), rejected), score
        best = np.array(self._endpoints)[chance[:, self._endpoints].argmax(axis=1)]
        return np.where(self.gate.decide(score) == 1, best, rejected), score

    @property
    def _endpoints(self) -> list[int]:
        return [j for j in range(len(self.names)) if j != self.fallback]


@dataclass(frozen=True, eq=False)
class FittedGuardedQuery:
    """A guard, and what its destinations cost.

    Parameters
    ----------
    guard : Guard
    costs : CostModel
    """

    guard: Guard
    costs: CostModel

    @property
    def names(self) -> tuple[str, ...]:
        """The m destinations."""
        return self.guard.names

    def predict(self, inputs: Inputs) -> tuple[Float, Float]:
        """Expected quality (n, m) and cost (n, m); 1 at the fallback where an input is rejected."""
        quality, score = self.guard.confidence(inputs)
        quality = np.array(quality)
        quality[self.guard.gate.decide(score) != 1, self.guard.fallback] = 1.0
        return quality, self.costs.predict(inputs)


def fit_guard(
    texts: Sequence[str],
    labels: Sequence[str],
    recipe: GuardedQuery | None = None,
    *,
    rng: Generator,
) -> Guard:
    """A guard from texts and the domain of each, all of them domains to serve.

    Parameters
    ----------
    texts, labels : sequence of str (n,)
        Of at least one domain; the columns are in order of first appearance.
    recipe : GuardedQuery, optional
        Its fallback is not used.
    rng : Generator

    Raises
    ------
    InputError
        The two differ in length, or are empty.
    """
    if len(texts) != len(labels) or not labels:
        rule = f"hold one label for each of the {len(texts)} texts"
        raise InputError("labels", rule, len(labels), "Pass them aligned.")
    names = tuple(dict.fromkeys(labels))
    target = np.array([[float(label == name) for name in names] for label in labels])
    return _fit(texts, target, names, -1, recipe or GuardedQuery(), rng=rng)


def _fit(
    inputs: Inputs,
    target: Float,
    names: tuple[str, ...],
    fallback: int,
    recipe: GuardedQuery,
    *,
    rng: Generator,
) -> Guard:
    train, held = _split(target, recipe.held_out, rng)
    learnt = take_inputs(inputs, train)
    if isinstance(learnt, np.ndarray):
        reader: TextFeatures | Ready = Ready(int(learnt.shape[1]))
    else:
        reader = learn_features(learnt, max_features=recipe.vocabulary)
    # a word that was never seen is as rare as one can be
    unknown = float(1.0 + np.log(1 + len(train))) ** 2
    rows, _ = _rows(reader, learnt, unknown)
    softmax = recipe.activation == "softmax"
    net = fit_wide(
        rows,
        target[train],
        recipe._schedule(),
        width=recipe.width,
        dropout=recipe.dropout,
        bias=np.zeros(len(names)) if softmax else np.full(len(names), _NOTHING),
        loss=softmax_entropy if softmax else cross_entropy,
        rng=rng,
    )
    guard = Guard(
        names=names,
        fallback=fallback,
        reader=reader,
        unknown=unknown,
        net=net,
        softmax=softmax,
        gate=Gate(accept=np.inf),
    )
    score = guard.confidence(take_inputs(inputs, held))[1]
    return replace(guard, gate=accept_share(score, recipe.keep))


def _rows(reader: TextFeatures | Ready, inputs: Inputs, unknown: float) -> tuple[Any, Any]:
    """Rows (n, v), sparse and in single precision, and which of them are empty, (n,)."""
    from scipy import sparse

    if isinstance(reader, Ready):
        vectors = reader.encode(inputs)
        return sparse.csr_array(vectors), ~vectors.any(axis=1)
    asked = grams_of(texts_of(inputs))
    share = reader.known(asked, unknown)
    rows = sparse.csr_array(reader.transform(asked))
    rows.data = rows.data * np.sqrt(share).astype(np.float32).repeat(np.diff(rows.indptr))
    return rows, share == 0.0


def _softmax(logits: Float) -> Float:
    power = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(power / power.sum(axis=1, keepdims=True))


def _split(target: Float, share: float, rng: Generator) -> tuple[Int, Int]:
    """Rows to train on and rows held out, by the best output of each; the same if too few."""
    kind = np.where(np.isnan(target), -1.0, target).argmax(axis=1)
    order = rng.permutation(len(target))
    parts = [order[kind[order] == j] for j in np.unique(kind)]
    held = np.sort(np.concatenate([part[: round(share * len(part))] for part in parts]))
    train = np.setdiff1d(order, held)
    return train, held if len(held) else train
