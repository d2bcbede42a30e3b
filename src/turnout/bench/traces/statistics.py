"""Statistics: what others counted of a router, where the trace itself was not kept.

Rows of JSON, one a line, of three kinds: choices by expert
`{"model", "domain", "layer", "top_k", "counts": [...]}`, pairs of experts in two layers
`{"model", "domain", "from_layer", "to_layer", "top_k", "matrix": [[...]]}`, and the tokens of
each expert `{"layer", "expert", "tokens": {"token id": count}}`. Only `layer`, `counts`,
`from_layer`, `to_layer`, `matrix`, `expert` and `tokens` must be there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from turnout.core import DataError
from turnout.core._check import Int, frozen

__all__ = ["Affinity", "Loads", "Statistics", "Vocabulary", "from_rows", "kind_of", "merge"]

#: What a row must hold to be of a kind.
_KINDS = {
    "loads": {"layer", "counts"},
    "affinity": {"from_layer", "to_layer", "matrix"},
    "vocabulary": {"layer", "expert", "tokens"},
}


@dataclass(frozen=True, eq=False, kw_only=True)
class Loads:
    """Choices by layer and expert, of one model on texts of one domain.

    Parameters
    ----------
    model, domain : str
    k : int
        Choices of a token that were counted.
    layers : int array (l,)
        Layer numbers, rising.
    counts : int array (l, e)
    """

    model: str
    domain: str
    k: int
    layers: Int
    counts: Int


@dataclass(frozen=True, eq=False, kw_only=True)
class Affinity:
    """Tokens by the expert they used in one layer and in a later one.

    Parameters
    ----------
    model, domain : str
    k : int
        Choices of a token that were counted.
    source, target : int
        Numbers of the two layers.
    matrix : int array (e, e)
        Expert of the source layer by expert of the target layer.
    """

    model: str
    domain: str
    k: int
    source: int
    target: int
    matrix: Int


@dataclass(frozen=True, eq=False, kw_only=True)
class Vocabulary:
    """Tokens that went to each expert, as p triples with a count.

    Parameters
    ----------
    name : str
        Of the file, such as `olmoe_arxiv`: the rows name no model.
    layer, expert, token, count : int array (p,)
    """

    name: str
    layer: Int
    expert: Int
    token: Int
    count: Int


@dataclass(frozen=True, eq=False, kw_only=True)
class Statistics:
    """Counts of one or more models; not a trace: which token came after which is not known.

    Parameters
    ----------
    loads : tuple of Loads
    affinities : tuple of Affinity
    vocabularies : tuple of Vocabulary
    ignored : tuple of str
        Files of a folder that hold nothing of these.
    """

    loads: tuple[Loads, ...] = ()
    affinities: tuple[Affinity, ...] = ()
    vocabularies: tuple[Vocabulary, ...] = ()
    ignored: tuple[str, ...] = field(default=())


def kind_of(row: Any) -> str | None:
    """`loads`, `affinity` or `vocabulary`, by the keys of a row; None = none of them."""
    if not isinstance(row, dict):
        return None
    return next((kind for kind, keys in _KINDS.items() if keys <= row.keys()), None)


def from_rows(rows: Sequence[Any], name: str, label: str) -> Statistics:
    """Statistics of rows that are all of one kind.

    Parameters
    ----------
    rows : sequence of dict
        At least one.
    name : str
        The file, for messages.
    label : str
        What to call a vocabulary, and a model that no row names.

    Raises
    ------
    DataError
        A row is of another kind than the first, counts are negative or no whole numbers, experts
        differ in number, or a layer comes twice.
    """
    kind = kind_of(rows[0])
    for number, row in enumerate(rows, start=1):
        if kind_of(row) != kind:
            hint = "Keep each kind in a file of its own."
            raise DataError(f"{name}, row {number}", f"hold {sorted(_KINDS[str(kind)])}", row, hint)
    if kind == "vocabulary":
        return Statistics(vocabularies=(_vocabulary(rows, name, label),))
    if kind == "affinity":
        return Statistics(affinities=tuple(_affinities(rows, name, label)))
    return Statistics(loads=tuple(_loads(rows, name, label)))


def merge(parts: Sequence[Statistics], ignored: Sequence[str] = ()) -> Statistics:
    """Statistics of several files as one."""
    return Statistics(
        loads=tuple(one for part in parts for one in part.loads),
        affinities=tuple(one for part in parts for one in part.affinities),
        vocabularies=tuple(one for part in parts for one in part.vocabularies),
        ignored=tuple(ignored),
    )


def _loads(rows: Sequence[Any], name: str, label: str) -> list[Loads]:
    groups: dict[tuple[str, str, int], dict[int, Int]] = {}
    for number, row in enumerate(rows, start=1):
        where = f"{name}, row {number}"
        key = (*_names(row, label), _integer(row.get("top_k", 1), f"{where}, top_k"))
        counts = _counts(row["counts"], f"{where}, counts", 1)
        layers = groups.setdefault(key, {})
        layer = _integer(row["layer"], f"{where}, layer")
        if layer in layers:
            hint = "Add up the rows, or give them different domains."
            raise DataError(where, f"be the only row of layer {layer} of {key}", "a second", hint)
        layers[layer] = counts
    made = []
    for (model, domain, k), layers in groups.items():
        sizes = sorted({len(counts) for counts in layers.values()})
        if len(sizes) > 1:
            hint = "Give models of different size different names."
            raise DataError(name, f"have equally many experts in {model}", sizes, hint)
        order = sorted(layers)
        made.append(
            Loads(
                model=model,
                domain=domain,
                k=k,
                layers=frozen(np.array(order, dtype=np.int64)),
                counts=frozen(np.stack([layers[layer] for layer in order])),
            )
        )
    return made


def _affinities(rows: Sequence[Any], name: str, label: str) -> list[Affinity]:
    made = []
    for number, row in enumerate(rows, start=1):
        where = f"{name}, row {number}"
        model, domain = _names(row, label)
        made.append(
            Affinity(
                model=model,
                domain=domain,
                k=_integer(row.get("top_k", 1), f"{where}, top_k"),
                source=_integer(row["from_layer"], f"{where}, from_layer"),
                target=_integer(row["to_layer"], f"{where}, to_layer"),
                matrix=frozen(_counts(row["matrix"], f"{where}, matrix", 2)),
            )
        )
    return made


def _vocabulary(rows: Sequence[Any], name: str, label: str) -> Vocabulary:
    layer, expert, token, count = [], [], [], []
    for number, row in enumerate(rows, start=1):
        where = f"{name}, row {number}"
        tokens = row["tokens"]
        if not isinstance(tokens, dict):
            raise DataError(f"{where}, tokens", "map token ids to counts", tokens, "Use an object.")
        try:
            ids = np.array([int(key) for key in tokens], dtype=np.int64)
        except ValueError:
            raise DataError(f"{where}, tokens", "have token ids as keys", "text", "") from None
        layer.append(np.full(len(ids), _integer(row["layer"], f"{where}, layer")))
        expert.append(np.full(len(ids), _integer(row["expert"], f"{where}, expert")))
        token.append(ids)
        count.append(_counts(list(tokens.values()), f"{where}, tokens", 1))
    return Vocabulary(
        name=label,
        layer=frozen(np.concatenate(layer)),
        expert=frozen(np.concatenate(expert)),
        token=frozen(np.concatenate(token)),
        count=frozen(np.concatenate(count)),
    )


def _names(row: dict[str, Any], label: str) -> tuple[str, str]:
    return str(row.get("model", label)), str(row.get("domain", "all"))


def _integer(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise DataError(name, "be a whole number >= 0", value, "Correct the row.")
    return value


def _counts(value: Any, name: str, dimensions: int) -> Int:
    hint = "Write plain whole numbers."
    try:
        array: NDArray[Any] = np.asarray(value)
    except ValueError:
        raise DataError(name, "have rows of one length", "ragged rows", hint) from None
    whole = np.issubdtype(array.dtype, np.integer) or array.size == 0
    if not whole or array.ndim != dimensions or (array.size and array.min() < 0):
        shape = "a list" if dimensions == 1 else "a matrix"
        raise DataError(name, f"be {shape} of counts >= 0", value, hint)
    return array.astype(np.int64)
