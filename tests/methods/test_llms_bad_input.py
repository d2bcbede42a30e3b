"""Every method of requests on tables and prompts that nobody wishes for.

Each either works, with finite figures in range, or gives one clear error that names the field, the
rule, the value and the next step. Which method may refuse which table is
listed in `MAY_REFUSE`.
"""

from __future__ import annotations

import importlib.util
import io
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from turnout import catalog
from turnout.bench import evaluate, plot, show
from turnout.catalog import Entry
from turnout.cli import main
from turnout.core import (
    Budget,
    InputError,
    MissingExtraError,
    Outcomes,
    Pool,
    Predictor,
    Sequential,
)
from turnout.llms.length import Length
from turnout.parts.decide import Explains, Quick
from turnout.parts.priced import as_router

HERE = Path(__file__).parent

#: Prompts that are asked of every fitted router.
PROMPTS = {
    "empty": "",
    "a space": " ",
    "white space": " \t\r\n\u00a0\u3000 ",
    "Greek": "Πόσο κάνει δύο και τρία;",
    "Chinese": "二加三等于多少？",
    "Arabic": "كم يساوي اثنان زائد ثلاثة؟",
    "emoji": "🙂👩‍👩‍👧 2️⃣➕3️⃣",
    "control characters": "add\x00\x07\x1b[31m two\x7f\x9b",
    "lone surrogates": "half \ud83d a pair \udc00",
    "combining marks": "a\u0301\u0300\u0302" * 50,
    "very long": "add two numbers " * 4_000,
    "one word without end": "x" * 30_000,
    "numbers": "1e999 -0 NaN inf 007",
    "unknown words": "xyzzy plugh frotz",
}


def table(n: int = 40, m: int = 3, seed: int = 0) -> Outcomes:
    """Two kinds of prompts; the dearer the model, the better it is at the hard ones."""
    rng = np.random.default_rng(seed)
    hard = rng.random(n) < 0.5
    kinds = ("prove the theorem", "add the numbers")
    rate = np.where(hard[:, None], np.linspace(0.2, 0.9, m), np.linspace(0.7, 0.95, m))
    quality = (rng.random((n, m)) < rate).astype(float)
    return Outcomes(
        inputs=[f"{kinds[not h]} {'and more ' * (i % 5)}{i % 17}" for i, h in enumerate(hard)],
        names=tuple(f"m{j}" for j in range(m)),
        quality=quality,
        cost=np.tile(np.linspace(1.0, 5.0, m), (n, 1)),
        answers=np.array(
            [[f"so it is {i + j}" if q else "not sure" for j, q in enumerate(row)]
             for i, row in enumerate(quality)],
            dtype=object,
        ),
    )  # fmt: skip


def _blank(outcomes: Outcomes, where: np.ndarray) -> Outcomes:
    assert outcomes.answers is not None
    return replace(
        outcomes,
        quality=np.where(where, np.nan, outcomes.quality),
        cost=np.where(where, np.nan, outcomes.cost),
        answers=np.where(where, None, outcomes.answers),
    )


def _column(outcomes: Outcomes, field: str, j: int, value: float) -> Outcomes:
    changed = np.array(getattr(outcomes, field))
    changed[:, j] = value
    return replace(outcomes, **{field: changed})


def _asked(outcomes: Outcomes, texts: list[str]) -> Outcomes:
    inputs = list(outcomes.inputs)
    inputs[: len(texts)] = texts
    return replace(outcomes, inputs=inputs)


def _single_choices() -> Outcomes:
    """A log: one destination seen a row."""
    seen = np.arange(60)[:, None] % 3 == np.arange(3)
    return _blank(table(60), ~seen)


