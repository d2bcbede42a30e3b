"""RouteLLM's routers that can be trained here, by its own classes, for two models.

Its matrix factorization and its similarity-weighted ranking learn from battles between models;
here a battle is one of our prompts, won by the model that did better on it. Both ask a service
for the vectors of texts; its client is replaced by `_router_encoder.py`. What they say is the
share of prompts like this one that the stronger model wins. Its other two routers start from
weights on a hub.
"""

from __future__ import annotations

import importlib
import json
from types import SimpleNamespace
from typing import Any

import numpy as np

from _router_encoder import WIDTH, Encoder  # type: ignore[import-not-found,unused-ignore]
from _router_task import (  # type: ignore[import-not-found,unused-ignore]
    Adapter,
    Scores,
    Table,
    Task,
)

__all__ = ["ADAPTERS"]

_ROUTERS = "routellm.routers"
#: What its routers call the pair by default; other names are not in its list of models.
_STRONG, _WEAK = "gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1"
#: Prompts that are shorter are no battles to its ranking.
_LEAST_CHARACTERS = 16


def mf(task: Task, encode: Encoder) -> Scores:
    """MatrixFactorizationRouter, trained by the loop and the settings of its training script.

    The script's one replaced setting is the length of a vector, 384 for 1536, and the device.
    """
    torch: Any = importlib.import_module("torch")
    training: Any = importlib.import_module(
        f"{_ROUTERS}.matrix_factorization.train_matrix_factorization"
    )
    model: Any = importlib.import_module(f"{_ROUTERS}.matrix_factorization.model")
    routers: Any = importlib.import_module(f"{_ROUTERS}.routers")
    model.OPENAI_CLIENT = _client(encode)
    weak, strong = task.pair()
    gain = task.quality[:, strong] - task.quality[:, weak]
    data = [
        {
            "idx": i,
            "model_a": _STRONG,
            "model_b": _WEAK,
            "winner": "model_a" if gain[i] > 0 else "model_b",
        }
        for i in np.flatnonzero(np.abs(gain) > 0).tolist()
    ]
    vectors = task.folder / "vectors.npy"
    np.save(vectors, encode(task.texts))
    np.random.default_rng(task.seed).shuffle(data)
    cut = int(len(data) * 0.95)
    parts = [training.PairwiseDataset(part) for part in (data[:cut], data[cut:])]
    net = training.MFModel_Train(
        dim=128,
        num_models=len(model.MODEL_IDS),
        num_prompts=len(task.texts),
        text_dim=WIDTH,
        use_proj=True,
        npy_path=str(vectors),
    )
    training.train_loops(
        net,
        parts[0].get_dataloaders(batch_size=64, shuffle=True),
        parts[1].get_dataloaders(1024, shuffle=False),
        lr=3e-4,
        weight_decay=1e-5,
        alpha=0.1,
        num_epochs=100,
        device="cpu",
    )
    learnt = net.state_dict()
    served = model.MFModel(128, len(model.MODEL_IDS), WIDTH, 1, True)
    with torch.no_grad():
        served.P.weight.copy_(learnt["P.weight"])
        served.text_proj[0].weight.copy_(learnt["text_proj.weight"])
        served.classifier[0].weight.copy_(learnt["classifier.weight"])
    checkpoint = task.folder / "checkpoint"
    served.save_pretrained(checkpoint)
    router = routers.MatrixFactorizationRouter(str(checkpoint), text_dim=WIDTH)
    return _win_rates(router, encode, (weak, strong))


def sw_ranking(task: Task, encode: Encoder) -> Scores:
    """SWRankingRouter, with the two data sets that it loads made of our rows."""
    datasets: Any = importlib.import_module("datasets")
    routers: Any = importlib.import_module(f"{_ROUTERS}.routers")
    routers.OPENAI_CLIENT = _client(encode)
    weak, strong = task.pair()
    gain = task.quality[:, strong] - task.quality[:, weak]
    long = [len(text.strip()) >= _LEAST_CHARACTERS for text in task.texts]
    rows = np.flatnonzero(np.array(long) & ~np.isnan(gain)).tolist()
    made = {
        "battles": {
            "model_a": [_STRONG] * len(rows),
            "model_b": [_WEAK] * len(rows),
            "prompt": [json.dumps([task.texts[i]]) for i in rows],
            "winner_model_a": [int(gain[i] > 0) for i in rows],
            "winner_model_b": [int(gain[i] < 0) for i in rows],
        },
        "vectors": {"embeddings": encode([task.texts[i] for i in rows]).tolist()},
    }
    routers.load_dataset = lambda name, split: datasets.Dataset.from_dict(made[name])
    router = routers.SWRankingRouter(["battles"], ["vectors"], _STRONG, _WEAK)
    return _win_rates(router, encode, (weak, strong))


def _win_rates(router: Any, encode: Encoder, pair: tuple[int, int]) -> Scores:
    def scores(texts: list[str]) -> Table:
        encode.ahead(texts)
        share = np.array([router.calculate_strong_win_rate(text) for text in texts])
        return np.stack((1.0 - share, share), axis=1)[:, np.argsort(pair)]

    return scores


def _client(encode: Encoder) -> Any:
    """What answers like the service's client, as far as it is asked."""

    def create(input: list[str], model: str) -> Any:
        return SimpleNamespace(
            data=[SimpleNamespace(embedding=vector.tolist()) for vector in encode(input)]
        )

    return SimpleNamespace(embeddings=SimpleNamespace(create=create))


def _adapter(fit: Any) -> Adapter:
    imports = (
        "datasets",
        f"{_ROUTERS}.routers",
        f"{_ROUTERS}.matrix_factorization.train_matrix_factorization",
    )
    return Adapter("routellm", "routellm", fit, imports, models=2)


ADAPTERS = {"routellm-mf": _adapter(mf), "routellm-sw-ranking": _adapter(sw_ranking)}
