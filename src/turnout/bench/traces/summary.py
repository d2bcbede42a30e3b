"""The same analysis of statistics, as far as they go: one for each model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from turnout.bench.traces import measures, pairs
from turnout.bench.traces.analysis import token_use
from turnout.bench.traces.results import Analysis, Group, TokenUse, Transition
from turnout.bench.traces.statistics import Affinity, Loads, Statistics, Vocabulary
from turnout.core import DataError

__all__ = ["summarise"]

_One = TypeVar("_One", Loads, Affinity)


def summarise(statistics: Statistics, name: str) -> list[Analysis]:
    """One analysis for each model that has loads or pairs, in the order of the file.

    Of a model that was counted with several k, the largest is taken. Loads of several domains
    are added up, and compared as the tag `domain`. A vocabulary goes to the first model whose
    name begins like its file's, and that has its domain.

    Parameters
    ----------
    statistics : Statistics
    name : str
        What was read.

    Raises
    ------
    DataError
        Domains of a model differ in their layers, or nothing was counted.
    """
    models = dict.fromkeys(
        [one.model for one in statistics.loads] + [one.model for one in statistics.affinities]
    )
    free = list(statistics.vocabularies)
    made = []
    for model in models:
        loads = _largest_k([one for one in statistics.loads if one.model == model])
        affinities = _largest_k([one for one in statistics.affinities if one.model == model])
        domains = {one.domain for one in loads} | {one.domain for one in affinities}
        own = [one for one in free if _belongs(one, model, domains)]
        free = [one for one in free if one not in own]
        made.append(_analysis(model, loads, affinities, own, name))
    made += [_analysis(one.name, [], [], [one], name) for one in free]
    if not made:
        raise DataError(name, "hold counts", "none", "Write the rows again.")
    return made


def _largest_k(found: Sequence[_One]) -> list[_One]:
    most = max((one.k for one in found), default=0)
    return [one for one in found if one.k == most]


def _belongs(vocabulary: Vocabulary, model: str, domains: set[str]) -> bool:
    head, _, domain = vocabulary.name.lower().partition("_")
    return model.lower().startswith(head) and (not domain or domain in domains)


def _analysis(
    model: str,
    loads: Sequence[Loads],
    affinities: Sequence[Affinity],
    vocabularies: Sequence[Vocabulary],
    name: str,
) -> Analysis:
    notes = []
    if not loads:
        loads = _from_affinities(affinities) if affinities else [_from_tokens(vocabularies[0])]
        notes.append("loads are added up from the pairs or tokens of experts")
    layers, k = loads[0].layers, loads[0].k
    for one in loads:
        if not np.array_equal(one.layers, layers) or one.counts.shape != loads[0].counts.shape:
            rule = f"have layers {layers.tolist()} in every domain of {model}"
            raise DataError(name, rule, one.layers.tolist(), "Leave the others out.")
    counts = np.sum([one.counts for one in loads], axis=0)
    if counts.sum() == 0:
        raise DataError(name, f"hold choices of {model}", 0, "Count some text first.")
    groups = {}
    if len(loads) > 1:
        table = np.stack([one.counts for one in loads])
        bits = [measures.specialisation(table[:, layer], k=k).bits for layer in range(len(layers))]
        names = tuple(one.domain for one in loads)
        groups["domain"] = Group(names=names, counts=table, bits=np.array(bits))
    if affinities:
        notes.append("pairs of experts join choices of equal rank only")
    if vocabularies:
        notes.append("token ids are of " + ", ".join(one.name for one in vocabularies))
    return Analysis(
        name=model,
        t=int(counts.sum() // (len(layers) * k)),
        e=counts.shape[1],
        k=float(k),
        layers=layers,
        counts=counts,
        groups=groups,
        tokens=_tokens(vocabularies, layers, counts.shape[1], k) if vocabularies else None,
        transitions=tuple(_transitions(affinities)),
        notes=tuple(notes),
        meta={"format": "statistics: no order of tokens is known"},
    )


def _transitions(affinities: Sequence[Affinity]) -> list[Transition]:
    added: dict[tuple[int, int], np.ndarray] = {}
    k = 1
    for one in affinities:
        key = (one.source, one.target)
        added[key] = added.get(key, 0) + one.matrix.astype(np.float64)
        k = one.k
    return [
        Transition(
            source=source,
            target=target,
            # k pairs of equal rank were counted of each token.
            matrix=matrix / k,
            bits=pairs.dependence(matrix, t=float(matrix.sum()), k=1.0),
        )
        for (source, target), matrix in sorted(added.items())
    ]


def _from_affinities(affinities: Sequence[Affinity]) -> list[Loads]:
    """Loads that the margins of the pairs give, by domain."""
    made = []
    for domain in dict.fromkeys(one.domain for one in affinities):
        rows: dict[int, np.ndarray] = {}
        for one in (one for one in affinities if one.domain == domain):
            rows.setdefault(one.source, one.matrix.sum(axis=1))
            rows.setdefault(one.target, one.matrix.sum(axis=0))
        layers = np.array(sorted(rows), dtype=np.int64)
        counts = np.stack([rows[int(layer)] for layer in layers])
        first = affinities[0]
        made.append(
            Loads(model=first.model, domain=domain, k=first.k, layers=layers, counts=counts)
        )
    return made


def _from_tokens(vocabulary: Vocabulary) -> Loads:
    layers, place = np.unique(vocabulary.layer, return_inverse=True)
    counts = np.zeros((len(layers), int(vocabulary.expert.max(initial=0)) + 1), dtype=np.int64)
    np.add.at(counts, (place, vocabulary.expert), vocabulary.count)
    return Loads(model=vocabulary.name, domain="all", k=1, layers=layers, counts=counts)


def _tokens(vocabularies: Sequence[Vocabulary], layers: np.ndarray, e: int, k: int) -> TokenUse:
    tables, places = [], []
    layer, expert, token, count = (
        np.concatenate([getattr(one, field) for one in vocabularies])
        for field in ("layer", "expert", "token", "count")
    )
    for place, number in enumerate(layers):
        some = layer == number
        if not some.any():
            continue
        names, row = np.unique(token[some], return_inverse=True)
        table = np.zeros((len(names), e), dtype=np.int64)
        np.add.at(table, (row, expert[some]), count[some])
        tables.append((names, table))
        places.append(place)
    return token_use(np.array(places, dtype=np.int64), tables, float(k))
