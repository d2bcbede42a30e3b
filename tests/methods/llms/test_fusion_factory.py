"""A log reused at three depths: routes, prompts and training sets."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from turnout.bench.fusion_logs import read_log
from turnout.core import Budget, DataError, InputError, Outcomes, Pool, Reply
from turnout.lab import puzzles
from turnout.llms.fusion_factory import (
    BALANCE,
    CARD,
    COST_FIRST,
    PERFORMANCE_FIRST,
    FusionFactory,
    LogRow,
    Nearest,
    Ridge,
    Scenario,
    ThoughtPlay,
    distillation,
    enriched,
    fit_ranges,
    log_of,
    questions,
    routing_rows,
    write_sets,
    write_thoughts,
)
from turnout.parts.rounds.playing import run
from turnout.testing import Case, strategies

CASE = Case(FusionFactory(learner=Nearest(k=15), d=32))


def _row(model: str, performance: float, **more) -> LogRow:
    fields = {"task": "sums", "query": "1 + 1", "gold": "2", "response": f"{model} says"}
    return LogRow(model=model, performance=performance, **(fields | more))


def _table() -> Outcomes:
    return Outcomes(
        inputs=["red one", "red two", "blue one", "blue two"],
        names=("small", "large"),
        quality=np.array([[0.2, 1.0], [0.6, 1.0], [0.5, 0.5], [0.5, 0.5]]),
        cost=np.array([[1.0, 5.0], [3.0, 5.0], [2.0, 2.0], [2.0, 2.0]]),
        group=["red", "red", "blue", "blue"],
    )


# --- query level


def test_a_score_by_hand() -> None:
    """In red, 0.6 at 3 of [0.2, 1] and [1, 5] is half of each; flat figures of blue are 0."""
    performance, cost = fit_ranges(_table()).normalised(_table())
    assert performance == pytest.approx(np.array([[0.0, 1.0], [0.5, 1.0], [0, 0], [0, 0]]))
    assert cost == pytest.approx(np.array([[0.0, 1.0], [0.5, 1.0], [0, 0], [0, 0]]))
    assert COST_FIRST.score(performance, cost)[1] == pytest.approx([-0.3, -0.6])


def test_test_rows_are_normalised_by_the_training_table() -> None:
    """A test row may lie outside the range it was no part of.

    A task that is not known is measured by the whole table.
    """
    ranges = fit_ranges(_table())
    other = replace(_table().take([0]), quality=np.array([[0.0, 1.0]]))
    assert ranges.normalised(other)[0][0, 0] == pytest.approx(-0.25)
    unknown = replace(other, group=("green",))
    assert ranges.normalised(unknown)[1][0].tolist() == [0.0, 1.0]


@pytest.mark.parametrize("learner", [Nearest(k=2), Ridge(l2=0.01)])
def test_the_scenario_turns_the_ranking(learner) -> None:
    """Good and dear comes first where performance counts, last where cost does."""
    fitted = FusionFactory(learner=learner).fit(
        _table(), _table().pool(), rng=np.random.default_rng(0)
    )
    assert fitted.rank(["red one"], PERFORMANCE_FIRST).tolist() == [[1, 0]]
    assert fitted.rank(["red one"], COST_FIRST).tolist() == [[0, 1]]


def test_two_neighbours_by_hand() -> None:
    """Between the two red queries: small has mean performance 1/4 and mean cost 1/4."""
    table = replace(_table(), inputs=np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]]))
    fitted = FusionFactory(learner=Nearest(k=2)).fit(
        table, table.pool(), rng=np.random.default_rng(0)
    )
    query = np.array([[1.0, 0.05]])
    assert fitted.scores(query, BALANCE) == pytest.approx(np.array([[0.0, 0.0]]))
    assert fitted.scores(query, COST_FIRST) == pytest.approx(np.array([[-0.15, -0.6]]))
    assert fitted.predict(query)[0] == pytest.approx(np.array([[0.4, 1.0]]))


def test_a_line_leaves_out_what_was_not_seen() -> None:
    """Through (0, 0) and (1, 1), with a cell blank, the ridge line is nearly the diagonal."""
    keys = np.array([[0.0], [1.0], [5.0]], dtype=np.float32)
    fitted = Ridge(l2=1e-9).learn(keys, np.array([[0.0], [1.0], [np.nan]]))
    assert fitted.means(np.array([[0.5]], dtype=np.float32))[0, 0] == pytest.approx(0.5)


def test_the_published_form_of_routing_data() -> None:
    """Each query with its candidates, and the name of the best; blank cells are none."""
    table = replace(_table(), quality=np.array([[0.2, 1.0], [0.6, np.nan], [0.5, 0.5], [0.5, 0.5]]))
    rows = routing_rows(table, PERFORMANCE_FIRST, fit_ranges(table))
    assert rows[0]["ground_truth"] == "large"
    assert [one["candidate_name"] for one in rows[1]["candidates"]] == ["small"]
    assert rows[1]["candidates"][0]["performance"] == pytest.approx(0.5)


# --- thought level


@pytest.fixture(scope="module")
def world():
    """Puzzles, their table, and a library of procedures from the first 150 of 200."""
    made = puzzles.draw(200, rng=np.random.default_rng(0))
    table = made.table()
    log = log_of(table, made.answers)
    test = set(made.questions[150:])
    library = write_thoughts(
        log, made.ask, puzzles.SUMMARISER, exclude=test, rng=np.random.default_rng(0)
    )
    return made, table, log, library


def test_no_template_comes_from_a_test_query(world) -> None:
    """Neither its question nor its answers are in the library; without it, others are."""
    made, _, log, library = world
    test = set(made.questions[150:])
    assert not test & set(library.queries)
    seen: list[str] = []

    def ask(call):
        seen.append(call.prompt)
        return made.ask(call)

    few = [row for row in log if row.query in made.questions[140:160]]
    write_thoughts(few, ask, puzzles.SUMMARISER, exclude=test, rng=np.random.default_rng(0))
    assert seen
    assert not any(f"Question:\n{query}\n" in prompt for prompt in seen for query in test)


def test_a_question_never_sees_its_own_template(world) -> None:
    """Asked again, it is shown those of others, of one task, the likest first."""
    library = world[3]
    for row in range(0, 60, 7):
        found = library.similar(library.queries[row], 3)
        assert row not in found
        assert len({library.tasks[j] for j in found}) == 1
    assert {library.tasks[j] for j in library.similar("clock", 3, task="edit")} == {"edit"}


def test_templates_lift_what_wrong_ones_do_not(world) -> None:
    """Retrieved procedures beat none by 10 points, and those of random questions by more."""
    made, table, _, library = world
    fitted = FusionFactory(learner=Nearest(k=15), d=32).fit(
        table.take(np.arange(150)), table.pool(), rng=np.random.default_rng(0)
    )
    turned = np.random.default_rng(1).permutation(len(library.templates))
    random = replace(library, templates=tuple(library.templates[i] for i in turned))

    def share(thoughts, k: int) -> float:
        play = ThoughtPlay(thoughts=thoughts, predictor=fitted, k=k)
        pool = Pool(names=play.names)
        found = [
            run(play, q, made.ask, pool, budget=Budget(price=0.2), rng=np.random.default_rng(0))
            for q in made.questions[150:]
        ]
        right = zip(made.questions[150:], found, strict=True)
        return float(np.mean([made.right(q, played.answer) for q, played in right]))

    none = share(library, 0)
    assert share(library, 1) > none + 0.1
    assert share(random, 1) < share(library, 1) - 0.1


def test_no_template_leaves_the_prompt_as_it_is(world) -> None:
    """The query stands last; with nothing to show it stands alone."""
    library = world[3]
    assert enriched("why", library, np.empty(0, dtype=np.int64)) == "why"
    prompt = enriched("why", library, np.array([0]))
    assert prompt.endswith("\nwhy")
    assert library.templates[0] in prompt


def test_a_failed_summary_is_no_template(world) -> None:
    """Silence and failures give none, and none at all is refused."""
    with pytest.raises(InputError, match="give at least one template"):
        write_thoughts(world[2], lambda call: Reply(text="  "), "s", rng=np.random.default_rng(0))


def test_the_play_keeps_the_contract_of_strategies(world) -> None:
    """It ends on any replies, calls nothing that is down, and can be saved."""
    made, table, _, library = world
    fitted = FusionFactory(learner=Nearest(k=15), d=8).fit(
        table, table.pool(), rng=np.random.default_rng(0)
    )
    case = strategies.StrategyCase(
        make=lambda: ThoughtPlay(thoughts=library, predictor=fitted),
        ask=made.ask,
        items=made.questions[150:153],
    )
    strategies.check(case, card=CARD)


def test_the_price_moves_to_cheaper_models(world) -> None:
    """For nothing the best is asked; at a high price the cheapest, with the next in reserve."""
    made, table, _, library = world
    fitted = FusionFactory(d=16).fit(table, table.pool(), rng=np.random.default_rng(0))
    play = ThoughtPlay(thoughts=library, predictor=fitted)

    def silent(call):
        return Reply(text="", failed="away")

    dear = run(
        play, made.questions[0], silent, Pool(names=play.names), budget=Budget(price=1e6),
        rng=np.random.default_rng(0),
    )  # fmt: skip
    assert dear.calls[0].to == "tiny"
    assert sorted(call.to for call in dear.calls) == sorted(play.names)


# --- model level

ROWS = (
    _row("a", 1.0, judge=1.0, tokens=5, billions=8.0),
    _row("b", 1.0, judge=4.0, tokens=3, billions=70.0),
    _row("c", 0.5, judge=5.0, tokens=9, billions=9.0),
    _row("d", 0.0, judge=3.0, tokens=50, billions=7.0),
    _row("e", math.nan, tokens=1, billions=8.0),
)


@pytest.mark.parametrize(
    ("by", "chosen"),
    [("perf", "abc"), ("hybrid", "bac"), ("judge", "cb"), ("baseline", "22")],
)
def test_the_choice_of_answers_by_hand(by: str, chosen: str) -> None:
    """Gold first, then in order, to the first of performance 0; the judge puts d before a."""
    top_k = 2 if by == "baseline" else 5
    found = [row["output"] for row in distillation(ROWS, by, top_k=top_k)]
    assert found[0] == "2"
    assert "".join(text[0] for text in found[1:]) == chosen


def test_small_teachers_and_top_k() -> None:
    """Only 7 to 12 billion parameters teach; top_k counts responses beside the gold row."""
    small = distillation(ROWS, "perf", small=True)
    assert [row["output"] for row in small] == ["2", "a says", "c says"]
    assert len(distillation(ROWS, "perf", top_k=1)) == 2
    assert len(distillation(ROWS, "baseline", top_k=5)) == 6
    assert len(distillation(ROWS, "random", top_k=2, rng=np.random.default_rng(0))) == 3


def test_rows_are_grouped_by_question_whatever_their_order() -> None:
    """A missing or displaced row shifts nothing."""
    other = tuple(replace(row, query="2 + 2", gold="4") for row in ROWS[:2])
    mixed = (ROWS[0], other[0], *ROWS[1:], other[1])
    assert [len(rows) for rows in questions(mixed)] == [5, 2]


def test_sets_are_written_as_json(tmp_path: Path) -> None:
    """A list of instruction, input and output."""
    write_sets(tmp_path / "set.json", distillation(ROWS, "perf", top_k=1))
    read = json.loads((tmp_path / "set.json").read_text(encoding="utf-8"))
    assert read[0] == {"instruction": "sums", "input": "1 + 1", "output": "2"}


# --- reading logs


def test_a_log_file_is_read(tmp_path: Path) -> None:
    """A measure by name is a number, a blank stays unseen, and nothing is evaluated."""
    path = tmp_path / "log.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["task_name", "query", "ground_truth", "llm", "response", "performance", "size"]
        )
        writer.writerow(["code", "sort", "ok", "a", "done", "{'pass@1': 1.0}", "8B"])
        writer.writerow(["code", "sort", "ok", "b", "", "", ""])
    read = read_log(path)
    assert read[0].performance == 1.0
    assert read[0].billions == 8.0
    assert math.isnan(read[1].performance)
    assert read[0].key == read[1].key


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("{'pass@1': 1.0, 'pass@2': 1.0}", "be a number"),
        ("__import__('os')", "be a number"),
        ("7", r"lie in \[0, 1\]"),
    ],
)
def test_a_bad_grade_is_refused(tmp_path: Path, cell: str, message: str) -> None:
    """By its column and row."""
    path = tmp_path / "log.jsonl"
    row = {
        "task_name": "t", "query": "q", "ground_truth": "g", "llm": "a", "response": "r",
        "performance": cell,
    }  # fmt: skip
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=message) as caught:
        read_log(path)
    assert "'performance', row 1" in str(caught.value)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    """The first that is not there."""
    path = tmp_path / "log.jsonl"
    path.write_text('{"query": "q", "llm": "a"}\n', encoding="utf-8")
    with pytest.raises(DataError, match="hold a column task_name or task_id"):
        read_log(path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FusionFactory(learner=3), "fusion_factory.learner"),
        (lambda: FusionFactory(d=0), "fusion_factory.d"),
        (lambda: Nearest(k=0), "nearest.k"),
        (lambda: Ridge(l2=0.0), "ridge.l2"),
        (lambda: Scenario(-1.0, 0.0), "scenario.alpha"),
        (lambda: distillation(ROWS, "best"), "by must be one of"),
        (lambda: distillation(ROWS, "random"), "rng must be"),
        (lambda: distillation(ROWS, "perf", top_k=-1), "top_k"),
        (lambda: _row("a", 2.0), "log.performance"),
        (lambda: log_of(_table(), ["x"] * 4), r"outcomes\.answers must be there"),
        (lambda: write_thoughts(ROWS, None, "s", top_n=0, rng=None), "top_n"),
    ],
)
def test_what_is_wrong_is_refused_by_name(make, message: str) -> None:
    """One clear error each."""
    with pytest.raises(InputError, match=message):
        make()
