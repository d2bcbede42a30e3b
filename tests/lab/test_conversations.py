"""Conversations with a policy for each turn."""

from __future__ import annotations

import numpy as np
import pytest

from turnout.core import InputError
from turnout.lab import conversations as lab


def test_there_are_72_policies_and_a_split_of_them() -> None:
    """Every pair of domain and action, seen or unseen, never both."""
    seen, unseen = lab.split(48, np.random.default_rng(0))
    assert len(lab.policies()) == 72
    assert len(seen) == 48
    assert set(seen) | set(unseen) == set(lab.policies())
    assert not set(seen) & set(unseen)


def test_no_request_names_its_policy() -> None:
    """The domain's name stands in no opening turn of that policy, nor does the policy's."""
    for talk in lab.talks(200, tuple(lab.policies()), rng=np.random.default_rng(1)):
        users = [text for role, text in talk.messages if role == "user"]
        for text, route, kind in zip(users, talk.routes, talk.kinds, strict=True):
            if kind == "open":
                domain = route.rpartition("_")[0]
                assert domain not in text.split()
                assert route not in text


def test_turns_alternate_and_every_user_turn_has_its_route() -> None:
    """Users speak first and last; follow-ups keep the route, thanks and asides have none."""
    for talk in lab.talks(100, tuple(lab.policies())[:24], rng=np.random.default_rng(2)):
        roles = [role for role, _ in talk.messages]
        assert roles == ["user", "assistant"] * (len(talk.routes) - 1) + ["user"]
        assert talk.kinds[0] == "open"
        wanted = None
        for route, kind in zip(talk.routes, talk.kinds, strict=True):
            if kind in ("thanks", "aside"):
                assert route == lab.OTHER
                continue
            if kind == "same":
                assert route == wanted
            if kind == "again":
                assert route != wanted
                assert route.rpartition("_")[0] == wanted.rpartition("_")[0]
            wanted = route


def test_the_same_seed_gives_the_same_talks() -> None:
    """All randomness is the generator's."""
    names = tuple(lab.policies())
    assert lab.talks(5, names, rng=np.random.default_rng(3)) == lab.talks(
        5, names, rng=np.random.default_rng(3)
    )


def test_accuracies_by_hand() -> None:
    """Four of five turns, two of three spans, one of two conversations."""
    said = (("user", "x"),)
    talks = [
        lab.Talk(said, ("a", "a", "b"), ("open", "same", "open")),
        lab.Talk(said, ("c", "c"), ("open", "same")),
    ]
    found = lab.accuracy(talks, [("a", "b", "b"), ("c", "c")])
    assert found.turn == pytest.approx(4 / 5)
    assert found.span == pytest.approx(2 / 3)
    assert found.conversation == pytest.approx(1 / 2)
    assert found.kind == {"open": 1.0, "same": 0.5}


def test_what_is_no_policy_is_refused() -> None:
    """By name."""
    with pytest.raises(InputError, match="names must be policies; got 'weather'"):
        lab.talks(1, ("weather",), rng=np.random.default_rng(0))
    with pytest.raises(InputError, match="seen must be"):
        lab.split(72, np.random.default_rng(0))
