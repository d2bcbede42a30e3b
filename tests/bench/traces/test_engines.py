"""Routed experts as vLLM returns them, in every encoding seen, from hand-made answers."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest

from turnout.bench.traces.engines import decode, from_requests, is_request
from turnout.core import DataError, Trace


def rows(n: int, start: int = 0) -> np.ndarray:
    """Experts of n tokens in two layers, two choices of five; no row is all 0."""
    token = np.arange(start, start + n)[:, None, None]
    return ((token + np.array([[1, 2], [3, 4]])) % 5).astype(np.int16)


def npy(array: np.ndarray) -> str:
    """base64 of an .npy file, as the server writes it."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return base64.b64encode(buffer.getvalue()).decode()


def raw(array: np.ndarray, encode: Any = base64.b64encode, **more: Any) -> dict[str, Any]:
    """An object with the bytes and what they mean."""
    return {"data": encode(array.tobytes()).decode(), "shape": list(array.shape), **more}


ENCODINGS = {
    "lists": lambda array: array.tolist(),
    "npy": npy,
    "base64": lambda array: raw(array, dtype="int16", encoding="base64"),
    "base64 alone": raw,
    "int32": lambda array: raw(array.astype(np.int32)),
    "base85": lambda array: raw(array, base64.b85encode, encoding="base85"),
    "base85 alone": lambda array: raw(array, base64.b85encode),
}


@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS)
def test_every_encoding_gives_the_array(encode: Any) -> None:
    """Nested lists, base64 of .npy, and raw bytes with a shape say the same."""
    found, start = decode(encode(rows(3)), "x")
    assert found is not None
    assert (found == rows(3)).all()
    assert start == 0


def test_the_first_position_may_be_told() -> None:
    """`start` is where the rows begin in the sequence; nothing is nothing."""
    assert decode(raw(rows(2), start=7), "x")[1] == 7
    assert decode(None, "x") == (None, 0)
    assert decode([], "x") == (None, 0)


@pytest.mark.parametrize(
    "value",
    [
        "not base64!",
        base64.b64encode(rows(2).tobytes()).decode(),
        base64.b64encode(b"\x93NUMPY broken").decode(),
        {"data": "AAAA"},
        {"data": "AAAA", "shape": [1, 1, 1], "dtype": "nonsense"},
        {"data": "AAAA", "shape": [7, 1, 1], "encoding": "base64"},
        {"data": "~~~", "shape": [1, 2, 2]},
        [[0, 1]],
        [[[0.5]]],
        [[[0, 1], [2]]],
        5,
    ],
)
def test_what_cannot_be_decoded_is_refused(value: Any) -> None:
    """One error that names the field and the encodings."""
    with pytest.raises(DataError, match=r"^x must"):
        decode(value, "x")


def test_objects_inside_npy_are_never_unpickled() -> None:
    """An array of objects is refused by numpy's own guard."""
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="x must be readable"):
        decode(base64.b64encode(buffer.getvalue()).decode(), "x")


def test_prompt_and_answer_apart() -> None:
    """The server's split form: prompt beside the choices, each choice a request of its own."""
    answer = {
        "model": "m",
        "prompt_token_ids": [10, 11, 12],
        "prompt_routed_experts": rows(3).tolist(),
        "choices": [
            {"token_ids": [20, 21, 22], "routed_experts": npy(rows(2, 3))},
            {"token_ids": [30, 31], "routed_experts": npy(rows(1, 4))},
        ],
    }
    trace = from_requests([answer], "f", None)
    assert trace.e == 5
    assert trace.requests.tolist() == [0, 5, 6]
    assert trace.tokens.tolist() == [10, 11, 12, 20, 21, 30]
    assert trace.positions.tolist() == [0, 1, 2, 3, 4, 3]
    assert trace.phase.tolist() == [0, 0, 0, 1, 1, 1]
    assert (trace.experts == np.concatenate([rows(5), rows(1, 4)])).all()
    assert trace.mask is None
    assert dict(trace.meta) == {
        "format": "vLLM routed experts",
        "experts": "the largest number seen, plus one",
        "model": "m",
    }


