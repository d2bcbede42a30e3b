"""Trace: refusals, loads, parts and joins, and the way to disk and back."""

from __future__ import annotations

import pickle
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.core import DataError, InputError, MissingExtraError, Trace

ARRAYS = ("experts", "weights", "requests", "tokens", "positions", "phase", "mask", "dropped")


def traces(e=None):
    """Traces of up to 5 tokens, 3 layers and 3 choices, each optional field there or not."""

    @st.composite
    def draw_trace(draw):
        t, layers, k = draw(st.integers(0, 5)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
        n = draw(st.integers(1, 5)) if e is None else e
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

        def maybe(value):
            return value if draw(st.booleans()) else None

        experts = rng.integers(-1, n, size=(t, layers, k))
        mask = maybe(rng.random(t) < 0.7)
        if mask is not None:
            experts[~mask] = -1
        dropped = (experts < 0) & (rng.random(experts.shape) < 0.5)
        if mask is not None:
            dropped[~mask] = False
        weights = np.where(experts < 0, 0.0, rng.random(experts.shape))
        cuts = np.sort(rng.integers(0, t + 1, size=draw(st.integers(0, 3))))
        tags = maybe({"domain": rng.integers(-1, 2, t), "language": rng.integers(-1, 9, t)}) or {}
        return Trace(
            experts=experts,
            e=n,
            weights=maybe(weights),
            requests=maybe(np.concatenate(([0], cuts, [t]))),
            tokens=maybe(rng.integers(-1, 50_000, t)),
            positions=maybe(rng.integers(-1, 99, t)),
            phase=maybe(rng.integers(-1, 2, t)),
            mask=mask,
            dropped=maybe(dropped),
            layers=maybe(np.cumsum(rng.integers(1, 4, layers))),
            tags=tags,
            tag_names={"domain": ("arxiv", 'co"de, ü')} if tags and draw(st.booleans()) else {},
            meta={"model": "Ünïcode", "k": str(k)} if draw(st.booleans()) else {},
        )

    return draw_trace()


def same(one, two):
    if one is None or two is None:
        return one is two
    return one.dtype == two.dtype and one.shape == two.shape and (one == two).all()


def alike(one, two):
    """Whether two traces say the same."""
    assert one.e == two.e
    for name in (*ARRAYS, "layers"):
        assert same(getattr(one, name), getattr(two, name)), name
    assert one.tags.keys() == two.tags.keys()
    assert all(same(one.tags[tag], two.tags[tag]) for tag in one.tags)
    assert (dict(one.tag_names), dict(one.meta)) == (dict(two.tag_names), dict(two.meta))
    return True


@settings(deadline=None, max_examples=60)
@given(trace=traces(), suffix=st.sampled_from([".npz", ".parquet"]))
def test_survives_the_disk(tmp_path_factory, trace, suffix):
    """What is read is what was saved, in both formats, empty traces included."""
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    folder = tmp_path_factory.mktemp("trace")
    path = folder / f"trace{suffix}"
    trace.save(path)
    renamed = path.rename(folder / "whatever.bin")
    assert alike(Trace.read(renamed), trace)
    assert [left.name for left in folder.iterdir()] == ["whatever.bin"]


@settings(deadline=None, max_examples=20)
@given(trace=traces())
def test_survives_a_pickle(trace):
    """A trace can be handed to another process; what arrives is read-only, too."""
    again = pickle.loads(pickle.dumps(trace))
    assert alike(again, trace)
    assert not again.experts.flags.writeable
    with pytest.raises(TypeError):
        again.meta["model"] = "another"


def test_large_parquet_files_are_written_in_parts(tmp_path, monkeypatch):
    """Groups of rows begin and end anywhere between tokens."""
    pytest.importorskip("pyarrow")
    from turnout.core import _tracefiles

    monkeypatch.setattr(_tracefiles, "_ROWS", 7)
    rng = np.random.default_rng(0)
    trace = Trace(
        experts=rng.integers(0, 4, (23, 2, 2)),
        e=4,
        tags={"domain": rng.integers(-1, 3, 23)},
        tag_names={"domain": ("a", "b", "c")},
        mask=np.ones(23, dtype=bool),
    )
    trace.save(tmp_path / "t.parquet")
    assert alike(Trace.read(tmp_path / "t.parquet"), trace)


def test_parquet_columns_read_well_elsewhere(tmp_path):
    """One row a choice; tags by their names, unknown ones empty, layers by their numbers."""
    pytest.importorskip("pyarrow")
    import pandas as pd

    trace = Trace(
        experts=np.array([[[0, 1], [2, -1]], [[1, 2], [0, 1]]]),
        e=3,
        requests=[0, 1, 2],
        layers=[3, 5],
        tokens=[7, 8],
        dropped=np.array([[[0, 0], [0, 1]], [[0, 0], [0, 0]]], dtype=bool),
        tags={"domain": [-1, 1]},
        tag_names={"domain": ("arxiv", "code")},
    )
    trace.save(tmp_path / "t.parquet")
    frame = pd.read_parquet(tmp_path / "t.parquet")
    assert len(frame) == 8
    row = frame.iloc[3]
    assert (row["token"], row["layer"], row["slot"], row["expert"]) == (0, 1, 1, -1)
    assert (row["layer_number"], row["request"], row["token_id"]) == (5, 0, 7)
    assert row["dropped"]
    assert frame["tag.domain"].isna().tolist() == [True] * 4 + [False] * 4
    assert frame["tag.domain"].iloc[7] == "code"


def test_files_of_the_first_format_still_read(tmp_path):
    """Traces written before there were headers: arrays and a few words of metadata alone."""
    experts = np.array([[[0, 1]], [[2, -1]]], dtype=np.int32)
    weights = np.array([[[0.5, 0.5]], [[1.0, 0.0]]], dtype=np.float32)
    requests = np.array([0, 1, 2])
    fields = {"experts": experts, "weights": weights, "requests": requests}
    np.savez_compressed(tmp_path / "old.npz", e=np.int64(3), **fields)
    old = Trace(**fields, e=3)
    assert alike(Trace.read(tmp_path / "old.npz"), old)
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    columns = {
        "token": np.array([0, 0, 1, 1], dtype=np.int32),
        "layer": np.zeros(4, dtype=np.int32),
        "slot": np.array([0, 1, 0, 1], dtype=np.int32),
        "expert": experts.ravel(),
        "weight": weights.ravel(),
    }
    meta = {"turnout.t": "2", "turnout.l": "1", "turnout.k": "2", "turnout.e": "3"}
    table = arrow.table(columns).replace_schema_metadata(meta | {"turnout.requests": "0,1,2"})
    parquet.write_table(table, tmp_path / "old.parquet")
    assert alike(Trace.read(tmp_path / "old.parquet"), old)


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
        ({"experts": np.zeros((2, 0, 2), dtype=int)}, "trace.experts"),
        ({"tokens": [1]}, "trace.tokens"),
        ({"tokens": [1.0, 2.0]}, "trace.tokens"),
        ({"tokens": [1, -2]}, "trace.tokens"),
        ({"positions": [[0, 1]]}, "trace.positions"),
        ({"phase": [0, 2]}, "trace.phase"),
        ({"mask": [1, 1]}, "trace.mask"),
        ({"mask": np.array([True, False])}, "trace.mask"),
        ({"dropped": np.zeros((2, 1, 2))}, "trace.dropped"),
        ({"dropped": np.ones((2, 1, 2), dtype=bool)}, "trace.dropped"),
        ({"dropped": np.zeros((2, 1, 1), dtype=bool)}, "trace.dropped"),
        ({"layers": [-1]}, "trace.layers"),
        ({"layers": [3, 4]}, "trace.layers"),
        ({"experts": np.zeros((1, 2, 1), dtype=int), "layers": [3, 3]}, "trace.layers"),
        ({"tags": {"domain": [0]}}, "trace.tags['domain']"),
        ({"tags": {" ": [0, 0]}}, "trace.tags"),
        ({"tag_names": {"domain": ("a",)}}, "trace.tag_names['domain']"),
        (
            {"tags": {"domain": [0, 1]}, "tag_names": {"domain": ("a",)}},
            "trace.tag_names['domain']",
        ),
        (
            {"tags": {"domain": [0, 1]}, "tag_names": {"domain": ("a", "a")}},
            "trace.tag_names['domain']",
        ),
        ({"meta": {"k": 2}}, "trace.meta"),
    ],
)
def test_refuses_by_name(changes, field):
    """Shapes, expert numbers, weights and offsets that break a rule are refused."""
    with pytest.raises(InputError) as caught:
        make(**changes)
    assert caught.value.field == field


