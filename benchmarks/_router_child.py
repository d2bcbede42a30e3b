"""Other people's routers in a process of its own, under the Python that has them.

    python benchmarks/_router_child.py STORE

reads one JSON object a line and answers each with one, having let go of the fitted peers whose
keys are listed in its `forget`:

* `{"fit": NAME, "task": PATH, "key": K}` fits a peer on a task (a JSON file: `texts`, `names`,
  `quality` with null where never seen, `cost`, `seed`) and says `{"seconds": S}`.
* `{"score": PATH, "key": K}` has it read a JSON list of n texts and says `{"scores": [[...]],
  "seconds": S, "encoding": E}`: m scores a text, the higher the better that model suits it, what
  that took, and how much of it was spent on the vectors of texts.

What goes wrong is answered by `{"error": WORDS}`. Seconds are processor time of this process, all
threads, with modules and the encoder loaded before. Vectors of texts are kept in the file STORE
(`_router_encoder.py`) and charged as if the peer had encoded them itself; a single text is always
encoded, so that its time is that of a request. Nothing of this package is imported: the
environment need not hold it. A peer is one function of the modules below.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

import _router_llmrouter as llmrouter  # type: ignore[import-not-found,unused-ignore]
import _router_routellm as routellm  # type: ignore[import-not-found,unused-ignore]
import _router_semantic as semantic  # type: ignore[import-not-found,unused-ignore]
from _router_encoder import Encoder  # type: ignore[import-not-found,unused-ignore]
from _router_task import (  # type: ignore[import-not-found,unused-ignore]
    Adapter,
    Scores,
    Table,
    Task,
    preference,
    read,
)

__all__ = ["ADAPTERS"]

#: Nothing is fetched, and no key is needed where one is only looked for.
_SETTINGS = {
    "HF_HUB_OFFLINE": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "OPENAI_API_KEY": "none",
    "TOKENIZERS_PARALLELISM": "false",
}


def scikit_learn(task: Task, encode: Encoder) -> Scores:
    """TF-IDF of words and pairs and one logistic regression a model, all at their defaults."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorizer = TfidfVectorizer(ngram_range=(1, 2))
    features = vectorizer.fit_transform(task.texts)
    models: list[Any] = []
    for column in task.quality.T:
        seen = np.flatnonzero(~np.isnan(column))
        right = column[seen] > 0.5
        one_kind = right.all() or not right.any()
        models.append(
            float(right.mean())
            if one_kind
            else LogisticRegression(max_iter=300).fit(features[seen], right)
        )

    def scores(texts: list[str]) -> Table:
        x = vectorizer.transform(texts)
        columns = [
            np.full(len(texts), model) if isinstance(model, float) else model.predict_proba(x)[:, 1]
            for model in models
        ]
        return np.stack(columns, axis=1)

    return scores


_SKLEARN = ("sklearn.feature_extraction.text", "sklearn.linear_model")
ADAPTERS: dict[str, Adapter] = {
    **llmrouter.ADAPTERS,
    **routellm.ADAPTERS,
    "scikit-learn": Adapter("scikit-learn", "sklearn", scikit_learn, _SKLEARN, calibrated=True),
    **semantic.ADAPTERS,
}


class _Room:
    """The peers that are fitted, and how they are asked."""

    def __init__(self, store: Path) -> None:
        self._encode = Encoder(store)
        self._fitted: dict[int, Scores] = {}

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        for key in asked["forget"]:
            self._fitted.pop(key, None)
        if "fit" in asked:
            return self._fit(asked["fit"], Path(asked["task"]), asked["key"])
        return self._score(Path(asked["score"]), asked["key"])

    def _fit(self, name: str, path: Path, key: int) -> dict[str, Any]:
        adapter = ADAPTERS[name]
        for module in adapter.imports:
            importlib.import_module(module)
        task = read(path)
        _seed(task.seed)
        self._encode.keep = True
        start = self._clock()
        scores = adapter.fit(task, self._encode)
        seconds = self._clock() - start
        self._fitted[key] = scores
        if not adapter.calibrated and len(task.names) == 2:
            pair = task.pair()
            self._fitted[key] = lambda texts: preference(scores(texts), pair)
        return {"seconds": seconds}

    def _score(self, path: Path, key: int) -> dict[str, Any]:
        texts = json.loads(path.read_text(encoding="utf-8"))
        self._encode.keep = len(texts) > 1
        start, before = self._clock(), self._encode.seconds
        scores = self._fitted[key](texts)
        took, encoding = self._clock() - start, self._encode.seconds - before
        return {"scores": scores.tolist(), "seconds": took, "encoding": encoding}

    def _clock(self) -> float:
        owed: float = self._encode.owed
        return time.process_time() + owed


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    if "torch" in sys.modules:
        torch = importlib.import_module("torch")
        torch.manual_seed(seed)


def main() -> None:
    """Answer until the input ends."""
    for key, value in _SETTINGS.items():
        os.environ.setdefault(key, value)
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    room = _Room(Path(sys.argv[1]))
    for line in sys.stdin:
        try:
            said = room.answer(json.loads(line))
        except Exception as error:
            traceback.print_exc()
            said = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(said), file=answers, flush=True)


if __name__ == "__main__":
    main()
