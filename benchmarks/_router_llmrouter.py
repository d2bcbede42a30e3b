"""Routers of llmrouter-lib, trained by its own trainers on our rows.

Each is set up as its users do, by a settings file and data files; the settings are those of the
example that the project has for each. Two things are replaced. The vectors of texts are those of
`_router_encoder.py` in place of Longformer's, which must be fetched. And its routers name one
model; here the figures are read by which they choose it. They learn the best model of a prompt,
of several equally good ones the first row: rows are written in the order of `Task.ranked`. What
is timed spares them the reading of their model from disk, which they do for every prompt.
"""

from __future__ import annotations

import importlib
import json
from typing import Any

import numpy as np

from _router_encoder import WIDTH, Encoder  # type: ignore[import-not-found,unused-ignore]
from _router_task import (  # type: ignore[import-not-found,unused-ignore]
    Adapter,
    Scores,
    Table,
    Task,
    columns,
    shares,
)

__all__ = ["ADAPTERS"]

_MODELS = "llmrouter.models"
_KNN = {
    "n_neighbors": 5,
    "weights": "uniform",
    "algorithm": "auto",
    "leaf_size": 30,
    "p": 2,
    "metric": "minkowski",
    "n_jobs": -1,
}
_SVM = {"kernel": "rbf", "C": 1.0, "gamma": "scale", "probability": True}
_MLP = {
    "hidden_layer_sizes": [128, 64],
    "activation": "relu",
    "solver": "adam",
    "alpha": 0.0001,
    "learning_rate": "adaptive",
    "learning_rate_init": 0.001,
    "max_iter": 500,
    "random_state": 42,
}
_MF = {"latent_dim": 128, "text_dim": WIDTH, "lr": 0.001, "epochs": 5, "noise_alpha": 0.0}
_GRAPH = {
    "hidden_dim": 64,
    "learning_rate": 0.001,
    "weight_decay": 0.0001,
    "train_epoch": 100,
    "batch_size": 4,
    "train_mask_rate": 0.3,
    "val_split_ratio": 0.2,
    "random_state": 42,
}


def knn(task: Task, encode: Encoder) -> Scores:
    """KNNRouter: shares of the five nearest prompts' best models."""
    return _classifier(task, encode, "knnrouter", "KNNRouter", _KNN)


def svm(task: Task, encode: Encoder) -> Scores:
    """SVMRouter: probabilities of a support vector machine that tells the best model."""
    return _classifier(task, encode, "svmrouter", "SVMRouter", _SVM)


def _classifier(task: Task, encode: Encoder, module: str, kind: str, hparam: Any) -> Scores:
    model = _trained(task, encode, module, (kind, f"{kind}Trainer"), hparam).model
    return lambda texts: columns(model.predict_proba(encode(texts)), model.classes_, task.names)


def mlp(task: Task, encode: Encoder) -> Scores:
    """MLPRouter: probabilities of two hidden layers that tell the best model."""
    torch: Any = importlib.import_module("torch")
    made = _trained(task, encode, "mlprouter", ("MLPRouter", "MLPTrainer"), _MLP)
    model = made.model.eval()
    found = [made.router.idx_to_model[k] for k in range(made.num_classes)]

    def scores(texts: list[str]) -> Table:
        with torch.no_grad():
            logits = model(torch.from_numpy(encode(texts)))
        return columns(torch.softmax(logits, dim=1).numpy(), found, task.names)

    return scores


def mf(task: Task, encode: Encoder) -> Scores:
    """MFRouter: its bilinear scores, read as the share of wins against the other models."""
    torch: Any = importlib.import_module("torch")
    made = _trained(task, encode, "mfrouter", ("MFRouter", "MFRouterTrainer"), _MF)
    model = made.model.eval()
    found = [made.router.idx_to_model[k] for k in range(len(made.router.idx_to_model))]

    def scores(texts: list[str]) -> Table:
        with torch.no_grad():
            vectors = torch.from_numpy(encode(texts))
            told = [model.score_all(model.project_text(one)).numpy() for one in vectors]
        return columns(shares(np.stack(told).astype(np.float64)), found, task.names)

    return scores


