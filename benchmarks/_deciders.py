"""The contestants of `decisions.py`, each in a process of its own.

    python benchmarks/_deciders.py NAME TASK

builds one contestant from the task (a JSON file of training prompts, which destination answered
them well, and the prompts to decide) and then, for each line `start stop` it reads, decides those
prompts one by one and answers with one line of JSON: nanoseconds each, and processor seconds
altogether. Nothing of this package is imported unless the contestant is its own.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Decide = Callable[[str], Any]


def _ours(task: dict[str, Any], destinations: int = 0, *, method: str = "linear") -> Any:
    """A router as a decider, for the destinations of the task or for more."""
    import turnout
    from turnout import catalog
    from turnout.core import Outcomes
    from turnout.parts.decide import compile_decider

    quality = np.array(task["quality"])
    if destinations:
        # What they are good at is drawn: it does not change the time.
        rng = np.random.default_rng(0)
        quality = (rng.random((len(quality), destinations)) < 0.7).astype(float)
    cost = np.tile(np.geomspace(0.001, 0.01, quality.shape[1]), (len(quality), 1))
    names = tuple(f"model {j}" for j in range(quality.shape[1]))
    table = Outcomes(inputs=task["train"], names=names, quality=quality, cost=cost)
    router = turnout.fit(catalog.recipe(f"llms.{method}")(l2=(1.0,)), table)
    return compile_decider(router, table.pool())


def ours(task: dict[str, Any], destinations: int = 0, *, method: str = "stacked") -> Decide:
    """String to choice under a price: the default router, by compiled code."""
    decider = _ours(task, destinations, method=method)
    why = decider.use_kernel(build=True)
    if why:
        raise SystemExit(f"no compiled code: {why}")
    return lambda prompt: decider.decide(prompt, 10.0)[0]


def ours_eleven(task: dict[str, Any]) -> Decide:
    """The same among eleven destinations."""
    return ours(task, 11)


def ours_arrays(task: dict[str, Any]) -> Decide:
    """The same choices as it makes them where there is no compiler."""
    return _arrays(task, "stacked")


def linear(task: dict[str, Any]) -> Decide:
    """The same by the linear router."""
    return ours(task, method="linear")


def linear_arrays(task: dict[str, Any]) -> Decide:
    """And that where there is no compiler."""
    return _arrays(task, "linear")


def _arrays(task: dict[str, Any], method: str) -> Decide:
    os.environ["TURNOUT_NATIVE"] = "0"
    decider = _ours(task, method=method)
    return lambda prompt: decider.decide(prompt, 10.0)[0]


def scikit_learn(task: dict[str, Any]) -> Decide:
    """The same features and models through scikit-learn: TF-IDF(1, 2), one logistic a model."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2)
    features = vectorizer.fit_transform(task["train"])
    target = np.array(task["quality"]) > 0.5
    # A few steps: how good the weights are does not change the time of using them.
    models = [LogisticRegression(max_iter=15, tol=0.1).fit(features, column) for column in target.T]
    cost = np.geomspace(0.001, 0.01, len(models))

    def decide(prompt: str) -> int:
        row = vectorizer.transform([prompt])
        quality = np.array([model.predict_proba(row)[0, 1] for model in models])
        return int(np.argmax(quality - 10.0 * cost))

    return decide