@pytest.mark.parametrize("field", ["outputs", "choices", None])
def test_prompt_and_answer_in_one(field: str | None) -> None:
    """One array for both is cut where the prompt ends; the last token has no experts."""
    inner = {"token_ids": [20, 21, 22], "routed_experts": npy(rows(5))}
    row: dict[str, Any] = {"prompt_token_ids": [10, 11, 12]}
    row |= inner if field is None else {field: [inner]}
    trace = from_requests([row], "f", 8)
    assert trace.e == 8
    assert trace.tokens.tolist() == [10, 11, 12, 20, 21]
    assert trace.phase.tolist() == [0, 0, 0, 1, 1]
    assert trace.positions.tolist() == [0, 1, 2, 3, 4]
    assert "experts" not in trace.meta


def test_lengths_from_usage_and_rows_from_the_middle() -> None:
    """Without ids the usage tells the prompt's length; `start` shifts what was left out."""
    usage = {"prompt_tokens": 4, "completion_tokens": 3}
    row = {"usage": usage, "choices": [{"routed_experts": raw(rows(4, 2), start=2)}]}
    trace = from_requests([row], "f", None)
    assert trace.positions.tolist() == [2, 3, 4, 5]
    assert trace.phase.tolist() == [0, 0, 1, 1]
    assert trace.tokens is None


def test_the_answer_alone() -> None:
    """As many rows as the answer has tokens are the answer's, behind the prompt."""
    row = {
        "prompt_token_ids": [1, 2, 3, 4, 5, 6],
        "choices": [{"token_ids": [7, 8], "routed_experts": rows(2).tolist()}],
    }
    trace = from_requests([row], "f", None)
    assert trace.phase.tolist() == [1, 1]
    assert trace.positions.tolist() == [6, 7]


def test_nothing_but_rows_has_no_phase() -> None:
    """Where no length is told, phases are unknown, not guessed."""
    trace = from_requests([{"routed_experts": rows(3).tolist()}], "f", None)
    assert trace.phase.tolist() == [-1, -1, -1]
    assert trace.positions.tolist() == [0, 1, 2]


def test_prompt_of_a_later_start() -> None:
    """A prompt whose first rows were left out keeps its positions and ids."""
    row = {
        "prompt_token_ids": [1, 2, 3],
        "prompt_routed_experts": raw(rows(2, 1), start=1),
        "routed_experts": rows(1, 3).tolist(),
        "token_ids": [9, 10],
    }
    trace = from_requests([row], "f", None)
    assert trace.tokens.tolist() == [2, 3, 9]
    assert trace.positions.tolist() == [1, 2, 3]


def test_rows_the_engine_did_not_fill_are_masked() -> None:
    """All -1 stands for cached tokens; all 0 cannot be two different experts."""
    experts = rows(4)
    experts[1], experts[2] = -1, 0
    trace = from_requests([{"routed_experts": experts.tolist()}], "f", None)
    assert trace.mask.tolist() == [True, False, False, True]
    assert (trace.experts[1:3] == -1).all()
    # With one choice, expert 0 everywhere is an answer like any other.
    ones = np.zeros((2, 2, 1), dtype=int)
    assert from_requests([{"routed_experts": ones.tolist()}], "f", None).mask is None


def test_answers_without_experts_are_counted() -> None:
    """Some requests may come without; a file of nothing else is refused."""
    good = {"routed_experts": rows(1).tolist()}
    trace = from_requests([{"choices": [{"text": "x"}]}, good], "f", None)
    assert isinstance(trace, Trace)
    assert trace.meta["left out"] == "1 of 2 answers, which hold no routed experts"
    with pytest.raises(DataError, match="--enable-return-routed-experts"):
        from_requests([{"choices": [{"text": "x"}]}], "f", None)


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ([{"routed_experts": rows(1).tolist()}, {"text": "x"}], "request 2 must hold"),
        (
            [{"routed_experts": rows(1).tolist()}, {"routed_experts": [[[0]]]}],
            r"have \(layers, k\) = \(2, 2\)",
        ),
        ([{"prompt_token_ids": [1], "prompt_routed_experts": rows(2).tolist()}], "token ids must"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(bad: list[Any], match: str) -> None:
    """Other rows, other models, and ids that do not reach are told with the place."""
    with pytest.raises(DataError, match=match):
        from_requests(bad, "f", None)


def test_what_looks_like_an_answer() -> None:
    """Rows are known by their keys."""
    assert is_request({"choices": []})
    assert not is_request({"layer": 0})
    assert not is_request([1])
