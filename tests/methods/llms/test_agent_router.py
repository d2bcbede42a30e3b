"""The agent router."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from turnout.core import (
    Budget,
    Call,
    InputError,
    LimitReached,
    Outcomes,
    Play,
    Pool,
    Reply,
)
from turnout.llms.agent_router import (
    Agent,
    AgentRouter,
    FittedAgentRouter,
    Worker,
    _target,
    _vote,
)
from turnout.parts.entities import read
from turnout.parts.rounds.playing import Limits, Playing, run
from turnout.parts.store import load_strategy, save
from turnout.testing.strategies import StrategyCase

torch = pytest.importorskip("torch")

QUICK = AgentRouter(h=8, epochs=4, d=16, relations=6)
TEXTS = ("near", "far", "far indeed")
ITEMS = (
    "Ann met Bob. Rome has 3 hills. Who met Bob?",
    "Oslo has 5 hills. Ann saw Cleo. How many hills has Oslo?",
)


def _table(n: int = 60) -> Outcomes:
    """Two models, two forms each: people are known to one model, numbers to the other."""
    rng = np.random.default_rng(0)
    who, towns = ("Ann", "Bob", "Cleo", "Dan", "Eva"), ("Rome", "Oslo", "Bern")
    items, quality = [], []
    for _ in range(n):
        one, two = rng.choice(who, 2, replace=False)
        town, many, kind = rng.choice(towns), rng.integers(9), rng.integers(2)
        asks = (f"Who met {two}?", f"How many hills has {town}?")[kind]
        items.append(f"{one} met {two}. {town} has {many} hills. {asks}")
        quality.append([1.0 - kind, 0.6 * (1 - kind), float(kind), 0.6 * kind])
    names = ("a plain", "a slow", "b plain", "b slow")
    cost = np.tile([1.0, 2.0, 1.0, 2.0], (n, 1))
    return Outcomes(inputs=items, names=names, quality=np.array(quality), cost=cost)


AGENTS = (
    Agent("a plain", "a"),
    Agent("a slow", "a", system="Think.", form="Slowly: {item}"),
    Agent("b plain", "b"),
    Agent("b slow", "b", system="Think.", form="Slowly: {item}"),
)


def _fit(recipe: AgentRouter = QUICK, n: int = 60) -> FittedAgentRouter:
    table = _table(n)
    recipe = replace(recipe, agents=AGENTS)
    return recipe.fit(table, table.pool(), rng=np.random.default_rng(0))


@cache
def _fitted() -> FittedAgentRouter:
    return _fit()


def _world(call: Call) -> Reply:
    text = "Ann" if call.to == "a" else "5"
    return Reply(text=f"The {text}." if call.system else text, cost=2.0 if call.system else 1.0)


CASE = StrategyCase(make=_fit, ask=_world, items=ITEMS)


def _play(item: str = ITEMS[0], ask=_world, *, pool: Pool | None = None, price: float = 0.0, **how):
    return run(
        how.pop("fitted", _fitted()),
        item,
        ask,
        pool or Pool(names=("a", "b")),
        budget=Budget(price=price),
        rng=np.random.default_rng(0),
        **how,
    )


def test_a_target_by_hand() -> None:
    """F1 of 1, 0.5 and 0 at 0.25: e^4, e^2, 1 in shares, a thousandth of each spread evenly."""
    grown = np.exp([4.0, 2.0, 0.0])
    wanted = 0.999 * grown / grown.sum() + 0.001 / 3
    assert _target(np.array([[1.0, 0.5, 0.0]]), 0.25, 1e-3) == pytest.approx(wanted[None])


def test_a_vote_by_hand() -> None:
    """Equal once normalised they add up: 0.3 + 0.25 beats 0.4; it is written as first written."""
    assert _vote(["Rome", "The Oslo.", "oslo"], [0.4, 0.3, 0.25]) == "The Oslo."


def test_ties_silence_and_nonsense_in_a_vote() -> None:
    """Ties go by text; an empty answer has no vote; where nobody answers the first is returned."""
    assert _vote(["two", "one"], [0.5, 0.5]) == "one"
    assert _vote(["", "x"], [0.9, 0.1]) == "x"
    assert _vote(["...", "x"], [0.9, 0.1]) == "x"
    assert _vote(["", ""], [0.9, 0.1]) == ""


def test_all_zero_and_a_single_agent_are_learnt_from() -> None:
    """Equal shares, and all of it."""
    assert _target(np.zeros((1, 4)), 0.25, 0.0).tolist() == [[0.25] * 4]
    assert _target(np.array([[0.0], [1.0]]), 0.25, 1e-3).tolist() == [[1.0], [1.0]]
    table = _table(8).select(["a plain"])
    fitted = QUICK.fit(table, table.pool(), rng=np.random.default_rng(0))
    assert fitted.shares(ITEMS).tolist() == [[1.0], [1.0]]


def test_it_learns_who_answers_what() -> None:
    """People are asked of one model and numbers of the other, and each answer wins its vote."""
    fitted = _fit(replace(QUICK, epochs=20, rate=0.01, batch=16, dropout=0.0), 120)
    share = fitted.shares(ITEMS)
    assert share.sum(axis=1) == pytest.approx(np.ones(2))
    assert share[0, 0] + share[0, 1] > 0.7
    assert share[1, 2] + share[1, 3] > 0.7
    assert [_play(item, fitted=fitted).answer.strip("The .") for item in ITEMS] == ["Ann", "5"]


def test_the_best_k_are_asked_at_once_with_their_prompts() -> None:
    """One round; the system text and the form of each agent reach its model."""
    rounds = []

    def ask(call: Call) -> Reply:
        rounds.append(call)
        return _world(call)

    assert len(_play(ask=ask, fitted=replace(_fitted(), top_k=2)).calls) == 2
    calls = _play().calls
    assert len(calls) == 4
    assert {(call.to, call.system, call.prompt) for call in calls} == {
        (agent.to, agent.system, agent.form.replace("{item}", ITEMS[0])) for agent in AGENTS
    }


def test_shares_are_taken_among_those_that_are_up() -> None:
    """They sum to one, in the proportion they had."""
    fitted, pool = _fitted(), Pool(names=("a", "b")).with_down(["a"])
    asked, share = fitted.chosen(ITEMS[0], pool, Budget())
    whole = fitted.shares(ITEMS[:1])[0]
    assert sorted(asked) == [2, 3]
    assert share == pytest.approx(np.append([0, 0], whole[2:] / whole[2:].sum()))


def test_a_price_leaves_out_who_is_not_worth_it() -> None:
    """Fewer are asked as it rises, and one always is."""
    asked = [len(_play(price=price).calls) for price in (0.0, 0.05, 0.1, 0.2, 10.0)]
    assert asked == sorted(asked, reverse=True)
    assert asked[0] == 4
    assert asked[-1] == 1
    assert _play(price=10.0).cost == 1.0


def test_failures_have_no_vote_and_limits_end_it() -> None:
    """Only what was answered counts; out of calls the answer is empty."""

    def ask(call: Call) -> Reply:
        return Reply(text="junk", failed="away") if call.to == "a" else _world(call)

    assert _play(ask=ask).answer in ("5", "The 5.")
    found = _play(limits=Limits(calls=1))
    assert (found.answer, found.calls, found.stopped) == ("", (), "calls")


@dataclass(frozen=True)
class _Steps:
    """Asks one destination again and again and answers with its last words."""

    to: str = "a"
    times: int = 3

    @property
    def names(self) -> tuple[str, ...]:
        return (self.to,)

    def play(self, item: str, pool: Pool, *, budget: Budget, rng: np.random.Generator) -> Play:
        assert pool.names == self.names
        said = ""
        try:
            for step in range(self.times):
                (reply,) = yield (Call(to=self.to, prompt=f"{step} {item}"),)
                said = "" if reply.failed else reply.text
        except LimitReached:
            return f"{said} so far".strip()
        return said


def _with(*workers: Worker) -> FittedAgentRouter:
    """The first agents of the fitted router replaced."""
    return replace(_fitted(), agents=(*workers, *AGENTS[len(workers) :]))


def test_agents_of_several_calls_go_on_side_by_side() -> None:
    """A round holds the next calls of all that have not ended; every call is counted."""
    fitted = _with(Worker("a plain", _Steps("a", 3)), Worker("a slow", _Steps("a", 2)))
    pool, rounds = Pool(names=("b", "a")), []
    play = fitted.play(ITEMS[0], pool, budget=Budget(), rng=np.random.default_rng(0))
    playing = Playing(play, pool)
    while playing.ended is None:
        rounds.append(sorted(call.to for call in playing.pending))
        playing.take([_world(call) for call in playing.pending])
    assert rounds == [["a", "a", "b", "b"], ["a", "a"], ["a"]]
    assert len(playing.ended.calls) == 7


def test_an_agent_that_never_stops_is_told_to() -> None:
    """After its own number of calls it answers with what it has; the others lose nothing."""
    fitted = _with(Worker("a plain", _Steps("a", 10**9), calls=5))
    found = _play(fitted=replace(fitted, top_k=1))
    assert (len(found.calls), found.answer, found.stopped) == (5, "Ann so far", "")
    assert len(_play(fitted=fitted).calls) == 5 + 3


def test_an_agent_that_fails_or_says_nothing_has_no_vote() -> None:
    """Neither its failed calls nor its silence; one that asks nothing at all is silent too."""
    for strategy, ask in (
        (_Steps("a", 2), lambda call: Reply(text="junk", failed="away")),
        (_Steps("a", 2), lambda call: Reply(text="")),
        (_Steps("a", 0), _world),
    ):

        def world(call: Call, ask=ask) -> Reply:
            return ask(call) if call.to == "a" else _world(call)

        agents = tuple(Worker(name, strategy) for name in ("a plain", "a slow"))
        assert _play(ask=world, fitted=_with(*agents)).answer in ("5", "The 5.")
        assert _play(ask=world, fitted=replace(_with(*agents), top_k=1)).answer == ""


def test_a_limit_of_the_whole_play_lets_those_who_ended_vote() -> None:
    """Two of one call have answered when a third wants more than is left."""
    fitted = _with(Worker("a plain", _Steps("a", 3)), Worker("a slow", _Steps("a", 3)))
    found = _play(fitted=fitted, limits=Limits(calls=5))
    assert (len(found.calls), found.stopped) == (4, "calls")
    assert found.answer in ("5", "The 5.")


def test_a_worker_is_up_while_one_of_its_destinations_is() -> None:
    """Its share goes to the others where it is not."""
    fitted, pool = _with(Worker("a plain", _Steps("a", 2))), Pool(names=("a", "b"))
    assert fitted.names == ("a", "b")
    asked, share = fitted.chosen(ITEMS[0], pool.with_down(["a"]), Budget())
    assert sorted(asked) == [2, 3]
    assert share[:2].tolist() == [0.0, 0.0]
    found = _play(fitted=fitted, pool=pool.with_down(["a"]))
    assert {call.to for call in found.calls} == {"b"}


def test_a_router_with_workers_is_stored(tmp_path: Path) -> None:
    """Its strategies with it."""
    fitted = _with(Worker("a plain", _Steps("a", 3)), Worker("a slow", _Steps("a", 2)))
    save(tmp_path / "r", fitted, Pool(names=("a", "b")))
    loaded = load_strategy(tmp_path / "r", trust=(__name__.partition(".")[0],)).strategy
    assert _play(fitted=loaded) == _play(fitted=fitted)


def test_how_an_answer_is_graded_does_not_reach_the_shares() -> None:
    """Outcomes of other questions, dealt anew, change nothing that was fitted before."""
    one = _fitted().shares(ITEMS)
    _fit(replace(QUICK, epochs=1))
    assert (one == _fitted().shares(ITEMS)).all()


def test_no_feature_tells_how_long_the_trail_is() -> None:
    """Two contexts with the same entities in another chain differ in their edges alone."""
    reader = _fitted().reader
    one = reader.asked("Ann met Bob. Bob met Cleo. Dan saw Eva. Who is last after Ann?")
    two = reader.asked("Ann met Bob. Cleo met Dan. Eva saw Cleo. Who is last after Ann?")
    assert (one.question == two.question).all()
    order = np.lexsort(one.entities.T), np.lexsort(two.entities.T)
    assert one.entities[order[0]] == pytest.approx(two.entities[order[1]])
    assert (one.source.tolist(), one.target.tolist()) != (two.source.tolist(), two.target.tolist())


def test_the_word_that_relates_two_is_read() -> None:
    """Contexts that differ in it alone have different shares; a graph without relations has not."""
    items = ["Ann met Bob. Who saw Bob?", "Ann has Bob. Who saw Bob?"]
    for relations, same in ((6, False), (0, True)):
        fitted = _fit(replace(QUICK, relations=relations, epochs=1))
        # hardly trained, it hardly tells anything apart: larger weights show what it reads
        larger = {name: 3.0 * weight for name, weight in fitted.weights.items()}
        one, two = replace(fitted, weights=larger).shares(items)
        assert np.allclose(one, two, rtol=0.0, atol=1e-5) is same


def test_what_is_read_of_a_context() -> None:
    """Names, numbers and dates; triples and sentences; the nearest to the question first."""
    facts = read(
        "Zed | owns | 12 May 1990\nAnn Lee taught Bob. The Bob moved to Rome.\nWho taught Bob?"
    )
    assert facts.question == "Who taught Bob?"
    assert facts.entities == ("Bob", "Ann Lee", "Rome", "Zed", "12 May 1990")
    assert facts.kinds == (0, 0, 0, 0, 2)
    assert facts.links == ((3, "owns", 4), (1, "taught", 0), (0, "moved to", 2))
    assert facts.asked == 1
    assert read("no names here") == read("no names here", most=3)
    assert read("").entities == ()
    assert read("Ann met Bob. Who?", most=1).entities == ("Ann",)


def test_a_context_without_entities_is_answered() -> None:
    """The graph is then the question and the agents, who hear nothing."""
    assert _fitted().shares(["what now?", ""]).sum(axis=1) == pytest.approx(np.ones(2))
    assert _fitted().shares([]).shape == (0, 4)


def test_a_share_depends_on_its_own_question_alone() -> None:
    """Not on the others of a batch."""
    fitted = _fitted()
    alone = np.vstack([fitted.shares([item]) for item in ITEMS])
    assert fitted.shares(ITEMS) == pytest.approx(alone, abs=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Agent("", "a"), "agent.name must be a name"),
        (lambda: Agent("x", "a", form="no place"), "agent.form must hold {item}"),
        (lambda: Worker("", _Steps()), "worker.name must be a name"),
        (lambda: Worker("x", "a"), "worker.strategy must have names and play"),  # type: ignore[arg-type]
        (lambda: Worker("x", _Steps(), calls=0), "worker.calls must be"),
        (lambda: AgentRouter(agents=(AGENTS[0], AGENTS[0])), "agent_router.agents must be unique"),
        (lambda: AgentRouter(top_k=0), "agent_router.top_k must be"),
        (lambda: AgentRouter(h=9), "agent_router.h must divide by the 2 heads"),
        (lambda: AgentRouter(temperature=0.0), "agent_router.temperature must be"),
        (lambda: AgentRouter(smooth=2.0), "agent_router.smooth must be"),
        (lambda: AgentRouter(dropout=1.0), "agent_router.dropout must be"),
        (lambda: AgentRouter(entities=-1), "agent_router.entities must be"),
        (lambda: AgentRouter(held_out=0.7), "agent_router.held_out must be"),
        (lambda: AgentRouter(encoder="bert"), "encoder must be one of"),
    ],
)
def test_wrong_recipes_are_refused(make: object, message: str) -> None:
    """Each field is named."""
    with pytest.raises(InputError, match=message):
        make()  # type: ignore[operator]


def test_a_table_of_others_and_vectors_are_refused() -> None:
    """The columns are the agents, and a question is a text."""
    table = _table(8)
    recipe = replace(QUICK, agents=AGENTS[:2])
    with pytest.raises(InputError, match=r"agent_router\.agents must be"):
        recipe.fit(table, table.pool(), rng=np.random.default_rng(0))
    with pytest.raises(InputError, match="sequence of strings"):
        QUICK.fit(
            replace(table, inputs=np.ones((8, 2))), table.pool(), rng=np.random.default_rng(0)
        )
