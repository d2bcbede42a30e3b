"""Reads and writes collections in the layout of BEIR, and scores rankings of their documents.

A folder holds `corpus.jsonl` ({_id, title, text}), `queries.jsonl` ({_id, text}) and
`qrels/<split>.tsv` (query-id, corpus-id, score). nDCG has gains as they are judged and the
discount 1 / log2(rank + 1), as trec_eval and BEIR have it; a document that is not judged gains
nothing.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from turnout.bench.files import decode
from turnout.core import DataError, _check
from turnout.core._check import Float
from turnout.parts.files import replace_file
from turnout.parts.ranking import discounted

__all__ = ["Collection", "ndcg", "read_beir", "write_beir"]


@dataclass(frozen=True, kw_only=True)
class Collection:
    """Documents, the judged queries of one split, and what is relevant to them.

    Parameters
    ----------
    documents : mapping of str to str
        Title and text by id.
    queries : mapping of str to str
        Those that are judged, by id.
    judged : mapping of str to mapping of str to int
        Score by query and document; above 0 is relevant.
    """

    documents: Mapping[str, str]
    queries: Mapping[str, str]
    judged: Mapping[str, Mapping[str, int]]


def read_beir(folder: str | Path, split: str = "test") -> Collection:
    """Read a collection; each file may be gzipped.

    Queries that the split does not judge are left out.

    Raises
    ------
    DataError
        A file is missing or damaged, an id stands twice, or a judgement is about a query or
        document that is not there.
    """
    root = Path(folder)
    documents = {
        key: f"{row.get('title') or ''} {row.get('text') or ''}".strip()
        for key, row in _records(root / "corpus.jsonl").items()
    }
    every = {
        key: str(row.get("text") or "") for key, row in _records(root / "queries.jsonl").items()
    }
    path = root / "qrels" / f"{split}.tsv"
    judged: dict[str, dict[str, int]] = {}
    for number, row in enumerate(
        csv.reader(io.StringIO(_text(path)), delimiter="\t", quoting=csv.QUOTE_NONE), start=1
    ):
        where = f"{path}, row {number}"
        if not row or (number == 1 and row[0] == "query-id"):
            continue
        try:
            query, document, score = row[0], row[1], int(row[2])
        except (IndexError, ValueError):
            rule = "hold query-id, corpus-id and a whole score"
            raise DataError(where, rule, row, "Separate them by tabs.") from None
        for kind, key, known in (("query", query, every), ("document", document, documents)):
            if key not in known:
                raise DataError(where, f"judge a {kind} that is there", key, "Add or drop it.")
        if document in judged.setdefault(query, {}):
            raise DataError(where, "judge a pair once", row, "Drop one of the rows.")
        judged[query][document] = score
    if not judged:
        raise DataError(str(path), "judge something", "no row", "Check the split.")
    return Collection(
        documents=documents, queries={key: every[key] for key in judged}, judged=judged
    )


def write_beir(folder: str | Path, collection: Collection, split: str = "test") -> None:
    """Write a collection, without titles."""
    root = Path(folder)
    (root / "qrels").mkdir(parents=True, exist_ok=True)
    for name, texts in (("corpus", collection.documents), ("queries", collection.queries)):
        lines = [
            json.dumps({"_id": key, "text": text}, ensure_ascii=False)
            for key, text in texts.items()
        ]
        replace_file(root / f"{name}.jsonl", ("\n".join(lines) + "\n").encode())
    rows = ["query-id\tcorpus-id\tscore"]
    rows += [
        f"{q}\t{d}\t{score}" for q, row in collection.judged.items() for d, score in row.items()
    ]
    replace_file(root / "qrels" / f"{split}.tsv", ("\n".join(rows) + "\n").encode())


def ndcg(
    collection: Collection, rankings: Mapping[str, Sequence[str]], *, k: int = 10
) -> dict[str, float]:
    """nDCG@k of each judged query; one with nothing relevant, or not ranked, has 0.

    Parameters
    ----------
    collection : Collection
    rankings : mapping of str to sequence of str
        Documents found by query, best first, each once.
    k : int
        >= 1.

    Raises
    ------
    DataError
        A ranking holds a document twice.
    """
    k = _check.integer("k", k, low=1)
    scores = {}
    for query, row in collection.judged.items():
        ranking = list(rankings.get(query, ()))[:k]
        if len(set(ranking)) < len(ranking):
            hint = "Rank each document once."
            raise DataError(f"ranking of {query!r}", "hold a document once", ranking, hint)
        gained = [float(max(row.get(document, 0), 0)) for document in ranking]
        ideal = sorted((float(max(score, 0)) for score in row.values()), reverse=True)
        best = _sum(ideal, k)
        scores[query] = _sum(gained, k) / best if best > 0 else 0.0
    return scores


def _sum(gains: Sequence[float], k: int) -> float:
    row: Float = np.array([gains], dtype=np.float64)
    return float(discounted(row, k)[0])


def _text(path: Path) -> str:
    for candidate in (path, path.with_name(f"{path.name}.gz")):
        if candidate.is_file():
            raw = candidate.read_bytes()
            if candidate.suffix == ".gz":
                try:
                    raw = gzip.decompress(raw)
                except (OSError, EOFError) as error:
                    raise DataError(str(candidate), "be gzip", str(error), "Fetch it.") from error
            return decode(raw, str(candidate))[0]
    raise DataError(str(path), "be a file that exists", "no such file", "Check the folder.")


def _records(path: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(where, "be JSON", str(error), "Fetch the file again.") from error
        if not isinstance(row, dict) or not isinstance(row.get("_id"), str | int):
            raise DataError(where, "hold an _id", line[:80], "Give every record one.")
        key = str(row["_id"])
        if key in found:
            raise DataError(where, "hold a new _id", key, "Drop one of them.")
        found[key] = row
    return found
