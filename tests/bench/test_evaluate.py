from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from turnout.bench import evaluate, folds, landmarks, sweep
from turnout.bench.results import KEYS
from turnout.core import Budget, DataError, InputError, Outcomes

TRIO = Outcomes(
    inputs=("p", "q", "r", "s"),
    names=("small", "large"),
    quality=np.array([[1.0, 1], [0, 1], [1, 0], [0, 1]]),
    cost=np.tile([1.0, 3.0], (4, 1)),
    group=("x", "x", "y", "y"),
)


def truth_of(table: Outcomes) -> dict[str, tuple[float, ...]]:
    return {str(text): tuple(row) for text, row in zip(table.inputs, table.quality, strict=True)}


def test_landmarks_and_a_method_are_the_hand_worked_values(kit: SimpleNamespace) -> None:
    """Four rows by hand: small is right on half, large on three; the oracle needs two large."""
    found = evaluate(TRIO, {"known": kit.Known(truth_of(TRIO), (1.0, 3.0))}, folds=2, resamples=20)
    assert found.cost_range == (1.0, 3.0)
    zero = found.row("zero_router")
    assert zero.aiq == pytest.approx((0.5 + 0.75) / 2)
    assert zero.apgr == pytest.approx(0.5)
    assert zero.cost_to_match == pytest.approx(3.0)
    assert found.row("random_mixture").aiq == pytest.approx(zero.aiq)
    assert (found.row("cheapest").quality, found.row("cheapest").cost) == (0.5, 1.0)
    assert (found.row("best_single").quality, found.row("best_single").cost) == (0.75, 3.0)
    oracle = found.row("oracle")
    # rises from (1, .5) to (2, 1), then flat to 3
    assert oracle.aiq == pytest.approx((0.75 + 1) / 2)
    assert oracle.cost_to_match == pytest.approx(1.5)
    # gains 1, 1, 0, -1 of a gap of 1/4, one call at a time
    assert oracle.apgr == pytest.approx(np.trapezoid([0, 1, 2, 2, 1], dx=0.25))
    known = found.row("known")
    assert known.aiq == pytest.approx(oracle.aiq)
    assert known.ece == 0
    assert known.decision_us_p50 > 0
    assert found.best_method() is known


def test_every_row_is_judged_without_having_been_learnt_from(kit: SimpleNamespace) -> None:
    """No test prompt of a fold is among its training prompts, and all rows are judged once."""
    table = kit.two_models(40)
    method = kit.Known(truth_of(table), (1.0, 5.0))
    assert evaluate(table, {"known": method}, folds=4, resamples=5).n == 40
    parts = folds.splits(table, folds=4, seed=0)
    assert [tuple(table.inputs[i] for i in train) for train, _ in parts] == method.fitted_on
    assert sorted(np.concatenate([test for _, test in parts]).tolist()) == list(range(40))
    for train, test in parts:
        assert not {table.inputs[i] for i in train} & {table.inputs[i] for i in test}


def test_equal_prompts_share_a_fold(kit: SimpleNamespace) -> None:
    """A repeated prompt would leak its answer from one fold to the other."""
    table = kit.two_models(12)
    twice = Outcomes(
        inputs=(*table.inputs, *table.inputs),
        names=table.names,
        quality=np.vstack([table.quality] * 2),
        cost=np.vstack([table.cost] * 2),
    )
    for train, test in folds.splits(twice, folds=3, seed=1):
        assert not {twice.inputs[i] for i in train} & {twice.inputs[i] for i in test}


def test_groups_are_left_out_whole(kit: SimpleNamespace) -> None:
    """Every label is in one test part, and in no training part of it."""
    table = kit.two_models(40)
    parts = folds.splits(table, folds=5, leave_groups_out=True)
    assert len(parts) == 2
    assert table.group is not None
    for train, test in parts:
        assert not {table.group[i] for i in train} & {table.group[i] for i in test}
    with pytest.raises(InputError, match="two group labels"):
        folds.splits(replace(table, group=None), leave_groups_out=True)


def test_a_prompt_of_two_groups_does_not_leak(kit: SimpleNamespace) -> None:
    """Left out with one label, it is not learnt from under the other."""
    table = kit.two_models(8)
    same = replace(table, inputs=("p", *table.inputs[1:-1], "p"), group=tuple("aaaabbbb"))
    for train, test in folds.splits(same, leave_groups_out=True):
        assert not {same.inputs[i] for i in train} & {same.inputs[i] for i in test}


def test_rows_with_a_blank_teach_but_do_not_judge(kit: SimpleNamespace) -> None:
    """They reach fit, not the frontier, and are counted in a note."""
    table = kit.two_models(40, blanks=4)
    method = kit.Known(dict.fromkeys(table.inputs, (0.5, 0.6)), (1.0, 5.0))
    found = evaluate(table, {"known": method}, folds=4, resamples=5)
    assert (found.n, found.total) == (36, 40)
    assert sum(len(texts) for texts in method.fitted_on) == 3 * 40
    assert any("4 of 40 rows have a blank" in note for note in found.notes)


