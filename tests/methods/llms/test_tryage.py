"""Tryage: losses told from the prompt, penalties by weight, flags, models added later."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from turnout.core import InputError, Outcomes
from turnout.core._check import Float
from turnout.llms.tryage import FittedTryage, Tryage, _train
from turnout.parts import store
from turnout.parts.costs import CostModel
from turnout.parts.penalties import Penalties
from turnout.parts.priced import as_router
from turnout.parts.texts.encoder import Ready
from turnout.testing import Case

CASE = Case(Tryage(width=16, d=16, epochs=15))

SIZES = {"size": {"small": 1.0, "middle": 3.0, "large": 5.0}}
QUICK = Tryage(width=32, d=16, epochs=60, rate=5e-3, attributes=SIZES)


def _fit(recipe: Tryage, table: Outcomes) -> FittedTryage:
    return recipe.fit(table, table.pool(), rng=np.random.default_rng(0))


def _table(n: int = 300, *, noise: float = 0.0, seed: int = 1) -> Outcomes:
    """Sums suit the small, poems the middle; the large is a little worse than either's best."""
    rng = np.random.default_rng(seed)
    poem = rng.integers(0, 2, n)
    texts = [
        f"{('add up', 'rhyme a')[k]} {('number', 'poem')[k]} {('sum', 'verse')[k]} {i % 7}"
        for i, k in enumerate(poem)
    ]
    good = np.array([[0.9, 0.4, 0.8], [0.3, 0.9, 0.8]])[poem]
    good = np.clip(good + noise * rng.standard_normal((n, 1)), 0, 1)
    return Outcomes(
        inputs=texts,
        names=("small", "middle", "large"),
        quality=good,
        cost=np.tile([1.0, 3.0, 5.0], (n, 1)),
    )


SIZE = Penalties(
    keys=("size",),
    values=np.array([[10.0], [30.0]]),
    low=np.array([10.0]),
    high=np.array([30.0]),
    weights=np.array([0.0]),
    flags=(),
)


def _by_hand(**changes: Any) -> FittedTryage:
    """Two inputs, one hidden unit, two models."""
    fitted = FittedTryage(
        names=("a", "b"),
        encoder=Ready(2),
        embed=np.array([[2.0], [0.0]]),
        shift=np.array([-1.0]),
        read=np.array([[0.5, -1.0]]),
        bias=np.array([0.0, 0.2]),
        mean=np.array([0.4, 0.5]),
        spread=np.array([0.2, 0.1]),
        held=SIZE,
        costs=CostModel(np.array([1.0, 2.0]), np.zeros(2), np.zeros(2)),
    )
    return replace(fitted, **changes)


def test_a_prompt_by_hand() -> None:
    """The hidden unit is relu(2 - 1) = 1; losses 0.4 + 0.2 * 0.5 and 0.5 + 0.1 * (0.2 - 1)."""
    fitted = _by_hand()
    assert fitted.losses(np.array([[3.0, 0.0]]))[0] == pytest.approx([0.5, 0.42])
    quality, cost = fitted.predict(np.array([[3.0, 0.0]]))
    assert quality[0] == pytest.approx([0.5, 0.58])
    assert cost[0].tolist() == [1.0, 2.0]
    dear = fitted.with_penalties({"size": 0.1})
    assert dear.penalties(np.ones((1, 2)))[0] == pytest.approx([0.0, 0.1])
    assert dear.predict(np.array([[3.0, 0.0]]))[0][0] == pytest.approx([0.5, 0.48])


def test_a_row_outside_the_range_is_moved_as_a_whole() -> None:
    """The best stays best and differences to it stay, above one, below zero and wider than one."""
    asked = np.array([[3.0, 0.0]])
    high = _by_hand(mean=np.array([-0.5, -0.4]))
    assert high.predict(asked)[0][0] == pytest.approx([0.92, 1.0])
    low = _by_hand(mean=np.array([1.5, 1.4]))
    assert low.predict(asked)[0][0] == pytest.approx([0.0, 0.28])
    wide = _by_hand(held=replace(SIZE, values=np.array([[30.0], [10.0]]))).with_penalties(
        {"size": 9.0}
    )
    assert wide.predict(asked)[0][0] == pytest.approx([0.0, 1.0])


