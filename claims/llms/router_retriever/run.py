"""Pilot routing over experts of five domains, against one encoder for all and a classifier.

The recipe's bound on the size of a group (`least`) was set on a seed that is not among these, where
without it routing by pilots was far below one encoder for all; `every_group` is the rule of the
paper, without it.

Missed: a domain whose expert is removed falls far below the shared encoder, not to it. The shared
encoder is no expert of the pool here, so that its queries go to an expert tuned on another
rotation, which is worse than none; it would have to stand in the pool with pilots of its own. The
texts are far from their oracle (`text_oracle`), and a classifier of data sets is better there: the
light encoder's vectors tell the domains of short queries badly apart by their centroids.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.random import Generator

from turnout.bench import beir
from turnout.core import Outcomes
from turnout.core._check import Float, Int
from turnout.lab import retrieval
from turnout.llms.router_retriever import (
    QueryExpert,
    RouterRetriever,
    expert_quality,
    found,
    train_expert,
)
from turnout.parts.texts.encoder import fit_encoder

DOMAINS = 5

#: Queries as vectors, and the document that each wants.
Asked: TypeAlias = tuple[Float, Int]


def run(seed: int, data: Path | None) -> dict[str, float]:
    return {**_vectors(seed), **_texts(seed)}


class _Trial:
    """Queries of all domains by the shared encoder, the experts, and what they earn."""

    def __init__(
        self,
        train: list[Asked],
        group: list[Asked],
        test: list[Asked],
        documents: Float,
        *,
        rank: int,
        whole: int,
        rng: Generator,
    ) -> None:
        self.documents, self.test = documents, test
        d = documents.shape[1]
        self.experts = [
            train_expert(asked, documents, wanted, rank=rank, rng=rng) for asked, wanted in train
        ]
        self.base = QueryExpert.shared(d)
        self.multitask = train_expert(
            np.vstack([asked for asked, _ in train]),
            documents,
            np.concatenate([wanted for _, wanted in train]),
            rank=whole,
            rng=rng,
        )
        self.names = tuple(f"expert{t}" for t in range(len(train)))
        asked = np.vstack([one for one, _ in group])
        self.labels = np.repeat(np.arange(len(group)), [len(one) for one, _ in group])
        quality = self.earned(asked, np.concatenate([wanted for _, wanted in group]))
        self.table = Outcomes(
            inputs=asked,
            names=self.names,
            quality=quality,
            cost=np.ones(quality.shape),
            group=tuple(f"set{t}" for t in self.labels),
        )
        self.router = RouterRetriever().fit(self.table, self.table.pool(), rng=rng)

    def earned(self, asked: Float, wanted: Int) -> Float:
        return expert_quality(self.experts, asked, self.documents, wanted)

    def routed(self, router: Any, asked: Float, wanted: Int) -> float:
        """nDCG@10 of the expert of the nearest pilot."""
        columns = [self.names.index(name) for name in router.names]
        chosen = router.predict(asked)[0].argmax(axis=1)
        earned = self.earned(asked, wanted)[:, columns]
        return float(earned[np.arange(len(asked)), chosen].mean())

    def single(self, expert: QueryExpert, asked: Float, wanted: Int) -> float:
        return float(expert_quality([expert], asked, self.documents, wanted).mean())

    def classified(self, asked: Float, wanted: Int) -> float:
        """The expert of the data set that a logistic regression takes a query to be of."""
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(max_iter=500).fit(self.table.inputs, self.labels)
        chosen = model.predict(asked)
        return float(self.earned(asked, wanted)[np.arange(len(asked)), chosen].mean())

    def scores(self) -> dict[str, float]:
        asked = np.vstack([one for one, _ in self.test])
        wanted = np.concatenate([one for _, one in self.test])
        earned = self.earned(asked, wanted)

        def of(recipe: RouterRetriever) -> float:
            fitted = recipe.fit(self.table, self.table.pool(), rng=np.random.default_rng(0))
            return self.routed(fitted, asked, wanted)

        return {
            "every_group": of(RouterRetriever(least=0.0)),
            "every_group_nearest": of(RouterRetriever(least=0.0, pick="max")),
            "every_group_nearest_cosine": of(RouterRetriever(least=0.0, pick="max", cosine=True)),
            "nearest": of(RouterRetriever(pick="max")),
            "pilot": self.routed(self.router, asked, wanted),
            "oracle": float(earned.max(axis=1).mean()),
            "random": float(earned.mean()),
            "best_single_expert": float(earned.mean(axis=0).max()),
            "base": self.single(self.base, asked, wanted),
            "multitask": self.single(self.multitask, asked, wanted),
            "classifier": self.classified(asked, wanted),
        }


def _vectors(seed: int) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    world = retrieval.vector_world(DOMAINS, 2000, rng=rng)
    shared = world.turns.transpose(0, 2, 1).mean(axis=0)

    def asked(n: int, t: int) -> Asked:
        queries, wanted = world.ask(n, t, rng=rng)
        return queries @ shared, wanted

    train, group, test = ([asked(n, t) for t in range(DOMAINS)] for n in (500, 300, 200))
    trial = _Trial(train, group, test, world.documents, rank=12, whole=32, rng=rng)
    scores = trial.scores()
    without = trial.router.without("expert0")
    again = without.added("expert0", trial.table.quality[:, 0], 1.0)
    removed = trial.routed(without, *test[0])
    others = [
        abs(trial.routed(without, *test[t]) - trial.routed(trial.router, *test[t]))
        for t in range(1, DOMAINS)
    ]
    restored = [
        abs(trial.routed(again, *test[t]) - trial.routed(trial.router, *test[t]))
        for t in range(DOMAINS)
    ]
    mixed, about = world.ask_mixed(200, 1, 3, rng=rng)
    mixed = mixed @ shared
    return {
        **scores,
        **_gaps(scores, ""),
        "removed_less_base": removed - trial.single(trial.base, *test[0]),
        "others_move": max(others),
        "restored_differs": max(restored),
        "mixed_less_base": trial.routed(trial.router, mixed, about)
        - trial.single(trial.base, mixed, about),
    }


def _texts(seed: int) -> dict[str, float]:
    """The same with texts, which pass through a folder in the layout of BEIR on the way."""
    rng = np.random.default_rng(seed)
    world = retrieval.text_world(DOMAINS, 1000, rng=rng)
    encoder = None
    parts = []
    documents = np.empty(0)
    for n in (400, 200, 150):
        sets = []
        for t in range(DOMAINS):
            texts, wanted = world.ask(n, t, rng=rng)
            with tempfile.TemporaryDirectory() as folder:
                beir.write_beir(folder, _collection(world, texts, wanted))
                read = beir.read_beir(folder)
            if encoder is None:
                every = [*read.documents.values(), *read.queries.values()]
                encoder = fit_encoder("svd", every, d=64, rng=rng)
                documents = np.asarray(encoder.encode(list(read.documents.values())), dtype=float)
            vectors = np.asarray(encoder.encode(list(read.queries.values())), dtype=float)
            sets.append((vectors, wanted))
        parts.append(sets)
    trial = _Trial(parts[0], parts[1], parts[2], documents, rank=32, whole=64, rng=rng)
    scores = trial.scores()
    # the reader's own measure, over the rankings of one expert, is the same figure
    first = found(trial.experts[0].encode(parts[2][0][0]), documents, 10)
    asked = _collection(world, [""] * len(first), parts[2][0][1])
    ranked = {f"q{i}": [f"d{j}" for j in row] for i, row in enumerate(first)}
    own = np.mean(list(beir.ndcg(asked, ranked).values()))
    assert abs(own - trial.earned(*parts[2][0])[:, 0].mean()) < 1e-9
    return {**{f"text_{key}": value for key, value in scores.items()}, **_gaps(scores, "text_")}


def _collection(world: Any, texts: Sequence[str], wanted: Int) -> beir.Collection:
    return beir.Collection(
        documents={f"d{j}": text for j, text in enumerate(world.documents)},
        queries={f"q{i}": text for i, text in enumerate(texts)},
        judged={f"q{i}": {f"d{j}": 1} for i, j in enumerate(wanted)},
    )


def _gaps(scores: dict[str, float], label: str) -> dict[str, float]:
    return {
        f"{label}pilot_less_multitask": scores["pilot"] - scores["multitask"],
        f"{label}oracle_less_pilot": scores["oracle"] - scores["pilot"],
        f"{label}pilot_less_classifier": scores["pilot"] - scores["classifier"],
        f"{label}multitask_less_base": scores["multitask"] - scores["base"],
    }