def test_another_table_judges_and_its_repeats_are_counted(kit: SimpleNamespace) -> None:
    """Everything is fitted on the first table; columns are matched by name."""
    table = kit.two_models(40)
    train, held = table.take(range(30)), table.take(range(25, 40)).select(("large", "small"))
    method = kit.Known(truth_of(table), (1.0, 5.0))
    found = evaluate(train, {"known": method}, test=held, resamples=5)
    assert method.fitted_on == [train.inputs]
    assert found.n == 15
    assert found.names == ("small", "large")
    assert any("5 of 15 test rows repeat" in note for note in found.notes)
    assert found.row("known").aiq == pytest.approx(found.row("oracle").aiq)
    with pytest.raises(DataError, match="test table must hold 'small'"):
        evaluate(train, {}, test=held.select(("large",)))


def test_knowing_nothing_gains_nothing(kit: SimpleNamespace) -> None:
    """A constant prediction moves all rows at once: exactly the random mixture."""
    table = kit.two_models(40)
    flat = kit.Known(dict.fromkeys(table.inputs, (0.4, 0.6)), (1.0, 5.0))
    found = evaluate(table, {"flat": flat}, folds=2, resamples=5)
    assert found.row("flat").aiq == pytest.approx(found.row("random_mixture").aiq)
    assert found.row("flat").apgr == pytest.approx(0.5)


def test_a_plain_router_is_swept_by_its_budget(kit: SimpleNamespace) -> None:
    """A coin between the two ends lies on the random mixture, up to its luck."""
    table = kit.two_models(400)
    found = evaluate(table, {"coin": kit.Coin()}, folds=2, resamples=20)
    assert found.row("coin").aiq == pytest.approx(found.row("random_mixture").aiq, abs=0.03)
    assert found.row("coin").apgr == pytest.approx(0.5, abs=0.1)


def test_a_cascade_pays_for_every_answer_it_asks_for(kit: SimpleNamespace) -> None:
    """Two rows of four go on to the dear destination: cost (4 * 1 + 2 * 3) / 4."""
    answers = np.array([["yes", "yes"], ["no", "yes"], ["yes", "no"], ["no", "yes"]], dtype=object)
    table = replace(TRIO, answers=answers)
    ladder = kit.Ladder().fit(table, table.pool(), rng=np.random.default_rng(0))
    rng = np.random.default_rng(0)
    played = sweep.play(ladder, table, table.pool(), Budget(price=0.0), rng)
    assert played.cost.tolist() == [1, 4, 1, 4]
    assert played.quality.tolist() == [1, 1, 1, 1]
    assert played.asked.tolist() == [[True, False], [True, True], [True, False], [True, True]]
    dear = sweep.play(ladder, table, table.pool(), Budget(price=2.0), rng)
    assert dear.cost.tolist() == [1, 1, 1, 1]
    found = evaluate(table, {"ladder": kit.Ladder()}, folds=2, resamples=5)
    # (1, .5) to (2.5, 1), then flat to 3
    assert found.row("ladder").aiq == pytest.approx((0.75 * 1.5 + 1 * 0.5) / 2)
    assert math.isnan(found.row("ladder").ece)


def test_records_have_exactly_the_published_keys(kit: SimpleNamespace) -> None:
    """None where undefined, and never NaN."""
    table = kit.two_models(40)
    found = evaluate(table, {"coin": kit.Coin()}, folds=2, resamples=5)
    records = found.records()
    assert [record["method"] for record in records] == [*landmarks.LABELS, "coin"]
    for record in records:
        assert tuple(record) == KEYS
        assert all(value is None or value == value for value in record.values())
        assert (record["n"], record["groups"]) == (40, 2)
    assert records[1]["aiq"] is None
    assert records[0]["aiq_low"] <= records[0]["aiq"] <= records[0]["aiq_high"]
    unlabelled = evaluate(replace(table, group=None), {}, folds=2, resamples=5)
    assert unlabelled.row("group_mean").frontier is None
    assert unlabelled.records()[0]["groups"] is None


def test_the_same_seed_gives_the_same_figures(kit: SimpleNamespace) -> None:
    """Folds, fits and intervals all come from the seed; only the times differ."""
    table = kit.two_models(40)

    def figures(seed: int) -> list[dict[str, object]]:
        rows = evaluate(table, {"coin": kit.Coin()}, folds=2, seed=seed, resamples=20).records()
        return [{k: v for k, v in row.items() if "decision" not in k} for row in rows]

    assert figures(1) == figures(1)
    assert figures(1) != figures(2)


