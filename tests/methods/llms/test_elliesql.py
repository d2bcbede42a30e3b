"""The router among ordered pipelines."""

from __future__ import annotations

import numpy as np
import pytest

import turnout
from turnout.bench.tep import tep
from turnout.core import Budget, InputError, Outcomes
from turnout.lab.sql import questions
from turnout.lab.sql_pipelines import outcomes
from turnout.llms.elliesql import EllieSql, FittedEllieSql, _labels, _shape
from turnout.testing import Case

CASE = Case(EllieSql(l2=0.02))

ONE = "how many readers\n\nreader: id, age"
TWO = "titles of books of readers\n\nreader: id, age\nbook: id, title\nloan: id, reader_id"
FOUR = "everything\n\na: id\nb: id\nc: id\nd: id"


def _table(n: int = 90) -> Outcomes:
    """Three texts, each of which another pipeline is the first to solve."""
    return Outcomes(
        inputs=[ONE, TWO, FOUR] * (n // 3),
        names=("dear", "basic", "middle"),  # not in order of cost
        quality=np.array([[1.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 0.0, 0.0]] * (n // 3)),
        cost=np.array([[900.0, 100.0, 300.0]] * (n // 3 * 3)),
    )


def _fit(recipe: EllieSql, table: Outcomes) -> FittedEllieSql:
    return recipe.fit(table, table.pool(), rng=np.random.default_rng(0))


def test_labels_by_hand() -> None:
    """The first that is right; m where nobody is; unknown where somebody was not asked."""
    nan = np.nan
    quality = np.array([[0.4, 1, 1], [1, 0, 0], [0, 0, 0], [0, nan, 0], [nan, 1, nan], [nan] * 3])
    assert _labels(quality).tolist() == [1, 0, 3, -1, 1, -1]


def test_the_schema_is_counted() -> None:
    """Tables and columns below the question; none where there is no schema."""
    assert _shape([ONE, TWO, "a question: with, commas"]).tolist() == [[1, 2], [3, 6], [0, 0]]


@pytest.mark.parametrize("router", ["cascade", "classifier", "knn", "tables"])
def test_each_router_learns_what_each_text_needs(router: str) -> None:
    """By the paper's rules, in the order of cost and not of columns."""
    fitted = _fit(EllieSql(router=router, l2=0.01), _table())
    assert fitted.tier([ONE, TWO, FOUR]).tolist() == [1, 2, 0]
    quality, cost = fitted.predict([ONE, TWO, FOUR])
    reach = quality[:, fitted.order]
    assert (np.diff(reach, axis=1) >= -1e-12).all()
    assert ((quality >= 0) & (quality <= 1)).all()
    assert cost.tolist() == [[900.0, 100.0, 300.0]] * 3


def test_a_cascade_by_hand() -> None:
    """With chances 0.5 and 0.8 of being the first, the second solves 0.5 + 0.5 * 0.8."""
    table = Outcomes(
        inputs=["same words"] * 20,
        names=("a", "b"),
        quality=np.array([[1, 1]] * 10 + [[0, 1]] * 8 + [[0, 0]] * 2, dtype=float),
        cost=np.array([[1.0, 2.0]] * 20),
    )
    quality, _ = _fit(EllieSql(), table).predict(["same words"])
    # exact but for the small penalty and for when the steps end
    assert quality[0] == pytest.approx([0.5, 0.9], abs=0.02)


def test_neighbours_by_hand() -> None:
    """Of the five nearest by tables and columns, three are solved by the first pipeline."""
    schemas = ["a: x"] * 3 + ["a: x, y"] * 2 + ["a: x\nb: x\nc: x, y"] * 5
    solved = np.array([1, 1, 1, 0, 0] + [0] * 5, dtype=float)
    table = Outcomes(
        inputs=[f"q\n\n{schema}" for schema in schemas],
        names=("a", "b"),
        quality=np.column_stack([solved, np.ones(10)]),
        cost=np.array([[1.0, 2.0]] * 10),
    )
    quality, _ = _fit(EllieSql(router="knn", k=5), table).predict(["other words\n\na: x"])
    assert quality[0] == pytest.approx([0.6, 1.0])


@pytest.mark.parametrize(("unsolved", "to"), [("cheapest", 0), ("dearest", 1)])
@pytest.mark.parametrize("router", ["cascade", "classifier", "knn"])
def test_hopeless_questions_go_where_the_recipe_says(unsolved: str, to: int, router: str) -> None:
    """Nobody solves what is impossible: to the cheapest, or to the dearest as in the paper."""
    hopeless = "impossible request\n\na: x\nb: x\nc: x\nd: x"
    table = Outcomes(
        inputs=[ONE, hopeless] * 30,
        names=("a", "b"),
        quality=np.array([[1.0, 1.0], [0.0, 0.0]] * 30),
        cost=np.array([[1.0, 2.0]] * 60),
    )
    fitted = _fit(EllieSql(router=router, unsolved=unsolved, l2=0.01), table)
    assert fitted.tier([hopeless])[0] == to
    quality, _ = fitted.predict([hopeless])
    assert quality[0, 1] == pytest.approx(float(to), abs=0.2)


def test_thresholds_keep_the_error_asked_for() -> None:
    """A judge that may not err keeps fewer than one at a half, and errs less on new rows."""
    rng = np.random.default_rng(0)

    def draw(n: int) -> Outcomes:
        hard = rng.random(n)
        words = [" ".join(rng.choice(["easy", "hard"], 6, p=[1 - h, h])) for h in hard]
        solved = (rng.random(n) > hard).astype(float)
        return Outcomes(
            inputs=words,
            names=("a", "b"),
            quality=np.column_stack([solved, np.ones(n)]),
            cost=np.array([[1.0, 9.0]] * n),
        )

    train, test = draw(2000), draw(1000)
    half, strict = (_fit(EllieSql(error=error), train) for error in (None, 0.1))
    kept = [fitted.tier(test.inputs) == 0 for fitted in (half, strict)]
    wrong = [1 - test.quality[rows, 0].mean() for rows in kept]
    assert strict.gates[0].accept > half.gates[0].accept == 0.5
    assert 0.02 < kept[1].mean() < kept[0].mean()
    assert wrong[1] < 0.16 < wrong[0]


def test_a_log_of_single_choices_says_what_it_says() -> None:
    """Cells never seen are not failures: what is right where it was asked is the label."""
    table = _table(60)
    quality = table.quality.copy()
    quality[::2, 0] = np.nan
    sparse = Outcomes(inputs=table.inputs, names=table.names, quality=quality, cost=table.cost)
    assert _fit(EllieSql(l2=0.01), sparse).tier([ONE, TWO]).tolist() == [1, 2]


def test_routing_real_pipelines_beats_the_dearest() -> None:
    """On databases: nearly all of its accuracy, for a third of the tokens less."""
    table = outcomes(questions(700, np.random.default_rng(5)))
    train, test = table.take(np.arange(500)), table.take(np.arange(500, 700))
    router = turnout.fit(EllieSql(), train)
    routed = router.route(
        test.inputs, train.pool(), budget=Budget(price=4e-4), rng=np.random.default_rng(0)
    ).index[:, 0]
    rows = np.arange(test.n)
    quality, tokens = test.quality[rows, routed].mean(), test.cost[rows, routed].mean()
    (cheap, _, dear), (few, _, many) = test.mean_quality(), test.mean_cost()
    assert quality > dear - 0.03
    assert tokens < 0.75 * many
    found, always = (
        tep(q, t, base_quality=cheap, base_tokens=few) for q, t in ((quality, tokens), (dear, many))
    )
    assert found.quadrant == "better and dearer"
    assert found.value > 1.3 * always.value


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"router": "llm"}, "elliesql.router must be one of cascade, classifier, knn, tables"),
        ({"unsolved": "nobody"}, "elliesql.unsolved must be one of"),
        ({"error": 1.5}, "elliesql.error must be"),
        ({"k": 0}, "elliesql.k must be"),
        ({"l2": 0.0}, "elliesql.l2 must be"),
    ],
)
def test_wrong_recipes_are_refused(fields: dict, message: str) -> None:
    """Each field is named."""
    with pytest.raises(InputError, match=message):
        EllieSql(**fields)


def test_arrays_are_refused() -> None:
    """It reads text."""
    table = Outcomes(
        inputs=np.ones((4, 2)), names=("a",), quality=np.ones((4, 1)), cost=np.ones((4, 1))
    )
    with pytest.raises(InputError, match="sequence of strings"):
        _fit(EllieSql(), table)
