"""The laboratory's models behind calls."""

from __future__ import annotations

import pytest

from turnout.core import Call, InputError
from turnout.lab import pool
from turnout.lab.asking import asking


def test_the_models_answer_and_cost_as_in_the_table() -> None:
    """A call gives the text and the price of the same question in `pool.outcomes`."""
    table, _ = pool.outcomes(3, seed=5)
    ask = asking()
    assert table.answers is not None
    for i in range(table.n):
        for j, name in enumerate(table.names):
            reply = ask(Call(to=name, prompt=str(table.inputs[i])))
            assert reply.text == table.answers[i, j]
            assert reply.cost == pytest.approx(table.cost[i, j])
            assert not reply.failed


def test_equal_calls_are_answered_once() -> None:
    """What is remembered is the same reply."""
    ask = asking([pool.load(pool.names()[0])])
    call = Call(to=pool.names()[0], prompt="Add 2 and 3.")
    assert ask(call) is ask(call)


def test_what_cannot_be_read_is_a_failed_reply() -> None:
    """A prompt too long for the model costs nothing and says why."""
    reply = asking()(Call(to=pool.names()[0], prompt="Add 2 and 3. " * 500))
    assert reply.failed
    assert (reply.text, reply.cost) == ("", 0.0)


def test_a_limit_of_tokens_is_kept() -> None:
    """More than the model writes is cut to that; one token is less than a long answer."""
    ask, name = asking(), pool.names()[-1]
    prompt = "What is 2 + 3?"
    assert ask(Call(to=name, prompt=prompt, max_tokens=10_000)) == ask(Call(to=name, prompt=prompt))
    short = ask(Call(to=name, prompt=prompt, max_tokens=1))
    assert short.cost < ask(Call(to=name, prompt=prompt)).cost


def test_nobody_else_is_asked() -> None:
    """A name that is no model is refused."""
    with pytest.raises(InputError, match=r"call\.to"):
        asking()(Call(to="gpt", prompt="hi"))
