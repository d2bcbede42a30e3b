"""Routed experts as a serving engine returns them, request by request.

vLLM with `--enable-return-routed-experts` puts arrays [tokens, moe_layers, top_k] of 16 or 32
bit into its answers: `prompt_routed_experts` beside the choices and `routed_experts` in each
choice, or, in other versions, one `routed_experts` for prompt and answer together. They come as
nested lists, as base64 of an `.npy` file, or as an object with `data` (base64 or base85 of the
raw bytes), `shape` and perhaps `dtype` and `start`. All of these are read, from answers of the
server (`choices`), outputs of the Python interface (`outputs`) or bare objects. The last token
of an answer is never fed back, so that it has no experts.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from turnout.core import DataError, Trace
from turnout.core._check import Int

__all__ = ["decode", "from_requests", "is_request"]

_NPY = b"\x93NUMPY"

#: Type of raw bytes whose object does not say it, by bytes a number.
_BY_SIZE = {1: np.uint8, 2: np.int16, 4: np.int32, 8: np.int64}


@dataclass(frozen=True, eq=False, kw_only=True)
class _Part:
    """Tokens of one request that follow each other."""

    experts: NDArray[Any]
    tokens: Int
    positions: Int
    phase: Int


def is_request(row: Any) -> bool:
    """Whether a row of JSON holds routed experts, or answers that might."""
    keys = {"prompt_routed_experts", "routed_experts", "choices", "outputs"}
    return isinstance(row, dict) and bool(keys & row.keys())


def from_requests(rows: Sequence[Any], name: str, e: int | None) -> Trace:
    """One trace of many answers, in their order.

    A token is prefill where it stands before the end of the prompt, so far as the answer tells
    its length (by `prompt_routed_experts`, `prompt_token_ids` or `usage`), and of unknown phase
    otherwise. The prompt of several choices is taken once. Rows that the engine did not fill
    (all -1, or all 0 with more than one choice a token) are masked. Answers without routed
    experts, such as those of requests that were set aside and resumed, are left out and counted
    in `meta`.

    Parameters
    ----------
    rows : sequence of dict
    name : str
        The file, for messages.
    e : int, optional
        Experts in a layer; the largest number seen plus one unless said.

    Raises
    ------
    DataError
        No row holds routed experts, they cannot be decoded, or rows differ in layers or k.
    """
    parts: list[_Part] = []
    lengths: list[int] = []
    models: set[str] = set()
    blank_rows = 0
    for number, row in enumerate(rows, start=1):
        where = f"{name}, request {number}"
        if not is_request(row):
            rule = "hold routed_experts, choices or outputs"
            raise DataError(where, rule, row, "Keep answers of the engine only.")
        models |= {str(row["model"])} if row.get("model") else set()
        found = _parts(row, where)
        blank_rows += not found
        for request in found:
            parts += request
            lengths.append(sum(len(part.experts) for part in request))
    if not parts:
        hint = "Start the server with --enable-return-routed-experts."
        raise DataError(name, "hold routed experts", "none in any request", hint)
    shape = parts[0].experts.shape[1:]
    for part in parts:
        if part.experts.shape[1:] != shape:
            hint = "Keep the answers of one model."
            raise DataError(name, f"have (layers, k) = {shape}", part.experts.shape[1:], hint)
    experts = np.concatenate([part.experts for part in parts])
    k = experts.shape[2]
    blank = (experts < 0).all(axis=(1, 2)) | ((experts == 0).all(axis=(1, 2)) & (k > 1))
    experts = np.where(blank[:, None, None], -1, experts)
    tokens = np.concatenate([part.tokens for part in parts])
    meta = {"format": "vLLM routed experts"}
    if e is None:
        e = int(experts.max(initial=-1)) + 1
        meta["experts"] = "the largest number seen, plus one"
    if blank_rows:
        meta["left out"] = f"{blank_rows} of {len(rows)} answers, which hold no routed experts"
    if len(models) == 1:
        meta["model"] = models.pop()
    return Trace(
        experts=experts,
        e=max(e, 1),
        requests=np.concatenate(([0], np.cumsum(lengths))),
        tokens=tokens if bool((tokens >= 0).any()) else None,
        positions=np.concatenate([part.positions for part in parts]),
        phase=np.concatenate([part.phase for part in parts]),
        mask=~blank if bool(blank.any()) else None,
        meta=meta,
    )


def _parts(row: dict[str, Any], where: str) -> list[list[_Part]]:
    """The requests of one answer: one for each choice, the prompt with the first."""
    prompt, first = decode(row.get("prompt_routed_experts"), f"{where}, prompt_routed_experts")
    ids = _ids(row.get("prompt_token_ids"))
    usage: dict[str, Any] = row["usage"] if isinstance(row.get("usage"), dict) else {}
    length = len(ids) if ids is not None else usage.get("prompt_tokens")
    if prompt is not None:
        length = first + len(prompt)
    choices = row.get("choices") or row.get("outputs") or [row]
    requests = []
    for number, choice in enumerate(choices):
        field = f"{where}, routed_experts"
        found, start = decode(choice.get("routed_experts"), field)
        answer = _ids(choice.get("token_ids"))
        made = []
        if prompt is not None and number == 0:
            made.append(_part(prompt, None if ids is None else ids[first:], first, 0, where))
        if found is not None:
            written = len(answer) if answer is not None else usage.get("completion_tokens")
            made += _split(found, start, prompt is not None, length, ids, answer, written, where)
        if made:
            requests.append(made)
    return requests


def _split(
    found: NDArray[Any],
    start: int,
    apart: bool,
    length: int | None,
    ids: Int | None,
    answer: Int | None,
    written: int | None,
    where: str,
) -> list[_Part]:
    """Rows of a choice as prompt and answer.

    `apart`: the prompt came on its own. `length` and `written`: tokens of prompt and answer, so
    far as they are known.
    """
    if apart:
        return [_part(found, answer, length or 0, 1, where)]
    if length is None:
        return [_part(found, None, start, -1, where)]
    whole = len(found) > written if written is not None else len(found) + start >= length
    if not whole:
        return [_part(found, answer, length, 1, where)]
    cut = max(length - start, 0)
    before = None if ids is None else ids[start:]
    made = [_part(found[:cut], before, start, 0, where)] if cut else []
    if len(found) > cut:
        made.append(_part(found[cut:], answer, length, 1, where))
    return made


def _part(rows: NDArray[Any], ids: Int | None, start: int, phase: int, where: str) -> _Part:
    n = len(rows)
    if ids is not None and len(ids) < n:
        hint = "The ids and the experts of a request belong together."
        raise DataError(
            f"{where}, token ids", f"be at least {n}, as the experts are", len(ids), hint
        )
    return _Part(
        experts=rows.astype(np.int64),
        tokens=np.full(n, -1, dtype=np.int64) if ids is None else ids[:n],
        positions=np.arange(start, start + n, dtype=np.int64),
        phase=np.full(n, phase, dtype=np.int64),
    )


def _ids(value: Any) -> Int | None:
    return None if value is None else np.asarray(value, dtype=np.int64).reshape(-1)


def decode(value: Any, name: str) -> tuple[NDArray[Any] | None, int]:
    """The array (tokens, layers, k) of one field, and the position of its first row.

    Raises
    ------
    DataError
        The field is none of the encodings above.
    """
    start = 0
    if value is None:
        return None, start
    hint = "Use a nested list, base64 of an .npy file, or an object with data and shape."
    try:
        if isinstance(value, str):
            raw = base64.b64decode(value, validate=True)
            if not raw.startswith(_NPY):
                rule = "be base64 of an .npy file where it is text"
                raise DataError(name, rule, "bytes that do not tell their shape", hint)
            array = np.load(io.BytesIO(raw), allow_pickle=False)
        elif isinstance(value, dict):
            start = int(value.get("start", 0))
            array = _raw(value)
        else:
            array = np.asarray(value)
    except DataError:
        raise
    except (ValueError, TypeError, KeyError, EOFError, binascii.Error) as error:
        raise DataError(name, "be readable routed experts", str(error), hint) from error
    if array.size == 0:
        return None, start
    if array.ndim != 3 or not np.issubdtype(array.dtype, np.integer):
        rule = "be whole numbers [tokens, layers, k]"
        raise DataError(name, rule, (array.dtype.name, array.shape), hint)
    return array, start


def _raw(value: dict[str, Any]) -> NDArray[Any]:
    shape = tuple(int(size) for size in value["shape"])
    numbers = int(np.prod(shape))
    data, encoding = str(value["data"]), value.get("encoding")
    if encoding == "base85":
        raw = base64.b85decode(data)
    else:
        try:
            raw = base64.b64decode(data, validate=True)
            fits = numbers == 0 or len(raw) % numbers == 0
        except binascii.Error:
            fits = False
        # Text that is no base64 of whole numbers, and does not say what it is, is base85.
        if not fits and encoding is None:
            raw = base64.b85decode(data)
    kind = value.get("dtype") or _BY_SIZE[len(raw) // max(numbers, 1)]
    return np.frombuffer(raw, dtype=np.dtype(kind)).reshape(shape)
