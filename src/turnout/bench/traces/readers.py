"""Traces from files of several makers, told apart by what is inside.

* `.npz` with `experts` and `e`, or Parquet: what `Trace.save` wrote;
* `.npz` of router logits (`output_router_logits` of transformers, saved with numpy): one array
  (t, e) or (batch, length, e) a layer, or one array (l, t, e);
* `.npy` of whole numbers [tokens, layers, k]: vLLM's routed experts;
* `.npy` or CSV of whole numbers [tokens, layers]: ExFlow, and other top-1 logs;
* JSON or lines of JSON, `.gz` too: answers of vLLM with routed experts;
* lines of JSON with `counts`, `matrix` or `tokens`: statistics, see `Statistics`.

A folder is read as the statistics of its files.
"""

from __future__ import annotations

import gzip
import io
import re
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from turnout.bench import files
from turnout.bench.traces import engines, statistics
from turnout.bench.traces.statistics import Statistics
from turnout.core import DataError, InputError, Trace

__all__ = ["read_trace"]

_NPY, _ZIP, _PARQUET, _GZIP = b"\x93NUMPY", b"PK\x03\x04", b"PAR1", b"\x1f\x8b"

#: What is said where nothing fits.
_LOOKED_FOR = (
    "Known are: .npz and .parquet of Trace.save; .npz of router logits; .npy or CSV of expert"
    " numbers; JSON of vLLM's routed experts; JSON lines with counts, matrix or tokens."
)

#: Names of side arrays in an archive of logits.
_TOKENS, _MASKS = ("tokens", "input_ids"), ("mask", "attention_mask")


def read_trace(
    path: str | Path, *, e: int | None = None, k: int | None = None
) -> Trace | Statistics:
    """Read a trace, or statistics where no trace was kept. Never unpickles.

    Parameters
    ----------
    path : str or Path
        A file, or a folder of statistics.
    e : int, optional
        Experts in a layer, for formats that do not say it: the largest number seen, plus one,
        unless said (`meta` tells so).
    k : int, optional
        Choices of a token, for router logits.

    Raises
    ------
    DataError
        There is no such file, nothing in it is known, or it is damaged.
    InputError
        Router logits without k, or k > e.
    MissingExtraError
        Parquet without pyarrow.
    """
    path = Path(path)
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise DataError(str(path), "be a file that exists", "no such file", "Check the path.")
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(_PARQUET):
        return Trace.read(path)
    if start.startswith(_ZIP):
        return _archive(path, k)
    if start.startswith(_NPY):
        return _from_array(_npy(path), str(path), e)
    return _text(path, start, e)


def _archive(path: Path, k: int | None) -> Trace:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            names = list(archive.files)
            arrays = {} if {"experts", "e"} <= set(names) else {n: archive[n] for n in names}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(str(path), "be a whole .npz archive", str(error), _LOOKED_FOR) from error
    return _from_logits(arrays, str(path), k) if arrays else Trace.read(path)