def fasttext(task: dict[str, Any]) -> Decide:
    """The classifier of fastText, in C++: the label of the cheapest model that answers well."""
    import fasttext as module

    best = np.argmax(np.array(task["quality"]), axis=1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.txt"
        lines = (
            f"__label__{label} {' '.join(text.split())}\n"
            for label, text in zip(best, task["train"], strict=True)
        )
        path.write_text("".join(lines), encoding="utf-8", errors="replace")
        model = module.train_supervised(
            str(path), dim=64, wordNgrams=2, epoch=2, bucket=200_000, thread=1, verbose=0
        )
    return lambda prompt: model.predict(prompt.replace("\n", " "))


def routellm_mf(task: dict[str, Any]) -> Decide:
    """RouteLLM's matrix factorization, own code; weights untrained, embedding call left out."""
    os.environ.setdefault("OPENAI_API_KEY", "none")
    from routellm.routers.matrix_factorization import (  # type: ignore[import-not-found,unused-ignore]
        model as module,
    )

    class Answer:
        """What an embedding service would send, without the network."""

        embedding = np.random.default_rng(0).normal(size=1536).astype(np.float32).tolist()

    class Service:
        data = (Answer,)
        embeddings: Any

        def create(self, **_: Any) -> Service:
            return self

    service = Service()
    service.embeddings = service
    module.OPENAI_CLIENT = service
    torch = module.torch
    torch.set_num_threads(1)
    model = module.MFModel(128, 64, 1536, 1, True).eval()
    return lambda prompt: model.pred_win_rate(24, 36, prompt) >= 0.5


def semantic_router(task: dict[str, Any]) -> Decide:
    """semantic-router's IndexedRouter over 57 routes of 10 examples, with a trivial encoder.

    The encoder hashes words into 256 places, so that what is timed is the framework.
    """
    from semantic_router import Route
    from semantic_router.encoders import DenseEncoder
    from semantic_router.routers import IndexedRouter

    def encode(texts: list[str]) -> list[list[float]]:
        rows = np.zeros((len(texts), 256))
        for row, text in zip(rows, texts, strict=True):
            np.add.at(row, [hash(word) % 256 for word in text.split()] or [0], 1.0)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        listed: list[list[float]] = rows.tolist()
        return listed

    class Hashed(DenseEncoder):  # type: ignore[misc,unused-ignore]
        def __call__(self, docs: list[Any]) -> list[list[float]]:
            return encode(docs)

        async def acall(self, docs: list[Any]) -> list[list[float]]:
            return encode(docs)

    train = [text or "empty" for text in task["train"]]
    routes = [
        Route(name=f"route {i}", utterances=train[10 * i : 10 * i + 10])
        for i in range(min(57, len(train) // 10))
    ]
    router = IndexedRouter(encoder=Hashed(name="hashed"), routes=routes)
    return lambda prompt: router(prompt)


#: Contestant -> (builder, what it is called in the table, what pip must be asked for).
CONTESTANTS: dict[str, tuple[Callable[[dict[str, Any]], Decide], str, tuple[str, ...]]] = {
    "ours": (ours, "turnout stacked, compiled", ()),
    "ours_eleven": (ours_eleven, "turnout stacked, compiled, 11 destinations", ()),
    "ours_arrays": (ours_arrays, "turnout stacked, arrays", ()),
    "linear": (linear, "turnout linear, compiled", ()),
    "linear_arrays": (linear_arrays, "turnout linear, arrays", ()),
    "scikit_learn": (scikit_learn, "scikit-learn TF-IDF + logistic", ()),
    "fasttext": (fasttext, "fastText, dim 64, bigrams", ("fasttext-numpy2-wheel",)),
    # RouteLLM asks for all of torch, transformers and datasets; this router of it needs torch,
    # which is used where it is installed already and never fetched.
    "routellm_mf": (
        routellm_mf,
        "RouteLLM mf, embedding left out",
        ("--no-deps", "routellm", "huggingface_hub", "openai", "jiter", "distro", "sniffio"),
    ),
    "semantic_router": (
        semantic_router,
        "semantic-router, trivial encoder",
        ("semantic-router",),
    ),
}


def serve(decide: Decide, prompts: list[str]) -> None:
    """Answer the timing requests on standard input."""
    for line in sys.stdin:
        start, stop = map(int, line.split())
        times = []
        cpu = time.process_time()
        for prompt in prompts[start:stop]:
            began = time.perf_counter_ns()
            decide(prompt)
            times.append(time.perf_counter_ns() - began)
        answer = {"ns": times, "cpu": time.process_time() - cpu}
        sys.__stdout__.write(json.dumps(answer) + "\n")  # type: ignore[union-attr]
        sys.__stdout__.flush()  # type: ignore[union-attr]


def main() -> None:
    """Build one contestant, say so, and wait for work."""
    name, path = sys.argv[1:3]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    task = json.loads(Path(path).read_text(encoding="utf-8"))
    sys.stdout = sys.stderr  # libraries may print; the answers go to the real one
    decide = CONTESTANTS[name][0](task)
    for prompt in task["prompts"][:50]:
        decide(prompt)
    sys.__stdout__.write('"ready"\n')  # type: ignore[union-attr]
    sys.__stdout__.flush()  # type: ignore[union-attr]
    serve(decide, task["prompts"])


if __name__ == "__main__":
    main()
