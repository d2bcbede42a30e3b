"""Trace: refusals, loads, and the way to disk and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.core import DataError, InputError, Trace


def traces():
    """Traces of up to 5 tokens, 3 layers and 3 choices, with or without weights and requests."""

    @st.composite
    def draw_trace(draw):
        t, layers, k = draw(st.integers(0, 5)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
        e = draw(st.integers(1, 5))
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        experts = rng.integers(-1, e, size=(t, layers, k))
        weights = np.where(experts < 0, 0.0, rng.random(experts.shape))
        cuts = np.sort(rng.integers(0, t + 1, size=draw(st.integers(0, 3))))
        return Trace(
            experts=experts,
            e=e,
            weights=weights if draw(st.booleans()) else None,
            requests=np.concatenate(([0], cuts, [t])) if draw(st.booleans()) else None,
        )

    return draw_trace()


def same(one, two):
    if one is None or two is None:
        return one is two
    return one.dtype == two.dtype and one.shape == two.shape and (one == two).all()


@settings(deadline=None, max_examples=30)
@given(trace=traces(), suffix=st.sampled_from([".npz", ".parquet"]))
def test_survives_the_disk(tmp_path_factory, trace, suffix):
    """What is read is what was saved, in both formats, empty traces included."""
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path_factory.mktemp("trace") / f"trace{suffix}"
    trace.save(path)
    again = Trace.read(path)
    assert again.e == trace.e
    assert same(again.experts, trace.experts)
    assert same(again.weights, trace.weights)
    assert same(again.requests, trace.requests)


def make(**changes):
    fields = {"experts": np.array([[[0, 1]], [[2, -1]]]), "e": 3}
    return Trace(**(fields | changes))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"e": 0}, "trace.e"),
        ({"e": 2.0}, "trace.e"),
        ({"experts": np.zeros((2, 1, 2))}, "trace.experts"),
        ({"experts": np.zeros((2, 2), dtype=int)}, "trace.experts"),
        ({"experts": np.array([[[3, 0]]])}, "trace.experts"),
        ({"experts": np.array([[[-2, 0]]])}, "trace.experts"),
        ({"weights": np.ones((2, 1, 1))}, "trace.weights"),
        ({"weights": np.ones((2, 1, 2))}, "trace.weights"),
        ({"weights": np.array([[[-1.0, 1.0]], [[1.0, 0.0]]])}, "trace.weights[0, 0, 0]"),
        ({"requests": [0, 1]}, "trace.requests"),
        ({"requests": [1, 2]}, "trace.requests"),
        ({"requests": [0, 2, 1, 2]}, "trace.requests"),
        ({"requests": []}, "trace.requests"),
    ],
)
def test_refuses_by_name(changes, field):
    """Shapes, expert numbers, weights and offsets that break a rule are refused."""
    with pytest.raises(InputError) as caught:
        make(**changes)
    assert caught.value.field == field


def test_load_by_hand():
    """Shares of the choices kept, layer by layer; a layer with none is all zero."""
    trace = make(experts=np.array([[[0, 1], [-1, -1]], [[2, 0], [-1, -1]]]))
    np.testing.assert_allclose(trace.load(), [[0.5, 0.25, 0.25], [0, 0, 0]])


def test_from_logits_by_hand():
    """The two greatest logits of each layer, softmax between them, ties to the lower expert."""
    trace = Trace.from_logits(
        [np.array([[0.0, np.log(3.0), -9.0]]), np.array([[1.0, 1.0, 1.0]])], 2
    )
    assert trace.experts.tolist() == [[[1, 0], [0, 1]]]
    np.testing.assert_allclose(trace.weights, [[[0.75, 0.25], [0.5, 0.5]]], rtol=1e-6)
    with pytest.raises(InputError, match="k must"):
        Trace.from_logits([np.zeros((1, 2))], 3)


def test_unknown_suffix_is_refused(tmp_path):
    """Only .npz and .parquet are written and read."""
    with pytest.raises(InputError, match="parquet"):
        make().save(tmp_path / "trace.csv")
    with pytest.raises(InputError, match="parquet"):
        Trace.read(tmp_path / "trace.csv")


def test_foreign_files_are_refused(tmp_path):
    """A file of the right kind without a trace in it says what it misses."""
    np.savez(tmp_path / "other.npz", something=np.zeros(3))
    with pytest.raises(DataError, match="experts"):
        Trace.read(tmp_path / "other.npz")
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    parquet.write_table(arrow.table({"token": [0]}), tmp_path / "other.parquet")
    with pytest.raises(DataError, match="metadata"):
        Trace.read(tmp_path / "other.parquet")


def test_pickles_inside_are_not_opened(tmp_path):
    """An npz that holds objects is refused by numpy's own guard, never unpickled."""
    np.savez(tmp_path / "bad.npz", experts=np.array([{"a": 1}], dtype=object), e=np.int64(1))
    with pytest.raises(ValueError, match="pickle"):
        Trace.read(tmp_path / "bad.npz")
