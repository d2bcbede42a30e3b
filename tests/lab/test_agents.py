"""Questions over stated facts, and agents that answer them by asking the models."""

from __future__ import annotations

import numpy as np
import pytest

from turnout.core import Call, Card, InputError, Pool, Reply
from turnout.lab import pool as laboratory
from turnout.lab.agents import CALLS, WAYS, Answering, Prompting, agents, outcomes
from turnout.lab.asking import asking
from turnout.lab.skills import DAYS
from turnout.lab.tasks import held_out
from turnout.lab.trails import STEPS, Step, Trail, questions, read
from turnout.parts import entities
from turnout.parts.rounds.answers import f1
from turnout.parts.rounds.playing import Limits, run
from turnout.testing.strategies import StrategyCase, check

POOL = Pool(names=("a",))
ITEM = (
    "Bob raises Ann by 12. Ann chose 30. Carl lowers Bob by 2. Dana chose Xyxy.\n"
    "Which number has Carl?"
)
CARD = Card(
    name="lab.agents",
    system="agents",
    title="agents",
    authors="nobody",
    year=2026,
    id="none",
    routes="a question",
    kind="policy",
    recipe="Prompting",
    signal=(),
    covers=(),
    differs=(),
    properties=("multi_step",),
)


def _right(call: Call) -> Reply:
    """Works out the steps of `ITEM` rightly, whatever the wording; a whole trail it does not."""
    known = {("30", "12"): "42", ("42", "12"): "30", ("42", "2"): "40", ("40", "2"): "42"}
    numbers = tuple(word for word in call.prompt.rstrip("?").split() if word.isdigit())
    if numbers == ("12", "42"):  # "Subtract 12 from 42"
        numbers = ("42", "12")
    return Reply(text=known.get(numbers, "no idea"), cost=1.0)


def _play(way: str, ask=_right, item: str = ITEM, limits: Limits | None = None):
    how = Prompting("a", way)
    return run(how, item, ask, POOL, rng=np.random.default_rng(0), limits=limits)


def test_a_trail_by_hand() -> None:
    """Facts are found in any order, from the person asked about back to what was chosen."""
    (trail,) = read(ITEM)
    assert trail == Trail("30", (Step("add", "12"), Step("subtract", "2")))
    assert trail.request() == "What is 30 + 12? Then what is it - 2?"
    both = read(ITEM.replace("has Carl?", "has Bob and which word has Dana?"))
    assert both == (Trail("30", (Step("add", "12"),)), Trail("xyxy", ()))


@pytest.mark.parametrize("evaluation", [True, False])
def test_questions_read_as_they_were_drawn(evaluation: bool) -> None:
    """Their sentences tell the trails that made them, and every step is in its stream."""
    asked = questions(24, seed=3, evaluation=evaluation)
    for question in asked:
        assert read(question.text) == question.trails
        assert all(1 <= len(trail.steps) <= STEPS for trail in question.trails)
    first = {trail.steps[0].prompt(trail.start) for q in asked for trail in q.trails}
    assert {held_out(prompt) for prompt in first} == {evaluation}
    assert {len(question.trails) for question in asked} == {1, 2}
    assert asked == questions(24, seed=3, evaluation=evaluation)
    assert asked != questions(24, seed=4, evaluation=evaluation)


def test_answers_are_true() -> None:
    """Worked out again, step by step, in another way than they were drawn."""
    work = {
        "add": lambda x, b: str(int(x) + int(b)),
        "subtract": lambda x, b: str(int(x) - int(b)),
        "largest": lambda x, b: max(x, b, key=int),
        "smallest": lambda x, b: min(x, b, key=int),
        "reverse": lambda x, b: "".join(reversed(x)),
        "sort": lambda x, b: "".join(sorted(x)),
        "count": lambda x, b: str(sum(letter == b for letter in x)),
        "days": lambda x, b: (DAYS * 6)[DAYS.index(x) + int(b)],
        "days back": lambda x, b: (DAYS * 6)[DAYS.index(x) + 35 - int(b)],
    }
    factors = {"hours to minutes": 60, "yards to feet": 3, "weeks to days": 7}
    seen = set()
    for question in questions(50, seed=5):
        found = []
        for trail in question.trails:
            held = trail.start
            for step in trail.steps:
                seen.add(step.skill)
                if step.skill == "convert":
                    held = str(int(held) * factors.get(step.given, 0))
                else:
                    held = work[step.skill](held, step.given)
            if all(s.skill != "convert" or s.given in factors for s in trail.steps):
                found.append(held)
        if len(found) == len(question.trails):
            assert ", ".join(found) == question.answer
    assert seen == {*work, "convert"}


def test_the_trail_shows_in_the_graph_of_the_context() -> None:
    """Each step is a link from a person to the one before, and its relation names the skill."""
    for question in questions(12, seed=6):
        facts = entities.read(question.text)
        pairs = {(facts.entities[one], facts.entities[two]) for one, _, two in facts.links}
        assert facts.asked == len(question.trails)
        sentences = question.text.splitlines()[0].split(". ")
        linked = [s.rstrip(".").split() for s in sentences if " chose " not in s]
        for words in linked:
            people = [word for word in words if word[0].isupper()]
            assert (people[0], people[1]) in pairs
    assert {link[1] for link in entities.read(ITEM).links} == {"raises", "by", "chose", "lowers"}


