"""Collections in the layout of BEIR, and nDCG by hand."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from turnout.bench.beir import Collection, ndcg, read_beir, write_beir
from turnout.core import DataError

DOCUMENTS = '{"_id": "a", "title": "A", "text": "one"}\n{"_id": "b", "text": "two"}\n'
QUERIES = '{"_id": "1", "text": "what"}\n{"_id": "2", "text": "why"}\n'
QRELS = "query-id\tcorpus-id\tscore\n1\ta\t2\n1\tb\t1\n"


def _folder(root: Path, documents=DOCUMENTS, queries=QUERIES, qrels=QRELS) -> Path:
    (root / "qrels").mkdir()
    (root / "corpus.jsonl").write_text(documents, encoding="utf-8")
    (root / "queries.jsonl").write_text(queries, encoding="utf-8")
    (root / "qrels" / "test.tsv").write_text(qrels, encoding="utf-8")
    return root


def test_a_folder_is_read(tmp_path: Path) -> None:
    """Title and text together; queries that are not judged are left out."""
    read = read_beir(_folder(tmp_path))
    assert read.documents == {"a": "A one", "b": "two"}
    assert read.queries == {"1": "what"}
    assert read.judged == {"1": {"a": 2, "b": 1}}


def test_gzip_and_a_missing_header_are_read(tmp_path: Path) -> None:
    """The first row counts where it is a judgement."""
    root = _folder(tmp_path, qrels="1\ta\t1\n")
    packed = gzip.compress((root / "corpus.jsonl").read_bytes())
    (root / "corpus.jsonl.gz").write_bytes(packed)
    (root / "corpus.jsonl").unlink()
    assert read_beir(root).judged == {"1": {"a": 1}}


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    """Line ends and quotes in texts, and quotes in ids, come back."""
    made = Collection(
        documents={"d1": 'a "b"\nc', 'd"2': "x\u2028y"},
        queries={"q": "ä?"},
        judged={"q": {"d1": 1, 'd"2': 0}},
    )
    write_beir(tmp_path / "new", made, "dev")
    assert read_beir(tmp_path / "new", "dev") == made


def test_ndcg_by_hand() -> None:
    """Gains 1, none, 2 in that order, of 2 and 1 at best."""
    made = Collection(documents={}, queries={}, judged={"1": {"a": 2, "b": 1}, "2": {"c": 0}})
    found = ndcg(made, {"1": ["b", "z", "a"], "2": ["c"]})
    want = (1 + 2 / np.log2(4)) / (2 + 1 / np.log2(3))
    assert found["1"] == pytest.approx(want)
    assert found["2"] == 0.0
    assert ndcg(made, {"1": ["b", "z", "a"]}, k=1) == {"1": 0.5, "2": 0.0}
    assert ndcg(made, {"1": ["a", "b"]})["1"] == pytest.approx(1.0)


def test_only_k_ranks_count() -> None:
    """What stands eleventh is worth nothing at 10."""
    made = Collection(documents={}, queries={}, judged={"1": {"a": 1}})
    ranking = [f"z{i}" for i in range(10)] + ["a"]
    assert ndcg(made, {"1": ranking})["1"] == 0.0
    assert ndcg(made, {"1": ranking}, k=11)["1"] == pytest.approx(1 / np.log2(12))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"qrels": QRELS + "9\ta\t1\n"}, "judge a query that is there; got '9'"),
        ({"qrels": QRELS + "1\tz\t1\n"}, "judge a document that is there; got 'z'"),
        ({"qrels": QRELS + "1\ta\t1\n"}, "judge a pair once"),
        ({"qrels": QRELS + "2\ta\n"}, "row 4 must hold query-id, corpus-id"),
        ({"qrels": "query-id\tcorpus-id\tscore\n"}, "judge something"),
        ({"documents": DOCUMENTS + '{"_id": "a"}\n'}, "line 3 must hold a new _id"),
        ({"documents": '{"text": "x"}\n'}, "hold an _id"),
        ({"queries": "{\n"}, "be JSON"),
    ],
)
def test_what_is_damaged_is_named(tmp_path: Path, files: dict, message: str) -> None:
    """File and row."""
    with pytest.raises(DataError, match=message):
        read_beir(_folder(tmp_path, **files))


def test_a_missing_split_is_named(tmp_path: Path) -> None:
    """By its path."""
    with pytest.raises(DataError, match=r"dev\.tsv must be a file that exists"):
        read_beir(_folder(tmp_path), "dev")


def test_a_document_ranked_twice_is_refused() -> None:
    """It would gain twice."""
    made = Collection(documents={}, queries={}, judged={"1": {"a": 1}})
    with pytest.raises(DataError, match="hold a document once"):
        ndcg(made, {"1": ["a", "a"]})
