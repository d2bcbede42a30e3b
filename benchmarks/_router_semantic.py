"""semantic-router: a route a model, and the training prompts that the model wins as utterances.

Of several models that did best on a prompt, the first in `Task.ranked` wins it. Its own router,
index and local encoder at their defaults; the encoder's weights are those of
`_router_encoder.py`, because its default ones must be fetched. Its scores are mean similarities
among the five nearest utterances.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

import numpy as np

from _router_encoder import Encoder, folder  # type: ignore[import-not-found,unused-ignore]
from _router_task import (  # type: ignore[import-not-found,unused-ignore]
    Adapter,
    Scores,
    Table,
    Task,
)

__all__ = ["ADAPTERS"]


class _Kept:
    """The local encoder's model, with vectors that are known already taken from the file."""

    def __init__(self, encode: Encoder) -> None:
        self._encode = encode

    def encode(self, texts: list[str], **options: Any) -> Any:
        """Vectors (n, 384)."""
        return self._encode(texts)


@functools.lru_cache(maxsize=1)
def _local(encode: Encoder) -> Any:
    encoder = importlib.import_module("semantic_router.encoders").LocalEncoder(name=folder())
    encoder._model = _Kept(encode)
    return encoder


def indexed(task: Task, encode: Encoder) -> Scores:
    """IndexedRouter: the confidence in each route, zero for one without a near utterance."""
    kinds: Any = importlib.import_module("semantic_router")
    with encode.free():
        encoder = _local(encode)
    won: dict[str, list[str]] = {}
    for text, name in task.winners():
        won.setdefault(name, []).append(text)
    routes = [kinds.Route(name=name, utterances=texts) for name, texts in won.items()]
    router = kinds.IndexedRouter(encoder=encoder, routes=routes)

    def scores(texts: list[str]) -> Table:
        encode.ahead(texts)
        table = np.zeros((len(texts), len(task.names)))
        for row, text in zip(table, texts, strict=True):
            for choice in router(text, limit=None):
                row[task.names.index(choice.name)] = choice.confidence
        return table

    return scores


ADAPTERS = {
    "semantic-router": Adapter(
        "semantic-router",
        "semantic_router",
        indexed,
        ("semantic_router", "semantic_router.encoders"),
    )
}
