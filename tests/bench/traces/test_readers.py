"""Files are told apart by what is in them, and what is unknown says what was looked for."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from turnout.bench.traces import Statistics, read_trace
from turnout.core import DataError, InputError, MissingExtraError, Trace

EXPERTS = np.array([[[1, 0], [2, 3]], [[0, 4], [3, 2]], [[2, 1], [0, 1]]])


def as_jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_our_own_files(routers: SimpleNamespace, tmp_path: Path, suffix: str) -> None:
    """What Trace.save wrote, whatever it is called now."""
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    trace = routers.full()
    trace.save(tmp_path / f"t{suffix}")
    path = (tmp_path / f"t{suffix}").rename(tmp_path / "routes")
    again = read_trace(path)
    assert isinstance(again, Trace)
    assert (again.experts == trace.experts).all()
    assert dict(again.meta) == dict(trace.meta)


def test_arrays_of_expert_numbers(tmp_path: Path) -> None:
    """.npy of three axes has k choices, of two axes one; the number of experts can be said."""
    np.save(tmp_path / "three.npy", EXPERTS.astype(np.int16))
    np.save(tmp_path / "two.npy", EXPERTS[:, :, 0])
    three, two = read_trace(tmp_path / "three.npy"), read_trace(tmp_path / "two.npy", e=64)
    assert isinstance(three, Trace)
    assert isinstance(two, Trace)
    assert (three.experts == EXPERTS).all()
    assert three.e == 5
    assert three.meta["experts"] == "the largest number seen, plus one"
    assert two.experts[:, :, 0].tolist() == EXPERTS[:, :, 0].tolist()
    assert two.e == 64
    with pytest.raises(InputError, match=r"trace.experts must lie in \[-1, 2\]"):
        read_trace(tmp_path / "three.npy", e=3)


@pytest.mark.parametrize(
    "text",
    [
        "1,2\n0,3\n2,0\n",
        "layer_0,layer_1\n1,2\n0,3\n2,0\n",
        "1 2\n0 3\n2 0\n",
        "L3;L4\n1;2\n0;3\n2;0",
    ],
)
def test_tables_of_expert_numbers(tmp_path: Path, text: str) -> None:
    """CSV with commas, semicolons or spaces, with or without a header of layers."""
    (tmp_path / "t.csv").write_text(text)
    trace = read_trace(tmp_path / "t.csv")
    assert isinstance(trace, Trace)
    assert trace.experts[:, :, 0].tolist() == [[1, 2], [0, 3], [2, 0]]


@pytest.mark.parametrize("pack", [lambda raw: raw, gzip.compress])
def test_answers_of_vllm(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    """One document, a list of them, or one a line; packed or not."""
    row = {"prompt_routed_experts": EXPERTS.tolist(), "choices": []}
    for text in (json.dumps(row, indent=1), json.dumps([row]), f"{json.dumps(row)}\n\n"):
        (tmp_path / "answers").write_bytes(pack(text.encode()))
        trace = read_trace(tmp_path / "answers")
        assert isinstance(trace, Trace)
        assert (trace.experts == EXPERTS).all()
    two = as_jsonl(tmp_path / "two.jsonl", [row, row])
    assert read_trace(two).requests.tolist() == [0, 3, 6]  # type: ignore[union-attr]


def test_nested_lists_of_expert_numbers(tmp_path: Path) -> None:
    """JSON of [tokens][layers][k] alone."""
    (tmp_path / "t.json").write_text(json.dumps(EXPERTS.tolist()))
    assert (read_trace(tmp_path / "t.json").experts == EXPERTS).all()  # type: ignore[union-attr]


def logits(t: int = 4, e: int = 6) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {f"layer_{number}": rng.normal(size=(t, e)) for number in (2, 10, 1)}


def test_router_logits(tmp_path: Path) -> None:
    """Layers in the order of their numbers, the k greatest by softmax."""
    arrays = logits()
    np.savez(tmp_path / "t.npz", **arrays)
    trace = read_trace(tmp_path / "t.npz", k=2)
    assert isinstance(trace, Trace)
    assert trace.layers.tolist() == [1, 2, 10]
    expected = Trace.from_logits([arrays[f"layer_{n}"] for n in (1, 2, 10)], 2)
    assert (trace.experts == expected.experts).all()
    np.testing.assert_allclose(trace.weights, expected.weights, atol=1e-6)
    with pytest.raises(InputError, match="--top-k"):
        read_trace(tmp_path / "t.npz")
    with pytest.raises(InputError, match="k must be a whole number"):
        read_trace(tmp_path / "t.npz", k=7)


def test_router_probabilities(tmp_path: Path) -> None:
    """Values that are a softmax already are not put through it again."""
    arrays = logits()
    chances = {}
    for key, values in arrays.items():
        share = np.exp(values)
        chances[key] = (share / share.sum(axis=1, keepdims=True)).astype(np.float16)
    np.savez(tmp_path / "logits.npz", **arrays)
    np.savez(tmp_path / "chances.npz", **chances)
    one, two = (read_trace(tmp_path / f"{name}.npz", k=2) for name in ("logits", "chances"))
    assert isinstance(one, Trace)
    assert isinstance(two, Trace)
    assert (one.experts == two.experts).all()
    np.testing.assert_allclose(one.weights, two.weights, atol=2e-3)


def test_router_logits_of_batches(tmp_path: Path) -> None:
    """(batch, length, e) becomes requests; token ids and the padding mask come along."""
    arrays = {key: values.reshape(2, 2, 6) for key, values in logits().items()}
    side = {"input_ids": np.array([[5, 6], [7, 8]]), "attention_mask": np.array([[1, 1], [0, 1]])}
    np.savez(tmp_path / "t.npz", **arrays, **side)
    trace = read_trace(tmp_path / "t.npz", k=1)
    assert isinstance(trace, Trace)
    assert trace.requests.tolist() == [0, 2, 4]
    assert trace.tokens.tolist() == [5, 6, 7, 8]
    assert trace.mask.tolist() == [True, True, False, True]
    assert (trace.experts[2] == -1).all()
    assert (trace.weights[2] == 0).all()
    np.savez(tmp_path / "one.npz", router_logits=np.stack(list(logits().values())))
    stacked = read_trace(tmp_path / "one.npz", k=1)
    assert isinstance(stacked, Trace)
    assert (stacked.l, stacked.t, stacked.layers) == (3, 4, None)


UNKNOWN: dict[str, bytes] = {
    "empty": b"",
    "garbage": bytes(range(256)),
    "words": b"Once upon a time",
    "json of something": b'{"weight": [[1, 2]]}',
    "json of nothing": b"[]",
    "a number": b"[3]",
    "broken json": b'{"choices": [',
    "broken line": b'{"layer": 0, "counts": [1]}\n{"layer": 1, "counts"\n{}\n',
    "ragged lists": b"[[[0, 1], [2]]]",
    "fractions": b"0.5,1\n1,2\n",
    "ranks": b"rank,layer,expert\n0,9,5\n",
    "ragged table": b"1,2\n3\n",
    "broken npy": b"\x93NUMPY\x01\x00",
    "broken npz": b"PK\x03\x04 and no more",
    "broken parquet": b"PAR1 and no more",
    "broken gzip": b"\x1f\x8b\x08 and no more",
}


@pytest.mark.parametrize("content", UNKNOWN.values(), ids=UNKNOWN)
def test_unknown_files_are_one_clear_error(tmp_path: Path, content: bytes) -> None:
    """A DataError that begins with the file, never another exception."""
    if content.startswith(b"PAR1"):
        pytest.importorskip("pyarrow")
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_trace(tmp_path / "file")
    assert caught.value.field.startswith(str(tmp_path / "file"))


@pytest.mark.parametrize("content", [b"Once upon a time", b'{"weight": [1]}', bytes(range(200))])
def test_unknown_files_hear_what_is_known(tmp_path: Path, content: bytes) -> None:
    """The message lists the formats that were looked for."""
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DataError, match=r"vLLM.*counts, matrix or tokens"):
        read_trace(tmp_path / "file")


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"x": np.zeros((2, 3, 4, 5))}, "hold a trace, or float arrays"),
        ({"a": np.zeros((2, 3)), "b": np.zeros((2, 4))}, "hold a trace, or float arrays"),
        ({"a": np.zeros((2, 3), dtype=int)}, "hold a trace, or float arrays"),
    ],
)
def test_archives_of_other_things(tmp_path: Path, arrays: dict[str, Any], match: str) -> None:
    """An archive of anything but one shape of floats is told with what it holds."""
    np.savez(tmp_path / "t.npz", **arrays)
    with pytest.raises(DataError, match=match):
        read_trace(tmp_path / "t.npz", k=1)


@pytest.mark.parametrize(
    "array", [np.zeros(3, dtype=int), np.zeros((2, 3)), np.zeros((1,) * 4, int)]
)
def test_arrays_of_other_things(tmp_path: Path, array: np.ndarray) -> None:
    """One axis, four, or fractions are no trace."""
    np.save(tmp_path / "t.npy", array)
    with pytest.raises(DataError, match="hold whole numbers"):
        read_trace(tmp_path / "t.npy")


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    """Neither in an array nor in an archive."""
    array = np.array([{"a": 1}], dtype=object)
    np.save(tmp_path / "t.npy", array, allow_pickle=True)
    np.savez(tmp_path / "t.npz", logits=array)
    for name in ("t.npy", "t.npz"):
        with pytest.raises(DataError, match="pickle"):
            read_trace(tmp_path / name)


def test_nothing_there(tmp_path: Path) -> None:
    """A path that does not exist, and a folder without statistics."""
    with pytest.raises(DataError, match="no such file"):
        read_trace(tmp_path / "none")
    with pytest.raises(DataError, match="hold lines of JSON"):
        read_trace(tmp_path)


def test_statistics_from_a_folder(tmp_path: Path) -> None:
    """Files of counts are read together, others are named as left out."""
    as_jsonl(tmp_path / "a.jsonl", [{"layer": 0, "counts": [1, 2]}])
    as_jsonl(tmp_path / "b.jsonl", [{"from_layer": 0, "to_layer": 1, "matrix": [[1, 2], [0, 1]]}])
    as_jsonl(tmp_path / "c_expert_tokens.jsonl", [{"layer": 0, "expert": 1, "tokens": {"7": 3}}])
    as_jsonl(tmp_path / "d.jsonl", [{"routed_experts": [[[0]]]}])
    (tmp_path / "e.json").write_text('{"weight": 1}')
    (tmp_path / "f.csv").write_text("rank,layer\n")
    found = read_trace(tmp_path)
    assert isinstance(found, Statistics)
    assert (len(found.loads), len(found.affinities), len(found.vocabularies)) == (1, 1, 1)
    assert found.vocabularies[0].name == "c"
    assert found.ignored == ("d.jsonl", "e.json", "f.csv")


def test_parquet_needs_its_extra(
    routers: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without pyarrow the message is the line that installs it."""
    pytest.importorskip("pyarrow")
    routers.full().save(tmp_path / "t.parquet")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match="parquet"):
        read_trace(tmp_path / "t.parquet")