#: Tables that a method should learn from, or refuse in words.
TABLES: dict[str, Callable[[], Outcomes]] = {
    "a candidate blank in half the rows": lambda: _blank(
        table(), (np.arange(40)[:, None] % 2 == 0) & (np.arange(3) == 1)
    ),
    "a candidate seen once": lambda: _blank(
        table(), (np.arange(40)[:, None] > 0) & (np.arange(3) == 2)
    ),
    "rows that are all blank": lambda: _blank(table(), np.arange(40)[:, None] < np.full(3, 5)),
    "a log of single choices": _single_choices,
    "quality known, cost not": lambda: replace(
        table(), cost=np.where(np.arange(40)[:, None] % 2 == 0, np.nan, table().cost)
    ),
    "cost never known": lambda: replace(table(), cost=np.full((40, 3), np.nan)),
    "cost of one never known": lambda: _column(table(), "cost", 1, np.nan),
    "cost zero everywhere": lambda: replace(table(), cost=np.zeros((40, 3))),
    "cost the same everywhere": lambda: replace(table(), cost=np.ones((40, 3))),
    "cost very small": lambda: replace(table(), cost=table().cost * 1e-30),
    "cost very large": lambda: replace(table(), cost=table().cost * 1e30),
    "all quality the same": lambda: replace(table(), quality=np.full((40, 3), 0.5)),
    "all right": lambda: replace(table(), quality=np.ones((40, 3))),
    "all wrong": lambda: replace(table(), quality=np.zeros((40, 3))),
    "one always right": lambda: _column(table(), "quality", 0, 1.0),
    "one always wrong": lambda: _column(table(), "quality", 2, 0.0),
    "one row": lambda: table(1),
    "two rows": lambda: table(2),
    "three rows": lambda: table(3),
    "one row many times": lambda: table(1).take(np.zeros(30, dtype=int)),
    "every row twice": lambda: table(20).take(np.arange(40) % 20),
    "one prompt, many outcomes": lambda: _asked(table(), ["the same prompt"] * 40),
    "one destination": lambda: table(40, 1),
    "fifty destinations": lambda: table(20, 50),
    "odd prompts among them": lambda: _asked(table(), list(PROMPTS.values())),
    "empty prompts alone": lambda: _asked(table(), [""] * 40),
    "every prompt another word": lambda: _asked(
        table(), [f"w{chr(97 + i)}" * 3 for i in range(26)]
    ),
    "groups of one row": lambda: replace(table(), group=[str(i) for i in range(40)]),
}

#: (method, table) -> what its refusal says.
MAY_REFUSE = {
    ("ratings", "a log of single choices"): "Ratings learn from comparisons",
}


#: Method -> settings that learn for less long than in its own case: what a damaged table breaks,
#: it breaks in the first steps.
SHORTER: dict[str, dict[str, int]] = {"graph_router": {"epochs": 8}, "mogfn": {"steps": 5}}

#: Methods that learn from the labels of the rows, which these tables then get.
LABELLED = {"arch_router"}


def entries() -> list[Entry]:
    """Methods that are fitted on a table and decide by themselves.

    What asks in several steps is held to the same by its own contract
    (`turnout.testing.strategies`) and its own tests.
    """
    return [
        entry
        for entry in catalog.methods("llms")
        if entry.recipe and "multi_step" not in entry.card.properties
    ]


@cache
def recipe_of(entry: Entry) -> Any:
    """The small recipe of the method's own contract case."""
    path = HERE / "llms" / f"test_{entry.method}.py"
    if not path.is_file():
        return catalog.recipe(entry.name)()
    name = f"bad_input_{entry.method}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return replace(module.CASE.recipe, **SHORTER.get(entry.method, {}))


def fit(entry: Entry, outcomes: Outcomes) -> Any:
    """A fitted router or predictor; skips what is not installed."""
    if entry.method in LABELLED and outcomes.group is None:
        outcomes = replace(outcomes, group=tuple("ab"[i % 2] for i in range(outcomes.n)))
    try:
        recipe = recipe_of(entry)
        return recipe.fit(outcomes, outcomes.pool(), rng=np.random.default_rng(0))
    except MissingExtraError as error:
        pytest.skip(str(error))


def clear(error: InputError) -> None:
    """An error that a person can act on."""
    assert error.field, error
    assert error.rule, error
    assert error.hint, error
    assert "must" in str(error)
    assert "\n" not in str(error)


