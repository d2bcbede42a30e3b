"""Sends a prompt to the model whose loss on it, told from the prompt alone, is least.

Routes whole requests to language models. A small network reads the prompt and tells the loss each
model of a library would have on it; what a user dislikes about a model besides (size, age, risk)
is added as a penalty. Weights of the penalties are knobs of their own, turned without training.

Equations, with the variable of each symbol::

    L_ij = 1 - q_ij                                             loss (n, m), in [0, 1]
    z_ij = (L_ij - mu_j) / sd_j                                 mu `mean`, sd `spread` (m,)
    h = relu(e(x) W + c)                                        hidden (b, width)
    o = h U + a                                                 told loss, standardised (b, m)
    minimise over rows i, with r = o - z over the seen cells and rbar its mean in the row
        sum_j (r_ij - rbar_i)^2 + level * m_i rbar_i^2
    Lhat = mu + sd o                                            `losses` (b, m)
    g_jk = (v_jk - low_k) / (high_k - low_k)                    attribute k of model j
    choose argmin_j Lhat_j + sum_k lambda_k g_jk

q_ij in [0, 1] is the quality seen, e the encoder, v `attributes` (m, a). `level` = 1 is the plain
squared error, most of which is how hard a prompt is for all models alike; a choice depends only
on the first sum. lambda_k is in units of loss: what one is ready to lose to go from the worst of
the pool to the best on attribute k. low_k and high_k are those of the pool at the fit and stay,
so that a model added later does not move what a weight means.

The decision is the shared one: `predict` gives 1 - Lhat - penalties, moved as a whole into
[0, 1] where a row leaves it and cut below only where it is wider, so that the order at the top
and the differences there stay; quality - price * cost is maximised. Costs are in the currency of
the table.

A prompt may hold flags such as "[Flag: Smaller model]" that add to lambda. They let whoever writes
the prompt steer the route, so that none is read unless the recipe names it, and all of that form
are then taken out before anything is read; `stripped` gives the text to send on.

Differs from the paper: see `CARD.differs`. Cost: O(d width + width m) a prompt once encoded.

Examples
--------
>>> import numpy as np
>>> from turnout.core import Outcomes
>>> table = Outcomes(
...     inputs=np.array([[1.0, 0.0], [0.0, 1.0]] * 40),
...     names=("coder", "writer"),
...     quality=np.array([[0.9, 0.5], [0.5, 0.8]] * 40),
...     cost=np.ones((80, 2)),
... )
>>> recipe = Tryage(width=16, attributes={"size": {"coder": 7.0, "writer": 70.0}})
>>> fitted = recipe.fit(table, table.pool(), rng=np.random.default_rng(0))
>>> fitted.predict(np.eye(2))[0].argmax(axis=1).tolist()
[0, 1]
>>> fitted.with_penalties({"size": 1.0}).predict(np.eye(2))[0].argmax(axis=1).tolist()
[0, 0]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.random import Generator

from turnout.core import Card, InputError, Inputs, Outcomes, Pool, _check
from turnout.core._check import Float, Int
from turnout.parts.costs import CostModel, fit_costs
from turnout.parts.learners.descent import Schedule, descend
from turnout.parts.penalties import Penalties, check_flags, check_weights, fit_penalties
from turnout.parts.texts.encoder import Encoder, check_name, fit_encoder

__all__ = ["CARD", "FittedTryage", "Tryage"]

CARD = Card(
    name="llms.tryage",
    system="Tryage",
    title="Tryage: Real-time, Intelligent Routing of User Prompts to Large Language Models",
    authors="Hari, Thomson",
    year=2023,
    id="arXiv:2308.11601",
    routes="a prompt to a language model",
    kind="score",
    recipe="Tryage",
    signal=("outcomes",),
    covers=(
        "The perceptive router: predicted loss of every model of the library, from the prompt",
        "The routing objective: predicted loss plus user-weighted constraints, and their front",
        "Flags in the prompt text that set the weights",
    ),
    differs=(
        "The paper's router is a small pretrained transformer (BERT-small); here one hidden layer "
        "over the vectors of an encoder, trained in numpy.",
        "The loss of an answer is one minus its quality, so that any graded table will do; the "
        "paper measures cross-entropy on masked tokens.",
        "Losses are standardised per model, and what a row has in common counts little: the "
        "paper's plain squared error is level=1.",
        "Flags are off unless named, and always taken out of the text, because whoever writes a "
        "prompt could otherwise steer the spending.",
        "A loss never measured is NaN and left out, as everywhere here.",
        "A model can be added with a head of its own on the frozen layer, drawn towards the mean "
        "of the other heads; the paper trains again.",
        "The outer loop that trains the experts on what they are sent is not built.",
    ),
    properties=("learns", "price_monotone", "per_item", "reads_inputs"),
    knobs=(
        ("price", "quality per unit of cost"),
        ("weights", "loss given up to go from the most to the least of a penalty"),
    ),
    aliases=("perceptive router", "predicted loss", "q-learning router"),
    cost="fit: O(epochs n (d width + width m)); route: O(d width + width m) an item",
)

#: Least spread of a model's loss: one that is always the same is divided by 1.
_FLAT = 1e-6


@dataclass(frozen=True)
class Tryage:
    """Recipe of a router by predicted loss.

    Parameters
    ----------
    width : int
        Hidden units, >= 1.
    level : float
        Weight of what a row's losses have in common, in [0, 1].
    rate, decay : float
        Step size and weight decay of Adam.
    batch, epochs : int
        Rows a step, and most passes; the best held-out pass is kept.
    attributes : mapping of str to mapping of str to float
        By attribute, its value for every destination; more of it is worse.
    penalties : mapping of str to float
        By attribute, its standing weight, >= 0, in loss from the best to the worst of the pool.
    flags : mapping of str to (str, float)
        By what a flag says, the attribute and the weight that it adds; none by default.
    encoder : str
        "svd" (light) or "minilm" (extra `text`). Inputs that are arrays (n, d) are taken for
        embeddings as they are.
    d : int
        Length of the light encoder's vectors, >= 1.

    Raises
    ------
    InputError
        A value is out of range, there is no such encoder, or a penalty or flag names an
        attribute that is not given.
    """

    width: int = 256
    level: float = 0.1
    rate: float = 1e-3
    decay: float = 0.01
    batch: int = 64
    epochs: int = 60
    attributes: Mapping[str, Mapping[str, float]] = field(default_factory=dict, hash=False)
    penalties: Mapping[str, float] = field(default_factory=dict, hash=False)
    flags: Mapping[str, tuple[str, float]] = field(default_factory=dict, hash=False)
    encoder: str = "svd"
    d: int = 128

    def __post_init__(self) -> None:
        _check.integer("tryage.width", self.width, low=1)
        _check.number("tryage.level", self.level, low=0.0, high=1.0)
        self._schedule()
        for name, values in self.attributes.items():
            for model, value in values.items():
                _check.number(f"tryage.attributes[{name!r}][{model!r}]", value)
        check_weights("tryage.penalties", self.penalties, tuple(self.attributes))
        check_flags("tryage.flags", self.flags, tuple(self.attributes))
        check_name(self.encoder)
        _check.integer("tryage.d", self.d, low=1)

    def _schedule(self) -> Schedule:
        return Schedule(self.rate, self.decay, self.batch, self.epochs, patience=5)

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: Generator) -> FittedTryage:
        """Train on the seen cells.

        Raises
        ------
        InputError
            An attribute is not given for a destination.
        """
        held = fit_penalties(
            self.attributes,
            self.penalties,
            self.flags,
            outcomes.names,
            where="tryage.attributes",
        )
        inputs = held.read(outcomes.inputs)
        encoder = fit_encoder(self.encoder, inputs, d=self.d, rng=rng)
        loss = 1.0 - outcomes.quality
        mean, spread = np.nanmean(loss, axis=0), np.nanstd(loss, axis=0)
        spread = np.where(spread > _FLAT, spread, 1.0)
        target = (loss - mean) / spread
        embed, shift, read, bias = _train(encoder.encode(inputs), target, self, rng=rng)
        return FittedTryage(
            names=outcomes.names,
            encoder=encoder,
            embed=embed,
            shift=shift,
            read=read,
            bias=bias,
            mean=mean,
            spread=spread,
            held=held,
            costs=fit_costs(outcomes),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedTryage:
    """The trained network, and what is held against each model besides.

    Parameters
    ----------
    names : tuple of str
    encoder : Encoder
    embed : array (d, width)
    shift : array (width,)
    read : array (width, m)
    bias : array (m,)
    mean, spread : array (m,)
        Of each model's loss.
    held : Penalties
        What is held against each model besides.
    costs : CostModel
    """

    names: tuple[str, ...]
    encoder: Encoder
    embed: Float
    shift: Float
    read: Float
    bias: Float
    mean: Float
    spread: Float
    held: Penalties
    costs: CostModel

    def losses(self, inputs: Inputs) -> Float:
        """Predicted loss (b, m) of each model; about in [0, 1], and not clipped."""
        told = self._hidden(inputs) @ self.read + self.bias
        return np.asarray(self.mean + self.spread * told)

    def penalties(self, inputs: Inputs) -> Float:
        """What is added to each model's loss, (b, m); >= 0 for the models of the fit."""
        return self.held.of(inputs)

    def predict(self, inputs: Inputs) -> tuple[Float, Float]:
        """Expected quality less penalties (b, m), in [0, 1], and cost (b, m)."""
        worth = 1.0 - self.losses(inputs) - self.penalties(inputs)
        best, least = worth.max(axis=1, keepdims=True), worth.min(axis=1, keepdims=True)
        worth = worth + np.minimum(np.maximum(-least, 0.0), 1.0 - best)
        return np.clip(worth, 0.0, 1.0), self.costs.predict(self.held.read(inputs))

    def stripped(self, text: str) -> str:
        """The text to send on: without flags, where flags are read."""
        return str(self.held.read([text])[0])

    def with_penalties(self, penalties: Mapping[str, float]) -> FittedTryage:
        """The same with other standing weights; attributes left out weigh nothing.

        Raises
        ------
        InputError
            An attribute is unknown, or a weight below zero.
        """
        return replace(self, held=self.held.weighed(penalties))

    def add_model(
        self,
        table: Outcomes,
        attributes: Mapping[str, float] | None = None,
        *,
        ridge: float = 1.0,
    ) -> FittedTryage:
        """The same with one more model; what is known of the others stays to the bit.

        Its head is the mean of the other heads plus what a ridge regression on the hidden layer
        adds to it, so that few prompts change it little.

        Parameters
        ----------
        table : Outcomes
            What the newcomer did, n rows by one destination.
        attributes : mapping of str to float
            Its value of every attribute. The ranges stay as they are.
        ridge : float
            Penalty, > 0.

        Raises
        ------
        InputError
            The table holds another number of destinations than one, the name is taken, or an
            attribute is missing.
        """
        if table.m != 1:
            raise InputError("table", "hold one destination", table.m, "Add models one by one.")
        if table.names[0] in self.names:
            raise InputError("table.names", "be new", table.names[0], "Fit again to replace it.")
        held = self.held.with_model(attributes or {})
        ridge = _check.number("ridge", ridge, low=1e-9)
        seen = table.seen[:, 0]
        known = table.take(seen)
        loss = 1.0 - known.quality[:, 0]
        mean, spread = float(loss.mean()), float(loss.std())
        spread = spread if spread > _FLAT else 1.0
        hidden = self._hidden(known.inputs)
        start, base = self.read.mean(axis=1), float(self.bias.mean())
        rest = (loss - mean) / spread - (hidden @ start + base)
        centre = hidden.mean(axis=0)
        spun = hidden - centre
        gram = spun.T @ spun + ridge * np.eye(spun.shape[1])
        more = np.linalg.solve(gram, spun.T @ (rest - rest.mean()))
        costs, other = self.costs, fit_costs(table)
        return replace(
            self,
            names=(*self.names, table.names[0]),
            read=np.column_stack((self.read, start + more)),
            bias=np.append(self.bias, base + rest.mean() - centre @ more),
            mean=np.append(self.mean, mean),
            spread=np.append(self.spread, spread),
            held=held,
            costs=CostModel(
                np.append(costs.base, other.base),
                np.append(costs.slope, other.slope),
                np.append(costs.floor, other.floor),
            ),
        )

    def _hidden(self, inputs: Inputs) -> Float:
        vectors = self.encoder.encode(self.held.read(inputs))
        return np.asarray(np.maximum(vectors @ self.embed + self.shift, 0.0))


