"""Statistics of others: rows read by kind, and summed up by model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from turnout.bench.traces import measures, read_trace, summarise
from turnout.bench.traces.statistics import from_rows, kind_of, merge
from turnout.core import DataError
from turnout.testing import real_data


def loads(
    model: str = "m", domain: str = "d", k: int = 2, **counts: list[int]
) -> list[dict[str, Any]]:
    """Rows of counts, one a layer given as `layer_N`."""
    return [
        {"model": model, "domain": domain, "layer": int(name[6:]), "top_k": k, "counts": values}
        for name, values in counts.items()
    ]


def test_kinds_of_rows() -> None:
    """A row is known by its keys alone."""
    assert kind_of({"layer": 0, "counts": []}) == "loads"
    assert kind_of({"from_layer": 0, "to_layer": 1, "matrix": []}) == "affinity"
    assert kind_of({"layer": 0, "expert": 0, "tokens": {}}) == "vocabulary"
    assert kind_of({"layer": 0}) is None
    assert kind_of(3) is None


def test_rows_without_names_are_called_by_their_file() -> None:
    """Only what is counted must be there."""
    found = from_rows([{"layer": 3, "counts": [1, 2]}], "f", "label")
    (one,) = found.loads
    assert (one.model, one.domain, one.k) == ("label", "all", 1)
    assert one.layers.tolist() == [3]


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([{"layer": 0, "counts": [1]}, {"layer": 1}], "f, row 2 must hold"),
        ([{"layer": 0, "counts": [1]}, {"layer": 0, "counts": [1]}], "be the only row of layer 0"),
        ([{"layer": 0, "counts": [1]}, {"layer": 1, "counts": [1, 2]}], "equally many experts"),
        ([{"layer": 0, "counts": [-1]}], "f, row 1, counts must be a list of counts"),
        ([{"layer": 0, "counts": [0.5]}], "f, row 1, counts must be a list of counts"),
        ([{"layer": 0, "counts": 3}], "f, row 1, counts must be a list of counts"),
        ([{"layer": "a", "counts": [1]}], "f, row 1, layer must be a whole number"),
        ([{"layer": 0, "top_k": True, "counts": [1]}], "f, row 1, top_k must be a whole number"),
        ([{"from_layer": 0, "to_layer": 1, "matrix": [1]}], "matrix must be a matrix of counts"),
        ([{"from_layer": 0, "to_layer": 1, "matrix": [[1], [1, 2]]}], "rows of one length"),
        ([{"layer": 0, "expert": 0, "tokens": [1]}], "tokens must map token ids"),
        ([{"layer": 0, "expert": 0, "tokens": {"a": 1}}], "tokens must have token ids"),
        ([{"layer": 0, "expert": -1, "tokens": {"1": 1}}], "expert must be a whole number"),
    ],
)
def test_bad_rows_are_refused_with_their_place(rows: list[Any], match: str) -> None:
    """The message names the file, the row and the field."""
    with pytest.raises(DataError, match=match):
        from_rows(rows, "f", "label")


def test_domains_are_added_up_and_compared() -> None:
    """Two domains of one model: summed loads, and how much the domain tells of the expert."""
    rows = [
        *loads(domain="a", layer_0=[30, 10, 0], layer_7=[20, 20, 0]),
        *loads(domain="b", layer_0=[10, 30, 0], layer_7=[20, 20, 0]),
        *loads(domain="a", k=1, layer_0=[9, 9, 9], layer_7=[9, 9, 9]),
        *loads(model="other", layer_1=[4, 4]),
    ]
    first, second = summarise(from_rows(rows, "f", "x"), "f")
    assert (first.name, first.k, first.e, first.t) == ("m", 2.0, 3, 40)
    assert first.layers.tolist() == [0, 7]
    assert first.counts.tolist() == [[40, 40, 0], [40, 40, 0]]
    group = first.groups["domain"]
    assert group.names == ("a", "b")
    table = np.array([[30, 10, 0], [10, 30, 0]])
    assert group.bits[0] == pytest.approx(measures.specialisation(table, k=2).bits)
    assert group.bits[1] == 0.0
    assert (second.name, second.groups) == ("other", {})


def test_pairs_become_transitions() -> None:
    """Matrices of all domains are added up; each token counts once."""
    rows = [
        {"model": "m", "domain": d, "from_layer": 0, "to_layer": 7, "top_k": 2, "matrix": matrix}
        for d, matrix in (("a", [[40, 0], [0, 20]]), ("b", [[20, 0], [0, 40]]))
    ]
    both = merge([from_rows(loads(layer_0=[60, 60], layer_7=[60, 60]), "f", "x")])
    (found,) = summarise(merge([both, from_rows(rows, "g", "x")]), "f")
    (one,) = found.transitions
    assert (one.source, one.target) == (0, 7)
    assert one.matrix.tolist() == [[30, 0], [0, 30]]
    assert one.bits == pytest.approx(1 - 1 / 240 / math.log(2))
    assert any("equal rank" in note for note in found.notes)
    # Without loads the margins of the pairs give them.
    (alone,) = summarise(from_rows(rows, "g", "x"), "g")
    assert alone.counts.tolist() == [[60, 60], [60, 60]]
    assert alone.groups["domain"].counts[:, 0].tolist() == [[40, 20], [20, 40]]


def test_vocabularies_find_their_model() -> None:
    """By the beginning of the name and the domain; alone they stand for themselves."""
    rows = [
        {"layer": 0, "expert": expert, "tokens": {"7": counts[0], "8": counts[1]}}
        for expert, counts in enumerate([(90, 0), (10, 50), (0, 50)])
    ]
    words = from_rows(rows, "f", "tiny_d")
    counted = from_rows(loads(model="Tiny-3x", k=1, layer_0=[100, 60, 50]), "f", "x")
    (found,) = summarise(merge([counted, words]), "f")
    assert found.tokens is not None
    assert found.tokens.ids[0, 0].tolist() == [7, -1, -1, -1, -1]
    assert found.tokens.shares[0, 0, 0] == pytest.approx(0.9)
    assert found.tokens.ids[0, 1].tolist()[0] == 8
    assert found.tokens.shares[0, 1, 0] == pytest.approx(0.5)
    assert found.tokens.bits[0] > 0.4
    (alone,) = summarise(words, "f")
    assert alone.name == "tiny_d"
    assert alone.counts.tolist() == [[90, 60, 50]]
    elsewhere = from_rows(loads(model="Large", layer_0=[1, 1, 1]), "f", "x")
    assert [one.name for one in summarise(merge([elsewhere, words]), "f")] == ["Large", "tiny_d"]


def test_domains_must_have_the_same_layers() -> None:
    """Loads that cannot be added up, and loads of nothing, are refused."""
    rows = [*loads(domain="a", layer_0=[1, 1]), *loads(domain="b", layer_1=[1, 1])]
    with pytest.raises(DataError, match="layers \\[0\\] in every domain of m"):
        summarise(from_rows(rows, "f", "x"), "f")
    with pytest.raises(DataError, match="hold choices of m"):
        summarise(from_rows(loads(layer_0=[0, 0]), "f", "x"), "f")


def test_real_statistics() -> None:
    """OLMoE and Mixtral as published: max / mean of layer 15 on arXiv text is 7.49."""
    found = read_trace(real_data("levels/placement/moe"))
    models = {one.name: one for one in summarise(found, "moe")}  # type: ignore[arg-type]
    olmoe = models["OLMoE-1B-7B-0924"]
    assert olmoe.t == 626_688
    names = olmoe.groups["domain"].names
    busiest = measures.max_over_mean(olmoe.groups["domain"].counts)
    assert busiest[names.index("arxiv"), 2] == pytest.approx(7.49, abs=0.005)
    assert busiest[names.index("c4"), 2] == pytest.approx(2.50, abs=0.005)
    assert [(one.source, one.target) for one in olmoe.transitions] == [(0, 7), (7, 15)]
    assert olmoe.tokens is not None
    assert (models["Mixtral-8x7B-v0.1"].groups["domain"].bits < 0.05).all()
    assert (olmoe.groups["domain"].bits > 0.05).all()
