from __future__ import annotations

import re

import numpy as np
import pytest

from turnout.core.errors import InputError
from turnout.lab import skills, tokenizer
from turnout.lab.tasks import (
    DIFFICULTIES,
    TASKS,
    Problem,
    Task,
    grade,
    held_out,
    problems,
    training_problems,
)

SOME = problems(1200, seed=3)


def test_there_are_enough_tasks_and_every_one_is_drawn_at_every_difficulty() -> None:
    """The issue's floor: at least eight skills, graded."""
    assert len(TASKS) >= 8
    assert {(p.task, p.difficulty) for p in SOME} == {(t, d) for t in TASKS for d in DIFFICULTIES}


@pytest.mark.parametrize(
    ("answer", "reply", "mark"),
    [
        ("42", "42", 1.0),
        ("42", " 42\n", 1.0),  # white space around is forgiven
        ("a b", "a  b", 1.0),  # so is how much of it is inside
        ("42", "4 2", 0.0),
        ("42", "042", 0.0),
        ("42", "42.", 0.0),
        ("Monday", "monday", 0.0),
        ("ab", "", 0.0),
        ("ab", "ab\0", 0.0),
        ("ab", "abab", 0.0),
    ],
)
def test_the_grader_is_exact(answer: str, reply: str, mark: float) -> None:
    """Only the answer itself, up to white space, earns the mark; there are no part marks."""
    assert grade(Problem("copy", 1, "?", answer), reply) == mark


def test_answers_are_right_when_worked_out_from_the_prompt_alone() -> None:
    """An independent reading of each prompt finds the answer that the problem claims."""
    for p in SOME:
        numbers = [int(x) for x in re.findall(r"\d+", p.prompt)]
        words = re.findall(r"[A-Za-z]+", p.prompt)
        match p.task:
            case "add":
                expected = str(sum(numbers))
            case "subtract":
                expected = str(max(numbers) - min(numbers))
            case "extreme":
                largest = "largest" in p.prompt or "maximum" in p.prompt
                expected = str(max(numbers) if largest else min(numbers))
            case "copy":
                assert p.answer in words
                continue
            case "reverse":
                assert p.answer[::-1] in words
                continue
            case "sort":
                assert any(sorted(word) == list(p.answer) for word in words)
                continue
            case "convert":
                units = [u for u in skills.UNITS if {u[0], u[1]} <= set(words)]
                expected = str(numbers[0] * units[0][2])
            case "calendar":
                names = skills.DAYS if "day" in p.prompt else skills.MONTHS
                (at,) = (w for w in words if w in skills.DAYS + skills.MONTHS)
                sign = -1 if "before" in p.prompt else 1
                names = skills.MONTHS if at in skills.MONTHS else skills.DAYS
                expected = names[(names.index(at) + sign * numbers[0]) % len(names)]
            case "lookup":
                people = [w for w in words if w in skills.NAMES]
                colours = [w for w in words if w in skills.COLOURS]
                expected = colours[people.index(people[-1])]
            case "count":
                (letter,) = (
                    m.group(1)
                    for m in [re.search(r"(?:does|letter|see) ([a-z]) ", p.prompt)]
                    if m is not None
                )
                word = re.search(r"in ([a-z]+)\??$", p.prompt)
                assert word is not None
                expected = str(word.group(1).count(letter))
            case "initials":
                expected = "".join(w[0] for w in words if w in skills.NOUNS)
            case "brackets":
                text = "".join(c for c in p.prompt if c in "()[]{}") + p.answer
                while (less := re.sub(r"\(\)|\[\]|\{\}", "", text)) != text:
                    text = less
                assert text == ""
                continue
        assert p.answer == expected, p


def test_the_same_seed_draws_the_same_problems() -> None:
    """Equal seeds, equal problems; other seeds, others; a shorter draw is the beginning."""
    assert problems(40, seed=3) == SOME[:40]
    assert problems(40, seed=4) != SOME[:40]


def test_evaluation_and_training_never_share_a_prompt() -> None:
    """Both streams obey the split, whatever their seeds, so they cannot meet."""
    train = training_problems(3000, seed=3)
    assert all(held_out(p.prompt) for p in SOME)
    assert not any(held_out(p.prompt) for p in train)
    assert not {p.prompt for p in SOME} & {p.prompt for p in train}


def test_tasks_and_difficulties_can_be_chosen() -> None:
    """Only the chosen cells are drawn."""
    chosen = problems(50, seed=0, tasks=["add", "copy"], difficulties=[1, 5])
    assert {p.task for p in chosen} == {"add", "copy"}
    assert {p.difficulty for p in chosen} == {1, 5}


@pytest.mark.parametrize("task", list(TASKS))
def test_difficulty_grows_the_problem(task: str) -> None:
    """The hardest problems are longer, or have more to compute, than the easiest."""

    def size(level: int) -> float:
        drawn = problems(60, seed=1, tasks=[task], difficulties=[level])
        digits = [int(x) for p in drawn for x in re.findall(r"\d+", p.prompt)]
        length = np.mean([len(tokenizer.encode(p.prompt + p.answer)) for p in drawn])
        return float(length) + (float(np.mean(digits)) if digits else 0.0)

    assert size(5) > size(1)


def test_every_word_of_the_templates_is_one_token() -> None:
    """The vocabulary and the templates have not drifted apart."""
    for lines in skills.TEMPLATES.values():
        for line in lines:
            for word in re.findall(r" ?[A-Za-z]{2,}", re.sub(r"\{.*?\}", "7", line)):
                assert len(tokenizer.encode(word)) == 1, word


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"n": 0, "seed": 0}, "n"),
        ({"n": True, "seed": 0}, "n"),
        ({"n": 1, "seed": -1}, "seed"),
        ({"n": 1, "seed": 0, "tasks": ["juggle"]}, "tasks"),
        ({"n": 1, "seed": 0, "tasks": []}, "tasks"),
        ({"n": 1, "seed": 0, "difficulties": [6]}, "difficulties"),
        ({"n": 1, "seed": 0, "difficulties": []}, "difficulties"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments: dict[str, object], field: str) -> None:
    """The error names the argument at fault."""
    with pytest.raises(InputError, match=f"^{field} must"):
        problems(**arguments)  # type: ignore[arg-type]


def test_a_task_refuses_a_bad_name_or_difficulty() -> None:
    """Tasks check themselves."""
    with pytest.raises(InputError, match=r"^name must"):
        Task("Two words", "", skills.copy)
    with pytest.raises(InputError, match=r"^difficulty must"):
        TASKS["copy"].sample(np.random.default_rng(0), 6)
