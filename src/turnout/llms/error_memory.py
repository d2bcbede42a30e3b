"""Sends a prompt by any predictor's figures, put right by its own late errors on prompts like it.

Routes whole requests to language models. A predictor of quality is fitted once and slowly gets
old: a provider changes a model overnight, or other prompts come in. Beside it a memory keeps, for
each model, the errors of the last outcomes; a new prompt fetches those of the prompts most like
it and adds their mean. No gradient step: the next request already knows.

Equations, with the variable of each symbol::

    e_i = y_i - Q_j(x_i)                    error, written under key_i = encode(x_i), column j
    a_i = softmax over the K nearest found of  (key . key_i) / tau
    ehat_j(x) = sum_i a_i e_i                                   `parts.learners.memory`
    Q'_j(x) = clip(Q_j(x) + weight * n_j / (n_j + kappa) * ehat_j(x), 0, 1)

y in [0, 1] is the outcome of the one model chosen, Q the base's quality (b, m), n_j <= K the sum
of the similarities of the neighbours found, so that distant ones count little; none, and the base
stands. Candidates come from the buckets of random
hyperplanes, so that a read costs the same however many outcomes there were. Rings forget the
oldest, and `age`, in outcomes taken in (or in the unit of `when`), all that is older.

An outcome may come late: the base does not change, so that its error is the same then; `when` says
at what time the answer was given, and what comes in later than `age` is dropped. An outcome that
never comes is never learnt, in particular not as 0. After the base was fitted again its stored
errors are stale: `renewed` takes the new base and empties the memory.

The decision, quality - price * cost, is shared; costs are the base's. `learn` changes the memory
in place: one thread at a time, no reader beside it.

Differs from the paper: see `CARD.differs`. Cost: the base, and O(tables slots (d + m)) a prompt.

Examples
--------
>>> import numpy as np
>>> from turnout.core import Outcomes
>>> table = Outcomes(
...     inputs=np.array([[1.0, 0.0], [0.0, 1.0]] * 20),
...     names=("a", "b"),
...     quality=np.array([[0.9, 0.6], [0.9, 0.6]] * 20),
...     cost=np.ones((40, 2)),
... )
>>> fitted = ErrorMemory().fit(table, table.pool(), rng=np.random.default_rng(0))
>>> x = np.array([[1.0, 0.0], [0.0, 1.0]])
>>> fitted.learn(x[[0] * 30], np.zeros(30, dtype=int), np.zeros(30))  # a now fails on the first
>>> fitted.predict(x)[0].argmax(axis=1).tolist()
[1, 0]
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from turnout.core import Card, InputError, Inputs, Outcomes, Pool, Predictor, Recipe, _check
from turnout.core._check import Float, Int
from turnout.parts.costs import CostModel, fit_costs
from turnout.parts.learners.committee import fit_predictor
from turnout.parts.learners.logistic import fit_logistic, sigmoid
from turnout.parts.learners.memory import RecentMemory, empty_memory
from turnout.parts.texts.encoder import Encoder, check_name, fit_encoder

__all__ = ["CARD", "ErrorMemory", "FittedErrorMemory", "LinearBase"]

CARD = Card(
    name="llms.error_memory",
    system="ReLoop2",
    title=(
        "ReLoop2: Building Self-Adaptive Recommendation Models via Responsive Error Compensation "
        "Loop"
    ),
    authors="Zhu, Cai, Huang, Dong, Tang, Zhang",
    year=2023,
    id="arXiv:2306.08808",
    routes="a prompt to a language model",
    kind="score",
    recipe="ErrorMemory",
    signal=("outcomes",),
    covers=(
        "The error memory: written with each outcome, read by locality-sensitive hashing",
        "Error compensation at prediction time, without a gradient step",
    ),
    differs=(
        "The paper corrects click-through rates; here the quality of each language model, with a "
        "memory for each.",
        "Keys are the vectors of an encoder, because any predictor may be the base; the paper "
        "takes the last hidden layer of its model.",
        "The correction is shrunk where neighbours are few or distant, and is made on the quality "
        "itself, not on its logit.",
        "The sizes, the weight, the temperature and the shrinkage are not the paper's, which we "
        "could not read; they are set as for noisy outcomes that are right or wrong.",
        "The base stays as it is: the slow half of the loop is a new fit and `renewed`.",
    ),
    properties=("learns", "price_monotone", "per_item", "reads_inputs", "online"),
    knobs=(("price", "quality per unit of cost"),),
    aliases=("reloop", "reloop2", "error compensation", "drift", "online correction"),
    cost="fit: the base; route: the base and O(tables slots (d + m)) an item; learn: O(tables d)",
)

#: Penalty of the base that is fitted where none is given.
_L2 = 1.0


@dataclass(frozen=True)
class ErrorMemory:
    """Recipe of a predictor with a memory of its late errors.

    Parameters
    ----------
    base : Recipe, optional
        Any method that fits a predictor; by default a logistic regression on the vectors.
    weight : float
        Share of the expected error that is added, in [0, 1]; 0 = the base as it is.
    kappa : float
        Neighbours, each counted by its similarity, at which half of that is added; >= 0.
    k : int
        Most neighbours, >= 1.
    tau : float
        Temperature of their weights, > 0.
    tables, bits, slots : int
        Hash tables, bits of a bucket's number, entries a bucket holds.
    size : int
        Errors kept for each model, >= 1.
    age : float
        Errors older than this are not read; in outcomes taken in, or the unit of `when`.
    encoder : str
        "svd" (light) or "minilm" (extra `text`). Inputs that are arrays (n, d) are taken for
        embeddings as they are.
    d : int
        Length of the light encoder's vectors, >= 1.

    Raises
    ------
    InputError
        A value is out of range, or there is no such encoder.
    """

    base: Recipe | None = None
    weight: float = 0.7
    kappa: float = 10.0
    k: int = 50
    tau: float = 0.1
    tables: int = 4
    bits: int = 8
    slots: int = 50
    size: int = 2000
    age: float = math.inf
    encoder: str = "svd"
    d: int = 128

    def __post_init__(self) -> None:
        if self.base is not None and not callable(getattr(self.base, "fit", None)):
            hint = "Pass a recipe, such as Knn()."
            raise InputError("error_memory.base", "have a method fit", self.base, hint)
        _check.number("error_memory.weight", self.weight, low=0.0, high=1.0)
        _check.number("error_memory.kappa", self.kappa, low=0.0)
        check_name(self.encoder)
        _check.integer("error_memory.d", self.d, low=1)
        self._memory(1, 1, np.random.default_rng(0), size=1, slots=1)

    def _memory(
        self, m: int, d: int, rng: Generator, size: int | None = None, slots: int | None = None
    ) -> RecentMemory:
        _check.integer("error_memory.size", self.size, low=1)
        _check.integer("error_memory.slots", self.slots, low=1)
        return empty_memory(
            m,
            d,
            k=self.k,
            tau=self.tau,
            tables=self.tables,
            bits=self.bits,
            slots=self.slots if slots is None else slots,
            size=self.size if size is None else size,
            age=self.age,
            rng=rng,
        )

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: Generator) -> FittedErrorMemory:
        """Fit the base; the memory starts empty.

        Raises
        ------
        InputError
            The base fits no predictor.
        """
        encoder = fit_encoder(self.encoder, outcomes.inputs, d=self.d, rng=rng)
        base: Predictor
        if self.base is None:
            base = _fit_base(outcomes, encoder)
        else:
            base = fit_predictor(self.base, outcomes, pool, rng)
        return FittedErrorMemory(
            names=outcomes.names,
            base=base,
            encoder=encoder,
            memory=self._memory(outcomes.m, encoder.d, rng),
            weight=self.weight,
            kappa=self.kappa,
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedErrorMemory:
    """A base, and what it got wrong of late.

    Parameters
    ----------
    names : tuple of str
    base : Predictor
    encoder : Encoder
        Makes the keys.
    memory : RecentMemory
        Errors, one column a destination.
    weight, kappa : float
    """

    names: tuple[str, ...]
    base: Predictor
    encoder: Encoder
    memory: RecentMemory
    weight: float
    kappa: float

    def predict(self, inputs: Inputs) -> tuple[Float, Float]:
        """Expected quality (b, m), put right by late errors, and the base's cost (b, m)."""
        quality, cost = self.base.predict(inputs)
        if self.weight == 0.0 or not self.memory.written.any():
            return quality, cost
        error, near = self.memory.read(self.encoder.encode(inputs))
        share = self.weight * near / np.maximum(near + self.kappa, 1e-12)
        return np.clip(quality + share * error, 0.0, 1.0), cost

    def learn(
        self, inputs: Inputs, chosen: Int, outcome: Float, *, when: Float | None = None
    ) -> None:
        """Take in what came of some requests, in the order in which they are to be remembered.

        Parameters
        ----------
        inputs : texts or array (n, d)
        chosen : array of int (n,)
            Column, in `names`, of the destination that answered.
        outcome : array (n,)
            In [0, 1].
        when : array (n,), optional
            When each answer was given, in any one unit; by default outcomes are counted.

        Raises
        ------
        InputError
            Lengths differ, an outcome is NaN or outside [0, 1], or there is no such destination.
        """
        n = len(inputs)
        outcome = _check.floats("outcome", outcome, (n,), low=0.0, high=1.0)
        column = np.asarray(chosen)
        _check.expect_shape("chosen", column, (n,))
        for row in np.flatnonzero((column < 0) | (column >= len(self.names)))[:1]:
            rule = f"be a column of {', '.join(self.names)}"
            raise InputError(f"chosen[{row}]", rule, int(column[row]), "Count from 0.")
        if n == 0:
            return
        error = outcome - self.base.predict(inputs)[0][np.arange(n), column]
        self.memory.write(self.encoder.encode(inputs), column.astype(np.int64), error, when)

    def renewed(self, base: Predictor) -> FittedErrorMemory:
        """The same beside a base that was fitted again; errors of the old one are forgotten.

        Raises
        ------
        InputError
            It knows other destinations.
        """
        if base.names != self.names:
            hint = "Fit it on the same destinations in the same order."
            raise InputError("base.names", f"be {', '.join(self.names)}", base.names, hint)
        fresh = replace(self.memory)  # copies its arrays
        fresh.forget()
        return replace(self, base=base, memory=fresh)


@dataclass(frozen=True, eq=False, kw_only=True)
class LinearBase:
    """The base where none is given: logistic regression on the vectors.

    Parameters
    ----------
    names : tuple of str
    encoder : Encoder
    weights : array (d, m)
    intercept : array (m,)
    costs : CostModel
    """

    names: tuple[str, ...]
    encoder: Encoder
    weights: NDArray[np.float64]
    intercept: Float
    costs: CostModel

    def predict(self, inputs: Inputs) -> tuple[Float, Float]:
        """Expected quality (b, m) and cost (b, m)."""
        score = self.encoder.encode(inputs) @ self.weights + self.intercept
        return sigmoid(score), self.costs.predict(inputs)


def _fit_base(outcomes: Outcomes, encoder: Encoder) -> LinearBase:
    from scipy.sparse import csr_matrix

    vectors = csr_matrix(encoder.encode(outcomes.inputs))
    weights, intercept = fit_logistic(vectors, outcomes.quality, _L2)
    return LinearBase(
        names=outcomes.names,
        encoder=encoder,
        weights=np.asarray(weights, dtype=np.float64),
        intercept=intercept,
        costs=fit_costs(outcomes),
    )
