"""Files of rows, whatever their format and encoding, as one frame.

Text is decoded here and nowhere else. UTF-8 with or without a byte order mark, UTF-16 with one,
and UTF-8 with stray single bytes (read as Windows-1252, and counted) are understood; anything
else is refused by name. Lines of JSON end at a line feed only, because the other characters that
Unicode calls line ends may stand inside a prompt.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import threading
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnout.bench.columns import Columns
from turnout.core import DataError, MissingExtraError

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["FORMATS", "decode", "load", "load_json"]

#: Endings that can be read; `.gz` may follow the text formats.
FORMATS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".pkl", ".pickle")

_GZIP = b"\x1f\x8b"
_CSV_LOCK = threading.Lock()


def load(path: Path, *, trust_pickle: bool = False) -> tuple[Columns, list[str]]:
    """Columns of a file and notes on how it was read.

    Cells of CSV and TSV stay text (what is a number is the layout's business); cells of the
    other formats keep their types.

    Raises
    ------
    DataError
        The file is missing, empty, damaged, of unknown format or encoding, or a pickle that is
        not trusted.
    MissingExtraError
        The file is Parquet and pyarrow is not installed.
    """
    if path.is_dir():
        return _from_rows(_folder_rows(path)), []
    if not path.is_file():
        raise DataError(str(path), "be a file that exists", "no such file", "Check the path.")
    suffixes = [suffix.lower() for suffix in path.suffixes]
    kind = suffixes[-2] if len(suffixes) > 1 and suffixes[-1] == ".gz" else path.suffix.lower()
    if kind not in FORMATS:
        rule = f"end in one of {', '.join(FORMATS)} (text also .gz)"
        raise DataError(str(path), rule, path.name, "Convert it or rename it.")
    if kind in (".pkl", ".pickle"):
        return _pickle_columns(path, trust_pickle), []
    if kind == ".parquet":
        return _parquet_columns(path), []
    text, notes = decode(_bytes(path), str(path))
    if kind in (".csv", ".tsv"):
        return _csv_columns(text, str(path), "\t" if kind == ".tsv" else None), notes
    if kind == ".json":
        return _from_rows(_json_rows(_parse(text, str(path)), str(path))), notes
    rows = [
        row
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip()
        for row in _json_rows([_parse(line, f"{path}, line {number}")], f"{path}, line {number}")
    ]
    return _from_rows(rows), notes


def load_json(path: Path) -> Any:
    """One JSON document, with the same care for its encoding.

    Raises
    ------
    DataError
        The file is missing or no JSON.
    """
    if not path.is_file():
        raise DataError(str(path), "be a file that exists", "no such file", "Check the path.")
    return _parse(decode(_bytes(path), str(path))[0], str(path))


def decode(raw: bytes, name: str) -> tuple[str, list[str]]:
    """Text of some bytes and notes on what had to be repaired.

    Raises
    ------
    DataError
        There are no bytes, or they are no text that can be told.
    """
    if not raw.strip(b"\x00 \t\r\n"):
        raise DataError(name, "hold data", "an empty file", "Write the rows again.")
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return raw.decode("utf-16"), ["the file is UTF-16"]
        except UnicodeDecodeError as error:
            raise DataError(name, "be whole UTF-16", str(error), "Save it as UTF-8.") from None
    head = raw[:4096]
    if len(head) >= 8 and max(head[0::2].count(0), head[1::2].count(0)) > len(head) // 4:
        rule = "be UTF-8, or UTF-16 with a byte order mark"
        raise DataError(name, rule, "bytes that look like UTF-16 without one", "Save it as UTF-8.")
    try:
        return raw.decode("utf-8-sig"), []
    except UnicodeDecodeError:
        return _repaired(raw)


def _repaired(raw: bytes) -> tuple[str, list[str]]:
    """UTF-8 where it is UTF-8; every other byte on its own as Windows-1252."""
    raw = raw.removeprefix(codecs.BOM_UTF8)
    parts: list[str] = []
    strays, start = 0, 0
    while start < len(raw):
        try:
            parts.append(raw[start:].decode("utf-8"))
            break
        except UnicodeDecodeError as error:
            parts.append(raw[start : start + error.start].decode("utf-8"))
            bad = raw[start + error.start : start + error.end]
            # five bytes have no meaning in Windows-1252; Latin-1 gives every byte one
            parts.extend(
                bytes([byte]).decode("cp1252", errors="ignore") or chr(byte) for byte in bad
            )
            strays += len(bad)
            start += error.end
    return "".join(parts), [f"{strays} bytes are not UTF-8: read as Windows-1252"]


def _bytes(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if raw.startswith(_GZIP) else raw
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(str(path), "be readable", str(error), "Fetch the file again.") from error


def _parse(text: str, name: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise DataError(name, "name each field once in an object", twice, "Rename one.")
        return result

    try:
        return json.loads(text, object_pairs_hook=unique)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(name, "be valid JSON", str(error), "Correct the text.") from None


def _csv_columns(text: str, name: str, delimiter: str | None) -> Columns:
    if delimiter is None:
        first = text[: text.find("\n")] if "\n" in text else text
        delimiter = next((mark for mark in (",", ";", "\t") if mark in first), ",")
    # The limit is one per process; a prompt may be longer than its default of 131,072.
    with _CSV_LOCK:
        before = csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
        try:
            rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
        except csv.Error as error:
            raise DataError(name, "be valid CSV", str(error), "Quote the cells.") from None
        finally:
            csv.field_size_limit(before)
    rows = [row for row in rows if row]
    header = [cell.strip() for cell in rows[0]]
    named = [column for column in header if column]
    for column in named:
        if named.count(column) > 1:
            raise DataError(name, "name each column once", column, "Rename or drop the repeat.")
    if len(rows) == 1:
        raise DataError(name, "hold at least one row", "only a header", "Add rows.")
    for number, row in enumerate(rows[1:], start=1):
        if len(row) != len(header):
            rule = f"have {len(header)} cells, one for each column of the header"
            hint = "Quote cells that hold the separator or a line end."
            raise DataError(f"{name}, row {number}", rule, len(row), hint)
    keep = [place for place, column in enumerate(header) if column]
    cells = {header[place]: [row[place] for row in rows[1:]] for place in keep}
    return Columns(cells, len(rows) - 1)


def _json_rows(document: Any, name: str) -> list[dict[str, Any]]:
    """The objects of a document; a result file with `records` gives its records."""
    documents = document if isinstance(document, list) else [document]
    rows: list[dict[str, Any]] = []
    for item in documents:
        if not isinstance(item, dict):
            rule = "hold objects with named fields"
            raise DataError(name, rule, item, 'Write rows such as {"prompt": ..., ...}.')
        if isinstance(item.get("records"), list):
            shared = {
                key: item[key] for key in ("model_name", "dataset_name", "split") if key in item
            }
            rows.extend({**shared, **record} for record in item["records"])
        else:
            rows.append(item)
    return rows


def _from_rows(rows: list[dict[str, Any]]) -> Columns:
    if not rows:
        raise DataError("the table", "hold at least one row", "no rows", "Add rows.")
    return Columns.from_rows(rows)


def _from_frame(frame: DataFrame) -> Columns:
    names = [str(name).strip() for name in frame.columns]
    for name in names:
        if names.count(name) > 1:
            raise DataError("the table", "name each column once", name, "Rename the repeat.")
    if len(frame) == 0:
        raise DataError("the table", "hold at least one row", "no rows", "Add rows.")
    cells = {name: frame.iloc[:, place].tolist() for place, name in enumerate(names)}
    return Columns(cells, len(frame))


def _folder_rows(folder: Path) -> list[dict[str, Any]]:
    """Records of a tree `<dataset>/<split>/<model>/<file>.json`: the newest run of each, no demo.

    File names end in the time of the run, so that the last by name is the newest.
    """
    newest: dict[tuple[str, str, str], dict[str, Any]] = {}
    for path in sorted(folder.rglob("*.json"), key=lambda path: path.name):
        document = load_json(path)
        if not isinstance(document, dict) or not isinstance(document.get("records"), list):
            continue
        if document.get("demo"):
            continue
        above = [parent.name for parent in path.parents][:3]
        found = {
            "model_name": document.get("model_name") or above[0],
            "split": document.get("split") or (above[1] if len(above) > 1 else ""),
            "dataset_name": document.get("dataset_name") or (above[2] if len(above) > 2 else ""),
        }
        key = (found["dataset_name"], found["split"], found["model_name"])
        newest[key] = {**document, **found}
    if not newest:
        rule = "hold JSON files with `records`"
        raise DataError(str(folder), rule, "none", "Name the file itself.")
    return _json_rows(list(newest.values()), str(folder))


def _parquet_columns(path: Path) -> Columns:
    import pandas as pd

    try:
        import pyarrow
    except ImportError:
        raise MissingExtraError("pyarrow", "parquet") from None
    try:
        frame = pd.read_parquet(path, engine="pyarrow")
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise DataError(str(path), "be a Parquet file", str(error), "Write it again.") from error
    return _from_frame(frame)


def _pickle_columns(path: Path, trust: bool) -> Columns:
    import pandas as pd

    if not trust:
        rule = "not be a pickle, which can run any code when opened,"
        hint = "Convert it to Parquet, or pass --trust-pickle if you trust who made it."
        raise DataError(str(path), rule, path.name, hint)
    try:
        found = pd.read_pickle(path)
    except Exception as error:  # unpickling may raise anything at all
        raise DataError(str(path), "be a whole pickle", str(error), "Fetch it again.") from error
    if isinstance(found, pd.DataFrame):
        return _from_frame(found)
    return _from_rows(_json_rows(found, str(path)))
