"""Queries and documents of several domains that each say the same things in a way of their own.

Two worlds. In that of vectors, a document is a point; its topic lies in the first numbers, its
domain in the others; a query is a document with the topic turned by the domain's own rotation. In
that of texts, documents name concepts by one vocabulary, and queries of each domain by that
vocabulary permuted, beside a word that gives the domain away. Either way no single encoder of
queries is right for two domains, and one for each is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from turnout.core import _check
from turnout.core._check import Float, Int

__all__ = ["TextWorld", "VectorWorld", "text_world", "vector_world"]


@dataclass(frozen=True, eq=False)
class VectorWorld:
    """Documents and queries as vectors.

    Parameters
    ----------
    documents : array (v, d)
    domain : array of int (v,)
        Of each document.
    turns : array (c, d, d)
        Rotation of each domain's queries.
    noise : float
        Standard deviation added to each number of a query.
    """

    documents: Float
    domain: Int
    turns: Float
    noise: float

    def ask(self, n: int, domain: int, *, rng: Generator) -> tuple[Float, Int]:
        """Queries (n, d) of one domain, and the document each is about (n,)."""
        wanted = rng.choice(np.flatnonzero(self.domain == domain), size=n)
        asked = self.documents[wanted] @ self.turns[domain]
        return asked + self.noise * rng.standard_normal(asked.shape), wanted

    def ask_mixed(self, n: int, one: int, two: int, *, rng: Generator) -> tuple[Float, Int]:
        """Queries of a domain of no expert: half are asked as one domain asks, half as another."""
        half = n // 2
        first, wanted = self.ask(half, one, rng=rng)
        second, other = self.ask(n - half, two, rng=rng)
        return np.vstack([first, second]), np.concatenate([wanted, other])


def vector_world(
    domains: int,
    documents: int,
    *,
    d: int = 32,
    topic: int = 12,
    noise: float = 0.1,
    rng: Generator,
) -> VectorWorld:
    """Domains of equally many documents, and a random rotation of the topic for each.

    Parameters
    ----------
    domains, documents : int
        How many in all; each >= 1.
    d, topic : int
        Numbers of a vector, and how many of them hold the topic; 1 <= topic < d.
    noise : float
        >= 0.
    rng : Generator
    """
    domains = _check.integer("domains", domains, low=1)
    documents = _check.integer("documents", documents, low=domains)
    d = _check.integer("d", d, low=2)
    topic = _check.integer("topic", topic, low=1, high=d - 1)
    noise = _check.number("noise", noise, low=0.0)
    domain = np.arange(documents) % domains
    centres = rng.standard_normal((domains, d - topic))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    inside = rng.standard_normal((documents, topic)) / np.sqrt(topic)
    around = centres[domain] + 0.3 * rng.standard_normal((documents, d - topic)) / np.sqrt(
        d - topic
    )
    turns = np.tile(np.eye(d), (domains, 1, 1))
    for turn in turns:
        turn[:topic, :topic] = np.linalg.qr(rng.standard_normal((topic, topic)))[0]
    return VectorWorld(np.hstack([inside, around]), domain, turns, noise)


@dataclass(frozen=True, eq=False)
class TextWorld:
    """Documents and queries as texts.

    Parameters
    ----------
    documents : tuple of str (v,)
    domain : array of int (v,)
    concepts : array of int (v, 4)
        Of each document.
    said : array of int (c, concepts)
        Word with which each domain's queries say a concept.
    """

    documents: tuple[str, ...]
    domain: Int
    concepts: Int
    said: Int

    def ask(self, n: int, domain: int, *, rng: Generator) -> tuple[tuple[str, ...], Int]:
        """Queries of one domain, and the document each is about."""
        wanted = rng.choice(np.flatnonzero(self.domain == domain), size=n)
        texts = []
        for row in wanted:
            some = rng.permutation(self.concepts[row])[:3]
            words = [f"term{self.said[domain, c]}" for c in some]
            words.append(f"jargon{domain}")
            texts.append(" ".join(rng.permutation(words)))
        return tuple(texts), wanted


def text_world(domains: int, documents: int, *, concepts: int = 40, rng: Generator) -> TextWorld:
    """Documents of four concepts, each with a word of its domain.

    Parameters
    ----------
    domains, documents : int
        How many in all; each >= 1.
    concepts : int
        Words of the shared vocabulary, >= 4.
    rng : Generator
    """
    domains = _check.integer("domains", domains, low=1)
    documents = _check.integer("documents", documents, low=domains)
    concepts = _check.integer("concepts", concepts, low=4)
    domain = np.arange(documents) % domains
    picked = np.stack([rng.permutation(concepts)[:4] for _ in range(documents)])
    said = np.stack([rng.permutation(concepts) for _ in range(domains)])
    texts = tuple(_document(picked[row], int(domain[row]), rng) for row in range(documents))
    return TextWorld(texts, domain, picked, said)


def _document(concepts: NDArray[Any], domain: int, rng: Generator) -> str:
    words: Sequence[str] = [*(f"term{c}" for c in concepts), f"field{domain}"]
    return " ".join(rng.permutation(words))
