"""Puzzles, rule-based solvers, and what a procedure in the prompt does."""

from __future__ import annotations

import numpy as np
import pytest

from turnout.core import Call, InputError
from turnout.lab import puzzles


@pytest.fixture(scope="module")
def world() -> puzzles.World:
    """Three hundred questions."""
    return puzzles.draw(300, rng=np.random.default_rng(0))


def test_steps_and_modes_are_as_told(world: puzzles.World) -> None:
    """Step by step is dearer, and better where there are several steps."""
    table = world.table()
    deep = np.array(world.steps) == 3
    direct = [j for j, name in enumerate(table.names) if not name.endswith("_think")]
    think = [j + 1 for j in direct]
    assert table.names[think[0]] == f"{table.names[direct[0]]}_think"
    assert (table.cost[:, think] > 2 * table.cost[:, direct]).all()
    assert table.quality[deep][:, think].mean() > table.quality[deep][:, direct].mean() + 0.1


def test_no_solver_is_best_everywhere(world: puzzles.World) -> None:
    """Each family but one has a specialist above the generalist."""
    table = world.table()
    group = np.array(table.group)
    best = {
        table.names[int(table.quality[group == family].mean(axis=0).argmax())]
        for family in puzzles.FAMILIES
    }
    assert len(best) >= 3


def test_a_procedure_in_the_prompt_lifts_and_a_wrong_one_confuses(world: puzzles.World) -> None:
    """The same question, told its procedure, another one, or none."""
    every = [p for group in puzzles.FAMILIES.values() for _, p in group]

    def share(told) -> float:
        right = [
            world.right(q, world.ask(Call(to="tiny", prompt=f"{told(p)}{q}")).text)
            for q, p in zip(world.questions, world.procedures, strict=True)
        ]
        return float(np.mean(right))

    none = share(lambda p: "")
    assert share(lambda p: f"procedure: {p}\n") > none + 0.3
    assert share(lambda p: f"procedure: {every[(every.index(p) + 3) % 12]}\n") < none


def test_the_same_call_gets_the_same_answer(world: puzzles.World) -> None:
    """Whether an answer is right is fixed by solver and question."""
    call = Call(to="clerk_think", prompt=world.questions[0])
    assert world.ask(call) == world.ask(call)
    assert world.ask(Call(to="clerk", prompt="no such thing")).failed


def test_the_summariser_tells_what_most_answers_say(world: puzzles.World) -> None:
    """And nothing where they say nothing."""
    prompt = "procedure: a\nprocedure: drop a e i o u. procedure: double each letter. " * 1
    twice = prompt + "procedure: double each letter"
    said = world.ask(Call(to=puzzles.SUMMARISER, prompt=twice)).text
    assert said == "procedure: double each letter"
    assert world.ask(Call(to=puzzles.SUMMARISER, prompt="hello")).text == ""


def test_what_is_unknown_is_refused(world: puzzles.World) -> None:
    """A solver, a question, a size."""
    with pytest.raises(InputError, match=r"call\.to must be a solver"):
        world.ask(Call(to="nobody", prompt=world.questions[0]))
    with pytest.raises(InputError, match="question must be one of this world"):
        world.right("what", "answer: x")
    with pytest.raises(InputError, match="n must be"):
        puzzles.draw(0, rng=np.random.default_rng(0))