def test_paired_difference_of_a_method_with_itself_is_nothing(kit: SimpleNamespace) -> None:
    """The same rows are drawn for every method."""
    table = kit.two_models(40)
    known = kit.Known(truth_of(table), (1.0, 5.0))
    found = evaluate(table, {"one": known, "other": known}, folds=2, resamples=30)
    assert found.difference("one", "other") == (0.0, 0.0, 0.0)
    better = found.difference("one", "random_mixture")
    assert better is not None
    assert better[1] > 0
    assert found.difference("one", "best_single") is None


def test_a_method_may_pass_over_a_table_only_where_allowed(kit: SimpleNamespace) -> None:
    """Asked for by name, its refusal is an error; in the default set it is a note."""

    class Picky:
        def fit(self, *_: object, **__: object) -> object:
            raise InputError("outcomes", "hold answers", None, "Add them.")

    table = kit.two_models(40)
    with pytest.raises(InputError, match="hold answers"):
        evaluate(table, {"picky": Picky()}, folds=2, resamples=5)  # type: ignore[dict-item]
    found = evaluate(
        table,
        {"picky": Picky(), "coin": kit.Coin()},  # type: ignore[dict-item]
        folds=2,
        resamples=5,
        may_fail=("picky",),
    )
    assert [name for name, _ in found.skipped] == ["picky"]
    assert not math.isnan(found.row("coin").aiq)


def test_wrong_predictions_are_named(kit: SimpleNamespace) -> None:
    """A NaN or a missing row is the method's fault, and said to be."""
    table = kit.two_models(12)
    wrong = kit.Known({text: (0.5, float("nan")) for text in table.inputs}, (1.0, 5.0))
    with pytest.raises(InputError, match="predicted quality must be finite"):
        evaluate(table, {"wrong": wrong}, folds=2, resamples=5)


def test_a_log_of_single_choices_cannot_be_judged() -> None:
    """Without a row that tells all destinations there is no frontier."""
    log = Outcomes(
        inputs=("a", "b", "c"),
        names=("s", "l"),
        quality=np.array([[1, np.nan], [np.nan, 1], [0, np.nan]]),
        cost=np.ones((3, 2)),
    )
    with pytest.raises(DataError, match="every destination"):
        evaluate(log, {}, folds=2)


def test_length_prior_follows_the_length() -> None:
    """Where only long prompts fail, a long prompt is predicted to fail."""
    n = 400
    inputs = ["w" * (400 if i % 2 else 10) for i in range(n)]
    quality = np.where(np.arange(n)[:, None] % 2 == 1, [0.0, 1.0], [1.0, 1.0])
    table = Outcomes(inputs=inputs, names=("s", "l"), quality=quality, cost=np.ones((n, 2)))
    predicted, cost = landmarks.by_length(table, table.take([0, 1]))
    assert predicted[0, 0] > 0.9 > 0.1 > predicted[1, 0]
    assert cost.shape == (2, 2)


def test_group_mean_is_pulled_towards_the_overall_mean() -> None:
    """Two rows of a group count as two against ten of the whole; a new group has the mean."""
    seen = Outcomes(
        inputs=("a", "b", "c", "d"),
        names=("s", "l"),
        quality=np.array([[1.0, 0], [1, 0], [0, 0], [0, np.nan]]),
        cost=np.ones((4, 2)),
        group=("x", "x", "y", "y"),
    )
    asked = Outcomes(
        inputs=("e", "f"), names=seen.names, quality=np.ones((2, 2)), cost=np.ones((2, 2)),
        group=("x", "new"),
    )  # fmt: skip
    predicted = landmarks.by_group(seen, asked)
    assert predicted is not None
    np.testing.assert_allclose(predicted[0], [[(2 + 10 * 0.5) / 12, 0], [0.5, 0]])


def test_one_label_for_all_rows_is_no_label(kit: SimpleNamespace) -> None:
    """A label that every row shares tells nothing: the row is there, its figures are not."""
    table = replace(kit.two_models(20), group=("same",) * 20)
    found = evaluate(table, {}, folds=2, resamples=5)
    assert found.row("group_mean").frontier is None
    assert found.groups == 1


def test_a_destination_seen_in_one_fold_alone_is_named() -> None:
    """A model with one row cannot be both learnt from and judged: said so, with its rows."""
    n = 30
    quality = np.tile([1.0, 0.0, 1.0], (n, 1))
    quality[1:, 2] = np.nan
    table = Outcomes(
        inputs=[f"prompt {i}" for i in range(n)],
        names=("a", "b", "rare"),
        quality=quality,
        cost=np.tile([1.0, 2.0, 3.0], (n, 1)),
    )
    with pytest.raises(InputError, match=r"'rare' must be seen in rows of two folds.*1 row"):
        evaluate(table, {}, folds=3)
