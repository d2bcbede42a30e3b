"""R1-Router over knowledge bases: its rewards, its steps, and what it learns from them."""

from __future__ import annotations

import numpy as np
import pytest

from turnout.core import Budget, Call, InputError, Outcomes, Pool, Reply
from turnout.lab.knowledge import as_pool, consulting, knowledge, questions
from turnout.llms import kb_router
from turnout.llms.kb_router import (
    ChatReader,
    FirstDocument,
    FittedKbRouter,
    KbRouter,
    Record,
    Step,
    answer_reward,
    step_reward,
)
from turnout.parts.rounds.playing import run
from turnout.testing import strategies
from turnout.testing.strategies import StrategyCase, StrategySubject

pytest.importorskip("torch")

POOL = Pool(
    names=("towns", "rivers"),
    usd_per_item=np.ones(2),
    description=("towns and their countries", "countries and their rivers"),
)
TOWNS = {"Arle": "Veland", "Bram": "Ostia", "Cole": "Nord", "Dune": "Siel"}
RIVERS = {"Veland": "Ruhn", "Ostia": "Mel", "Nord": "Tay", "Siel": "Ousk"}


def world(call: Call) -> Reply:
    """Two bases: towns know their country, countries their river."""
    facts = TOWNS if call.to == "towns" else RIVERS
    found = [f"about {key}: {value}" for key, value in facts.items() if key in call.prompt]
    return Reply(text="\n".join(found), cost=1.0)


def records() -> list[Record]:
    """One question of one hop and one of two for every town."""
    made = []
    for town, land in TOWNS.items():
        first = Step(f"In which country is {town}?", "towns", land)
        second = Step(f"Which river has {land}?", "rivers", RIVERS[land])
        made.append(Record(first.query, (first,), (land,)))
        text = f"{first.query} Then which river has it?"
        made.append(Record(text, (first, second), (RIVERS[land],)))
    return made


def small() -> FittedKbRouter:
    recipe = KbRouter(updates=2, contexts=2, group=3, width=8)
    return recipe.train(records(), POOL, rng=np.random.default_rng(0))


ITEMS = tuple(record.question for record in records()[:3])
CASE = StrategyCase(make=small, ask=world, items=ITEMS, pool=POOL)


@pytest.fixture(scope="module")
def learned() -> FittedKbRouter:
    recipe = KbRouter(updates=60, contexts=16, width=32, rate=0.03, kl=0.1)
    return recipe.train(records(), POOL, rng=np.random.default_rng(0))


@pytest.mark.parametrize("check", strategies.CHECKS[:-1], ids=lambda check: check.name)
def test_a_chat_reader_keeps_the_contract(check) -> None:
    """With a destination that reads the documents it keeps what any strategy keeps."""

    def make() -> FittedKbRouter:
        recipe = KbRouter(updates=1, contexts=1, group=2, width=4)
        rng = np.random.default_rng(0)
        return recipe.train(records(), POOL, reader=ChatReader("reader"), rng=rng)

    def ask(call: Call) -> Reply:
        return Reply(text="<answer>Veland</answer>") if call.to == "reader" else world(call)

    subject = StrategySubject(StrategyCase(make=make, ask=ask, items=ITEMS), kb_router.CARD)
    found = strategies.run_check(subject, check)
    assert found.status in ("passed", "skipped"), found.message


def test_step_reward_by_hand() -> None:
    """Half for the query, half for the base; to stop is to name neither."""
    assert step_reward("who", "text", "who", "text") == 1.0
    assert step_reward("", "", "", "") == 1.0
    assert step_reward("", "", "who", "text") == 0.0
    assert step_reward("who is it", "text", "why", "text") == pytest.approx(0.5, abs=0.05)
    # "red hat" and "red shoe" share one of three words and pairs each
    assert step_reward("red hat", "a", "red shoe", "b") == pytest.approx(0.5 / 3, abs=0.17)


def test_answer_reward_by_hand() -> None:
    """Short answers count whole; one long answer counts by the share of its words."""
    assert answer_reward("it is Oslo", ("Oslo",)) == 1.0
    assert answer_reward("Oslo", ("Oslo Harbour",)) == 0.0
    assert answer_reward("one two three", ("one two three four five six",)) == 0.5
    assert answer_reward("one two three", ("one two three four five six", "seven")) == 0.0
    assert answer_reward("", ()) == 0.0


def test_it_learns_base_and_stop_from_steps(learned: FittedKbRouter) -> None:
    """After Step-GRPO it asks the right base at each hop, and stops after the last."""
    for record in records():
        found = run(learned, record.question, world, POOL, rng=np.random.default_rng(0))
        assert [call.to for call in found.calls] == [step.base for step in record.steps]
        assert found.answer == record.answers[0]


def test_the_gold_is_not_read_in_play(learned: FittedKbRouter) -> None:
    """A town never recorded is answered too: nothing is looked up in the records."""
    ask = lambda call: Reply(text="about Xim: Gol")  # noqa: E731
    found = run(learned, "In which country is Xim?", ask, POOL, rng=np.random.default_rng(0))
    assert found.answer == "Gol"


def test_outcome_alone_trains_it_too() -> None:
    """GRPO on whole plays raises the reward; without somebody to ask it is refused."""
    told: list[float] = []
    recipe = KbRouter(learning="outcome", updates=25, contexts=4, width=16, rate=0.03)
    recipe.train(
        records(),
        POOL,
        world,
        rng=np.random.default_rng(0),
        progress=lambda at, reward: told.append(reward),
    )
    assert np.mean(told[-5:]) > np.mean(told[:5]) + 0.1
    with pytest.raises(InputError, match="ask must be given"):
        recipe.train(records(), POOL, rng=np.random.default_rng(0))