def sound(fitted: Any, pool: Pool, texts: list[str]) -> None:
    """Figures finite and in range; choices within the pool; single texts as in a batch."""
    n, m = len(texts), pool.m
    rng = np.random.default_rng(0)
    if isinstance(fitted, Predictor):
        quality, cost = fitted.predict(texts)
        assert quality.shape == cost.shape == (n, m)
        assert np.isfinite(quality).all()
        assert ((quality >= 0) & (quality <= 1)).all()
        assert np.isfinite(cost).all()
        assert (cost >= 0).all()
        for row, text in enumerate(texts):
            if isinstance(fitted, Quick):
                one = fitted.predict_one(text)
                assert one[0] == pytest.approx(quality[row], abs=1e-6)
                assert one[1] == pytest.approx(cost[row], rel=1e-9)
            if isinstance(fitted, Explains):
                said = fitted.because(text)
                assert all(line.isprintable() and line.endswith(".") for line in said)
                assert "nan" not in " ".join(said)
    router = as_router(fitted)
    for budget in (Budget(), Budget(price=0.1)):
        index = router.route(texts, pool, budget=budget, rng=rng).index
        assert index.shape[0] == n
        assert ((index >= 0) & (index < m)).any(axis=1).all()
        assert (index < m).all()
    if isinstance(fitted, Sequential):
        first = fitted.proceed(
            texts, np.empty((n, 0), dtype=np.int64), [[]] * n, pool, budget=Budget(), rng=rng
        )
        assert ((first >= 0) & (first < m)).all()
        then = fitted.proceed(
            texts, first[:, None], [[""]] * n, pool, budget=Budget(price=0.1), rng=rng
        )
        assert ((then >= -1) & (then < m)).all()


by_method = pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.method)


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        pytest.param(entry, name, id=f"{entry.method}: {name}")
        for entry in entries()
        for name in TABLES
        if (entry.method, name) not in MAY_REFUSE
    ],
)
def test_a_damaged_table_is_learnt_from(entry: Entry, name: str) -> None:
    """No NaN, no crash, no warning: figures are sound whatever the table lacks."""
    outcomes = TABLES[name]()
    fitted = fit(entry, outcomes)
    sound(fitted, outcomes.pool(), [*map(str, outcomes.inputs[:2]), "add 2", ""])


@pytest.mark.parametrize(("method", "name"), MAY_REFUSE)
def test_what_cannot_be_learnt_from_is_refused_in_words(method: str, name: str) -> None:
    """One error that names the field, the rule, the value and the next step."""
    entry = next(entry for entry in entries() if entry.method == method)
    with pytest.raises(InputError, match=MAY_REFUSE[method, name]) as refused:
        fit(entry, TABLES[name]())
    clear(refused.value)


#: Tables that cannot be judged out of fold -> what the refusal says.
NOT_JUDGED = {
    "a candidate seen once": "be seen in rows of two folds",
    "a log of single choices": "every destination has a quality and a cost",
    "cost never known": "every destination has a quality and a cost",
    "cost of one never known": "every destination has a quality and a cost",
    "one row": "number of different prompts",
    "one row many times": "number of different prompts",
    "one prompt, many outcomes": "number of different prompts",
    "empty prompts alone": "number of different prompts",
    "one destination": "hold at least two destinations",
}


@pytest.mark.parametrize("name", [name for name in TABLES if name not in NOT_JUDGED])
def test_a_damaged_table_is_judged_and_shown(name: str) -> None:
    """Methods beside landmarks, the table, the chart in letters, the page: all of it stands."""
    found = evaluate(TABLES[name](), {"length": Length()}, folds=2, resamples=10)
    assert all(0 <= row.quality <= 1 for row in found.rows if not np.isnan(row.quality))
    oracle = found.row("oracle")
    assert oracle.aiq >= found.row("length").aiq - 1e-9
    buffer = io.StringIO()
    Console(file=buffer, width=80).print(show.table(found), show.chart(found))
    assert "length" in buffer.getvalue()
    text = plot.render(found, ".html").decode()
    assert "nan" not in text[text.index("<svg") : text.index("</svg>")]
    assert show.headline(found)


@pytest.mark.parametrize("name", NOT_JUDGED)
def test_what_cannot_be_judged_is_refused_in_words(name: str) -> None:
    """One error that names the field, the rule, the value and the next step."""
    with pytest.raises(InputError, match=NOT_JUDGED[name]) as refused:
        evaluate(TABLES[name](), {"length": Length()}, folds=2, resamples=10)
    clear(refused.value)


@cache
def fitted_on_table(entry: Entry) -> Any:
    """The method on a table that lacks nothing; what is fitted only answers."""
    return fit(entry, table())


@by_method
def test_odd_prompts_get_sound_figures(entry: Entry) -> None:
    """Empty, foreign, broken or endless prompts are prompts like others."""
    sound(fitted_on_table(entry), table().pool(), list(PROMPTS.values()))