def test_a_masked_token_drops_nothing():
    """A token that is not there cannot have been dropped."""
    with pytest.raises(InputError, match=r"trace.dropped must be False where the mask is"):
        Trace(
            experts=-np.ones((1, 1, 1), dtype=int),
            e=1,
            mask=np.array([False]),
            dropped=np.ones((1, 1, 1), dtype=bool),
        )


def test_shape_by_letters():
    """t, l and k are the shape; layers are counted from 0 unless they have numbers."""
    trace = make()
    assert (trace.t, trace.l, trace.k) == (2, 1, 2)
    assert trace.layer_numbers.tolist() == [0]
    assert make(layers=[4]).layer_numbers.tolist() == [4]


@settings(deadline=None, max_examples=40)
@given(data=st.data(), trace=traces())
def test_selecting_layers_keeps_their_numbers(data, trace):
    """A part has the columns of its layers, and can be selected from again by number."""
    numbers = trace.layer_numbers.tolist()
    chosen = sorted(data.draw(st.sets(st.sampled_from(numbers), min_size=1)))
    part = trace.select(layers=chosen)
    at = [numbers.index(number) for number in chosen]
    assert part.layer_numbers.tolist() == chosen
    assert (part.experts == trace.experts[:, at]).all()
    assert alike(part.select(layers=chosen), part)


