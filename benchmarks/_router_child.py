"""Somebody else's router in a process of its own, under its own Python.

    python benchmarks/_router_child.py NAME TASK

fits one peer on a task (a JSON file: `texts`, `quality` with null where never seen, `cost`,
`names`) and says "ready". Then it reads one line a batch, the path of a JSON list of texts, and
answers each with one line: a list of m scores a text, the higher the better that model suits it.
Nothing of this package is imported: the environment need not hold it.

A peer is one function here, from the task to what scores a batch. What it needs is in `PEERS` of
`_router_peers.py`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Scores = Callable[[list[str]], list[list[float]]]


def scikit_learn(task: dict[str, Any]) -> Scores:
    """TF-IDF of words and pairs and one logistic regression a model, all at their defaults."""
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorizer = TfidfVectorizer(ngram_range=(1, 2))
    features = vectorizer.fit_transform(task["texts"])
    quality = np.array(task["quality"], dtype=float)
    models: list[Any] = []
    for column in quality.T:
        seen = np.flatnonzero(~np.isnan(column))
        right = column[seen] > 0.5
        one_kind = right.all() or not right.any()
        models.append(
            float(right.mean())
            if one_kind
            else LogisticRegression(max_iter=300).fit(features[seen], right)
        )

    def scores(texts: list[str]) -> list[list[float]]:
        x = vectorizer.transform(texts)
        columns = [
            np.full(len(texts), model) if isinstance(model, float) else model.predict_proba(x)[:, 1]
            for model in models
        ]
        table: list[list[float]] = np.stack(columns, axis=1).tolist()
        return table

    return scores


ADAPTERS: dict[str, Callable[[dict[str, Any]], Scores]] = {"scikit-learn": scikit_learn}


def main() -> None:
    """Fit, then answer until the input ends."""
    name, path = sys.argv[1:]
    scores = ADAPTERS[name](json.loads(Path(path).read_text(encoding="utf-8")))
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        texts = json.loads(Path(line.strip()).read_text(encoding="utf-8"))
        print(json.dumps(scores(texts)), file=answers, flush=True)


if __name__ == "__main__":
    main()