@pytest.mark.parametrize(
    "rows",
    [
        [[0.5, -0.5], [1.0, np.nan], [2.0, 1.0]],
        [[0.5, 0.5], [1.0, np.nan], [-0.2, -0.2]],  # nothing but level
    ],
)
def test_the_loss_is_of_differences_and_a_little_of_the_level(rows: list[list[float]]) -> None:
    """One step down the gradient of the stated loss, told by finite differences."""
    target = np.array(rows)
    vectors = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    recipe = Tryage(width=4, level=0.3, epochs=1, batch=3, decay=0.0, rate=1e-3)
    before: list[Float] = []

    class Rng:
        """Remembers the starting weights that it draws."""

        def __init__(self) -> None:
            self.inner = np.random.default_rng(0)

        def standard_normal(self, shape: Any) -> Float:
            drawn: Float = self.inner.standard_normal(shape)
            before.append(drawn * np.sqrt(2.0))
            return drawn

        def permutation(self, x: Any) -> Any:
            return self.inner.permutation(x)

    _, _, _, bias = _train(vectors, target, recipe, rng=Rng())  # type: ignore[arg-type]
    hidden = np.maximum(vectors @ before[0], 0.0)

    def loss(b: Float) -> float:
        wrong = hidden @ np.zeros((4, 2)) + b - target
        rbar = np.nanmean(wrong, axis=1, keepdims=True)
        seen = (~np.isnan(target)).sum(axis=1)
        return float((np.nansum((wrong - rbar) ** 2, axis=1) + 0.3 * seen * rbar[:, 0] ** 2).sum())

    slope = [(loss(1e-5 * np.eye(2)[j]) - loss(-1e-5 * np.eye(2)[j])) / 2e-5 for j in range(2)]
    # the first step of Adam goes by the rate against the sign of the slope
    assert bias == pytest.approx(-1e-3 * np.sign(slope), rel=1e-3)


def test_it_tells_who_is_better_where_prompts_differ_much_in_difficulty() -> None:
    """What a row has in common hardly counts: the order inside a row is learnt all the same."""
    table = _table(400, noise=0.3)
    fitted = _fit(QUICK, table)
    new = _table(200, seed=5)
    right = fitted.losses(new.inputs).argmin(axis=1) == new.quality.argmax(axis=1)
    assert right.mean() > 0.97


def test_mean_size_falls_as_its_weight_rises() -> None:
    """Never a larger model for a larger weight, and at a great one the smallest alone."""
    table = _table()
    fitted, size = _fit(QUICK, table), np.array(list(SIZES["size"].values()))
    before = np.inf
    for weight in (0.0, 0.1, 0.3, 0.6, 1.0, 50.0):
        choice = fitted.with_penalties({"size": weight}).predict(table.inputs)[0].argmax(axis=1)
        mean = float(size[choice].mean())
        assert mean <= before
        before = mean
    assert before == 1.0


def test_flags_add_weight_and_are_taken_out() -> None:
    """A named flag steers, in any case; an unknown one is taken out and does nothing."""
    recipe = replace(QUICK, flags={"Smaller  model": ("size", 50.0)})
    table = _table()
    fitted = _fit(recipe, table)
    text = "rhyme a poem verse 3"
    plain = fitted.predict([text])[0]
    assert plain.argmax() == 1
    flagged = f"[flag: smaller model] {text}"
    assert fitted.predict([flagged])[0].argmax() == 0
    assert fitted.losses([flagged]) == pytest.approx(fitted.losses([text]))
    assert fitted.predict([f"{text} [Flag: be free]"])[0] == pytest.approx(plain)
    assert fitted.stripped(f"{flagged} [FLAG:x]") == text
    assert fitted.predict([flagged, text])[1] == pytest.approx(fitted.predict([text] * 2)[1])


def test_flags_are_off_unless_named() -> None:
    """Then the text is only text, and is left as it is."""
    fitted = _fit(QUICK, _table())
    text = "[Flag: smaller model] rhyme a poem verse 3"
    assert fitted.penalties([text]).max() == 0.0
    assert fitted.stripped(text) == text
    assert fitted.predict([text])[0].argmax() == 1