def test_who_is_not_told_about_has_no_trail() -> None:
    """Nor has who goes round in a circle; reading ends."""
    assert read("Ann chose 3.\nWhich number has Bob?") == ()
    assert read("Ann raises Bob by 1. Bob raises Ann by 1.\nWhich number has Bob?") == ()
    assert read("") == ()
    assert read("no question here") == ()


def test_the_ways_differ_as_they_say() -> None:
    """Calls by hand: the whole; a step each; three wordings each; each with its way back."""
    prompts = {way: [call.prompt for call in _play(way).calls] for way in WAYS}
    assert prompts["at once"] == ["What is 30 + 12? Then what is it - 2?"]
    assert prompts["in steps"] == ["What is 30 + 12?", "What is 42 - 2?"]
    assert prompts["in other words"][:3] == [
        "What is 30 + 12?",
        "Add 30 and 12",
        "Work out 30 plus 12",
    ]
    assert prompts["checked"][:3] == ["What is 30 + 12?", "What is 42 - 12?", "What is 42 - 2?"]
    assert [_play(way).answer for way in WAYS] == ["no idea", "40", "40", "40"]


def test_a_wrong_answer_is_outvoted_or_caught() -> None:
    """A model that errs in its first wording alone is put right by two ways of four."""

    def ask(call: Call) -> Reply:
        return Reply(text="41") if call.prompt == "What is 30 + 12?" else _right(call)

    item = ITEM.replace("has Carl", "has Bob")
    assert _play("in steps", ask, item).answer == "41"
    assert _play("in other words", ask, item).answer == "42"
    assert _play("checked", ask, item).answer == "42"


@pytest.mark.parametrize("way", sorted(WAYS))
def test_silence_failure_and_limits_end_it(way: str) -> None:
    """What finds nothing goes no further; a limit gives what was found before."""
    assert _play(way, lambda call: Reply(text="")).answer == ""
    found = _play(way, lambda call: Reply(text="junk", failed="away"))
    assert (found.answer, found.stopped) == ("", "")
    assert len(found.calls) <= 3
    two = ITEM.replace("has Carl?", "has Bob and which number has Carl?")
    assert _play(way, item=two, limits=Limits(calls=1)).stopped == "calls"
    assert len(_play(way, item=two).calls) <= CALLS


def test_an_item_of_another_kind_is_asked_as_it_is() -> None:
    """One call."""
    found = _play("checked", lambda call: Reply(text="hello"), "how are you?")
    assert (found.answer, [call.prompt for call in found.calls]) == ("hello", ["how are you?"])


@pytest.mark.parametrize("way", sorted(WAYS))
def test_every_agent_keeps_the_contract_of_strategies(way: str) -> None:
    """Whatever comes back, in any pool."""
    check(StrategyCase(make=lambda: Prompting("a", way), ask=_right, items=(ITEM,)), card=CARD)


def test_agents_really_answer_and_really_differ() -> None:
    """Recorded answers, marks and costs are those of plays over the models, one call at a time."""
    asked = questions(4, seed=7)
    some = [agent for agent in agents() if agent.to in ("pico", "numbers")]
    table = outcomes(asked, some)
    assert table.names == tuple(agent.name for agent in some)
    assert table.answers is not None
    ask, pool = asking(), laboratory.as_pool()
    for i, question in enumerate(asked):
        for j, agent in enumerate(some):
            own = pool.select(agent.names)
            found = run(agent, question.text, ask, own, rng=np.random.default_rng(0))
            assert found.answer == table.answers[i, j]
            assert found.cost == pytest.approx(table.cost[i, j])
            assert f1(found.answer, (question.answer,)) == table.quality[i, j]
    assert len({tuple(column) for column in table.answers.T}) > len(some) // 2


def test_many_calls_are_answered_once_each() -> None:
    """In their order, remembered; what cannot be read fails at no cost."""
    answering = Answering({"pico": laboratory.load("pico")})
    calls = [Call(to="pico", prompt=text) for text in ("Add 2 and 3.", "Copy ab", "Add 2 and 3.")]
    replies = answering.many(calls)
    assert replies[0] is replies[2]
    assert answering(calls[1]) is replies[1]
    long = answering(Call(to="pico", prompt="Add 2 and 3. " * 500))
    assert long.failed
    assert (long.text, long.cost) == ("", 0.0)


def test_every_model_has_every_way() -> None:
    """Sixteen agents, told apart by name and by what is said of them."""
    everybody = agents()
    assert len({agent.name for agent in everybody}) == len(laboratory.names()) * len(WAYS) == 16
    assert len({agent.about for agent in everybody}) == 16
    assert {agent.to for agent in everybody} == set(laboratory.as_pool().names)


def test_wrong_arguments_are_named() -> None:
    """Each field."""
    with pytest.raises(InputError, match=r"prompting\.way must be one of"):
        Prompting("a", "by magic")
    with pytest.raises(InputError, match="n must be"):
        questions(0, seed=0)
    with pytest.raises(InputError, match="both must be"):
        questions(1, seed=0, both=2.0)
