"""Knowledge bases of facts of this Python, questions about them, and requests of several steps."""

from __future__ import annotations

import unicodedata
from html.entities import name2codepoint

import pytest

from turnout.core import Call, InputError
from turnout.lab.chains import chains
from turnout.lab.knowledge import ABOUT, as_pool, consulting, facts, knowledge, questions
from turnout.lab.tasks import held_out
from turnout.parts.rounds.clauses import clauses, filled


def test_facts_are_true() -> None:
    """What can be looked up again is as the standard library has it."""
    for fact in facts():
        if fact.base == "characters":
            assert unicodedata.lookup(fact.value) == chr(int(fact.key))
        if fact.base == "entities":
            assert name2codepoint[fact.key] == int(fact.value)
    found = {(fact.base, fact.key): fact.value for fact in facts()}
    assert found["functions", "dedent"] == "textwrap"
    assert found["statuses", "Not Found"] == "404"
    assert "wrapping" in found["modules", "textwrap"].lower()


def test_every_base_holds_facts_and_is_described() -> None:
    """A hundred documents or so in each, all worded "subject: fact"."""
    bases = knowledge()
    assert set(bases) == set(ABOUT) == set(as_pool().names)
    for documents in bases.values():
        assert len(documents) > 40
        assert all(": " in document for document in documents)


def test_questions_are_drawn_again_and_held_out() -> None:
    """Same arguments, same questions; no first fact of the one stream is in the other."""
    first = questions(60, seed=3)
    assert first == questions(60, seed=3)
    assert first != questions(60, seed=4)
    seen = {hop.query for q in questions(400, seed=3, evaluation=False) for hop in q.hops[:1]}
    assert not seen & {question.hops[0].query for question in first}
    assert {len(question.hops) for question in first} == {1, 2}


def test_a_question_comes_apart_into_its_steps() -> None:
    """Splitting at "then" and filling in "it" gives each recorded sub-question."""
    for question in questions(100, seed=0):
        steps = clauses(question.text)
        assert steps[0] == question.hops[0].query
        if len(question.hops) == 2:
            assert filled(steps[1], question.hops[0].answer) == question.hops[1].query
        assert question.hops[-1].answer == question.answer


def test_bases_answer_find_nothing_or_fail() -> None:
    """The right fact comes first; a strange query is an empty reply, an empty base a failed one."""
    ask = consulting({**knowledge(), "void": ()}, k=3)
    reply = ask(Call(to="functions", prompt="Which module defines the function dedent?"))
    assert reply.text.splitlines()[0].endswith(": textwrap")
    assert len(reply.text.splitlines()) == 3
    assert reply.cost == 1.0
    nothing = ask(Call(to="statuses", prompt="zzz"))
    assert (nothing.text, nothing.failed) == ("", "")
    assert ask(Call(to="void", prompt="x")).failed
    with pytest.raises(InputError, match=r"call\.to must be a knowledge base"):
        ask(Call(to="else", prompt="x"))


def test_chains_go_on_from_right_results() -> None:
    """Each step's prompt is its clause with the result before filled in, and held out."""
    for chain in chains(60, seed=0, steps=(1, 2, 3)):
        steps, said = clauses(chain.problem.prompt), ""
        assert len(steps) == chain.problem.difficulty == len(chain.parts)
        for place, (step, part) in enumerate(zip(steps, chain.parts, strict=True)):
            assert (filled(step, said) if place else step) == part.prompt
            assert held_out(part.prompt)
            said = part.answer
        assert said == chain.problem.answer


def test_the_streams_of_chains_never_meet() -> None:
    """Training chains hold no step that is held out."""
    parts = [part for chain in chains(60, seed=0, evaluation=False) for part in chain.parts]
    assert not any(held_out(part.prompt) for part in parts)


def test_wrong_arguments_are_named() -> None:
    """Each field is named."""
    with pytest.raises(InputError, match="hops must be 1 or 2"):
        questions(1, seed=0, hops=(3,))
    with pytest.raises(InputError, match="steps must be numbers from 1 to 3"):
        chains(1, seed=0, steps=())
    with pytest.raises(InputError, match="k must be"):
        consulting({}, k=0)
