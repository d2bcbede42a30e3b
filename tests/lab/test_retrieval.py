"""Worlds of domains that say the same things in ways of their own."""

from __future__ import annotations

import numpy as np
import pytest

from turnout.core import InputError
from turnout.lab import retrieval


def test_turned_back_a_query_is_its_document() -> None:
    """Without noise the domain's rotation is all that lies between them."""
    rng = np.random.default_rng(0)
    world = retrieval.vector_world(3, 60, d=10, topic=4, noise=0.0, rng=rng)
    for t in range(3):
        asked, wanted = world.ask(20, t, rng=rng)
        assert (world.domain[wanted] == t).all()
        assert asked @ world.turns[t].T == pytest.approx(world.documents[wanted])
        assert asked[:, 4:] == pytest.approx(world.documents[wanted][:, 4:])


def test_a_mixture_is_half_of_each() -> None:
    """An odd query goes to the second."""
    rng = np.random.default_rng(0)
    world = retrieval.vector_world(3, 60, rng=rng)
    _, wanted = world.ask_mixed(11, 0, 2, rng=rng)
    assert np.bincount(world.domain[wanted]).tolist() == [5, 0, 6]


def test_a_text_query_says_concepts_of_its_document_in_its_domain_s_words() -> None:
    """Three of four concepts, each by the domain's permutation, and a word of the domain."""
    rng = np.random.default_rng(0)
    world = retrieval.text_world(2, 30, concepts=8, rng=rng)
    texts, wanted = world.ask(20, 1, rng=rng)
    for text, row in zip(texts, wanted, strict=True):
        words = text.split()
        allowed = {f"term{world.said[1, c]}" for c in world.concepts[row]}
        assert "jargon1" in words
        assert len(words) == 4
        assert set(words) - {"jargon1"} <= allowed


@pytest.mark.parametrize(
    "make",
    [
        lambda rng: retrieval.vector_world(0, 5, rng=rng),
        lambda rng: retrieval.vector_world(6, 5, rng=rng),
        lambda rng: retrieval.vector_world(2, 5, d=4, topic=4, rng=rng),
        lambda rng: retrieval.text_world(2, 5, concepts=3, rng=rng),
    ],
)
def test_what_is_wrong_is_refused(make) -> None:
    """By name."""
    with pytest.raises(InputError):
        make(np.random.default_rng(0))