def elo(task: Task, encode: Encoder) -> Scores:
    """EloRouter: one rating a model whatever the prompt, as the share of wins it stands for."""
    made = _trained(task, encode, "elorouter", ("EloRouter", "EloRouterTrainer"), {})
    made.router._load_elo_if_needed()
    ratings: dict[str, float] = made.router.elo_scores
    logits = np.array([list(ratings.values())]) * np.log(10) / 400
    row = columns(shares(logits), list(ratings), task.names)
    return lambda texts: np.repeat(row, len(texts), axis=0)


def graph(task: Task, encode: Encoder) -> Scores:
    """GraphRouter: its predicted edges, each batch added to the graph as its own batches are.

    It scales the vectors of a batch together, so that what it says of a prompt depends a little
    on its neighbours in the batch; the models' own vectors are drawn at random, as it does where
    none are given.
    """
    module: Any = importlib.import_module(f"{_MODELS}.graphrouter.router")
    torch: Any = importlib.import_module("torch")
    module.get_longformer_embedding = lambda text: torch.from_numpy(encode([text])[0])
    module.call_api = lambda request, **options: {}  # only the choice is asked for
    made = _trained(task, encode, "graphrouter", ("GraphRouter", "GraphTrainer"), _GRAPH)
    edges: list[Any] = []
    made.router.gnn_predictor.model.register_forward_hook(
        lambda model, given, edge: edges.append(edge)
    )

    def scores(texts: list[str]) -> Table:
        encode.ahead(texts)
        edges.clear()
        made.router.route_batch([{"query": text} for text in texts])
        told = edges[-1].reshape(-1, made.router.num_llms).numpy()
        return columns(told, made.router.model_names, task.names)

    return scores


def _trained(
    task: Task, encode: Encoder, module: str, kinds: tuple[str, str], hparam: dict[str, Any]
) -> Any:
    """Its trainer, after training."""
    torch: Any = importlib.import_module("torch")
    found: Any = importlib.import_module(f"{_MODELS}.{module}")
    order = task.ranked()
    rows = [
        {
            "query": text,
            "model_name": task.names[j],
            "performance": task.quality[i, j],
            "embedding_id": i,
        }
        for i, text in enumerate(task.texts)
        for j in order
        if not np.isnan(task.quality[i, j])
    ]
    routing, vectors = task.folder / "rows.jsonl", task.folder / "vectors.pt"
    routing.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    if module != "elorouter":  # which reads no text
        torch.save(torch.from_numpy(encode(task.texts)), vectors)
    model = str(task.folder / ("model.pt" if module == "graphrouter" else "model.pkl"))
    settings = {
        "data_path": {"routing_data_train": str(routing), "query_embedding_data": str(vectors)},
        "model_path": {"ini_model_path": "", "save_model_path": model, "load_model_path": model},
        "metric": {"weights": {"performance": 1, "cost": 0, "llm_judge": 0}},
        "hparam": hparam,
        "api_endpoint": "none",
    }
    path = task.folder / "settings.yaml"
    path.write_text(json.dumps(settings), encoding="utf-8")  # which is YAML too
    router, trainer = (getattr(found, kind) for kind in kinds)
    made = trainer(router(str(path)))
    made.train()
    return made


def _adapter(fit: Any, module: str) -> Adapter:
    imports = ("torch", f"{_MODELS}.{module}", f"{_MODELS}.{module}.trainer")
    return Adapter("llmrouter-lib", "llmrouter", fit, imports)


ADAPTERS = {
    "llmrouter-elo": _adapter(elo, "elorouter"),
    "llmrouter-graph": _adapter(graph, "graphrouter"),
    "llmrouter-knn": _adapter(knn, "knnrouter"),
    "llmrouter-mf": _adapter(mf, "mfrouter"),
    "llmrouter-mlp": _adapter(mlp, "mlprouter"),
    "llmrouter-svm": _adapter(svm, "svmrouter"),
}