@settings(deadline=None, max_examples=40)
@given(trace=traces())
def test_requests_can_be_taken_apart_and_joined(trace):
    """Every request on its own, joined in order, is the trace again."""
    if trace.requests is None:
        with pytest.raises(InputError, match=r"trace.requests must be known"):
            trace.select(requests=[0])
        trace = Trace.concatenate([trace])
    r = len(trace.requests) - 1
    apart = [trace.select(requests=[number]) for number in range(r)]
    assert alike(Trace.concatenate(apart), trace)
    assert alike(trace.select(requests=range(r)), trace)
    back = trace.select(requests=range(r - 1, -1, -1)).select(requests=range(r - 1, -1, -1))
    assert alike(back, trace)


@pytest.mark.parametrize(
    ("part", "match"),
    [
        ({"layers": [1]}, "layers must be at least one of"),
        ({"layers": []}, "layers must be at least one of"),
        ({"requests": [2]}, "requests must lie in"),
        ({"requests": [-1]}, "requests must lie in"),
    ],
)
def test_parts_that_are_not_there_are_refused(part, match):
    """Layers and requests are named by what the trace has."""
    with pytest.raises(InputError, match=match):
        make(requests=[0, 1, 2]).select(**part)


def test_joining_fills_what_is_unknown():
    """-1, True and False stand in where only one of two traces knows; k grows to the larger."""
    one = make(tokens=[5, 6], tags={"domain": [0, 1]}, meta={"model": "m", "seed": "1"})
    wide = np.array([[[0, 1, 2]], [[-1, -1, -1]], [[-1, -1, -1]]])
    two = Trace(
        experts=wide,
        e=3,
        requests=[0, 2, 3],
        phase=[0, 1, 1],
        mask=np.array([True, False, True]),
        dropped=np.array([[[False] * 3], [[False] * 3], [[True, False, False]]]),
        meta={"model": "m", "seed": "2"},
    )
    both = Trace.concatenate([one, two])
    assert both.experts[:, 0].tolist() == [[0, 1, -1], [2, -1, -1], *wide[:, 0].tolist()]
    assert both.requests.tolist() == [0, 2, 4, 5]
    assert both.tokens.tolist() == [5, 6, -1, -1, -1]
    assert both.phase.tolist() == [-1, -1, 0, 1, 1]
    assert both.mask.tolist() == [True, True, True, False, True]
    assert both.dropped.sum() == 1
    assert both.tags["domain"].tolist() == [0, 1, -1, -1, -1]
    assert dict(both.meta) == {"model": "m"}
    assert both.weights is None