def _train(
    vectors: Any, target: Float, recipe: Tryage, *, rng: Generator
) -> tuple[Float, Float, Float, Float]:
    """The four parameters, trained on centred differences and a little of the level."""
    n, d = vectors.shape
    x = np.asarray(vectors, dtype=np.float64)
    m = target.shape[1]
    embed = rng.standard_normal((d, recipe.width)) * np.sqrt(2.0)
    shift = np.zeros(recipe.width)
    read, bias = np.zeros((recipe.width, m)), np.zeros(m)

    def residual(rows: Int, hidden: Float) -> tuple[Float, Float]:
        """What differs from the row's mean, and that mean, both over the seen cells, (b, m)."""
        seen = ~np.isnan(target[rows])
        wrong = np.where(seen, hidden @ read + bias - np.where(seen, target[rows], 0.0), 0.0)
        common = wrong.sum(axis=1, keepdims=True) / np.maximum(seen.sum(axis=1, keepdims=True), 1)
        return np.where(seen, wrong - common, 0.0), np.where(seen, common, 0.0)

    def gradients(rows: Int) -> Any:
        total = x[rows] @ embed + shift
        hidden = np.maximum(total, 0.0)
        apart, common = residual(rows, hidden)
        slope = (apart + recipe.level * common) / len(rows)
        back = np.where(total > 0, slope @ read.T, 0.0)
        return [x[rows].T @ back, back.sum(axis=0), hidden.T @ slope, slope.sum(axis=0)], None

    def loss(rows: Int) -> float:
        apart, common = residual(rows, np.maximum(x[rows] @ embed + shift, 0.0))
        return float((apart**2 + recipe.level * common**2).sum() / len(rows))

    descend([embed, shift, read, bias], gradients, loss, n, recipe._schedule(), rng=rng)
    return embed, shift, read, bias