def test_a_model_is_added_with_a_head_of_its_own() -> None:
    """The others stay to the bit and the ranges too; the newcomer is told apart by prompt."""
    table = _table()
    fitted = _fit(replace(QUICK, penalties={"size": 0.1}), table)
    poem = table.quality[:, 1] > 0.5
    newcomer = Outcomes(
        inputs=table.inputs,
        names=("poet",),
        quality=np.where(poem, 1.0, 0.1)[:, None],
        cost=np.full((table.n, 1), 7.0),
    )
    grown = fitted.add_model(newcomer, {"size": 9.0})
    assert grown.names == ("small", "middle", "large", "poet")
    assert (grown.losses(table.inputs)[:, :3] == fitted.losses(table.inputs)).all()
    told = grown.losses(table.inputs)[:, 3]
    assert told[poem].mean() < 0.1 < 0.8 < told[~poem].mean()
    assert grown.penalties(table.inputs)[0] == pytest.approx([0.0, 0.05, 0.1, 0.2])
    assert grown.predict(table.inputs)[1][:, 3] == pytest.approx(7.0)
    assert told.mean() == pytest.approx(1 - newcomer.quality.mean())
    thin = fitted.add_model(newcomer.take([0]), {"size": 1.0})
    assert thin.read[:, 3] == pytest.approx(fitted.read.mean(axis=1))
    assert np.isfinite(thin.losses(table.inputs)).all()


def test_the_predicted_losses_of_rows_are_not_moved_by_the_rows_judged() -> None:
    """Mean and spread are those of the fit, whatever is asked."""
    table = _table()
    fitted = _fit(QUICK, table)
    assert fitted.mean == pytest.approx(1 - table.quality.mean(axis=0))
    alone = fitted.losses([table.inputs[0]])[0]
    assert alone == pytest.approx(fitted.losses(table.inputs)[0])


def test_the_group_is_no_feature() -> None:
    """Labels of the rows change nothing."""
    table = _table()
    labelled = replace(table, group=tuple(str(q) for q in table.quality[:, 0]))
    one, two = _fit(QUICK, table), _fit(QUICK, labelled)
    assert (one.losses(table.inputs) == two.losses(table.inputs)).all()


def test_it_is_saved_with_its_weights_and_flags(tmp_path: Path) -> None:
    """From a file it says the same, and routes the same."""
    table = _table()
    recipe = replace(QUICK, penalties={"size": 0.2}, flags={"small": ("size", 1.0)})
    fitted = _fit(recipe, table)
    store.save(tmp_path / "r.turnout", fitted, table.pool())
    loaded = store.load(tmp_path / "r.turnout").router
    asked = [*table.inputs[:5], "[Flag: small] rhyme a poem"]
    assert (loaded.predict(asked)[0] == as_router(fitted).predict(asked)[0]).all()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"width": 0}, "tryage.width"),
        ({"level": 1.5}, "tryage.level"),
        ({"rate": 0.0}, "rate"),
        ({"d": 0}, "tryage.d"),
        ({"encoder": "bert"}, "encoder"),
        ({"penalties": {"age": 1.0}}, "tryage.penalties"),
        ({"attributes": SIZES, "penalties": {"size": -1.0}}, "tryage.penalties"),
        ({"attributes": {"size": {"small": float("nan")}}}, "tryage.attributes"),
        ({"attributes": SIZES, "flags": {"x": ("age", 1.0)}}, "tryage.flags"),
        ({"attributes": SIZES, "flags": {"x": "size"}}, "tryage.flags"),
    ],
)
def test_a_value_out_of_range_is_refused(values: dict[str, Any], field: str) -> None:
    """When the recipe is made, by name."""
    with pytest.raises(InputError, match=field):
        Tryage(**values)


def test_what_cannot_be_weighed_or_added_is_refused() -> None:
    """An attribute without a value, an unknown one, a name twice, two newcomers at once."""
    table = _table(40)
    with pytest.raises(InputError, match="'large'"):
        _fit(Tryage(attributes={"size": {"small": 1.0, "middle": 2.0}}), table)
    fitted = _fit(QUICK, table)
    with pytest.raises(InputError, match="name attributes"):
        fitted.with_penalties({"age": 1.0})
    with pytest.raises(InputError, match="be new"):
        fitted.add_model(table.select(["small"]), {"size": 1.0})
    with pytest.raises(InputError, match="one destination"):
        fitted.add_model(table, {"size": 1.0})
    other = replace(table.select(["small"]), names=("poet",))
    with pytest.raises(InputError, match="size"):
        fitted.add_model(other)
