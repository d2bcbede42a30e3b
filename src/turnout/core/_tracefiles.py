"""How a trace lies on disk: `.npz` and Parquet, told apart by what they begin with."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from turnout.core.errors import DataError, InputError, MissingExtraError

#: Arrays of a trace besides its tags, by name.
ARRAYS = (
    "experts",
    "weights",
    "requests",
    "tokens",
    "positions",
    "phase",
    "mask",
    "dropped",
    "layers",
)

#: Parquet column of each token-level array.
_COLUMNS = {"tokens": "token_id", "positions": "position", "phase": "phase", "mask": "mask"}

#: Rows of a Parquet row group: bounds the memory of writing and reading.
_ROWS = 2**21

#: What reading a damaged archive may raise.
_DAMAGED = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)

_ZIP, _PARQUET = b"PK\x03\x04", b"PAR1"

Arrays = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a trace file says in words.

    Parameters
    ----------
    e : int
        Experts in each layer.
    tag_names : dict of str to list of str
        Names of the values of each tag.
    meta : dict of str to str
        Where the trace is from.
    """

    e: int
    tag_names: dict[str, list[str]] = field(default_factory=dict)
    meta: dict[str, str] = field(default_factory=dict)


def write(path: Path, arrays: Arrays, tags: Arrays, header: Header) -> None:
    """Write a trace, whole or not at all, in the format its name ends in."""
    known = {name: array for name, array in arrays.items() if array is not None}
    if path.suffix == ".npz":
        with _whole(path) as file:
            _write_npz(file, known, tags, header)
    elif path.suffix == ".parquet":
        _pyarrow()
        with _whole(path) as file:
            _write_parquet(file, known, tags, header)
    else:
        rule = "end in .npz or .parquet"
        raise InputError("path", rule, str(path), "Choose one of the two.")


def read(path: Path) -> tuple[Arrays, Arrays, Header]:
    """Arrays, tags and header of a file that `write` wrote."""
    hint = "Name a .npz or .parquet file that Trace.save wrote."
    if not path.is_file():
        raise DataError(str(path), "be a file that exists", "no such file", hint)
    with path.open("rb") as file:
        start = file.read(4)
    if start == _ZIP:
        return _read_npz(path)
    if start == _PARQUET:
        return _read_parquet(path)
    raise DataError(str(path), "be an .npz archive or a Parquet file", start, hint)


def narrow(array: NDArray[Any]) -> NDArray[Any]:
    """The same whole numbers in two bytes each, where they fit."""
    fits = array.size == 0 or (array.min() >= -(2**15) and array.max() < 2**15)
    return array.astype(np.int16) if fits else array


@contextmanager
def _whole(path: Path) -> Iterator[IO[bytes]]:
    draft = path.with_name(f".{path.name}.part")
    try:
        with draft.open("wb") as file:
            yield file
        draft.replace(path)
    except OSError as error:
        hint = f"{error.strerror or error}. Choose another path."
        raise InputError("path", "be a path that can be written", str(path), hint) from error
    finally:
        draft.unlink(missing_ok=True)


def _write_npz(file: IO[bytes], arrays: Arrays, tags: Arrays, header: Header) -> None:
    words = {"tags": list(tags), "tag_names": header.tag_names, "meta": header.meta}
    text = np.frombuffer(json.dumps(words).encode(), dtype=np.uint8)
    numbered = {f"tag_{place}": tag for place, tag in enumerate(tags.values())}
    small = {"experts": narrow(arrays["experts"])}
    kept = {**arrays, **small, **numbered, "e": np.int64(header.e), "header": text}
    # As numpy's own, but packed quickly: a trace can hold a billion numbers.
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in kept.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def _read_npz(path: Path) -> tuple[Arrays, Arrays, Header]:
    hint = "Write the file with Trace.save."
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            missing = {"experts", "e"} - set(archive.files)
            if missing:
                raise DataError(str(path), f"hold {sorted(missing)}", archive.files, hint)
            arrays = {name: archive[name] for name in ARRAYS if name in archive.files}
            words = json.loads(archive["header"].tobytes()) if "header" in archive.files else {}
            tags = {
                name: archive[f"tag_{place}"] for place, name in enumerate(words.get("tags", []))
            }
            header = Header(
                e=int(archive["e"]),
                tag_names=words.get("tag_names", {}),
                meta=words.get("meta", {}),
            )
    except DataError:
        raise
    except _DAMAGED as error:
        raise DataError(str(path), "be a whole .npz trace", str(error), hint) from error
    return arrays, tags, header


