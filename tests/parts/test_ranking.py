"""Measures of rankings."""

from __future__ import annotations

import numpy as np
import pytest

from turnout.core import InputError
from turnout.parts.ranking import discounted, hit, mrr, ndcg, order


def test_ndcg_by_hand() -> None:
    """Gains 0, 2, 1 in ranked order: (2 / log2 3 + 1 / 2) / (2 + 1 / log2 3)."""
    scores, gains = np.array([[0.9, 0.5, 0.1]]), np.array([[0.0, 2.0, 1.0]])
    want = (2 / np.log2(3) + 0.5) / (2 + 1 / np.log2(3))
    assert ndcg(scores, gains, 10)[0] == pytest.approx(want)
    assert ndcg(scores, gains, 1)[0] == 0.0
    assert discounted(np.array([[3.0, 2.0]]), 1)[0] == 3.0


def test_nothing_to_gain_is_nothing() -> None:
    """A row without gains has 0, not a division by it."""
    assert ndcg(np.ones((1, 3)), np.zeros((1, 3)), 3)[0] == 0.0


def test_hit_and_rank_by_hand() -> None:
    """The best stands third: no hit at 2, one at 3, and a third for its rank."""
    scores, gains = np.array([[3.0, 2.0, 1.0]]), np.array([[0.1, 0.2, 0.9]])
    assert hit(scores, gains, 2)[0] == 0.0
    assert hit(scores, gains, 3)[0] == 1.0
    assert mrr(scores, gains)[0] == pytest.approx(1 / 3)


def test_equals_come_in_the_order_of_columns() -> None:
    """And any of equally good candidates is a hit."""
    assert order(np.zeros((1, 3))).tolist() == [[0, 1, 2]]
    assert hit(np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]]), 1)[0] == 1.0


def test_the_best_order_is_one() -> None:
    """Ranking by the gains themselves is worth 1."""
    gains = np.random.default_rng(0).random((5, 7))
    assert ndcg(gains, gains, 4) == pytest.approx(np.ones(5))


def test_what_is_wrong_is_refused() -> None:
    """A rank below one, and negative gains."""
    with pytest.raises(InputError, match="k must be"):
        hit(np.ones((1, 2)), np.ones((1, 2)), 0)
    with pytest.raises(InputError, match="gains"):
        ndcg(np.ones((1, 2)), -np.ones((1, 2)), 1)
