"""What a peer is fitted on, and how what it says is read, in the process that runs it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from _router_encoder import Encoder  # type: ignore[import-not-found,unused-ignore]

__all__ = ["Adapter", "Scores", "Task", "columns", "preference", "read", "shares"]

Table = NDArray[np.float64]
#: Scores (n, m) of n texts: the higher, the better that model suits the text.
Scores = Callable[[list[str]], Table]


@dataclass(frozen=True, eq=False)
class Task:
    """The rows to learn from.

    Parameters
    ----------
    texts : list of str
        n prompts.
    names : list of str
        m models.
    quality, cost : array (n, m)
        NaN where never seen.
    seed : int
    folder : Path
        For what the peer wants to write.
    """

    texts: list[str]
    names: list[str]
    quality: Table
    cost: Table
    seed: int
    folder: Path

    def ranked(self) -> list[int]:
        """Models in the order in which they win where several did equally well.

        Of two the cheaper first, so that what is learnt is where the other is needed. Of more
        the better on average first: routers that learn the best model of a prompt are after
        quality alone, and would else learn to be content with a poor one.
        """
        if len(self.names) == 2:
            return [int(j) for j in np.argsort(_means(self.cost), kind="stable")]
        return [int(j) for j in np.argsort(-_means(self.quality), kind="stable")]

    def pair(self) -> tuple[int, int]:
        """(weak, strong) of two models, by mean quality."""
        weak, strong = np.argsort(_means(self.quality), kind="stable")
        return int(weak), int(strong)

    def winners(self) -> Iterator[tuple[str, str]]:
        """(text, name of the first of the models that did best), where any did anything."""
        order = self.ranked()
        table = np.where(np.isnan(self.quality), -1.0, self.quality)[:, order]
        for text, row in zip(self.texts, table, strict=True):
            if row.max() > 0:
                yield text, self.names[order[int(row.argmax())]]


@dataclass(frozen=True)
class Adapter:
    """How to fit a peer.

    Parameters
    ----------
    package : str
        Its name on PyPI.
    module : str
        Found where it is installed.
    fit : callable
        From the rows and an encoder of texts to what scores a batch.
    imports : tuple of str
        Modules that are loaded before its time counts.
    models : int, optional
        The number of models that it is made for, where that is fixed.
    calibrated : bool
        Its scores are expected qualities. Else they only tell which model to prefer, and of two
        models only their difference is read, as a threshold would be set on it (`preference`).
    """

    package: str
    module: str
    fit: Callable[[Task, Encoder], Scores]
    imports: tuple[str, ...] = ()
    models: int | None = None
    calibrated: bool = False


def read(path: Path) -> Task:
    """The task as it was handed over."""
    held: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    quality, cost = (np.array(held[key], dtype=np.float64) for key in ("quality", "cost"))
    return Task(held["texts"], held["names"], quality, cost, held["seed"], path.parent)


def columns(table: NDArray[Any], found: Sequence[str], names: Sequence[str]) -> Table:
    """Columns in the order of the models; zero for one that the peer does not know."""
    result = np.zeros((len(table), len(names)))
    for name, column in zip(found, np.asarray(table, dtype=np.float64).T, strict=True):
        result[:, names.index(str(name))] = column
    return result


def shares(logits: Table) -> Table:
    """Mean share of wins of each model against the others, where `sigmoid(a - b)` is a's share."""
    wins = 1.0 / (1.0 + np.exp(-(logits[:, :, None] - logits[:, None, :])))
    m = logits.shape[1]
    result: Table = (wins.sum(axis=2) - 0.5) / (m - 1)
    return result


def preference(scores: Table, pair: tuple[int, int]) -> Table:
    """Scores of two models as zero and the half of one plus their difference.

    A price then sends a prompt to the stronger model from any threshold on that difference, as
    RouteLLM does on its share of wins; scores that sum to one keep that of the stronger.
    """
    weak, strong = pair
    result = np.zeros_like(scores)
    result[:, strong] = (1.0 + scores[:, strong] - scores[:, weak]) / 2.0
    return result


def _means(table: Table) -> Table:
    """Mean of the cells seen of each column; zero where there are none."""
    seen = ~np.isnan(table)
    mean: Table = np.where(seen, table, 0.0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    return mean