def _write_parquet(file: IO[bytes], arrays: Arrays, tags: Arrays, header: Header) -> None:
    arrow, parquet = _pyarrow()
    t, layers, k = arrays["experts"].shape
    words = {"tags": list(tags), "tag_names": header.tag_names, "meta": header.meta}
    if "layers" in arrays:
        words["layers"] = arrays["layers"].tolist()
    shape = {"t": t, "l": layers, "k": k, "e": header.e}
    meta = {f"turnout.{key}": str(value) for key, value in shape.items()}
    meta["turnout.header"] = json.dumps(words)
    request = None
    if "requests" in arrays:
        meta["turnout.requests"] = ",".join(map(str, arrays["requests"].tolist()))
        request = np.repeat(np.arange(len(arrays["requests"]) - 1), np.diff(arrays["requests"]))
    writer: Any = None
    step = max(1, _ROWS // (layers * k))
    # A trace without tokens still gets its columns.
    for start in range(0, max(t, 1), step):
        cut = slice(start, min(start + step, t))
        columns = _columns(arrow, arrays, tags, header, request, cut)
        table = arrow.table(columns).replace_schema_metadata(meta)
        if writer is None:
            writer = parquet.ParquetWriter(file, table.schema, compression="zstd")
        writer.write_table(table)
    writer.close()


def _columns(
    arrow: Any, arrays: Arrays, tags: Arrays, header: Header, request: Any, cut: slice
) -> dict[str, Any]:
    experts = arrays["experts"][cut]
    t, layers, k = experts.shape
    token, layer, slot = np.indices((t, layers, k), dtype=np.int32).reshape(3, -1)
    columns: dict[str, Any] = {
        "token": token + np.int32(cut.start),
        "layer": layer,
        "slot": slot,
        "expert": experts.ravel(),
    }
    if "weights" in arrays:
        columns["weight"] = arrays["weights"][cut].ravel()
    if "dropped" in arrays:
        columns["dropped"] = arrays["dropped"][cut].ravel()
    if "layers" in arrays:
        columns["layer_number"] = np.tile(np.repeat(arrays["layers"], k), t)
    if request is not None:
        columns["request"] = np.repeat(request[cut], layers * k)
    for name, column in _COLUMNS.items():
        if name in arrays:
            columns[column] = np.repeat(arrays[name][cut], layers * k)
    for name, tag in tags.items():
        values = np.repeat(tag[cut], layers * k)
        if name in header.tag_names:
            places = arrow.array(values.astype(np.int32), mask=values < 0)
            names = arrow.array(header.tag_names[name], type=arrow.string())
            columns[f"tag.{name}"] = arrow.DictionaryArray.from_arrays(places, names)
        else:
            columns[f"tag.{name}"] = values
    return columns


def _read_parquet(path: Path) -> tuple[Arrays, Arrays, Header]:
    arrow, parquet = _pyarrow()
    hint = "Write the file with Trace.save."
    try:
        file = parquet.ParquetFile(path)
        raw = file.schema_arrow.metadata or {}
        said = {key.decode(): value.decode() for key, value in raw.items()}
        meta = {key.removeprefix("turnout."): value for key, value in said.items()}
        missing = {"t", "l", "k", "e"} - set(meta)
        if missing:
            raise DataError(str(path), f"carry metadata {sorted(missing)}", sorted(meta), hint)
        words = json.loads(meta.get("header", "{}"))
        names: dict[str, list[str]] = words.get("tag_names", {})
        shape = (int(meta["t"]), int(meta["l"]), int(meta["k"]))
        arrays, tags = _empty(shape, set(file.schema_arrow.names), words.get("tags", []))
        for batch in file.iter_batches(batch_size=_ROWS):
            _fill(batch, arrays, tags, names)
    except DataError:
        raise
    except (OSError, ValueError, KeyError, TypeError, IndexError, arrow.ArrowException) as error:
        raise DataError(str(path), "be a whole Parquet trace", str(error), hint) from error
    if "requests" in meta:
        arrays["requests"] = np.array(meta["requests"].split(","), dtype=np.int64)
    if "layers" in words:
        arrays["layers"] = np.array(words["layers"], dtype=np.int64)
    header = Header(e=int(meta["e"]), tag_names=names, meta=words.get("meta", {}))
    return arrays, tags, header


def _empty(
    shape: tuple[int, int, int], present: set[str], tags: list[str]
) -> tuple[Arrays, Arrays]:
    arrays: Arrays = {"experts": np.full(shape, -1, dtype=np.int32)}
    if "weight" in present:
        arrays["weights"] = np.zeros(shape, dtype=np.float32)
    if "dropped" in present:
        arrays["dropped"] = np.zeros(shape, dtype=np.bool_)
    for name, column in _COLUMNS.items():
        if column in present:
            mask = name == "mask"
            arrays[name] = np.full(shape[0], mask or -1, dtype=np.bool_ if mask else np.int64)
    return arrays, {name: np.full(shape[0], -1, dtype=np.int64) for name in tags}


def _fill(batch: Any, arrays: Arrays, tags: Arrays, names: dict[str, list[str]]) -> None:
    where = tuple(batch.column(axis).to_numpy() for axis in ("token", "layer", "slot"))
    for name, column in (("experts", "expert"), ("weights", "weight"), ("dropped", "dropped")):
        if name in arrays:
            values = batch.column(column)
            arrays[name][where] = values.to_numpy(zero_copy_only=False)
    token = where[0]
    for name, column in _COLUMNS.items():
        if name in arrays:
            arrays[name][token] = batch.column(column).to_numpy(zero_copy_only=False)
    for name, tag in tags.items():
        values = batch.column(f"tag.{name}")
        if name not in names:
            tag[token] = values.to_numpy(zero_copy_only=False)
            continue
        coded = values if hasattr(values, "indices") else values.dictionary_encode()
        # The last place stands for "unknown", which the codes write as null.
        places = [names[name].index(word) for word in coded.dictionary.to_pylist()]
        lookup = np.array([*places, -1], dtype=np.int64)
        tag[token] = lookup[coded.indices.fill_null(len(places)).to_numpy(zero_copy_only=False)]


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError("pyarrow", "parquet") from None
    return pyarrow, pyarrow.parquet