def _npy(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        hint = "Write it again with numpy.save, whole numbers only."
        raise DataError(str(path), "be a whole .npy file", str(error), hint) from error
    return array


def _from_array(array: NDArray[Any], name: str, e: int | None) -> Trace:
    if not np.issubdtype(array.dtype, np.integer) or array.ndim not in (2, 3):
        rule = "hold whole numbers [tokens, layers] or [tokens, layers, k]"
        hint = "Save router logits as .npz, one array a layer."
        raise DataError(name, rule, (array.dtype.name, array.shape), hint)
    experts = array[:, :, None] if array.ndim == 2 else array
    meta = {"format": "expert numbers [tokens, layers" + (", k]" if array.ndim == 3 else "]")}
    if e is None:
        e = int(experts.max(initial=-1)) + 1
        meta["experts"] = "the largest number seen, plus one"
    return Trace(experts=experts, e=max(e, 1), meta=meta)


def _from_logits(arrays: dict[str, NDArray[Any]], name: str, k: int | None) -> Trace:
    logits = {key: array for key, array in arrays.items() if array.dtype.kind == "f"}
    shapes = {array.shape for array in logits.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) not in (2, 3):
        found = {key: (array.dtype.name, array.shape) for key, array in arrays.items()}
        rule = "hold a trace, or float arrays (t, e) of one shape, one a layer"
        raise DataError(name, rule, found, _LOOKED_FOR)
    if k is None:
        hint = "Pass k, or --top-k on the command line."
        raise InputError("k", "be given for router logits, which do not tell it", None, hint)
    keys = sorted(logits, key=_natural)
    layers = [logits[key] for key in keys]
    numbers = [int(re.findall(r"\d+", key)[-1]) if re.search(r"\d", key) else -1 for key in keys]
    requests = None
    if layers[0].ndim == 3 and len(layers) == 1:
        layers, numbers = list(layers[0]), []
    elif layers[0].ndim == 3:
        batch, length, e = layers[0].shape
        layers = [layer.reshape(batch * length, e) for layer in layers]
        requests = np.arange(batch + 1) * length
    trace = Trace.from_logits([_as_logits(layer) for layer in layers], k)
    rising = bool(numbers) and numbers[0] >= 0 and bool((np.diff(numbers) > 0).all())
    tokens = next((arrays[key].reshape(-1) for key in _TOKENS if key in arrays), None)
    mask = next((arrays[key].reshape(-1) != 0 for key in _MASKS if key in arrays), None)
    changes: dict[str, Any] = {"requests": requests, "tokens": tokens, "mask": mask}
    if mask is not None and len(mask) == trace.t:
        changes["experts"] = np.where(mask[:, None, None], trace.experts, -1)
        weights = np.zeros(trace.experts.shape) if trace.weights is None else trace.weights
        changes["weights"] = np.where(mask[:, None, None], weights, 0)
    layer_numbers = np.array(numbers) if rising else None
    return replace(trace, layers=layer_numbers, meta={"format": "router logits"}, **changes)


def _as_logits(layer: NDArray[Any]) -> NDArray[Any]:
    """Some models return probabilities: their logarithm gives back the softmax's weights."""
    values = layer.astype(np.float64)
    if values.size and values.min() >= 0 and np.allclose(values.sum(axis=1), 1, atol=1e-2):
        with np.errstate(divide="ignore"):
            values = np.log(values)
    return values


def _natural(key: str) -> list[int | str]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", key)]


def _text(path: Path, start: bytes, e: int | None) -> Trace | Statistics:
    name = str(path)
    try:
        raw = gzip.decompress(path.read_bytes()) if start.startswith(_GZIP) else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(name, "be a whole gzip file", str(error), "Fetch it again.") from error
    if b"\x00" in raw[:4096] and not raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(name, "be a trace or statistics", raw[:16], _LOOKED_FOR)
    text, _ = files.decode(raw, name)
    if text.lstrip()[:1] in ("{", "["):
        return _json(text, name, path, e)
    return _csv(text, name, e)


def _json(text: str, name: str, path: Path, e: int | None) -> Trace | Statistics:
    rows = _rows(text, name)
    if rows and isinstance(rows[0], list):
        try:
            return _from_array(np.asarray(rows), name, e)
        except ValueError as error:
            rule = "have rows of one length"
            raise DataError(name, rule, str(error), "Fill them up with -1.") from None
    if rows and statistics.kind_of(rows[0]) is not None:
        return statistics.from_rows(rows, name, _label(path))
    if rows and engines.is_request(rows[0]):
        return engines.from_requests(rows, name, e)
    keys = sorted(rows[0]) if rows and isinstance(rows[0], dict) else rows[:1]
    raise DataError(name, "hold traces or statistics", keys, _LOOKED_FOR)


def _rows(text: str, name: str) -> list[Any]:
    """The objects of a document, or of each line of it."""
    lines = [line for line in text.split("\n") if line.strip()]
    try:
        # The first line of one document over several lines does not end with it.
        first = orjson.loads(lines[0])
    except orjson.JSONDecodeError:
        first, lines = None, []
    if len(lines) > 1:
        return [_parsed(line, f"{name}, line {at}") for at, line in enumerate(lines, start=1)]
    document = first if lines else _parsed(text, name)
    return document if isinstance(document, list) else [document]


def _parsed(text: str, name: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        hint = "Write one JSON document, or one object a line."
        raise DataError(name, "be JSON", str(error), hint) from None


def _csv(text: str, name: str, e: int | None) -> Trace:
    lines = [line for line in text.splitlines() if line.strip()]
    header = re.split(r"[,;\t ]+", lines[0].strip())
    titled = any(re.search(r"[A-Za-z]", cell) for cell in header)
    if titled and not all(re.fullmatch(r"(?i)\W*(?:layer|l)?[ _-]*\d+\W*", c) for c in header):
        rule = "have no header, or one of layers such as layer_0"
        raise DataError(name, rule, lines[0][:80], _LOOKED_FOR)
    body = "\n".join(lines[1 if titled else 0 :])
    mark = next((mark for mark in (",", ";", "\t") if mark in lines[-1]), None)
    try:
        table = np.loadtxt(io.StringIO(body), dtype=np.int64, delimiter=mark, ndmin=2)
    except ValueError as error:
        raise DataError(name, "hold expert numbers", str(error), _LOOKED_FOR) from None
    return _from_array(table, name, e)


def _folder(path: Path) -> Statistics:
    parts, ignored = [], []
    for file in sorted(path.iterdir()):
        if not re.search(r"\.(jsonl|ndjson|json)(\.gz)?$", file.name):
            ignored.append(file.name)
            continue
        try:
            found = read_trace(file)
        except DataError:
            ignored.append(file.name)
            continue
        if isinstance(found, Statistics):
            parts.append(found)
        else:
            ignored.append(file.name)
    if not parts:
        rule = "hold lines of JSON with counts, matrix or tokens"
        raise DataError(str(path), rule, ignored, "Name a trace itself, not its folder.")
    return statistics.merge(parts, ignored)


def _label(path: Path) -> str:
    name = path.name.partition(".")[0]
    return re.sub(r"_?expert_(?:tokens|counts|affinity)$", "", name) or name
