r"""Sends a question to the cheapest pipeline that solves it, told from its words and its schema.

Routes: questions to pipelines that turn them into SQL (or to any ordered pipelines). The label of a
question is the first pipeline, in order of cost, whose answer is right. A router learns it from
the question and its *linked schema*, the tables and columns the question may be about.

Equations, with the variable of each symbol, for pipelines j = 0 ... m - 1 by rising cost::

    y_i = min { j : q_ij > 1/2 },  m if there is none          label (n,)
    x   = tf-idf of the text, tables and columns               features (n, v + 2)
    classifier   P(y <= j) = sigmoid(x w_j + b_j)              one for each j
    cascade      p_j = P(y = j | y >= j) = sigmoid(x w_j + b_j)
                 P(y <= j) = 1 - prod_{i<=j} (1 - p_i)
    knn          P(y <= j) = share of the k nearest by (tables, columns) with y <= j
    tables       P(y <= j) = 1 for j >= 0, 1, 2 at less than 2, 2 or 3, more than 3 tables; else 0
    Q[:, j] = P(y <= j)                                        quality (n, m)

Pipelines are taken to be monotone: a dearer one solves what a cheaper one does, so that Q rises
along them. The decision, quality - price * cost, is shared (`turnout.parts.priced`): Q_{j+1} - Q_j
is what the next pipeline adds, and is worth it or not. So there is a whole curve; the price is in
quality per token where costs are tokens. The paper's own rules are `FittedEllieSql.tier`: the
likeliest label, or the first judge of the cascade that says yes, at 1/2 or at a threshold
calibrated for `error` (`turnout.parts.gate`).

What nobody solves counts as what it is, is worth no tokens and goes where it costs least; or, as in
the paper, it is a task for the dearest, whose Q is then 1 and which gets all hopeless questions:
`unsolved`.

Inputs are texts: the question, an empty line, and a line a table, "name: column, column, ...".
Without such lines there are no tables, and the words alone are read.

Differs from the paper: see `CARD.differs`. Cost: O(characters + words m) a question.

Examples
--------
>>> import numpy as np
>>> from turnout.core import Outcomes
>>> one = "how many readers\n\nreader: id, age"
>>> two = "books of readers\n\nreader: id\nbook: id, title"
>>> table = Outcomes(
...     inputs=[one, two] * 30,
...     names=("basic", "advanced"),
...     quality=np.array([[1.0, 1.0], [0.0, 1.0]] * 30),
...     cost=np.array([[100.0, 900.0]] * 60),
... )
>>> fitted = EllieSql().fit(table, table.pool(), rng=np.random.default_rng(0))
>>> fitted.tier([one, two]).tolist()
[0, 1]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator

from turnout.core import Card, InputError, Inputs, Outcomes, Pool, _check
from turnout.core._check import Float, Int
from turnout.parts.costs import CostModel, fit_costs
from turnout.parts.gate import Gate, limit_error
from turnout.parts.learners.logistic import fit_logistic, sigmoid
from turnout.parts.learners.neighbours import Memory
from turnout.parts.stopping import by_price
from turnout.parts.texts.bags import TextFeatures, learn_features
from turnout.parts.texts.words import texts_of

__all__ = ["CARD", "EllieSql", "FittedEllieSql", "Judges"]

CARD = Card(
    name="llms.elliesql",
    system="EllieSQL",
    title="EllieSQL: Cost-Efficient Text-to-SQL with Complexity-Aware Routing",
    authors="Zhu, Jiang, Li, Tang, Luo",
    year=2025,
    id="arXiv:2503.22402",
    routes="a question to a text-to-SQL pipeline",
    kind="score",
    recipe="EllieSql",
    signal=("outcomes",),
    covers=(
        "labels by the first pipeline that solves a question",
        "routers: table count, nearest neighbours, classifier, cascade of binary judges",
    ),
    differs=(
        "The classifier and the judges are logistic regressions on words and on the numbers of "
        "tables and columns, in place of RoBERTa or Qwen2.5-0.5B with adapters: no weights to "
        "download.",
        "The classifier is ordinal: one regression for each P(label <= j), made to rise along j.",
        "Besides the paper's fixed rules every router tells P(label <= j), and a price decides, "
        "which gives a curve.",
        "Pairwise and preference-trained (DPO) routers are left out; they rank the same labels.",
        "What nobody solves counts as unsolved unless unsolved='dearest', because a prediction of "
        "quality must be true: the paper sends it to the dearest.",
    ),
    properties=("learns", "price_monotone", "per_item", "reads_inputs"),
    knobs=(("price", "quality per unit of cost"),),
    aliases=("text-to-sql", "nl2sql", "tiered", "complexity-aware", "tep"),
    cost="fit: O(m) logistic regressions of n rows; route: O(characters + words m) an item",
)

_ROUTERS = ("cascade", "classifier", "knn", "tables")
#: Weight of the two numbers of the schema beside words, whose rows have length one.
_SHAPE = 0.5


@dataclass(frozen=True)
class EllieSql:
    """Recipe of a router among ordered pipelines.

    Parameters
    ----------
    router : str
        "cascade", "classifier", "knn" or "tables".
    unsolved : str
        "cheapest": what nobody solves is worth no tokens. "dearest": it is a task for the dearest
        pipeline, as in the paper; what is predicted of that one is then too high.
    error : float, optional
        Most mistakes among what each judge of a cascade but the last keeps, in [0, 1], on a quarter
        of the rows held out for it: sets the thresholds of `tier`. By default they are 1/2.
    k : int
        Neighbours of "knn", >= 1.
    l2 : float
        Penalty of the regressions, > 0.

    Raises
    ------
    InputError
        A value is out of range.
    """

    router: str = "cascade"
    unsolved: str = "cheapest"
    error: float | None = None
    k: int = 5
    l2: float = 0.05

    def __post_init__(self) -> None:
        for field, options in (("router", _ROUTERS), ("unsolved", ("dearest", "cheapest"))):
            if getattr(self, field) not in options:
                rule = f"be one of {', '.join(options)}"
                raise InputError(f"elliesql.{field}", rule, getattr(self, field), "Choose one.")
        if self.error is not None:
            _check.number("elliesql.error", self.error, low=0.0, high=1.0)
        _check.integer("elliesql.k", self.k, low=1)
        _check.number("elliesql.l2", self.l2, low=1e-6)

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: Generator) -> FittedEllieSql:
        """Label each question by the first pipeline that solves it, and learn the labels.

        A row that nobody solved, though not everybody was asked, says nothing and is left out.

        Raises
        ------
        InputError
            The inputs are not texts.
        """
        order = by_price(outcomes)
        label = _labels(outcomes.quality[:, order])
        rows = np.flatnonzero(label >= 0)
        texts = [texts_of(outcomes.inputs)[int(i)] for i in rows]
        label = label[rows]
        m = outcomes.m
        if self.unsolved == "dearest":
            label = np.minimum(label, m - 1)
        # an option on thresholds: rows that set them train no judge
        held = np.zeros(len(rows), dtype=np.bool_)
        if self.error is not None:
            held[rng.permutation(len(rows))[: len(rows) // 4]] = True
        learnt = [text for text, out in zip(texts, held, strict=True) if not out]
        judges = _fit_judges(learnt, label[~held], m, self)
        gates = tuple(Gate(accept=0.5) for _ in range(m))
        if self.error is not None and held.any():
            kept = [text for text, out in zip(texts, held, strict=True) if out]
            gates = _gates(judges.judge(kept), label[held], self.error)
        return FittedEllieSql(
            names=outcomes.names,
            order=order,
            router=self.router,
            judges=judges,
            gates=gates,
            costs=fit_costs(outcomes),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Judges:
    """What tells of a text how likely each pipeline is the first to solve it.

    Parameters
    ----------
    words : TextFeatures
    mean, scale : array (2,)
        Of the numbers of tables and columns.
    weight : array (v + 2, m)
    bias : array (m,)
    memory : Memory or None
        Of "knn", over (tables, columns).
    kind : str
        Which router this is.
    """

    words: TextFeatures
    mean: Float
    scale: Float
    weight: Float
    bias: Float
    memory: Memory | None
    kind: str

    def judge(self, texts: Inputs) -> Float:
        """P(label = j | label >= j) of each text, (n, m)."""
        if self.kind == "cascade":
            return sigmoid(self._logits(texts))
        reach = self.within(texts)
        before = np.column_stack([np.zeros(len(reach)), reach[:, :-1]])
        left = 1.0 - before
        return np.where(left > 1e-12, (reach - before) / np.maximum(left, 1e-12), 1.0)

    def within(self, texts: Inputs) -> Float:
        """P(label <= j) of each text, (n, m), rising along j."""
        if self.kind == "cascade":
            return np.asarray(1.0 - np.cumprod(1.0 - self.judge(texts), axis=1))
        if self.kind == "classifier":
            return np.asarray(np.maximum.accumulate(sigmoid(self._logits(texts)), axis=1))
        shape = _shape(texts)
        if self.memory is not None:
            queries = _queries((shape - self.mean) / self.scale)
            return np.clip(self.memory.means(queries), 0.0, 1.0)
        tier = np.searchsorted([2.0, 4.0], shape[:, 0], side="right")
        m = len(self.bias)
        return (np.arange(m) >= np.minimum(tier, m - 1)[:, None]).astype(np.float64)

    def _logits(self, texts: Inputs) -> Float:
        rows = _features(self.words, (_shape(texts) - self.mean) / self.scale, texts)
        return np.asarray(rows @ self.weight + self.bias)


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedEllieSql:
    """A router among ordered pipelines.

    Parameters
    ----------
    names : tuple of str
        The m pipelines.
    order : array of int (m,)
        Their columns by mean cost.
    router : str
    judges : Judges
        Columns in that order.
    gates : tuple of Gate
        Of the m judges.
    costs : CostModel
    """

    names: tuple[str, ...]
    order: Int
    router: str
    judges: Judges
    gates: tuple[Gate, ...]
    costs: CostModel

    def predict(self, inputs: Inputs) -> tuple[Float, Float]:
        """Chance (n, m) that each pipeline solves an input, and its cost (n, m)."""
        texts = texts_of(inputs)
        quality = np.empty((len(texts), len(self.names)))
        quality[:, self.order] = self.judges.within(texts)
        return quality, self.costs.predict(inputs)

    def tier(self, inputs: Inputs) -> Int:
        """Column of the pipeline by the paper's rules, (n,), at no price.

        The likeliest label of a classifier or of neighbours; the first judge of a cascade that says
        yes. What is likeliest to be solved by nobody goes to the cheapest.
        """
        texts = texts_of(inputs)
        if self.router == "cascade":
            chance = self.judges.judge(texts)
            told = [gate.decide(chance[:, j]) == 1 for j, gate in enumerate(self.gates)]
            yes = np.column_stack(told)
            return np.asarray(self.order[yes.argmax(axis=1)])  # 0 where nobody says yes
        reach = self.judges.within(texts)
        share = np.column_stack([np.diff(reach, axis=1, prepend=0.0), 1.0 - reach[:, -1]])
        label = share.argmax(axis=1)
        return np.asarray(self.order[np.where(label < len(self.names), label, 0)])


def _labels(quality: Float) -> Int:
    """First right column of each row, (n,); m = all seen and none right, -1 = not known."""
    right = quality > 0.5  # never, where it was not seen
    none = np.where(np.isnan(quality).any(axis=1), -1, quality.shape[1])
    return np.where(right.any(axis=1), right.argmax(axis=1), none)


def _shape(texts: Inputs) -> Float:
    """Numbers of tables and of columns below the question, (n, 2)."""
    found = np.zeros((len(texts), 2))
    for row, text in enumerate(texts):
        _, _, schema = text.partition("\n\n")
        tables = [line for line in schema.split("\n") if ":" in line]
        found[row] = len(tables), sum(line.count(",") + 1 for line in tables)
    return found


def _features(words: TextFeatures, shape: Float, texts: Inputs) -> Any:
    from scipy import sparse

    parts = [words.transform(texts), sparse.csr_matrix(_SHAPE * shape)]
    return sparse.hstack(parts, format="csr", dtype=np.float64)


def _queries(shape: Float) -> Any:
    """Vectors whose product with `_keys` falls with the distance."""
    return np.column_stack([2.0 * shape, -np.ones(len(shape))]).astype(np.float32)


def _keys(shape: Float) -> Any:
    return np.column_stack([shape, (shape**2).sum(axis=1)]).astype(np.float32)


def _fit_judges(texts: list[str], label: Int, m: int, recipe: EllieSql) -> Judges:
    shape = _shape(texts)
    mean = shape.mean(axis=0) if len(shape) else np.zeros(2)
    scale = shape.std(axis=0) if len(shape) else np.ones(2)
    scale[scale < 1e-9] = 1.0
    shape = (shape - mean) / scale
    words = learn_features(texts)
    target = (label[:, None] <= np.arange(m)).astype(np.float64)
    memory = None
    weight, bias = np.zeros((words.d + 2, m)), np.zeros(m)
    if recipe.router == "knn" and len(texts):
        memory = Memory(keys=_keys(shape), values=target, k=recipe.k)
    elif recipe.router in ("cascade", "classifier"):
        if recipe.router == "cascade":
            # a judge learns from what no cheaper pipeline has solved
            target = np.where(label[:, None] < np.arange(m), np.nan, target)
        weight, bias = fit_logistic(_features(words, shape, texts), target, recipe.l2)
    return Judges(
        words=words,
        mean=mean,
        scale=scale,
        weight=weight,
        bias=bias,
        memory=memory,
        kind=recipe.router,
    )


def _gates(chance: Float, label: Int, error: float) -> tuple[Gate, ...]:
    """Thresholds of the judges, one after another on what those before let pass.

    The last one's is 1/2: it parts what the dearest pipeline solves from what nobody does.
    """
    gates: list[Gate] = []
    left = np.ones(len(label), dtype=np.bool_)
    for j in range(chance.shape[1] - 1):
        gate = Gate(accept=1.0)
        if left.any():
            gate = limit_error(chance[left, j], (label[left] > j).astype(np.float64), error)
        gates.append(gate)
        left &= gate.decide(chance[:, j]) != 1
    return (*gates, Gate(accept=0.5))
