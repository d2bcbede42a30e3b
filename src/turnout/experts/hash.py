"""Sends a token to the expert its id is assigned to, once and for all.

Routes tokens to feed-forward experts by a fixed table: nothing is learned, nothing is balanced in
training, and the same word always meets the same expert. A strong baseline, often close to learned
routing.

Equations, with the variable of each symbol::

    i = table[token id]                                 experts (t, 1)
    g = 1                                               weights (t, 1)

    counts=()           table[v] drawn evenly from the e experts            random hash
    counts=(c_0, ...)   tokens by falling count, each to the expert whose   balanced assignment
                        tokens so far have the smallest sum of counts

The table is a buffer `gate.selector.table` (vocabulary, 1): saved with the model, never trained.
`RouteContext.tokens` must hold the ids.

Differs from the paper: see `CARD.differs`. Cost: one look-up a token; the table takes 8 bytes an
id.

Examples
--------
>>> import torch
>>> recipe = Hash(vocabulary=4, counts=(5.0, 4.0, 3.0, 2.0))
>>> gate = recipe.build(1, 2, generator=torch.Generator().manual_seed(0))
>>> gate.selector.table.flatten().tolist()  # 5 | 4, then 3 to the second, 2 to the first: 7 and 7
[0, 1, 1, 0]
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import torch

from turnout.core import Card, _check
from turnout.nn.gates import Equal, Gate, HashTable, NoScorer

__all__ = ["CARD", "Hash"]

CARD = Card(
    name="experts.hash",
    system="Hash Layers",
    title="Hash Layers For Large Sparse Models",
    authors="Roller, Sukhbaatar, Szlam, Weston",
    year=2021,
    id="arXiv:2106.04426",
    routes="a token id to one feed-forward expert",
    kind="policy",
    recipe="Hash",
    signal=("counts",),
    covers=("Section 3.2: random hash and balanced assignment",),
    differs=(
        "MultiHash layers, which cut an expert into parts with a hash each, are not built; nor "
        "are clustered, bigram and dispersed hashes, which the paper finds no better.",
        "The table is drawn anew for every gate built, so that layers differ unless they are "
        "given generators in the same state.",
    ),
    needs=("torch",),
    properties=("causal_safe", "per_sequence", "per_item", "equivariant", "fixed_k"),
    aliases=("hash layer", "hash layers", "balanced hash"),
    cost="one look-up a token; 8 bytes an id of the vocabulary",
)


@dataclass(frozen=True)
class Hash:
    """Recipe of a hash gate.

    Parameters
    ----------
    vocabulary : int
        Number of token ids, >= 1.
    counts : tuple of float
        How often each id occurs, one a vocabulary entry, >= 0: balanced assignment. Empty: every id
        is drawn at random.

    Raises
    ------
    InputError
        A value is out of range, or the counts are not one a vocabulary entry.
    """

    vocabulary: int
    counts: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _check.integer("hash.vocabulary", self.vocabulary, low=1)
        if self.counts:
            _check.floats("hash.counts", self.counts, (self.vocabulary,), low=0.0)
        object.__setattr__(self, "counts", tuple(float(count) for count in self.counts))

    def build(self, d: int, e: int, *, generator: torch.Generator) -> Gate:
        """A gate for e experts; the width d does not matter."""
        _check.integer("e", e, low=1)
        if self.counts:
            table = torch.tensor(_balanced(self.counts, e), dtype=torch.int64)
        else:
            draw = torch.randint(
                e, (self.vocabulary,), generator=generator, device=generator.device
            )
            table = draw.cpu()
        selector = HashTable(table.unsqueeze(1))
        return Gate(NoScorer(e), selector, Equal(normalised=False), e=e)


def _balanced(counts: tuple[float, ...], e: int) -> list[int]:
    """The most frequent first, each to the expert that has least; ties to the lower number."""
    loads = [(0.0, expert) for expert in range(e)]
    table = [0] * len(counts)
    for token in sorted(range(len(counts)), key=lambda token: (-counts[token], token)):
        load, expert = heapq.heappop(loads)
        table[token] = expert
        heapq.heappush(loads, (load + counts[token], expert))
    return table
