"""MasRouter: the ways of working by hand, the cascade's score by hand, and what it learns."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from turnout.core import Budget, Call, InputError, Outcomes, Pool, Reply
from turnout.llms import mas_router
from turnout.llms.mas_router import ROLES, FittedMasRouter, MasRouter, TaskRoles
from turnout.parts.rounds.asking import Asking, Phrasing
from turnout.parts.rounds.playing import Limits, run
from turnout.parts.rounds.teams import MODES, Chat, Member, Plain, Role, Team, most
from turnout.testing import strategies
from turnout.testing.strategies import StrategyCase, StrategySubject

torch = pytest.importorskip("torch")

from turnout.nn.cascade import Cascade, Catalog, Choice, Drawn, apportioned  # noqa: E402

POOL = Pool(
    names=("adder", "speller", "dear"),
    usd_per_item=np.array([1.0, 1.0, 9.0]),
    description=("adds numbers", "spells words", "does everything, dearly"),
)
ITEMS = ("Add 2 and 3", "Spell abc", "Add 4 and 5")
RIGHT = ("5", "cba", "9")
ONE, TWO = Role("One", "first"), Role("Two", "second")


def world(call: Call) -> Reply:
    """One adds, one spells backwards, one does both at nine times the price."""
    words = call.prompt.split()
    price = {"adder": 1.0, "speller": 1.0, "dear": 9.0}[call.to]
    if words[:1] == ["Add"] and len(words) == 4 and call.to != "speller":
        return Reply(text=str(sum(int(word) for word in words[1::2])), cost=price)
    if words[:1] == ["Spell"] and len(words) == 2 and call.to != "adder":
        return Reply(text=words[1][::-1], cost=price)
    return Reply(text="no idea", cost=price)


def solved(place: int, answer: str) -> float:
    return float(answer == RIGHT[place])


def small(**fields) -> FittedMasRouter:
    recipe = MasRouter(updates=1, batch=2, d=16, h=4, most=3, **fields)
    rng = np.random.default_rng(0)
    return recipe.train(ITEMS, ("sum", "word", "sum"), solved, world, POOL, rng=rng)


CASE = StrategyCase(make=small, ask=world, items=ITEMS, pool=POOL)


#: What a team drawn anew for each play, from cascades of one update, cannot promise.
OF_MEANS = {"price_heard", "price_monotone"}


@pytest.mark.parametrize(
    "check",
    [check for check in strategies.CHECKS if check.name not in OF_MEANS],
    ids=lambda check: check.name,
)
def test_a_chatting_team_that_is_drawn_keeps_the_contract(check) -> None:
    """With chat wording and choices drawn at play it keeps what any strategy keeps."""
    case = StrategyCase(
        make=lambda: small(wording=Chat(), draw=True, cost_rates=(0.0, 1.0)),
        ask=world,
        items=ITEMS,
        pool=POOL,
    )
    found = strategies.run_check(StrategySubject(case, mas_router.CARD), check)
    assert found.status in ("passed", "skipped"), found.message


ADDING = Phrasing(
    ("Add {x} and {y}", "What is {x} + {y}?", "Sum {x}, {y}"), back="Take {y} from {it}", to="x"
)


ADDER = Pool(names=("adder",))


@pytest.mark.parametrize("check", strategies.CHECKS, ids=lambda check: check.name)
def test_a_team_whose_roles_ask_in_their_ways_keeps_the_contract(check) -> None:
    """With asking wording too; it is saved with its phrasings."""
    case = StrategyCase(
        make=lambda: small(wording=Asking((ADDING,))), ask=world, items=ITEMS, pool=POOL
    )
    found = strategies.run_check(StrategySubject(case, mas_router.CARD), check)
    assert found.status in ("passed", "skipped"), found.message


@pytest.mark.parametrize("role", ["Solver", "Expert"])
def test_it_learns_how_to_ask(role: str) -> None:
    """Where only the first wording is answered rightly, and where it alone is not."""

    def ask(call: Call) -> Reply:
        x, y = (int(word) for word in re.findall(r"[0-9]+", call.prompt))
        right = call.prompt.startswith("Add") == (role == "Solver")
        return Reply(text=str(x + y) if right else "0", cost=1.0)

    roles = tuple(each for each in ROLES if each.name in ("Solver", "Expert"))
    recipe = MasRouter(
        cost_rates=(0.01,),
        tasks=(TaskRoles("sum", roles=roles),),
        wording=Asking((ADDING,)),
        updates=6,
        batch=8,
        d=32,
        h=8,
        most=1,
    )
    router = recipe.train(
        ("Add 2 and 3", "Add 4 and 5"),
        None,
        lambda place, answer: float(answer == ("5", "9")[place]),
        ask,
        ADDER,
        rng=np.random.default_rng(0),
    )
    (member,) = router.team("Add 7 and 1", ADDER).members
    assert member.role.name == role
    assert run(router, "Add 7 and 1", ask, ADDER, rng=np.random.default_rng(0)).answer == "8"


@pytest.mark.parametrize(("way", "said"), [("in other words", 0), ("checked", 1)])
def test_a_limit_ends_a_team_that_asks_often(way: str, said: int) -> None:
    """A round that does not fit is not begun; what was said last before is the answer."""
    router = small(wording=Asking((ADDING,), ways=(("Solver", way),)))
    solver = next(role for role in ROLES if role.name == "Solver")
    one = replace(router, tasks=(TaskRoles("sum", roles=(solver,)),) * 2)
    found = run(one, ITEMS[0], world, POOL, rng=np.random.default_rng(0), limits=Limits(calls=1))
    assert (found.stopped, len(found.calls)) == ("calls", said)
    assert [found.answer] == ([reply.text for reply in found.replies] or [""])


def played(mode: str, wording, item: str = "Start", models: str = "ab", ask=None):
    """Calls and answer of a team, round by round."""
    roles = (ONE, TWO, ONE)
    team = Team(mode, tuple(Member(roles[i], to) for i, to in enumerate(models)))
    play = wording.perform(item, team)
    rounds, answer = [], ""
    try:
        calls = next(play)
        while True:
            rounds.append([(call.to, call.prompt) for call in calls])
            reply = ask or (lambda call: Reply(text=f"{call.to}!"))
            calls = play.send(tuple(reply(call) for call in calls))
    except StopIteration as end:
        answer = end.value
    return rounds, answer


def test_plain_ways_by_hand() -> None:
    """Who is asked what in each round, on a request of two steps."""
    item = "Go; then take it"
    assert played("IO", Plain(), item)[0] == [[("a", item), ("b", item)]]
    stepping = [[("a", "Go"), ("b", "Go")], [("a", "Take a!"), ("b", "Take b!")]]
    assert played("CoT", Plain(), item)[0] == stepping
    assert played("Reflection", Plain(), item)[0] == [*stepping, stepping[-1]]
    shared = [("a", "Take a!"), ("b", "Take a!")]
    assert played("Debate", Plain(), item)[0] == [*stepping, shared]
    assert played("FullConnected", Plain(), item)[0] == [stepping[0], shared]
    assert played("Chain", Plain(), item) == ([[("a", "Go")], [("b", "Take a!")]], "b!")


def test_chat_ways_by_hand() -> None:
    """Who hears whom: the graph of each way, and the last node on the commonest model."""
    for mode, calls in (("IO", 4), ("CoT", 4), ("Chain", 4), ("FullConnected", 4), ("Debate", 7)):
        rounds, answer = played(mode, Chat(), models="aba")
        assert sum(map(len, rounds)) == calls
        assert answer == "a!"
        assert rounds[-1][0][0] == "a"
    assert sum(map(len, played("Reflection", Chat(), models="aba")[0])) == 7
    chain = played("Chain", Chat(), models="abc")[0]
    assert "b!" in chain[2][0][1]
    assert "a!" not in chain[2][0][1]
    full = played("FullConnected", Chat(), models="abc")[0]
    assert "a!" in full[2][0][1]
    debate = played("Debate", Chat())[0]
    assert debate[0] == [("a", "Start"), ("b", "Start")]
    assert all("a!" in prompt and "b!" in prompt for _, prompt in debate[1])
    again = played("Reflection", Chat())[0][1]
    assert "a!" in again[0][1]
    assert "b!" not in again[0][1]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("wording", [Plain(), Chat()], ids=["plain", "chat"])
def test_silence_and_failure_end_every_way(mode: str, wording) -> None:
    """A team of which all fail says nothing; where one speaks, it is heard."""
    failed = lambda call: Reply(text="", failed="away")  # noqa: E731
    assert played(mode, wording, ask=failed)[1] == ""
    one = lambda call: Reply(text="yes") if call.to == "b" else failed(call)  # noqa: E731
    assert played(mode, wording, item="x", models="bab", ask=one)[1] == "yes"


def test_votes() -> None:
    """The commonest wins, the first of equals; silence has no vote."""
    assert most(["b", "a", "a", "b", "c"]) == "b"
    assert most(["", " ", "x"]) == "x"
    assert most([]) == ""


def tiny(most: int = 2, **fields) -> tuple[Cascade, Catalog, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    cascade = Cascade(6, 3, most, consistent=False, generator=generator, **fields)

    def draw(n: int) -> torch.Tensor:
        return torch.randn(n, 6, generator=generator)

    up = torch.tensor([True, True, False])
    return cascade, Catalog(draw(2), draw(6), (draw(2), draw(4)), draw(3), up), draw(5)


def test_the_score_of_uniform_choices_by_hand() -> None:
    """With every latent alike: ways 1/6, roles 1/4 twice, models 1/2 twice, f = 1."""
    cascade, catalog, queries = tiny()
    for vae in (cascade.way, cascade.asked, cascade.sized, cascade.role, cascade.model):
        vae.scale = 0.0
    with torch.no_grad():
        for parameter in cascade.parameters():
            parameter.zero_()
    choice = Choice(1, 3, (0, 2), (0, 1))
    # all weights 0: difficulty 1/2, f = 2 * 1/2 = 1, and one agent
    score = cascade(Drawn(queries[:1], catalog, (Choice(1, 3, (2,), (1,)),), 0, (1,)))
    assert float(score.detach()) == pytest.approx(-math.log(6) - math.log(4) - math.log(2))
    # with f = 2 agents: lgamma(3) more for the two orders of two different models
    with torch.no_grad():
        cascade.size.bias.fill_(20.0)
    score = cascade(Drawn(queries[:1], catalog, (choice,), 0, (1,)))
    expected = -math.log(6) - 2 * math.log(4) - 2 * math.log(2) + math.lgamma(3)
    assert float(score.detach()) == pytest.approx(expected, abs=1e-5)


def test_what_is_drawn_is_scored_by_the_same_noise() -> None:
    """The score of drawn choices is repeatable, and other noise gives another."""
    cascade, catalog, queries = tiny(most=4)
    drawn = cascade.draw(queries, catalog, rng=np.random.default_rng(0))
    first, again = cascade(drawn), cascade(drawn)
    assert torch.equal(first, again)
    other = Drawn(queries, catalog, drawn.choices, drawn.noise + 1, drawn.truth)
    assert not torch.equal(first, cascade(other))
    assert all(2 not in choice.models for choice in drawn.choices)
    assert all(1 <= len(choice.roles) == len(choice.models) <= 4 for choice in drawn.choices)


def test_every_parameter_learns() -> None:
    """Score, task loss and latent loss together reach every weight; the count among them."""
    cascade, catalog, queries = tiny(most=4)
    drawn = cascade.draw(queries, catalog, rng=np.random.default_rng(0), truth=(0, 1, 0, 1, 1))
    loss = cascade(drawn).sum() + cascade.task_loss + cascade.latent_loss
    loss.backward()
    for name, parameter in cascade.named_parameters():
        assert parameter.grad is not None, name
        assert bool((parameter.grad != 0).any()), name


def test_without_noise_the_likeliest_team_comes_again() -> None:
    """No draw: mean latents, likeliest choices; equal each time."""
    cascade, catalog, queries = tiny()
    first = cascade.draw(queries, catalog).choices
    assert first == cascade.draw(queries, catalog).choices


def test_models_are_shared_out() -> None:
    """Whole shares first, then the largest remainders, the first of equals."""
    assert apportioned(np.array([0.5, 0.5]), 3) == (0, 0, 1)
    assert apportioned(np.array([0.1, 0.8, 0.1]), 1) == (1,)
    assert Counter(apportioned(np.array([0.7, 0.2, 0.1]), 6)) == {0: 4, 1: 1, 2: 1}


def test_it_learns_whom_to_ask_and_what_costs() -> None:
    """Utility rises; at a high rate it spends less than at none."""
    told: list[float] = []
    recipe = MasRouter(cost_rates=(0.0, 0.05), updates=25, batch=8, d=64, h=16, most=3)
    router = recipe.train(
        ITEMS,
        None,
        solved,
        world,
        POOL,
        rng=np.random.default_rng(0),
        progress=lambda at, utility: told.append(utility),
    )
    assert np.mean(told[20:25]) > np.mean(told[:5])
    spent = []
    for price in (0.0, 1.0):
        budget = Budget(price=price)
        plays = [
            run(router, item, world, POOL, budget=budget, rng=np.random.default_rng(0))
            for item in ITEMS
        ]
        spent.append(sum(found.cost for found in plays))
    assert spent[1] < spent[0]


def test_a_described_newcomer_joins() -> None:
    """A model never trained with is drawn, by its description, at its score."""
    router = small(draw=True)
    pool = Pool(
        names=("adder", "twin"), description=("adds numbers", "adds numbers"), usd_per_item=[1, 1]
    )
    seen = Counter(
        member.to
        for seed in range(20)
        for member in router.team(ITEMS[0], pool, rng=np.random.default_rng(seed)).members
    )
    assert seen["twin"] > 0


def test_a_price_takes_the_rate_below_it() -> None:
    """The greatest rate that is at most the price, else the least; means are refused."""
    router = small(cost_rates=(2.0, 1.0))
    assert router.rates == (1.0, 2.0)
    with pytest.raises(InputError, match="budget must give a price"):
        router.team(ITEMS[0], POOL, budget=Budget(mean_quality=0.5))


def test_recorded_answers_train_it() -> None:
    """From a table, with its groups as tasks; a table without answers is refused."""
    answers = np.array([["5", "?"], ["?", "cba"], ["9", "?"]], dtype=object)
    table = Outcomes(
        inputs=ITEMS,
        names=("adder", "speller"),
        quality=np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]),
        cost=np.ones((3, 2)),
        group=("sum", "word", "sum"),
        answers=answers,
    )
    recipe = MasRouter(updates=2, batch=2, d=16, h=4, most=2)
    router = recipe.fit(table, table.pool(), rng=np.random.default_rng(0))
    assert [task.name for task in router.tasks] == ["sum", "word"]
    bare = Outcomes(inputs=ITEMS, names=("a",), quality=np.ones((3, 1)), cost=np.ones((3, 1)))
    with pytest.raises(InputError, match=r"outcomes\.answers must be there"):
        recipe.fit(bare, bare.pool(), rng=np.random.default_rng(0))


def test_teams_are_paid_for_drawn_outcomes() -> None:
    """Training sees what a team answered, once: the world is asked, and no table of chances."""
    asked: list[Call] = []

    def ask(call: Call) -> Reply:
        asked.append(call)
        return world(call)

    recipe = MasRouter(updates=2, batch=3, d=8, h=4, most=1)
    recipe.train(ITEMS, None, solved, ask, POOL, rng=np.random.default_rng(0))
    assert len(asked) >= 6


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cost_rates": ()}, r"mas_router\.cost_rates must hold different rates"),
        ({"cost_rates": (-1.0,)}, r"mas_router\.cost_rates must be a finite number >= 0"),
        ({"most": 0}, r"mas_router\.most must be a whole number >= 1"),
        ({"baseline": "median"}, r"mas_router\.baseline must be 'mean' or 'none'"),
        ({"encoder": "svd"}, r"mas_router\.encoder must be 'hashed'"),
    ],
)
def test_wrong_recipes_are_refused(fields: dict, message: str) -> None:
    """Each field is named."""
    with pytest.raises(InputError, match=message):
        MasRouter(**fields)


def test_wrong_teams_and_tasks_are_refused() -> None:
    """An empty library of roles, an unknown way, nobody in a team, an unknown task."""
    with pytest.raises(InputError, match="task_roles 'x' must hold a role"):
        TaskRoles("x", roles=())
    with pytest.raises(InputError, match=r"team\.mode must be one of"):
        Team("Lottery", (Member(ONE, "a"),))
    with pytest.raises(InputError, match=r"team\.members must hold an agent"):
        Team("IO", ())
    recipe = MasRouter(tasks=(TaskRoles("sum"),), updates=1, batch=1, d=8, h=4)
    with pytest.raises(InputError, match="kinds must be a task"):
        recipe.train(ITEMS, ("word",) * 3, solved, world, POOL, rng=np.random.default_rng(0))
