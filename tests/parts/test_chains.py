"""Chains of models, played on a table."""

from __future__ import annotations

import numpy as np
import pytest

from turnout.core import InputError
from turnout.parts.chains import Alphabet, Chain, Played, alphabet_of, judged_table
from turnout.parts.tradeoffs import Rewards
from turnout.testing import planted


def _played() -> Played:
    return Played(
        score=np.array([[0.9, 0.5, 0.5], [0.2, 0.8, 0.5], [0.2, 0.1, 0.5], [0.6, 0.9, 0.5]]),
        quality=np.array([[1.0, 1.0, 1.0], [0.0, 1.0, 1.0], [0.0, 0.0, 1.0], [1.0, 0.0, 1.0]]),
        cost=np.tile([1.0, 2.0, 4.0], (4, 1)),
        latency=np.tile([0.1, 0.2, 0.3], (4, 1)),
    )


def test_a_chain_by_hand() -> None:
    """Two items stay with the first, one with the second, one goes to the end."""
    chain = Chain((0, 1, 2), (0.5, 0.5, -np.inf))
    quality, cost, latency = _played().play(chain)
    assert (quality, cost) == (1.0, pytest.approx((4 * 1 + 2 * 2 + 1 * 4) / 4))
    assert latency == pytest.approx((4 * 0.1 + 2 * 0.2 + 0.3) / 4)
    assert _played().ends(chain).tolist() == [0.5, 0.25, 0.25]


def test_every_word_is_allowed_and_counted() -> None:
    """The words listed are those the grammar allows, each once, and their number is the count."""
    alphabet = Alphabet(np.zeros((3, 2)), length=2)
    words = list(alphabet.words())
    assert len(words) == len(set(words)) == alphabet.count() == 3 + 3 * 2 * 2
    tokens = np.array(words)
    free = alphabet.allowed(tokens)
    for row, word in enumerate(words):
        letters = [letter for letter in word if letter >= 0]
        assert alphabet.terminal[letters[-1]]
        assert all(free[row, step, letter] for step, letter in enumerate(letters))


def test_a_walk_through_the_grammar_always_ends() -> None:
    """Whatever allowed letters are drawn, a chain comes out: never stuck, nobody twice."""
    alphabet = Alphabet(np.zeros((3, 1)), length=3)
    rng = np.random.default_rng(0)
    for _ in range(200):
        word = np.full((1, 3), -1)
        for step in range(3):
            letter = int(rng.choice(np.flatnonzero(alphabet.allowed(word)[0, step])))
            word[0, step] = letter
            if alphabet.terminal[letter]:
                break
        alphabet.read(word[0])  # refuses what is no chain


def test_no_chain_twice_or_open() -> None:
    """A repeated destination and a last answer that may not be kept are refused."""
    with pytest.raises(InputError, match=r"chain.columns must ask one destination or more"):
        Chain((1, 1), (0.5, -np.inf))
    with pytest.raises(InputError, match=r"chain.thresholds must hold one a destination"):
        Chain((1, 0), (0.5, 0.5))


def test_rewards_by_hand() -> None:
    """From the worst single (0.5) to the oracle (1), and the saved share of the dearest (4)."""
    alphabet = Alphabet(np.full((3, 1), 0.5), length=2)
    reward = Rewards(alphabet, _played(), ("quality", "cost", "latency"))
    found = reward(np.array([[1, -1], [0, 5]]))  # the first alone; the first, then the third
    assert found[0] == pytest.approx([0.0, 0.75, 2 / 3])
    assert found[1] == pytest.approx([1.0, 1 - (1 + 0.5 * 4) / 4, 1 - (0.1 + 0.5 * 0.3) / 0.3])
    assert len(reward.figures) == 2


def test_scores_have_not_seen_their_row() -> None:
    """On outcomes dealt to other rows, scores of the table tell nothing about its quality."""
    table = planted.shuffled(
        planted.hard(300, np.random.default_rng(0)).outcomes, np.random.default_rng(1)
    )
    played, judge = judged_table(table, rng=np.random.default_rng(0))
    honest = np.corrcoef(played.score.ravel(), played.quality.ravel())[0, 1]
    centred = played.score - played.score.mean(axis=0)
    within = [np.corrcoef(centred[:, j], played.quality[:, j])[0, 1] for j in range(table.m)]
    assert abs(honest) < 0.6  # destinations differ in their means
    assert np.abs(np.nan_to_num(within)).max() < 0.2
    assert judge.score([table.inputs[0]], ["x"], np.array([0])).shape == (1,)


def test_thresholds_lie_between_heaps() -> None:
    """A judge that is sure has two heaps of scores; thresholds part them and cut neither."""
    score = np.where(np.arange(40)[:, None] < 20, 0.01, 0.99)
    played = Played(score=score, quality=score, cost=score, latency=score)
    assert alphabet_of(played, 3, 1).levels[0] == pytest.approx([0.255, 0.5, 0.745])