@pytest.mark.parametrize(
    ("other", "match"),
    [
        ({"e": 4}, "all have 3 experts"),
        ({"layers": [7]}, "all have 3 experts in layers"),
        ({"weights": np.array([[[1.0, 1.0]], [[1.0, 0.0]]])}, "all have weights, or none"),
        ({"tags": {"d": [0, 0]}, "tag_names": {"d": ("b",)}}, "traces' tag 'd' must"),
    ],
)
def test_traces_of_different_models_are_not_joined(other, match):
    """Other experts, layers, weights or names of tags cannot stand in one trace."""
    first = make(tags={"d": [0, 0]}, tag_names={"d": ("a",)})
    with pytest.raises(InputError, match=match):
        Trace.concatenate([first, make(**other)])
    with pytest.raises(InputError, match="at least one trace"):
        Trace.concatenate([])


def test_real_leaves_the_masked_tokens_out():
    """Requests keep their order, one of masked tokens alone becomes empty."""
    trace = Trace(
        experts=np.array([[[0]], [[-1]], [[-1]], [[2]]]),
        e=3,
        mask=np.array([True, False, False, True]),
        requests=[0, 2, 3, 4],
        tokens=[4, 5, 6, 7],
    )
    real = trace.real()
    assert real.experts.ravel().tolist() == [0, 2]
    assert real.requests.tolist() == [0, 1, 1, 2]
    assert real.tokens.tolist() == [4, 7]
    assert real.mask is None
    assert real.real() is real
    assert make(mask=np.array([True, True])).real().mask is None


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


def test_from_logits_leaves_out_what_is_impossible():
    """-infinity is never chosen: its slot stays empty, with weight 0."""
    trace = Trace.from_logits([np.array([[0.0, -np.inf, -np.inf], [-np.inf] * 3])], 2)
    assert trace.experts[:, 0].tolist() == [[0, -1], [-1, -1]]
    np.testing.assert_allclose(trace.weights[:, 0], [[1, 0], [0, 0]])


@pytest.mark.parametrize(
    ("logits", "match"),
    [
        ([], "at least one layer"),
        ([np.zeros(3)], "logits"),
        ([np.zeros((1, 3)), np.zeros((1, 2))], "logits"),
        ([np.array([[0.0, np.nan]])], "not be NaN"),
        ([np.array([[0.0, np.inf]])], "not be infinite"),
    ],
)
def test_from_logits_refuses_what_it_cannot_rank(logits, match):
    """Ragged layers, NaN and +infinity are refused by name."""
    with pytest.raises(InputError, match=match):
        Trace.from_logits(logits, 1)


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


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_damaged_files_are_refused(tmp_path, suffix):
    """A file cut short, and one that is something else, are one clear error."""
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"trace{suffix}"
    make().save(path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="whole"):
        Trace.read(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match="archive or a Parquet file"):
        Trace.read(path)


def test_a_failed_save_leaves_the_earlier_file(tmp_path):
    """Nowhere to write is an error of its own; nothing is left behind."""
    with pytest.raises(InputError, match="can be written"):
        make().save(tmp_path / "no" / "folder.npz")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(InputError, match="can be written"):
        make().save(tmp_path / "folder.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.npz"]


def test_parquet_needs_its_extra(tmp_path, monkeypatch):
    """Without pyarrow the message is the line that installs it."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"turnout\[parquet\]"):
        make().save(tmp_path / "trace.parquet")


def test_pickles_inside_are_not_opened(tmp_path):
    """An npz that holds objects is refused by numpy's own guard, never unpickled."""
    np.savez(tmp_path / "bad.npz", experts=np.array([{"a": 1}], dtype=object), e=np.int64(1))
    with pytest.raises(ValueError, match="pickle"):
        Trace.read(tmp_path / "bad.npz")