@by_method
def test_a_model_added_after_fitting_is_named(entry: Entry) -> None:
    """A pool with a destination that was never seen: one error that says which."""
    fitted = fitted_on_table(entry)
    pool = Pool(names=("m0", "brand-new", "m1"))
    with pytest.raises(InputError) as refused:
        as_router(fitted).route(["add 2"], pool, budget=Budget(), rng=np.random.default_rng(0))
    clear(refused.value)
    assert "brand-new" in str(refused.value)


@by_method
def test_a_model_left_out_after_fitting_is_not_chosen(entry: Entry) -> None:
    """A pool with fewer destinations, in another order, works as it is."""
    fitted = fitted_on_table(entry)
    pool = Pool(names=("m2", "m0"))
    index = as_router(fitted).route(
        ["add 2", "prove it"], pool, budget=Budget(price=0.01), rng=np.random.default_rng(0)
    ).index  # fmt: skip
    assert set(index[index >= 0].tolist()) <= {0, 1}


@pytest.mark.parametrize(
    "entry",
    [entry for entry in entries() if "reads_inputs" in entry.card.properties],
    ids=lambda entry: entry.method,
)
@pytest.mark.parametrize("inputs", [np.zeros((2, 7)), "one string", [1, 2]], ids=str)
def test_inputs_that_are_no_texts_are_refused_by_name(entry: Entry, inputs: Any) -> None:
    """A method that was fitted on texts says that it reads texts."""
    router = as_router(fitted_on_table(entry))
    with pytest.raises(InputError) as refused:
        router.route(inputs, table().pool(), budget=Budget(), rng=np.random.default_rng(0))
    clear(refused.value)
    assert refused.value.field.startswith("inputs")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("cost", np.inf, r"outcomes\.cost"),
        ("cost", -1.0, r"outcomes\.cost"),
        ("quality", 1.5, r"outcomes\.quality"),
        ("quality", -0.1, r"outcomes\.quality"),
        ("quality", np.inf, r"outcomes\.quality"),
    ],
)
def test_figures_out_of_range_never_reach_a_method(field: str, value: float, message: str) -> None:
    """The table itself refuses them, and names the cell."""
    wrong = np.array(getattr(table(), field))
    wrong[3, 1] = value
    with pytest.raises(InputError, match=message) as refused:
        replace(table(), **{field: wrong})
    clear(refused.value)
    assert "[3, 1]" in str(refused.value)


def test_prompts_in_both_tables_are_told_of() -> None:
    """`evaluate` counts the test rows that repeat a training prompt; `turnout bench` prints it."""
    train, test = table(40), table(12, seed=0)
    repeated = sum(text in set(train.inputs) for text in test.inputs)
    assert repeated > 0
    found = evaluate(train, {}, test=test, resamples=5)
    assert any(f"{repeated} of 12 test rows repeat a training prompt" in n for n in found.notes)
    assert evaluate(train, {}, folds=2, resamples=5).notes == ()


def test_rows_of_one_prompt_share_a_fold() -> None:
    """Within one table the answer to a prompt never teaches about that prompt."""
    seen: list[tuple[set[str], list[str]]] = []

    class Spy:
        def fit(self, outcomes: Outcomes, pool: Pool, *, rng: np.random.Generator) -> Any:
            return _Watching(set(map(str, outcomes.inputs)), seen, outcomes.names)

    twice = table(20).take(np.arange(40) % 20)
    evaluate(twice, {"spy": Spy()}, folds=4, resamples=5)
    assert len(seen) >= 4
    assert all(not known & set(asked) for known, asked in seen)


class _Watching:
    def __init__(
        self, known: set[str], seen: list[tuple[set[str], list[str]]], names: tuple[str, ...]
    ) -> None:
        self.known, self.seen, self.names = known, seen, names

    def predict(self, inputs: Any) -> tuple[np.ndarray, np.ndarray]:
        self.seen.append((self.known, list(inputs)))
        shape = (len(inputs), len(self.names))
        return np.full(shape, 0.5), np.ones(shape)


def test_the_command_says_when_test_repeats_train(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the screen, beside the figures."""
    lines = ["prompt,model,quality,cost"]
    lines += [
        f"p {i},{name},{(i + j) % 2},{j + 1}" for i in range(20) for j, name in enumerate("sl")
    ]
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    train.write_text("\n".join(lines) + "\n")
    test.write_text("\n".join(lines[:9]) + "\n")
    main(["bench", str(train), "--test", str(test), "-m", "length"])
    assert "Note: 4 of 4 test rows repeat a training prompt." in capsys.readouterr().out