def test_a_silent_base_is_an_observation(learned: FittedKbRouter) -> None:
    """Where the likeliest base fails, another is asked the same, and the play ends."""

    def ask(call: Call) -> Reply:
        if call.to == "towns":
            return Reply(text="", failed="away")
        return Reply(text="about it: found elsewhere")

    found = run(learned, ITEMS[0], ask, POOL, rng=np.random.default_rng(0))
    assert found.calls[0].to == "towns"
    assert found.answer == "found elsewhere"
    nothing = run(learned, ITEMS[1], lambda call: Reply(text=""), POOL,
                  rng=np.random.default_rng(0))  # fmt: skip
    assert nothing.answer == ""
    assert len(nothing.calls) <= 3


def test_a_price_stops_it_sooner(learned: FittedKbRouter) -> None:
    """At a high price the second hop is not worth a retrieval, and the first is all there is."""
    budget = Budget(price=1e6)
    found = run(learned, ITEMS[1], world, POOL, budget=budget, rng=np.random.default_rng(0))
    assert len(found.calls) == 1
    with pytest.raises(InputError, match="budget must give a price"):
        run(learned, ITEMS[1], world, POOL, budget=Budget(mean_cost=1.0),
            rng=np.random.default_rng(0))  # fmt: skip


def test_a_chat_reader_sums_up(learned: FittedKbRouter) -> None:
    """It is asked at each step with the documents, and at the end with the findings."""
    heard: list[Call] = []

    def ask(call: Call) -> Reply:
        heard.append(call)
        if call.to != "reader":
            return world(call)
        return Reply(text=["Veland", "Ruhn", "the Ruhn"][sum(c.to == "reader" for c in heard) - 1])

    router = FittedKbRouter(("towns", "rivers", "reader"), learned.actor, ChatReader("reader"))
    pool = Pool(names=router.names, description=(*(POOL.description or ()), "reads"))
    found = run(router, ITEMS[1], ask, pool, rng=np.random.default_rng(0))
    assert [call.to for call in heard] == ["towns", "reader", "rivers", "reader", "reader"]
    assert "about Arle: Veland" in heard[1].system
    assert "Veland? Ruhn" in heard[-1].system
    assert found.answer == "the Ruhn"


def test_a_table_of_single_hops_trains_it() -> None:
    """The base that served best is the record's; a table in which none did is refused."""
    texts = [f"In which country is {town}?" for town in TOWNS]
    texts += [f"Which river has {land}?" for land in RIVERS]
    quality = np.array([[1.0, 0.0]] * 4 + [[0.0, 1.0]] * 4)
    answers = np.array([[f"a: {i}", "b"] for i in range(8)], dtype=object)
    table = Outcomes(
        inputs=texts, names=POOL.names, quality=quality, cost=np.ones((8, 2)), answers=answers
    )
    recipe = KbRouter(updates=40, contexts=12, width=32, rate=0.03, kl=0.1)
    router = recipe.fit(table, POOL, rng=np.random.default_rng(0))
    asked = [
        run(router, text, world, POOL, rng=np.random.default_rng(0)).calls[0].to for text in texts
    ]
    assert asked == ["towns"] * 4 + ["rivers"] * 4
    none = Outcomes(inputs=["x"], names=("a",), quality=np.zeros((1, 1)), cost=np.ones((1, 1)))
    with pytest.raises(InputError, match=r"outcomes\.quality must be above 0 somewhere"):
        recipe.fit(none, none.pool(), rng=np.random.default_rng(0))


def test_it_runs_over_real_bases() -> None:
    """Untrained or not, a play over the laboratory's bases ends with some answer of theirs."""
    pool, ask = as_pool(), consulting(knowledge())
    asked = questions(3, seed=0)
    steps = [
        Record(q.text, tuple(Step(h.query, h.base, h.answer) for h in q.hops), (q.answer,))
        for q in asked
    ]
    recipe = KbRouter(updates=1, contexts=1, group=2)
    router = recipe.train(steps, pool, rng=np.random.default_rng(0))
    for question in asked:
        found = run(router, question.text, ask, pool, rng=np.random.default_rng(0))
        assert found.stopped == ""
        assert 1 <= len(found.calls) <= 3


def test_first_document_reads_after_the_colon() -> None:
    """The rest of the first line; a line without a colon is the answer itself."""

    def read(text: str) -> str:
        reading = FirstDocument().read("q", text, POOL)
        with pytest.raises(StopIteration) as end:
            next(reading)
        return str(end.value.value)

    assert read("the key: a: b\nother: c") == "a: b"
    assert read(" plain \n x") == "plain"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"learning": "luck"}, r"kb_router\.learning must be 'steps' or 'outcome'"),
        ({"group": 1}, r"kb_router\.group must be a whole number >= 2"),
        ({"rounds": 0}, r"kb_router\.rounds"),
        ({"kl": -1.0}, r"kb_router\.kl"),
    ],
)
def test_wrong_recipes_are_refused(fields: dict, message: str) -> None:
    """Each field is named."""
    with pytest.raises(InputError, match=message):
        KbRouter(**fields)


def test_records_must_name_bases_of_the_pool() -> None:
    """A base that is not there, and no record at all."""
    wrong = [Record("x", (Step("x", "atlas", "y"),), ("y",))]
    with pytest.raises(InputError, match=r"records\[0\] must name a base"):
        KbRouter().train(wrong, POOL, rng=np.random.default_rng(0))
    with pytest.raises(InputError, match="records must hold a question"):
        KbRouter().train([], POOL, rng=np.random.default_rng(0))
