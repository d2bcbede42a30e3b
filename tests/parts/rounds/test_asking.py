"""Ways to ask one thing, and teams whose roles are such ways."""

from __future__ import annotations

import pytest

from turnout.core import Call, InputError, Pool, Reply
from turnout.lab.skills import TEMPLATES
from turnout.lab.wordings import phrasings
from turnout.parts.rounds.asking import WAYS, Asking, Phrasing, Worded, asked, nowhere
from turnout.parts.rounds.playing import Limits, Played, Playing, drive
from turnout.parts.rounds.teams import MODES, ROLES, Member, Plain, Role, Team

POOL = Pool(names=("a", "b"))
ADDING = Phrasing(
    ("Add {x} and {y}", "What is {x} + {y}?", "Sum {x}, {y}"), back="Take {y} from {it}", to="x"
)
SHOUTING = Phrasing(("Shout {s}", "Cry {s}"))
KINDS = (ADDING, SHOUTING)
ROLE = {role.name: role for role in ROLES}


def _team(mode: str, *members: str) -> Team:
    """Of "a Solver" and the like."""
    found = (member.split() for member in members)
    return Team(mode, tuple(Member(ROLE[role], to) for to, role in found))


def _told(replies: dict[str, str]):
    """A world that answers by prompt; what it does not know fails."""

    def ask(call: Call) -> Reply:
        if call.prompt not in replies:
            return Reply(text="junk", failed="unknown")
        return Reply(text=replies[call.prompt], cost=1.0)

    return ask


def _play(
    team: Team, replies: dict[str, str], item: str = "Add 3 and 4", calls: int = 64
) -> Played:
    return drive(Asking(KINDS).perform(item, team), _told(replies), POOL, Limits(calls=calls))


def _prompts(found: Played) -> list[str]:
    return [call.prompt for call in found.calls]


ADD, WHAT, SUM = "Add 3 and 4", "What is 3 + 4?", "Sum 3, 4"


def test_a_solver_asks_once() -> None:
    """Its first answer, right or wrong."""
    found = _play(_team("IO", "a Solver"), {ADD: "8", WHAT: "7", SUM: "7"})
    assert (_prompts(found), found.answer) == ([ADD], "8")


def test_an_expert_asks_in_three_wordings() -> None:
    """In one round; the commonest answer counts, and silence does not."""
    found = _play(_team("IO", "a Expert"), {ADD: "8", WHAT: "7", SUM: "7"})
    assert (_prompts(found), found.answer) == ([ADD, WHAT, SUM], "7")
    assert _play(_team("IO", "a Expert"), {WHAT: "7"}).answer == "7"


def test_a_checker_goes_the_way_back() -> None:
    """What leads back is kept; what does not is asked in other words, and kept where that fails."""
    checker = _team("IO", "b Checker")
    right = _play(checker, {ADD: "7", "Take 4 from 7": "3"})
    assert (_prompts(right), right.answer) == ([ADD, "Take 4 from 7"], "7")
    wrong = _play(checker, {ADD: "8", "Take 4 from 8": "4", WHAT: "7"})
    assert (_prompts(wrong), wrong.answer) == ([ADD, "Take 4 from 8", WHAT], "7")
    assert _play(checker, {ADD: "8"}).answer == "8"
    assert {call.to for call in wrong.calls} == {"b"}


def test_a_checker_without_a_way_back_asks_again() -> None:
    """Another wording; where the two differ, the third, here the first again, decides."""
    checker = _team("IO", "a Checker")
    same = _play(checker, {"Shout x": "X", "Cry x": "X"}, "Shout x")
    assert (_prompts(same), same.answer) == (["Shout x", "Cry x"], "X")
    found = _play(checker, {"Shout x": "X", "Cry x": "Y"}, "Shout x")
    assert (_prompts(found), found.answer) == (["Shout x", "Cry x", "Shout x"], "X")


def test_a_silent_first_answer_is_asked_again() -> None:
    """There is no way back of nothing, so another wording and the third have their say."""
    checker = _team("IO", "a Checker")
    found = _play(checker, {WHAT: "7", SUM: "7"})
    assert (_prompts(found), found.answer) == ([ADD, WHAT, SUM], "7")


def test_members_go_on_side_by_side() -> None:
    """A round holds the next calls of all that have not ended; the vote is of members."""
    replies = {ADD: "8", WHAT: "7", SUM: "7", "Take 4 from 8": "4"}
    play = Asking(KINDS).perform(ADD, _team("IO", "a Solver", "b Checker", "a Expert"))
    rounds, ask, playing = [], _told(replies), Playing(play, POOL)
    while playing.ended is None:
        rounds.append([(call.to, call.prompt) for call in playing.pending])
        playing.take([ask(call) for call in playing.pending])
    assert playing.ended.answer == "7"  # 8 of the solver, 7 of the two others
    assert rounds == [
        [("a", ADD), ("b", ADD), ("a", ADD), ("a", WHAT), ("a", SUM)],
        [("b", "Take 4 from 8")],
        [("b", WHAT)],
    ]


def test_in_a_chain_each_step_is_asked_as_its_agent_asks() -> None:
    """The steps go round, and the checker that comes second checks the second."""
    replies = {ADD: "7", "Add 7 and 1": "9", "Take 1 from 9": "8", "What is 7 + 1?": "8"}
    found = _play(
        _team("Chain", "a Solver", "b Checker"), replies, "Add 3 and 4; then add it and 1"
    )
    assert [call.to for call in found.calls] == ["a", "b", "b", "b"]
    assert found.answer == "8"


def test_several_steps_at_once_have_no_other_wording() -> None:
    """A whole request that begins as a known one is not taken for it."""
    item = "Shout x; then shout it"
    assert SHOUTING.read(item) is None
    found = _play(_team("IO", "a Expert", "b Checker"), {item: "XX"}, item)
    assert (_prompts(found), found.answer) == ([item, item], "XX")


@pytest.mark.parametrize("mode", MODES)
def test_roles_that_ask_once_play_as_plain(mode: str) -> None:
    """Call by call; unknown roles and unknown kinds of requests among them."""
    item, ask = "Add 3 and 4; then add it and 1", _told({ADD: "7", "Add 7 and 1": "8"})
    stranger = Team(mode, (Member(Role("Stranger"), "b"), Member(ROLE["Planner"], "a")))
    for wording in (Asking(KINDS), Asking()):
        for team in (stranger, _team(mode, "a Solver", "b Solver", "a Solver")):
            plain = drive(Plain().perform(item, team), ask, POOL)
            assert drive(wording.perform(item, team), ask, POOL) == plain
    experts = _team(mode, "a Expert", "b Checker")
    unread = drive(Asking().perform(item, experts), ask, POOL)
    assert unread == drive(Plain().perform(item, experts), ask, POOL)


@pytest.mark.parametrize("mode", MODES)
def test_failure_and_limits_end_every_way(mode: str) -> None:
    """A team of which all fail says nothing; one voice is heard; a limit ends the play."""
    team = _team(mode, "a Solver", "b Expert", "a Checker")
    silent = _play(team, {})
    assert (silent.answer, silent.stopped) == ("", "")
    assert _play(team, {ADD: "7"}).answer == "7"
    assert _play(team, {ADD: "7"}, calls=5).stopped == ("" if mode == "Chain" else "calls")


@pytest.mark.parametrize("way", WAYS)
def test_a_request_of_one_wording_is_asked_once(way: str) -> None:
    """Whatever the way."""
    found = drive(asked(way, "a", Worded(("hello",))), _told({"hello": " hi "}), POOL)
    assert (_prompts(found), found.answer) == (["hello"], "hi")


def test_phrasings_are_read_from_any_wording() -> None:
    """The one that was used comes first; other requests and long ones are not read."""
    said = ADDING.read("Sum 10, 2")
    assert said is not None
    assert said.wordings == ("Sum 10, 2", "Add 10 and 2", "What is 10 + 2?")
    assert said.back("13") == ("Take 2 from 13", "10")
    assert said.back("") is None
    shout = SHOUTING.read("Cry {x}")
    assert shout is not None
    assert (shout.wordings, shout.back) == (("Cry {x}", "Shout {x}"), nowhere)
    assert ADDING.read("Subtract 1 from 2") is None
    assert SHOUTING.read("Cry " + "x" * 300) is None


def test_the_skills_of_the_models_are_read() -> None:
    """Every template is read as its own skill, and what is undone twice is as before."""
    given = {"a": 30, "b": 12, "s": "abc", "c": "b", "x": 3, "k": 3, "at": "Monday"}
    given |= {"large": "hours", "small": "minutes", "list": "3, 14", "words": "apple kettle"}
    given |= {"pairs": "Ann red, Bob blue", "who": "Ann"}
    kinds = phrasings()
    for kind, lines in zip(kinds, TEMPLATES.values(), strict=True):
        for line in lines:
            text = line.format(**given)
            found = next(one for each in kinds if (one := each.read(text)))
            assert found.wordings[0] == text
            assert set(found.wordings) == {other.format(**given) for other in lines}
            assert kind.read(text) is not None
    sums = next(kind for kind in kinds if kind.read("Work out 30 plus 12"))
    said = sums.read("Work out 30 plus 12")
    assert said is not None
    assert said.back("42") == ("What is 42 - 12?", "30")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Phrasing(()), r"phrasing\.wordings must be some"),
        (lambda: Phrasing(("Add {x}", "Add {y}")), r"phrasing\.wordings must be some"),
        (lambda: Phrasing(("Hello",)), r"phrasing\.wordings must be some"),
        (lambda: Phrasing(("Add {x}",), back="{it}", to="y"), r"phrasing\.back must go"),
        (lambda: Phrasing(("Add {x}",), back="Take {z} of {it}", to="x"), r"phrasing\.back must"),
        (lambda: Phrasing(("Add {x}",), back="Take {x}", to="x"), r"phrasing\.back must go"),
        (lambda: Asking(ways=(("Critic", "loudly"),)), r"asking\.ways of 'Critic' must be one"),
    ],
)
def test_wrong_arguments_are_named(make, message: str) -> None:
    """Each field."""
    with pytest.raises(InputError, match=message):
        make()
